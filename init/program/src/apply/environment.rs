//! `one_env`, which the context packages write for scripts (loc-16): every variable of the context, readable
//! for root alone. At its usual place, `/run/one-context`, where that is in memory; else beside the other
//! files of this program in `/dev`: a token must not become part of an image that is saved of the disk.

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use super::etc_file;
use crate::context_file::ContextFile;

/// Writes it.
///
/// # Errors
///
/// A line that says why it is not there.
pub(super) fn write(root: &Path, context: &ContextFile, token: Option<&str>) -> Result<(), String> {
    let folder = match is_in_memory(root) {
        true => root.join("run/one-context"),
        false => root.join("dev/onedock"),
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(&folder)
        .and_then(|()| etc_file::replace(&folder.join("one_env"), &text(context, token), 0o400))
        .map_err(|e| {
            format!(
                "{} cannot be written: {e}",
                folder.join("one_env").display()
            )
        })
}

/// Whether `/run` is no part of the root disk.
fn is_in_memory(root: &Path) -> bool {
    let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).ok();
    let run = device(&root.join("run"));
    run.is_some() && run != device(root)
}

fn text(context: &ContextFile, token: Option<&str>) -> String {
    let mut text = String::new();
    let token = token.map(|token| ("TOKENTXT", token));
    for (key, value) in token.into_iter().chain(context.variables()) {
        text.push_str(&format!("export {key}={}\n", shell_words::quote(value)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_shell_reads_back_what_the_context_says() {
        let dir = tempfile::tempdir().unwrap();
        let context = ContextFile::parse("A='it'\\''s $(id)\n`x`'\nB=''").unwrap();
        write(dir.path(), &context, Some("t0k")).unwrap();
        // The folder of the test is one file system, as the root disk of most images is.
        let file = dir.path().join("dev/onedock/one_env");
        assert_eq!(
            fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o400
        );
        let script = format!(
            ". {}; printf '%s|%s|%s' \"$A\" \"$B\" \"$TOKENTXT\"",
            file.display()
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8_lossy(&output.stdout),
            "it's $(id)\n`x`||t0k"
        );
        // Written again, over a file that nobody may write.
        write(dir.path(), &context, None).unwrap();
        assert!(!fs::read_to_string(&file).unwrap().contains("TOKENTXT"));
    }
}
