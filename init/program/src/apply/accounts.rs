//! `passwd`, `group` and `shadow` as texts (passwd(5), group(5), shadow(5)).

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

/// An account of `passwd`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Account {
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) home: String,
}

/// The first number of an ordinary user.
const FIRST: u32 = 1000;
const LAST: u32 = 60_000;

/// Whether an account may have this name: what `useradd` takes, and nothing that would be another field
/// or line of these files or of sudoers.
pub(super) fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && name.len() <= 32
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
}

/// The account of this name.
pub(super) fn find(passwd: &str, name: &str) -> Option<Account> {
    let mut fields = passwd
        .lines()
        .find(|line| is_of(line, name))?
        .split(':')
        .skip(2);
    Some(Account {
        uid: fields.next()?.parse().ok()?,
        gid: fields.next()?.parse().ok()?,
        home: fields.nth(1)?.to_owned(),
    })
}

fn is_of(line: &str, name: &str) -> bool {
    line.strip_prefix(name)
        .is_some_and(|rest| rest.starts_with(':'))
}

/// A number that neither a user nor a group has.
pub(super) fn free_id(passwd: &str, group: &str) -> Option<u32> {
    let taken: BTreeSet<u32> = passwd
        .lines()
        .chain(group.lines())
        .filter_map(|line| line.split(':').nth(2)?.parse().ok())
        .collect();
    (FIRST..=LAST).find(|id| !taken.contains(id))
}

/// `text` with a further line at its end.
pub(super) fn with_line(text: &str, line: &str) -> String {
    let end = if text.is_empty() || text.ends_with('\n') {
        ""
    } else {
        "\n"
    };
    format!("{text}{end}{line}\n")
}

/// The lines of a new account, for `passwd`, `group` and `shadow`.
pub(super) fn lines(name: &str, account: &Account, shell: &str) -> [String; 3] {
    let Account { uid, gid, home } = account;
    [
        format!("{name}:x:{uid}:{gid}::{home}:{shell}"),
        format!("{name}:x:{gid}:"),
        format!("{name}:*:{}:0:99999:7:::", days()),
    ]
}

/// `shadow` with this hash for the account, which gets a line if it has none.
pub(super) fn with_hash(shadow: &str, name: &str, hash: &str) -> String {
    let mut found = false;
    let mut text = String::new();
    for line in shadow.lines() {
        if is_of(line, name) && !found {
            found = true;
            let mut fields: Vec<&str> = line.split(':').collect();
            fields.resize(9, "");
            let days = days().to_string();
            fields[1] = hash;
            fields[2] = &days;
            text.push_str(&fields.join(":"));
        } else {
            text.push_str(line);
        }
        text.push('\n');
    }
    if found {
        text
    } else {
        with_line(&text, &format!("{name}:{hash}:{}:0:99999:7:::", days()))
    }
}

/// `passwd` with an `x` as the account's password, which says that it is in `shadow`.
pub(super) fn with_shadowed(passwd: &str, name: &str) -> String {
    let line = |line: &str| match line.split_once(':') {
        Some((own, rest)) if own == name => {
            let rest = rest.split_once(':').map_or(rest, |(_, rest)| rest);
            format!("{own}:x:{rest}\n")
        }
        _ => format!("{line}\n"),
    };
    passwd.lines().map(line).collect()
}

/// Whether a hash can stand in `shadow`: one field of one line.
pub(super) fn is_hash(hash: &str) -> bool {
    hash.chars().all(|c| c.is_ascii_graphic() && c != ':')
}

fn days() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs() / 86_400)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb::1000:1001:w:/srv/web:/bin/ash\n";

    #[test]
    fn names_are_those_that_cannot_be_anything_else() {
        for good in ["root", "_apt", "a.b-c_1", "Admin", &"a".repeat(32)] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "1a",
            "a:b",
            "a\nb",
            "a b",
            "-x",
            "a,b",
            "ä",
            "ALL=",
            &"a".repeat(33),
        ] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let web = Account {
            uid: 1000,
            gid: 1001,
            home: "/srv/web".into(),
        };
        assert_eq!(find(PASSWD, "web"), Some(web));
        assert_eq!(find(PASSWD, "we"), None);
        assert_eq!(find(PASSWD, "webb"), None);
        assert_eq!(find("web:x\n", "web"), None);
    }

    #[test]
    fn a_free_number_is_neither_a_user_s_nor_a_group_s() {
        assert_eq!(free_id(PASSWD, "web:x:1001:\n"), Some(1002));
        assert_eq!(free_id("", ""), Some(1000));
        let all: String = (1000..=60_000).map(|id| format!("u:x:{id}:0\n")).collect();
        assert_eq!(free_id(&all, ""), None);
    }

    #[test]
    fn a_hash_takes_the_place_of_the_former_one_and_the_other_fields_stay() {
        let shadow = "root:!:19000:0:99999:7:::\nweb:*:19000:0:99999:7:::\n";
        let changed = with_hash(shadow, "web", "$6$s$h");
        let lines: Vec<&str> = changed.lines().collect();
        assert_eq!(lines[0], "root:!:19000:0:99999:7:::");
        assert_eq!(lines[1], format!("web:$6$s$h:{}:0:99999:7:::", days()));
        let new = with_hash("root:!:1", "db", "*");
        assert_eq!(new, format!("root:!:1\ndb:*:{}:0:99999:7:::\n", days()));
        let short = with_hash("db:!", "db", "h");
        assert_eq!(short, format!("db:h:{}::::::\n", days()));
    }

    #[test]
    fn an_account_with_a_hash_says_so_in_passwd() {
        let changed = with_shadowed(PASSWD, "web");
        assert_eq!(changed, PASSWD.replace("web::", "web:x:"));
        assert_eq!(with_shadowed(PASSWD, "root"), PASSWD);
    }

    #[test]
    fn a_line_follows_even_a_text_without_an_end() {
        assert_eq!(with_line("a", "b"), "a\nb\n");
        assert_eq!(with_line("", "b"), "b\n");
        let account = Account {
            uid: 5,
            gid: 6,
            home: "/home/u".into(),
        };
        let [passwd, group, _] = lines("u", &account, "/bin/sh");
        assert_eq!(passwd, "u:x:5:6::/home/u:/bin/sh");
        assert_eq!(group, "u:x:6:");
        assert_eq!(find(&passwd, "u"), Some(account));
    }

    #[test]
    fn a_hash_is_one_field() {
        assert!(is_hash("$6$rounds=5000$a/b.c$D.e/") && is_hash("*"));
        for bad in ["a:b", "a\nb", "a b", "é"] {
            assert!(!is_hash(bad), "{bad}");
        }
    }
}
