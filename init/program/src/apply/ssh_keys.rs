//! SSH_PUBLIC_KEY and EC2_PUBLIC_KEY: into `authorized_keys` of USERNAME, or root (loc-22).

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, lchown};
use std::path::Path;

use super::user::{self, path_in};
use super::{accounts, etc_file};
use crate::context_file::ContextFile;

/// Adds the keys that are not there yet.
///
/// # Errors
///
/// A line that says why they could not be added.
pub(super) fn apply(root: &Path, context: &ContextFile) -> Result<(), String> {
    let keys: Vec<&str> = ["SSH_PUBLIC_KEY", "EC2_PUBLIC_KEY"]
        .into_iter()
        .filter_map(|name| context.get(name))
        .flat_map(str::lines)
        .map(str::trim)
        .filter(|key| !key.is_empty())
        .collect();
    if keys.is_empty() {
        return Ok(());
    }
    let name = user::name(context)?;
    let passwd = etc_file::read(&root.join("etc/passwd")).unwrap_or_default();
    let account = accounts::find(&passwd, name);
    let home = account
        .as_ref()
        .map(|account| account.home.as_str())
        .filter(|home| !home.is_empty())
        .unwrap_or("/root");
    let folder = path_in(root, home).join(".ssh");
    let file = folder.join("authorized_keys");
    let failed =
        |e| format!("SSH_PUBLIC_KEY cannot be written to {home}/.ssh/authorized_keys: {e}");
    // What its user has put there as a link would be written, and given to the user, in its place.
    for path in [&folder, &file] {
        if path.is_symlink() {
            let link = format!("{} is a link", path.display());
            return Err(failed(io::Error::other(link)));
        }
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .map_err(failed)?;
    let there = etc_file::read(&file).map_err(failed)?;
    let text = with_keys(&there, &keys);
    if text != there || !file.exists() {
        etc_file::replace(&file, &text, 0o600).map_err(failed)?;
    }
    if let Some(account) = &account {
        for path in [&folder, &file] {
            lchown(path, Some(account.uid), Some(account.gid)).map_err(failed)?;
        }
    }
    Ok(())
}

fn with_keys(there: &str, keys: &[&str]) -> String {
    keys.iter().fold(there.to_owned(), |text, key| {
        if text.lines().any(|line| line.trim() == *key) {
            text
        } else {
            accounts::with_line(&text, key)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

    fn root() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        fs::create_dir(dir.path().join("etc")).unwrap();
        let passwd = format!("root:x:0:0::/root:/bin/sh\nweb:x:{uid}:{gid}::/srv/web:/bin/sh\n");
        fs::write(dir.path().join("etc/passwd"), passwd).unwrap();
        dir
    }

    fn add(root: &Path, text: &str) -> Result<(), String> {
        apply(root, &ContextFile::parse(text).unwrap())
    }

    #[test]
    fn keys_are_added_once_and_those_that_are_there_stay() {
        let dir = root();
        let file = dir.path().join("srv/web/.ssh/authorized_keys");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, "ssh-rsa OLD own").unwrap();
        let context = "USERNAME='web'\nSSH_PUBLIC_KEY='ssh-rsa A a\n\nssh-rsa B b'\nEC2_PUBLIC_KEY='ssh-rsa C'";
        for _ in 0..2 {
            add(dir.path(), context).unwrap();
        }
        let text = fs::read_to_string(&file).unwrap();
        assert_eq!(
            text,
            "ssh-rsa OLD own\nssh-rsa A a\nssh-rsa B b\nssh-rsa C\n"
        );
    }

    #[test]
    fn a_new_folder_and_file_are_the_user_s_alone() {
        let dir = root();
        add(dir.path(), "USERNAME='web'\nSSH_PUBLIC_KEY='ssh-rsa A'").unwrap();
        let mode = |path: &str| {
            fs::metadata(dir.path().join(path))
                .unwrap()
                .permissions()
                .mode()
                & 0o777
        };
        assert_eq!(mode("srv/web/.ssh"), 0o700);
        assert_eq!(mode("srv/web/.ssh/authorized_keys"), 0o600);
        let meta = fs::metadata(dir.path().join("srv/web/.ssh")).unwrap();
        assert_eq!(meta.uid(), nix::unistd::getuid().as_raw());
    }

    #[test]
    fn a_key_that_begins_like_one_that_is_there_is_another_one() {
        assert_eq!(
            with_keys("ssh-rsa AA x\n", &["ssh-rsa A"]),
            "ssh-rsa AA x\nssh-rsa A\n"
        );
    }

    #[test]
    fn a_link_in_the_user_s_home_leads_nowhere() {
        let dir = root();
        let ssh = dir.path().join("srv/web/.ssh");
        fs::create_dir_all(&ssh).unwrap();
        fs::write(dir.path().join("shadow"), "root:!").unwrap();
        std::os::unix::fs::symlink("../../../shadow", ssh.join("authorized_keys")).unwrap();
        let key = "USERNAME='web'\nSSH_PUBLIC_KEY='ssh-rsa A'";
        assert!(add(dir.path(), key).unwrap_err().contains("is a link"));
        fs::remove_file(ssh.join("authorized_keys")).unwrap();
        fs::remove_dir(&ssh).unwrap();
        std::os::unix::fs::symlink("/etc", &ssh).unwrap();
        assert!(add(dir.path(), key).unwrap_err().contains("is a link"));
        assert_eq!(
            fs::read_to_string(dir.path().join("shadow")).unwrap(),
            "root:!"
        );
    }

    #[test]
    fn a_context_without_keys_touches_nothing_and_a_hostile_name_is_refused() {
        let dir = root();
        add(dir.path(), "USERNAME='web'").unwrap();
        assert!(!dir.path().join("srv").exists());
        assert!(add(dir.path(), "USERNAME='../x'\nSSH_PUBLIC_KEY='k'").is_err());
    }
}
