//! What a VM asks of Docker beside what OpenNebula itself has an attribute for: its command, environment,
//! user, capabilities and so on. It may stand in four places, each over the one before: the image's
//! DOCKER_OPTIONS, CONTEXT/USER_DATA, the template's DOCKER section (or `DOCKER_*` attributes), and
//! `RAW=[TYPE="onedock"]`, which only administrators write.
//!
//! Every option is known by one [`Key`], whatever it is called: `CAP_ADD` of a template, `cap_add` of
//! docker-py, `HostConfig.CapAdd` of the Engine API ([`table`]). The [`policy`] judges keys, so that no other
//! spelling leads around it. What is not known is refused by its name.

mod document;
mod engine_value;
pub mod key;
pub mod policy;
mod read;
pub mod table;
mod value;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::opennebula::vm::Vm;
use crate::opennebula::xml::Node;
use crate::types::dns::{HostEntry, NameServer, ResolverOption, SearchDomain};
use crate::types::environment::Variable;
use crate::types::names::Hostname;
use key::{Effect, Key, Kind};
use policy::Policy;

/// Why a VM's options cannot be used.
#[derive(Debug, Error)]
pub enum OptionError {
    /// A name that no option has.
    #[error("{place} {name} is not an option of Docker that this driver knows (docs/options.md)")]
    Unknown {
        /// Where it stands.
        place: &'static str,
        /// As it was written.
        name: String,
    },
    /// An option that no policy can allow.
    #[error("{asked} is not possible: {reason}")]
    Impossible {
        /// Where it stands, and its name.
        asked: String,
        /// Why.
        reason: &'static str,
    },
    /// A value that is not what the option takes.
    #[error("{asked}: {problem}")]
    Value {
        /// Where it stands, and its name.
        asked: String,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// The policy forbids it.
    #[error("{asked} is not allowed: {rule}")]
    Forbidden {
        /// Where it stands, and its name.
        asked: String,
        /// Which rule says so, and where it stands.
        rule: String,
    },
    /// A document that cannot be read.
    #[error("{place} cannot be read as options: {problem}")]
    Document {
        /// Where it stands.
        place: &'static str,
        /// What is wrong with it.
        problem: String,
    },
}

/// One option that is asked for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Asked {
    /// Which.
    key: Key,
    /// As it was written: text of a template, or a value of a document.
    value: Value,
    /// Where it stands and what it is called there, for messages: `DOCKER/CAP_ADD`.
    name: String,
    /// Where it stands.
    place: &'static str,
    /// Whether only administrators write there.
    by_administrator: bool,
}

/// All that a VM asks for, checked.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Options {
    /// In place of the image's ENTRYPOINT; its CMD is not used then.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's CMD and of DOCKERRUN.
    pub command: Option<Vec<String>>,
    /// The VM lives on when its command has ended.
    pub keep_alive: bool,
    /// Whether a first process that reaps orphans stands before the command. `false`: never one, as the
    /// command has to be process 1.
    pub init: Option<bool>,
    /// Whether the command has a terminal.
    pub terminal: Option<bool>,
    /// Variables beside and over those of the image.
    pub environment: Vec<Variable>,
    pub hostname: Option<Hostname>,
    pub domain: Option<SearchDomain>,
    /// Before those of the networks.
    pub dns: Vec<NameServer>,
    /// Before those of the networks.
    pub search: Vec<SearchDomain>,
    pub dns_options: Vec<ResolverOption>,
    pub hosts: Vec<HostEntry>,
    pub limits: LimitOptions,
    /// What the engine is asked for as the container is made.
    pub engine: EngineOptions,
    /// What has no effect, and why: lines for the VM's log.
    pub notes: Vec<String>,
}

/// Limits in place of those that CPU, VCPU and MEMORY give.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LimitOptions {
    /// Relative weight, 1024 for one CPU.
    pub cpu_shares: Option<i64>,
    /// Microseconds of processor time per 100 ms.
    pub cpu_quota_us: Option<i64>,
    /// Bytes.
    pub memory: Option<i64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap: Option<i64>,
    /// Processes and threads.
    pub pids: Option<i64>,
}

impl LimitOptions {
    /// Refuses what Docker takes for "no bound" (-1): a VM has as much memory and swap as is given to it.
    fn ensure_bounded(&self) -> Result<(), OptionError> {
        for (name, bytes) in [
            ("MEMORY", self.memory),
            ("MEMORY_SWAP", self.memory_and_swap),
        ] {
            if bytes.is_some_and(|bytes| bytes < 0) {
                return Err(OptionError::Value {
                    asked: name.to_owned(),
                    problem: "it takes a number of bytes above 0".to_owned(),
                });
            }
        }
        Ok(())
    }
}

