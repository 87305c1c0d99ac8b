//! What users may ask of Docker: one TOML file for the cluster, beside `onedock.conf`, or of a node,
//! `/etc/onedock/policy.toml`, which takes the place of the other one.
//!
//! ```toml
//! [default]
//! allow = ["cpuset_cpus"]
//! [default.limit]
//! cap_add = ["NET_ADMIN", "SYS_TIME"]
//! binds = ["/srv/shared"]
//! [group.operators]
//! allow = ["privileged"]
//! [user.alice]
//! deny = ["user"]
//! ```
//!
//! Of an option the user's own rule counts, else the group's, else that of `[default]`, else the built-in one
//! ([`super::table::TABLE`]). What administrators write into RAW is bound by `deny` alone.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::engine_value::Judged;
use super::key::{BuiltIn, Key, Rule};
use super::{table, value};
use crate::opennebula::vm::Owner;
use crate::state::files;

/// A node's own policy.
pub const OF_THE_NODE: &str = "/etc/onedock/policy.toml";
/// The cluster's, in the folder of `onedock.conf`.
pub const OF_THE_CLUSTER: &str = "onedock-policy.toml";

/// The largest file that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// Why a policy cannot be used. No VM is started then.
#[derive(Debug, Error)]
pub enum PolicyError {
    /// The file is there and cannot be read.
    #[error("the policy {path} cannot be read")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// Something in it is wrong.
    #[error("the policy {path}: {problem}")]
    Wrong {
        /// The file.
        path: PathBuf,
        /// What, and where.
        problem: String,
    },
}

/// The rules.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Policy {
    path: PathBuf,
    sections: BTreeMap<Who, BTreeMap<Key, Rule>>,
}

/// Whom a section is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Everybody,
    Group(String),
    User(String),
}

