//! Users and groups as this machine's name service knows them: local files, LDAP, systemd.
//!
//! `getent` is asked, a program of the machine's own C library. This program is static and may
//! not ask by itself: a static glibc loads the modules of the machine's name service, which
//! belong to another glibc, and dies (`docs/decisions/0018-no-name-service.md`).

use std::path::PathBuf;
use std::time::Duration;

use onedock_common::types::decimal::parse_u32;

use crate::error::{Error, Result};
use onedock_common::process::{Command, Output};

/// A directory server that does not answer must not hold the set-up for long.
const DEADLINE: Duration = Duration::from_secs(15);

/// The exit code of `getent` for a key that is not in the database (getent(1)).
const NOT_FOUND: i32 = 2;

/// One line of passwd(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The login name.
    pub name: String,
    /// The user's number.
    pub uid: u32,
    /// The number of the main group.
    pub gid: u32,
    /// The home folder.
    pub home: PathBuf,
}

/// One line of group(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The group's name.
    pub name: String,
    /// The group's number.
    pub gid: u32,
    /// The users who have it beside their main group.
    pub members: Vec<String>,
}

/// The user of a name.
pub fn user(name: &str) -> Result<Option<User>> {
    let user = entry("passwd", name, parse_user)?;
    // `getent` takes a name of digits for a number.
    Ok(user.filter(|user| user.name == name))
}

/// The user of a number.
pub fn user_of(uid: u32) -> Result<Option<User>> {
    entry("passwd", &uid.to_string(), parse_user)
}

/// The group of a name.
pub fn group(name: &str) -> Result<Option<Group>> {
    let group = entry("group", name, parse_group)?;
    Ok(group.filter(|group| group.name == name))
}

/// The group of a number.
pub fn group_of(gid: u32) -> Result<Option<Group>> {
    entry("group", &gid.to_string(), parse_group)
}

fn entry<T>(database: &str, key: &str, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
    let answer = Command::local("getent")
        .args([database, "--", key])
        .within(DEADLINE)
        .run()?;
    read(database, key, &answer, parse)
}

/// What `getent` answered; a failure is never taken for "there is none".
fn read<T>(
    database: &str,
    key: &str,
    answer: &Output,
    parse: fn(&str) -> Option<T>,
) -> Result<Option<T>> {
    let failed = |what: &str| Error::Program {
        program: "getent".to_owned(),
        what: format!("\"{key}\" cannot be looked up in the database {database}: {what}"),
    };
    match answer.code {
        Some(NOT_FOUND) => Ok(None),
        Some(0) => match answer.stdout.lines().next().and_then(parse) {
            Some(found) => Ok(Some(found)),
            None => Err(failed("its answer is not a line of that database")),
        },
        _ => Err(failed(&answer.last_line())),
    }
}

fn parse_user(line: &str) -> Option<User> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, uid, gid, _, home, _] = fields[..] else {
        return None;
    };
    Some(User {
        name: name.to_owned(),
        uid: parse_u32(uid).ok()?,
        gid: parse_u32(gid).ok()?,
        home: home.into(),
    })
}

fn parse_group(line: &str) -> Option<Group> {
    let fields: Vec<&str> = line.split(':').collect();
    let [name, _, gid, members] = fields[..] else {
        return None;
    };
    Some(Group {
        name: name.to_owned(),
        gid: parse_u32(gid).ok()?,
        members: members
            .split(',')
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: Option<i32>, stdout: &str, stderr: &str) -> Output {
        Output {
            code,
            stdout: stdout.to_owned(),
            stderr: stderr.to_owned(),
        }
    }

    #[test]
    fn the_superuser_is_known_by_name_and_by_number() {
        let root = user("root").unwrap().unwrap();
        assert_eq!((root.uid, root.gid), (0, 0));
        assert_eq!(root.home, PathBuf::from("/root"));
        assert_eq!(user_of(0).unwrap(), Some(root));
        assert_eq!(group("root").unwrap().unwrap().gid, 0);
        assert_eq!(group_of(0).unwrap().unwrap().name, "root");
    }

    #[test]
    fn who_is_not_there_is_none_and_no_error() {
        assert_eq!(user("onedock-nobody").unwrap(), None);
        assert_eq!(group("onedock-nobody").unwrap(), None);
        assert_eq!(user_of(4_294_000_001).unwrap(), None);
        assert_eq!(group_of(4_294_000_001).unwrap(), None);
    }

    #[test]
    fn a_name_is_never_taken_for_a_number_or_an_option() {
        assert_eq!(user("0").unwrap(), None);
        assert_eq!(group("0").unwrap(), None);
        assert_eq!(user("--help").unwrap(), None);
    }

    #[test]
    fn a_line_has_all_of_its_fields() {
        let line = "oneadmin:x:9869:9870:Cloud, with a comma:/var/lib/one:/bin/bash";
        assert_eq!(
            parse_user(line),
            Some(User {
                name: "oneadmin".to_owned(),
                uid: 9869,
                gid: 9870,
                home: "/var/lib/one".into(),
            })
        );
        assert_eq!(parse_user("oneadmin:x:9869"), None);
        assert_eq!(parse_user("oneadmin:x:-1:1::/:/bin/sh"), None);
        let group = parse_group("docker:x:998:oneadmin,alice").unwrap();
        assert_eq!(group.members, ["oneadmin", "alice"]);
        assert!(parse_group("docker:x:998:").unwrap().members.is_empty());
        assert_eq!(parse_group("docker:x:998"), None);
    }

    #[test]
    fn a_failed_look_up_is_an_error_and_not_an_absent_user() {
        let unknown = answer(Some(2), "", "");
        assert_eq!(read("passwd", "a", &unknown, parse_user).unwrap(), None);
        for failed in [
            answer(Some(1), "", "Unknown database: passwd\n"),
            answer(None, "", ""),
            answer(Some(0), "", ""),
            answer(Some(0), "a:x:1\n", ""),
        ] {
            let error = read("passwd", "a", &failed, parse_user).unwrap_err();
            assert!(
                error
                    .line()
                    .starts_with("getent: \"a\" cannot be looked up in the database passwd: "),
                "{error}"
            );
        }
    }
}
