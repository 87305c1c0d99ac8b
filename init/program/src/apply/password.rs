//! Which password the context gives, in the order of `one-context` (loc-20), and its hash.

use sha_crypt::{Algorithm, Params, PasswordHasher as _, ShaCrypt};

use super::accounts;
use crate::context_file::ContextFile;

/// The hash for `shadow`; `None` when the context says nothing of a password.
///
/// # Errors
///
/// A line that names the variable, and never its value.
pub(super) fn hash(context: &ContextFile) -> Result<Option<String>, String> {
    if let Some(bytes) = context.decoded("CRYPTED_PASSWORD_BASE64")? {
        return crypted("CRYPTED_PASSWORD_BASE64", &bytes).map(Some);
    }
    if let Some(bytes) = context.decoded("PASSWORD_BASE64")? {
        return plain("PASSWORD_BASE64", &bytes).map(Some);
    }
    if let Some(text) = context.get("CRYPTED_PASSWORD") {
        return crypted("CRYPTED_PASSWORD", text.as_bytes()).map(Some);
    }
    if let Some(text) = context.get("PASSWORD") {
        return plain("PASSWORD", text.as_bytes()).map(Some);
    }
    Ok(context
        .says_yes("USERNAME_PASSWORD_RESET")
        .then(|| "*".to_owned()))
}

fn crypted(name: &str, bytes: &[u8]) -> Result<String, String> {
    let text = String::from_utf8_lossy(bytes);
    let hash = text.trim();
    if hash.is_empty() || !accounts::is_hash(hash) {
        return Err(format!("{name} is not a hash that /etc/shadow can hold"));
    }
    Ok(hash.to_owned())
}

fn plain(name: &str, bytes: &[u8]) -> Result<String, String> {
    // A shell's `echo` puts a line's end behind it, which is no part of the password.
    let password = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let failed = |e: &dyn std::fmt::Display| format!("{name} cannot be hashed: {e}");
    let mut salt = [0; 12];
    getrandom::fill(&mut salt).map_err(|e| failed(&e))?;
    let hasher = ShaCrypt::new(Algorithm::Sha512Crypt, Params::default());
    let hash = hasher
        .hash_password_with_salt(password, &salt)
        .map_err(|e| failed(&e))?;
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Result<Option<String>, String> {
        hash(&ContextFile::parse(text).unwrap())
    }

    #[test]
    fn the_order_is_that_of_the_context_packages() {
        let (crypted64, plain64) = (
            "CRYPTED_PASSWORD_BASE64='JDYkYSRi'\n",
            "PASSWORD_BASE64='aGVsbG8='\n",
        );
        let (crypted, plain) = ("CRYPTED_PASSWORD='$6$x$y'\n", "PASSWORD='hello'\n");
        let all = [crypted64, plain64, crypted, plain].concat();
        assert_eq!(of(&all).unwrap().unwrap(), "$6$a$b");
        let rest = [plain64, crypted, plain].concat();
        assert_ne!(of(&rest).unwrap().unwrap(), "$6$x$y");
        let rest = [crypted, plain].concat();
        assert_eq!(of(&rest).unwrap().unwrap(), "$6$x$y");
        assert!(of(plain).unwrap().unwrap().starts_with("$6$"));
        assert_eq!(of("USERNAME_PASSWORD_RESET='yes'"), Ok(Some("*".into())));
        assert_eq!(of("USERNAME='x'"), Ok(None));
    }

    #[test]
    fn a_password_has_another_salt_each_time_and_is_never_told() {
        let (one, other) = (of("PASSWORD='hello'"), of("PASSWORD='hello'"));
        assert_ne!(one, other);
        let error = of("CRYPTED_PASSWORD='a:b secret'").unwrap_err();
        assert!(error.contains("CRYPTED_PASSWORD") && !error.contains("secret"));
        assert!(of("PASSWORD_BASE64='*'").is_err());
    }

    #[test]
    fn the_c_library_takes_the_hash_for_the_password() {
        let hash = of("PASSWORD_BASE64='aGVsbG8K'").unwrap().unwrap();
        let salt = hash.rsplit_once('$').unwrap().0;
        // The usual number of rounds, which the C library does not write.
        let short = hash.replace("rounds=5000$", "");
        let output = std::process::Command::new("openssl")
            .args([
                "passwd",
                "-6",
                "-salt",
                salt.rsplit('$').next().unwrap(),
                "hello",
            ])
            .output();
        if let Ok(output) = output {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), short);
        }
    }
}
