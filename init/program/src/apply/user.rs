//! USERNAME with its shell, its password and its right to use sudo (loc-20).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::path::{Path, PathBuf};

use super::accounts::{self, Account};
use super::{etc_file, password};
use crate::context_file::ContextFile;

const SUDOERS: &str = "etc/sudoers.d/one-context";

/// Makes the user, where there is none of its name, and sets what the context says of it; a line for each
/// thing that could not be done.
pub(super) fn apply(root: &Path, context: &ContextFile) -> Vec<String> {
    let asks = |name: &&str| context.get(name).is_some();
    let variables = [
        "USERNAME",
        "PASSWORD",
        "PASSWORD_BASE64",
        "CRYPTED_PASSWORD",
        "CRYPTED_PASSWORD_BASE64",
        "USERNAME_PASSWORD_RESET",
    ];
    if !variables.iter().any(asks) {
        return Vec::new();
    }
    let name = match name(context) {
        Ok(name) => name,
        Err(problem) => return vec![problem],
    };
    let mut problems = Vec::new();
    let mut note = |done: Result<(), String>| problems.extend(done.err());
    note(make(root, context, name).map_err(|e| format!("USERNAME {name} cannot be made: {e}")));
    note(
        sudo(root, context, name)
            .map_err(|e| format!("USERNAME_SUDO for {name} cannot be set: {e}")),
    );
    note(password::hash(context).and_then(|hash| match hash {
        Some(hash) => {
            set(root, name, &hash).map_err(|e| format!("the password of {name} cannot be set: {e}"))
        }
        None => Ok(()),
    }));
    problems
}

/// USERNAME, or root.
pub(super) fn name(context: &ContextFile) -> Result<&str, String> {
    let name = context.get("USERNAME").map_or("root", str::trim);
    if accounts::is_name(name) {
        Ok(name)
    } else {
        Err(format!(
            "USERNAME {} is not a name that an account can have",
            name.escape_debug()
        ))
    }
}

/// A path of the VM beneath `root`.
pub(super) fn path_in(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

fn make(root: &Path, context: &ContextFile, name: &str) -> io::Result<()> {
    let etc = root.join("etc");
    let (passwd, group, shadow) = (etc.join("passwd"), etc.join("group"), etc.join("shadow"));
    let there = etc_file::read(&passwd)?;
    if accounts::find(&there, name).is_some() {
        return Ok(());
    }
    fs::create_dir_all(&etc)?;
    let groups = etc_file::read(&group)?;
    let account = match name {
        "root" => Account {
            uid: 0,
            gid: 0,
            home: "/root".into(),
        },
        _ => {
            let id = accounts::free_id(&there, &groups)
                .ok_or_else(|| io::Error::other("no user id is free"))?;
            Account {
                uid: id,
                gid: id,
                home: format!("/home/{name}"),
            }
        }
    };
    let [user_line, group_line, shadow_line] =
        accounts::lines(name, &account, shell(root, context));
    if !groups
        .lines()
        .any(|line| line.split(':').next() == Some(name))
    {
        etc_file::replace(&group, &accounts::with_line(&groups, &group_line), 0o644)?;
    }
    let hashes = etc_file::read(&shadow)?;
    if !hashes
        .lines()
        .any(|line| line.split(':').next() == Some(name))
    {
        etc_file::replace(&shadow, &accounts::with_line(&hashes, &shadow_line), 0o600)?;
    }
    // Last: from here on the account is there.
    etc_file::replace(&passwd, &accounts::with_line(&there, &user_line), 0o644)?;
    home(root, &account)
}

fn shell<'a>(root: &Path, context: &'a ContextFile) -> &'a str {
    let is_shell = |path: &&str| path.starts_with('/') && !path.contains([':', '\n']);
    match context
        .get("USERNAME_SHELL")
        .map(str::trim)
        .filter(is_shell)
    {
        Some(shell) => shell,
        None if root.join("bin/bash").exists() => "/bin/bash",
        None => "/bin/sh",
    }
}

/// The home folder, with what the image lays into new ones.
fn home(root: &Path, account: &Account) -> io::Result<()> {
    let home = path_in(root, &account.home);
    if home.exists() {
        return Ok(());
    }
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::DirBuilder::new().mode(0o700).create(&home)?;
    let own = |path: &Path| chown(path, Some(account.uid), Some(account.gid));
    for entry in fs::read_dir(root.join("etc/skel"))
        .into_iter()
        .flatten()
        .flatten()
    {
        if entry.file_type()?.is_file() {
            let file = home.join(entry.file_name());
            fs::copy(entry.path(), &file)?;
            own(&file)?;
        }
    }
    own(&home)
}

fn sudo(root: &Path, context: &ContextFile, name: &str) -> io::Result<()> {
    let says = ["USERNAME_SUDO", "GRANT_SUDO"];
    let said = says.into_iter().find(|key| context.get(key).is_some());
    let granted = said.is_none_or(|key| context.says_yes(key)) && name != "root";
    let file = root.join(SUDOERS);
    if !granted {
        return match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        };
    }
    if !file.parent().is_some_and(Path::is_dir) {
        return match said {
            Some(_) => Err(io::Error::other("the image has no /etc/sudoers.d")),
            None => Ok(()),
        };
    }
    etc_file::replace(&file, &format!("{name} ALL=(ALL) NOPASSWD:ALL\n"), 0o440)
}

