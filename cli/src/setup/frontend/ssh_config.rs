//! oneadmin's ssh on the front-end: further connections to a host go through one that is open
//! (`ControlMaster`, `ssh_config(5)`), because each login costs about 0.2 s and sshd bounds how many
//! wait at once. OpenNebula's packages bring such a configuration (`share/ssh/etc/config`); where
//! there is none, a marked block is added to what is there.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::file_step::{EditFile, Edited, Folder, put};
use crate::host::Host;
use crate::owner::Owner;
use crate::step::{State, Steps, action};
use onedock_common::process::Command;

const BEGIN: &str =
    "# ONEDock begin: written by `onedock setup frontend`, which keeps this block up to date";
const END: &str = "# ONEDock end";

/// Where the sockets lie: beside the configuration. ssh fails where the folder of its socket is
/// missing, and only OpenNebula's service makes the one of its packages in `/run`.
const SOCKETS: &str = "~/.ssh/ctl-M-%C.sock";

/// The configuration of the user that `owner` is, where its home is known.
pub(super) fn steps(host: &Host, owner: &Owner) -> Result<Steps> {
    let (uid, _) = owner.resolve()?;
    if uid.is_root() {
        // OpenNebula does not run as root, and root's own ssh is none of its business.
        return Ok(Vec::new());
    }
    let Some(home) = home_of(host, uid.as_raw())? else {
        return Ok(Vec::new());
    };
    let folder = host.path(home).join(".ssh");
    let path = folder.join("config");
    let mut steps: Steps = Vec::new();
    if !folder.is_dir() {
        steps.push(Folder::new(folder, 0o700, owner.clone()));
    }
    match fs::symlink_metadata(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let (a, b, owner) = (path.clone(), path.clone(), owner.clone());
            steps.push(action(
                path.display().to_string(),
                move || Ok(State::needed_if(!a.exists(), "keep connections open")),
                move || put(&b, edit("").text.as_bytes(), 0o600, &owner),
            ));
        }
        _ => steps.push(EditFile::new(path, move |text: &str| Ok(edit(text)))),
    }
    Ok(steps)
}

/// The file with our block at its end, where what stands before it comes first. One that speaks of
/// connections already stays as it is.
fn edit(text: &str) -> Edited {
    let unchanged = || Edited {
        text: text.to_owned(),
        changes: Vec::new(),
    };
    let block = block();
    if let Some(found) = own_block(text) {
        if found == block {
            return unchanged();
        }
        return Edited {
            text: text.replacen(found, &block, 1),
            changes: vec!["the block of ONEDock".to_owned()],
        };
    }
    if decides(text) {
        return unchanged();
    }
    let mut edited = text.to_owned();
    if !edited.is_empty() {
        if !edited.ends_with('\n') {
            edited.push('\n');
        }
        edited.push('\n');
    }
    edited.push_str(&block);
    Edited {
        text: edited,
        changes: vec!["keep connections open".to_owned()],
    }
}

/// The values of OpenNebula's packages, but that ssh itself opens the first connection: their
/// `ControlMaster no` is overridden by a wrapper that only their unit has in its PATH.
fn block() -> String {
    format!(
        "{BEGIN}\nHost *\n  ControlMaster auto\n  ControlPath {SOCKETS}\n  ControlPersist 70s\n  \
         ServerAliveInterval 10\n{END}\n"
    )
}

fn own_block(text: &str) -> Option<&str> {
    let begin = text.find(BEGIN)?;
    let rest = text.get(begin..)?;
    let end = rest.find(END)? + END.len();
    let end = end + usize::from(rest.get(end..)?.starts_with('\n'));
    rest.get(..end)
}

/// Whether the file sets how connections are shared.
fn decides(text: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim_start().to_ascii_lowercase();
        ["controlmaster", "controlpath"].iter().any(|keyword| {
            line.strip_prefix(keyword)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_whitespace() || c == '='))
        })
    })
}

