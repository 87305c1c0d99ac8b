//! The calls of the program. They come from `onedock-runtime` (`node/src/runtime/bundle.rs`) and from the
//! driver, never from a user.

use std::ffi::OsString;

/// What it is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum Call {
    /// Be process 1.
    First(First),
    /// Apply a context that may have changed.
    Reconfigure,
    /// What process 1 lets a child of its own do.
    Helper(Work),
}

/// Process 1.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct First {
    /// The user of the command; root when absent.
    pub user: Option<User>,
    /// Whether HOME is that user's: the image does not set it.
    pub home: bool,
    /// Whether the command becomes process 1, whatever it is.
    pub give_way: bool,
    /// Whether the VM lives on when the command has ended.
    pub keep_alive: bool,
    /// Program and arguments; empty: nothing is run.
    pub command: Vec<OsString>,
}

/// A user by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// UID.
    pub user: u32,
    /// GID.
    pub group: u32,
    /// Further groups.
    pub groups: Vec<u32>,
}

/// What a child does beside process 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Work {
    /// Run the start scripts.
    pub scripts: bool,
    /// Report READY.
    pub ready: bool,
}

/// Reads the arguments behind the program's name. Without any it is process 1 that has nothing to run.
///
/// # Errors
///
/// A line that says which argument is not known.
pub fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Call, String> {
    let mut arguments = arguments;
    let Some(verb) = arguments.next() else {
        return Ok(Call::First(First {
            keep_alive: true,
            ..First::default()
        }));
    };
    match verb.to_str() {
        Some("run") => first(arguments).map(Call::First),
        Some("reconfigure") => Ok(Call::Reconfigure),
        Some("scripts") => Ok(helper(true, false)),
        Some("ready") => Ok(helper(false, true)),
        Some("scripts-and-ready") => Ok(helper(true, true)),
        _ => Err(unknown(&verb)),
    }
}

fn helper(scripts: bool, ready: bool) -> Call {
    Call::Helper(Work { scripts, ready })
}

/// The verb by which [`parse`] finds this work again.
pub fn verb(work: Work) -> &'static str {
    match (work.scripts, work.ready) {
        (true, true) => "scripts-and-ready",
        (true, false) => "scripts",
        (false, _) => "ready",
    }
}

fn first(mut arguments: impl Iterator<Item = OsString>) -> Result<First, String> {
    let mut first = First::default();
    while let Some(argument) = arguments.next() {
        match argument.to_str() {
            Some("--") => {
                first.command = arguments.collect();
                break;
            }
            Some("--home") => first.home = true,
            Some("--give-way") => first.give_way = true,
            Some("--keep-alive") => first.keep_alive = true,
            Some(text) if text.starts_with("--user=") => {
                first.user =
                    Some(user(&text["--user=".len()..]).ok_or_else(|| unknown(&argument))?);
            }
            _ => return Err(unknown(&argument)),
        }
    }
    Ok(first)
}

/// `UID:GID` or `UID:GID:GID,GID`.
fn user(text: &str) -> Option<User> {
    let mut parts = text.splitn(3, ':');
    let user = parts.next()?.parse().ok()?;
    let group = parts.next()?.parse().ok()?;
    let groups = match parts.next() {
        None | Some("") => Vec::new(),
        Some(list) => list
            .split(',')
            .map(|id| id.parse().ok())
            .collect::<Option<_>>()?,
    };
    Some(User {
        user,
        group,
        groups,
    })
}

fn unknown(argument: &OsString) -> String {
    format!(
        "{} is not known to this version; it is started by onedock-runtime and the drivers alone",
        argument.display()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(words: &[&str]) -> Result<Call, String> {
        parse(words.iter().map(OsString::from))
    }

    #[test]
    fn without_arguments_it_keeps_the_vm_alive() {
        let idle = First {
            keep_alive: true,
            ..First::default()
        };
        assert_eq!(call(&[]), Ok(Call::First(idle)));
    }

    #[test]
    fn a_command_follows_two_dashes_as_it_is() {
        let words = [
            "run",
            "--user=1000:100:4,20",
            "--home",
            "--give-way",
            "--",
            "sh",
            "-c",
            "--home",
        ];
        let first = First {
            user: Some(User {
                user: 1000,
                group: 100,
                groups: vec![4, 20],
            }),
            home: true,
            give_way: true,
            keep_alive: false,
            command: ["sh", "-c", "--home"].map(OsString::from).to_vec(),
        };
        assert_eq!(call(&words), Ok(Call::First(first)));
        let Ok(Call::First(kept)) = call(&["run", "--keep-alive", "--user=5:6:", "--"]) else {
            panic!("not read");
        };
        assert!(kept.keep_alive && !kept.home && kept.command.is_empty());
        assert_eq!(kept.user.unwrap().groups, []);
    }

    #[test]
    fn every_work_is_found_again_by_its_verb() {
        for (scripts, ready) in [(true, true), (true, false), (false, true)] {
            let work = Work { scripts, ready };
            assert_eq!(call(&[verb(work)]), Ok(Call::Helper(work)));
        }
        assert_eq!(call(&["reconfigure"]), Ok(Call::Reconfigure));
    }

    #[test]
    fn what_is_not_known_is_named() {
        for words in [
            &["start"][..],
            &["run", "--user=x:1"],
            &["run", "--user=1"],
            &["run", "--user=1:2:x"],
            &["run", "sh"],
        ] {
            let error = call(words).unwrap_err();
            assert!(error.contains(words[words.len() - 1]), "{error}");
        }
    }
}