impl Who {
    /// The section's name.
    fn section(&self) -> String {
        match self {
            Self::Everybody => "[default]".into(),
            Self::Group(name) => format!("[group.{name}]"),
            Self::User(name) => format!("[user.{name}]"),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    default: Section,
    #[serde(default)]
    group: BTreeMap<String, Section>,
    #[serde(default)]
    user: BTreeMap<String, Section>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Section {
    #[serde(default)]
    allow: Vec<String>,
    #[serde(default)]
    deny: Vec<String>,
    #[serde(default)]
    limit: BTreeMap<String, Limit>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Limit {
    Values(Vec<String>),
    Number(i64),
    Size(String),
}

impl Policy {
    /// The policy that is in force: the file that ONEDOCK_POLICY names, else the node's, else the
    /// cluster's beside `configuration`, else none but the built-in rules.
    ///
    /// # Errors
    ///
    /// A file is there and cannot be used.
    pub fn load(configuration: Option<&Path>) -> Result<Self, PolicyError> {
        let named = std::env::var_os("ONEDOCK_POLICY").map(PathBuf::from);
        let beside = configuration
            .and_then(Path::parent)
            .map(|folder| folder.join(OF_THE_CLUSTER));
        let places = match named {
            Some(path) => vec![path],
            None => [Some(PathBuf::from(OF_THE_NODE)), beside]
                .into_iter()
                .flatten()
                .collect(),
        };
        for path in places {
            if let Some(policy) = Self::read(&path)? {
                return Ok(policy);
            }
        }
        Ok(Self::default())
    }

    /// Reads a file; `None` when there is none.
    ///
    /// # Errors
    ///
    /// It cannot be used.
    pub fn read(path: &Path) -> Result<Option<Self>, PolicyError> {
        match files::read_bounded(path, LIMIT) {
            Ok(bytes) => Self::parse(&String::from_utf8_lossy(&bytes), path).map(Some),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(PolicyError::Read {
                path: path.to_owned(),
                source,
            }),
        }
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    ///
    /// It cannot be used.
    pub fn parse(text: &str, path: &Path) -> Result<Self, PolicyError> {
        let wrong = |problem: String| PolicyError::Wrong {
            path: path.to_owned(),
            problem,
        };
        let file: File = toml::from_str(text).map_err(|e| {
            let line = e.span().map_or(0, |span| {
                text[..span.start.min(text.len())].matches('\n').count() + 1
            });
            wrong(format!("line {line}: {}", e.message()))
        })?;
        let everybody = [(Who::Everybody, file.default)];
        let groups = file
            .group
            .into_iter()
            .map(|(name, section)| (Who::Group(name), section));
        let users = file
            .user
            .into_iter()
            .map(|(name, section)| (Who::User(name), section));
        let mut sections = BTreeMap::new();
        for (who, section) in everybody.into_iter().chain(groups).chain(users) {
            let rules =
                rules(section).map_err(|problem| wrong(format!("{}: {problem}", who.section())))?;
            sections.insert(who, rules);
        }
        Ok(Self {
            path: path.to_owned(),
            sections,
        })
    }

    /// Whether a value may be asked for; the rule that forbids it, and where it stands.
    pub(super) fn judge(
        &self,
        key: Key,
        judged: &Judged,
        owner: &Owner,
        by_administrator: bool,
    ) -> Result<(), String> {
        let (rule, place) = self.rule(key, owner);
        if by_administrator && (rule != Rule::Deny || place.is_none()) {
            return Ok(());
        }
        let refused = |what: String| match &place {
            Some(section) => Err(format!("{section} of {} {what}", self.path.display())),
            None => Err(format!(
                "the built-in rule {what}; an administrator allows it in {OF_THE_NODE} of the node, or in {OF_THE_CLUSTER} beside onedock.conf (key {key})"
            )),
        };
        match (&rule, judged) {
            (Rule::Allow, _) => Ok(()),
            (Rule::Deny, _) => refused("denies it".into()),
            (Rule::Values(allowed), Judged::Values(asked)) => {
                let is_allowed =
                    |value: &&String| allowed.iter().any(|pattern| matches(pattern, value));
                match asked.iter().find(|value| !is_allowed(value)) {
                    None => Ok(()),
                    Some(_) if allowed.is_empty() => refused("allows none".into()),
                    Some(value) => refused(format!(
                        "allows {} and not {}",
                        allowed.join(", "),
                        value::shortened(value)
                    )),
                }
            }
            (Rule::Range(least, most), Judged::Number(number)) => {
                if (least..=most).contains(&number) {
                    Ok(())
                } else {
                    refused(format!("allows {least} to {most} and not {number}"))
                }
            }
            (Rule::Values(_) | Rule::Range(..), _) => {
                refused("limits it in a way that does not fit it".into())
            }
        }
    }

    /// The file that it comes from; none of the built-in rules alone.
    pub fn place(&self) -> Option<&Path> {
        (!self.path.as_os_str().is_empty()).then_some(&self.path)
    }

    fn rule(&self, key: Key, owner: &Owner) -> (Rule, Option<String>) {
        let user = owner.user.clone().map(Who::User);
        let group = owner.group.clone().map(Who::Group);
        for who in [user, group, Some(Who::Everybody)].into_iter().flatten() {
            if let Some(rule) = self.sections.get(&who).and_then(|rules| rules.get(&key)) {
                return (rule.clone(), Some(who.section()));
            }
        }
        (key.row().rule.into(), None)
    }
}

/// Of one section; `deny` stands over `limit`, and that over `allow`.
fn rules(section: Section) -> Result<BTreeMap<Key, Rule>, String> {
    let mut rules = BTreeMap::new();
    for name in &section.allow {
        for key in named(name)? {
            rules.insert(key, Rule::Allow);
        }
    }
    for (name, limit) in section.limit {
        for key in named(&name)? {
            let least = match key.row().rule {
                BuiltIn::Range(least, _) => least,
                _ => 0,
            };
            let rule = match &limit {
                Limit::Values(values) => Rule::Values(values.clone()),
                Limit::Number(most) => Rule::Range(least, *most),
                Limit::Size(text) => {
                    let most = value::bytes(&serde_json::Value::String(text.clone()));
                    Rule::Range(least, most.map_err(|e| format!("limit {name}: {e}"))?)
                }
            };
            rules.insert(key, rule);
        }
    }
    for name in &section.deny {
        for key in named(name)? {
            rules.insert(key, Rule::Deny);
        }
    }
    Ok(rules)
}

/// The option of this name; `*` for all.
fn named(name: &str) -> Result<Vec<Key>, String> {
    if name == "*" {
        return Ok(table::TABLE.iter().map(|row| row.key).collect());
    }
    match table::find(name) {
        Some(key) => Ok(vec![key]),
        None => Err(format!(
            "{} is not an option (docs/options.md)",
            value::shortened(name)
        )),
    }
}

/// A `*` at the end stands for any text.
fn matches(pattern: &str, value: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => value.starts_with(begin),
        None => pattern == value,
    }
}