/// The home of a user by its number.
fn home_of(host: &Host, uid: u32) -> Result<Option<PathBuf>> {
    if host.is_running() {
        let answer = Command::local("getent")
            .args(["passwd", "--", &uid.to_string()])
            .run()?;
        return Ok(home_in(&answer.stdout, uid));
    }
    let path = host.path("/etc/passwd");
    match fs::read_to_string(&path) {
        Ok(text) => Ok(home_in(&text, uid)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", &path)(e)),
    }
}

/// From lines of `passwd(5)`.
fn home_in(text: &str, uid: u32) -> Option<PathBuf> {
    text.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        let home = Path::new(fields.get(5)?);
        (fields.get(2)?.parse() == Ok(uid) && home.is_absolute()).then(|| home.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What OpenNebula's package brings, without its comments.
    const PACKAGE: &str = "Host *\n  StrictHostKeyChecking accept-new\n  ServerAliveInterval 10\n  \
        ControlMaster no\n  ControlPersist 70s\n  ControlPath /run/one/ssh-socks/ctl-M-%C.sock\n";

    #[test]
    fn a_file_without_a_word_on_connections_gets_one_block_and_keeps_its_own() {
        let own = "Host node1\n  User x\n  # ControlMaster no\n  ControlPersistence no";
        let once = edit(own);
        assert!(
            once.text
                .starts_with(&format!("{own}\n\n{BEGIN}\nHost *\n"))
        );
        assert!(once.text.contains("\n  ControlPath ~/.ssh/ctl-M-%C.sock\n"));
        assert_eq!(edit(&once.text).changes.len(), 0);
        assert_eq!(edit("").text, block());
    }

    #[test]
    fn a_block_of_an_earlier_version_is_replaced_and_what_stands_around_it_stays() {
        let text = format!("Host a\n\n{}\nHost b\n", block().replace(SOCKETS, "/run/x"));
        let edited = edit(&text);
        assert_eq!(edited.text, format!("Host a\n\n{}\nHost b\n", block()));
        assert_eq!(edited.changes.len(), 1);
    }

    #[test]
    fn what_a_package_or_an_administrator_says_of_connections_stays() {
        for text in [
            PACKAGE,
            "controlpath=none\n",
            "Host x\n\tControlMaster auto\n",
        ] {
            let edited = edit(text);
            assert_eq!((edited.text.as_str(), edited.changes.len()), (text, 0));
        }
    }

    /// `%C` becomes 40 characters, and ssh binds a name of 17 more before it has its place; a
    /// socket's name has 107 (`unix(7)`).
    #[test]
    fn the_names_of_sockets_are_short_enough() {
        let folder = "/var/lib/one/.ssh";
        assert!(folder.len() + "/ctl-M-.sock".len() + 40 + 17 <= 107);
    }

    #[test]
    fn ssh_itself_reads_the_block() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        fs::write(&path, block()).unwrap();
        let text = Command::local("ssh")
            .args([Path::new("-G"), Path::new("-F"), &path])
            .args(["node1"])
            .checked()
            .unwrap()
            .stdout;
        for line in [
            "controlmaster auto",
            "controlpersist 70",
            "serveraliveinterval 10",
        ] {
            assert!(text.lines().any(|l| l == line), "{text}");
        }
        assert!(text.contains("/.ssh/ctl-M-"), "{text}");
    }

    #[test]
    fn a_home_is_found_by_number_and_must_be_a_path() {
        let text = "root:x:0:0:root:/root:/bin/sh\noneadmin:x:9869:9869::/var/lib/one:/bin/bash\n\
                    odd:x:7:7::none:/bin/sh\n";
        assert_eq!(home_in(text, 9869), Some("/var/lib/one".into()));
        assert_eq!(home_in(text, 7), None);
        assert_eq!(home_in(text, 8), None);
    }
}