/// What the engine is asked for as a container is made, in its API's own form: fields of the request and of
/// its HostConfig.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct EngineOptions {
    pub body: Map<String, Value>,
    pub host: Map<String, Value>,
}

impl EngineOptions {
    /// All of it as one text, for the label of a container that is made with it; none of none.
    pub fn text(&self) -> Option<String> {
        if self.body.is_empty() && self.host.is_empty() {
            return None;
        }
        serde_json::to_string(self).ok()
    }

    /// What such a text says; of a text that is none, nothing.
    pub fn of_text(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_default()
    }
}

/// Reads and judges all that a VM asks for. `image` is the text of its root image's DOCKER_OPTIONS.
///
/// # Errors
///
/// The first option that is not known, not possible, not what it takes, or not allowed.
pub fn of_vm(vm: &Vm, image: Option<&str>, policy: &Policy) -> Result<Options, OptionError> {
    let mut asked: BTreeMap<Key, Vec<Asked>> = BTreeMap::new();
    let mut notes = Vec::new();
    let mut all = Vec::new();
    if let Some(text) = image {
        all.extend(document::image(text)?);
    }
    if let Some(context) = &vm.context {
        all.extend(document::user_data(context, &mut notes)?);
    }
    if let Some(template) = &vm.user_template {
        all.extend(of_template(&template.node(), &mut notes)?);
    }
    for raw in vm.template.node().children("RAW") {
        all.extend(document::raw(&raw, &mut notes)?);
    }
    for one in all {
        let of_key = asked.entry(one.key).or_default();
        // Variables add up by their names, and binds of one place by whatever they are called there; of
        // everything else the last word counts. None takes back what an earlier place says.
        match one.key {
            _ if one.value.is_null() => of_key.retain(|other| other.place == one.place),
            Key::Environment => of_key.push(one),
            Key::Binds => {
                of_key.retain(|other| other.place == one.place);
                of_key.push(one);
            }
            _ => *of_key = vec![one],
        }
    }
    let mut options = Options {
        notes,
        ..Options::default()
    };
    for one in asked.into_values().flatten() {
        let row = one.key.row();
        match row.effect {
            Effect::Impossible(reason) => {
                return Err(OptionError::Impossible {
                    asked: one.name,
                    reason,
                });
            }
            Effect::Silent => continue,
            Effect::Noted(reason) => {
                read::ensure_notable(&one)?;
                options
                    .notes
                    .push(format!("{} has no effect: {reason}", one.name));
                continue;
            }
            Effect::Own | Effect::Body(_) | Effect::Host(_) => {}
        }
        let read = read::read(&one)?;
        policy
            .judge(one.key, &read.judged, &vm.owner, one.by_administrator)
            .map_err(|rule| OptionError::Forbidden {
                asked: one.name.clone(),
                rule,
            })?;
        read.put(&mut options);
    }
    options.limits.ensure_bounded()?;
    Ok(options)
}

/// The DOCKER section, and attributes that begin with DOCKER_.
fn of_template(template: &Node<'_>, notes: &mut Vec<String>) -> Result<Vec<Asked>, OptionError> {
    let mut all = Vec::new();
    for section in template.children("DOCKER") {
        for (name, text) in section.entries() {
            all.extend(one_of_template("DOCKER", name, text)?);
        }
    }
    for (name, text) in template.entries() {
        let Some(short) = name.strip_prefix("DOCKER_") else {
            continue;
        };
        if table::find(short).is_none() {
            // Others may have attributes of such a name.
            notes.push(format!(
                "{name} is not an option of Docker that this driver knows, and has no effect"
            ));
            continue;
        }
        let asked = one_of_template("DOCKER", short, text)?;
        all.extend(asked.map(|asked| Asked {
            name: name.to_owned(),
            ..asked
        }));
    }
    Ok(all)
}

fn one_of_template(
    place: &'static str,
    name: &str,
    text: &str,
) -> Result<Option<Asked>, OptionError> {
    let key = table::find(name).ok_or_else(|| OptionError::Unknown {
        place,
        name: name.chars().take(60).collect(),
    })?;
    let text = text.trim();
    let is_number = matches!(key.row().kind, Kind::Bool | Kind::Integer | Kind::Bytes);
    let is_off = is_number
        && ["0", "NO", "FALSE"]
            .iter()
            .any(|off| text.eq_ignore_ascii_case(off));
    // A terminal is there unless it is refused, and so may a first process be.
    let is_off = text.is_empty() || (is_off && !matches!(key, Key::Terminal | Key::Init));
    Ok(Some(Asked {
        key,
        value: if is_off {
            Value::Null
        } else {
            Value::String(text.to_owned())
        },
        name: format!("{place}/{name}"),
        place,
        by_administrator: false,
    }))
}

#[cfg(test)]
mod tests;