fn set(root: &Path, name: &str, hash: &str) -> io::Result<()> {
    let (passwd, shadow) = (root.join("etc/passwd"), root.join("etc/shadow"));
    let hashes = etc_file::read(&shadow)?;
    etc_file::replace(&shadow, &accounts::with_hash(&hashes, name, hash), 0o600)?;
    let accounts = etc_file::read(&passwd)?;
    let shadowed = accounts::with_shadowed(&accounts, name);
    if shadowed != accounts {
        etc_file::replace(&passwd, &shadowed, 0o644)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// Of the user that runs the test, so that ownership can be set.
    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let etc = dir.path().join("etc");
        fs::create_dir_all(etc.join("skel")).unwrap();
        fs::create_dir(etc.join("sudoers.d")).unwrap();
        fs::write(etc.join("skel/.profile"), "x").unwrap();
        fs::write(etc.join("passwd"), "root::0:0:root:/root:/bin/sh\n").unwrap();
        fs::write(etc.join("group"), "root:x:0:\n").unwrap();
        dir
    }

    fn read(dir: &tempfile::TempDir, name: &str) -> String {
        fs::read_to_string(dir.path().join("etc").join(name)).unwrap_or_default()
    }

    fn run(dir: &tempfile::TempDir, text: &str) -> Vec<String> {
        apply(dir.path(), &ContextFile::parse(text).unwrap())
    }

    #[test]
    fn a_user_is_made_with_a_home_a_password_and_sudo() {
        if !nix::unistd::getuid().is_root() {
            return;
        }
        let dir = root();
        let context = "USERNAME='web'\nCRYPTED_PASSWORD='$6$a$b'\nUSERNAME_SHELL='/bin/ash'";
        for _ in 0..2 {
            assert_eq!(run(&dir, context), [""; 0]);
        }
        let passwd = read(&dir, "passwd");
        assert_eq!(passwd.lines().count(), 2);
        assert!(
            passwd.ends_with("web:x:1000:1000::/home/web:/bin/ash\n"),
            "{passwd}"
        );
        assert_eq!(read(&dir, "group"), "root:x:0:\nweb:x:1000:\n");
        assert!(read(&dir, "shadow").starts_with("web:$6$a$b:"));
        assert_eq!(
            read(&dir, "sudoers.d/one-context"),
            "web ALL=(ALL) NOPASSWD:ALL\n"
        );
        let mode = |path: &str| {
            fs::metadata(dir.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode("etc/shadow"), 0o600);
        assert_eq!(mode("etc/sudoers.d/one-context"), 0o440);
        assert_eq!(mode("home/web"), 0o700);
        assert!(dir.path().join("home/web/.profile").exists());
        // Taken back with the next context.
        assert_eq!(run(&dir, "USERNAME='web'\nUSERNAME_SUDO='no'"), [""; 0]);
        assert!(!dir.path().join("etc/sudoers.d/one-context").exists());
    }

    #[test]
    fn the_password_alone_is_root_s() {
        let dir = root();
        assert_eq!(run(&dir, "CRYPTED_PASSWORD='$6$a$b'"), [""; 0]);
        assert_eq!(read(&dir, "passwd"), "root:x:0:0:root:/root:/bin/sh\n");
        assert!(read(&dir, "shadow").starts_with("root:$6$a$b:"));
        assert!(!dir.path().join("etc/sudoers.d/one-context").exists());
    }

    #[test]
    fn an_image_without_accounts_gets_the_one_that_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let problems = apply(
            dir.path(),
            &ContextFile::parse("CRYPTED_PASSWORD='h'").unwrap(),
        );
        assert!(
            read(&dir, "passwd").starts_with("root:x:0:0::/root:"),
            "{problems:?}"
        );
    }

    #[test]
    fn nothing_asked_changes_nothing_and_a_hostile_name_is_refused() {
        let dir = root();
        assert_eq!(run(&dir, "NETWORK='YES'\nUSERNAME_SUDO='YES'"), [""; 0]);
        assert!(!dir.path().join("etc/shadow").exists());
        for bad in ["x:0:0", "a b", "ALL ALL=(ALL)"] {
            let problems = run(&dir, &format!("USERNAME='{bad}'"));
            assert_eq!(problems.len(), 1, "{problems:?}");
        }
        assert_eq!(read(&dir, "passwd"), "root::0:0:root:/root:/bin/sh\n");
        assert!(read(&dir, "sudoers.d/one-context").is_empty());
    }

    #[test]
    fn sudo_that_is_asked_for_and_not_in_the_image_is_said() {
        let dir = root();
        fs::remove_dir(dir.path().join("etc/sudoers.d")).unwrap();
        let problems = run(&dir, "USERNAME='root'\nUSERNAME_SUDO='YES'");
        assert_eq!(problems, [""; 0]);
        if nix::unistd::getuid().is_root() {
            let problems = run(&dir, "USERNAME='web'\nUSERNAME_SUDO='YES'");
            assert!(problems[0].contains("/etc/sudoers.d"), "{problems:?}");
            assert_eq!(run(&dir, "USERNAME='db'"), [""; 0]);
        }
    }

    #[test]
    fn a_shell_that_would_be_another_field_is_not_taken() {
        let dir = root();
        let shell = |text: &str| {
            let context = ContextFile::parse(text).unwrap();
            shell(dir.path(), &context).to_owned()
        };
        assert_eq!(shell("USERNAME_SHELL='/bin/sh:x'"), "/bin/sh");
        assert_eq!(shell("USERNAME_SHELL='ash'"), "/bin/sh");
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/bash"), "").unwrap();
        assert_eq!(shell(""), "/bin/bash");
        assert_eq!(shell("USERNAME_SHELL='/bin/zsh'"), "/bin/zsh");
    }
}
