//! What a start does about a container that was made with other options of the engine than its VM asks for
//! now: the engine applies options only when it makes a container.

use std::collections::BTreeSet;

use onedock_common::options::EngineOptions;
use onedock_common::options::table::CAPABILITIES;
use onedock_common::types::capability::Capability;
use serde_json::Value;

/// What the next start does about it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Capabilities that the container was made with, and that are not asked for any more.
    pub drop: Vec<Capability>,
    /// Options that count from the next container on, by the engine's names.
    pub later: Vec<String>,
}

/// Options that may give a VM access to its host or to other VMs, and that cannot be taken from a container
/// once it is made: a VM that does not ask for them any more must not be started with them.
const RIGHTS: [&str; 16] = [
    "Binds",
    "CgroupParent",
    "CgroupnsMode",
    "DeviceCgroupRules",
    "DeviceRequests",
    "Devices",
    "IpcMode",
    "LogConfig",
    "OomKillDisable",
    "OomScoreAdj",
    "PidMode",
    "Privileged",
    "SecurityOpt",
    "UTSMode",
    "UsernsMode",
    "VolumesFrom",
];

/// From what the container was made with to what is asked for. The name of an option that cannot be taken back,
/// if there is one.
pub fn changed(made: &EngineOptions, asked: &EngineOptions) -> Result<Changed, String> {
    let mut changed = Changed::default();
    for (place, now) in [(&made.body, &asked.body), (&made.host, &asked.host)] {
        let names: BTreeSet<&String> = place.keys().chain(now.keys()).collect();
        for name in names {
            let (was, is) = (place.get(name), now.get(name));
            if was == is {
                continue;
            }
            if RIGHTS.contains(&name.as_str()) && was.is_some() {
                return Err(name.clone());
            }
            let dropped = match name.as_str() {
                "CapAdd" => without(was, is),
                "CapDrop" if names_all(is) => Ok(all_but(asked.host.get("CapAdd"))),
                "CapDrop" => without(is, was),
                _ => Ok(Vec::new()),
            };
            let mut dropped = dropped.map_err(|()| name.clone())?;
            if name == "CapAdd" {
                // What a container has anyway is not given by the option.
                dropped.retain(|one| !CAPABILITIES.iter().any(|own| one.to_string() == *own));
            }
            let is_whole = match name.as_str() {
                "CapAdd" => without(is, was).is_ok_and(|more| more.is_empty()),
                "CapDrop" if names_all(is) => true,
                "CapDrop" => without(was, is).is_ok_and(|more| more.is_empty()),
                _ => false,
            };
            changed.drop.extend(dropped);
            if !is_whole {
                changed.later.push(name.clone());
            }
        }
    }
    changed.drop.sort();
    changed.drop.dedup();
    Ok(changed)
}

fn names_all(list: Option<&Value>) -> bool {
    let list = list.and_then(Value::as_array);
    list.is_some_and(|list| list.iter().any(|name| name == "ALL"))
}

/// What a container has anyway, but these.
fn all_but(kept: Option<&Value>) -> Vec<Capability> {
    let kept = kept.and_then(Value::as_array);
    let is_kept = |name: &str| kept.is_some_and(|kept| kept.iter().any(|one| one == name));
    let dropped = CAPABILITIES.iter().filter(|name| !is_kept(name));
    dropped.filter_map(|name| name.parse().ok()).collect()
}

/// The names of the one list that the other has not.
fn without(list: Option<&Value>, other: Option<&Value>) -> Result<Vec<Capability>, ()> {
    let names = |list: Option<&Value>| -> Vec<String> {
        let list = list.and_then(Value::as_array);
        let text = |value: &Value| value.as_str().map(str::to_owned);
        list.into_iter().flatten().filter_map(text).collect()
    };
    let other = names(other);
    names(list)
        .iter()
        .filter(|name| !other.contains(name))
        .map(|name| name.parse().map_err(|_| ()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn options(host: Value) -> EngineOptions {
        EngineOptions {
            host: host.as_object().unwrap().clone(),
            ..EngineOptions::default()
        }
    }

    fn of(made: Value, asked: Value) -> Result<(Vec<String>, Vec<String>), String> {
        let changed = changed(&options(made), &options(asked))?;
        Ok((
            changed.drop.iter().map(ToString::to_string).collect(),
            changed.later,
        ))
    }

    #[test]
    fn capabilities_that_are_not_asked_for_any_more_are_dropped_and_new_ones_come_later() {
        let none: Vec<String> = Vec::new();
        let drop = |names: &[&str]| {
            names
                .iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>()
        };
        let cap = |add: &[&str], drop: &[&str]| json!({"CapAdd": add, "CapDrop": drop});
        assert_eq!(
            of(json!({}), json!({})).unwrap(),
            (none.clone(), none.clone())
        );
        let (dropped, later) = of(
            cap(&["NET_ADMIN", "SYS_TIME"], &[]),
            cap(&["SYS_TIME"], &["MKNOD"]),
        )
        .unwrap();
        assert_eq!(
            (dropped, later),
            (drop(&["MKNOD", "NET_ADMIN"]), none.clone())
        );
        let (dropped, later) = of(json!({"CapAdd": ["NET_ADMIN"]}), json!({})).unwrap();
        assert_eq!((dropped, later), (drop(&["NET_ADMIN"]), none.clone()));
        let (dropped, later) = of(json!({}), cap(&["NET_ADMIN"], &[])).unwrap();
        assert_eq!((dropped, later), (none.clone(), drop(&["CapAdd"])));
        let (dropped, later) = of(cap(&[], &["MKNOD"]), cap(&[], &[])).unwrap();
        assert_eq!((dropped, later), (none, drop(&["CapDrop"])));
        assert_eq!(
            of(json!({"CapAdd": ["ALL"]}), json!({})).unwrap_err(),
            "CapAdd"
        );
        // A capability of every container stays when nobody asks for it by name any more.
        let (dropped, later) = of(cap(&["NET_RAW"], &[]), cap(&[], &[])).unwrap();
        assert_eq!((dropped.len(), later.len()), (0, 0));
        let (dropped, later) = of(json!({}), cap(&["CHOWN"], &["ALL"])).unwrap();
        assert_eq!(
            (dropped.len(), later),
            (CAPABILITIES.len() - 1, vec!["CapAdd".to_owned()])
        );
    }

    #[test]
    fn rights_that_cannot_be_taken_back_are_named_and_all_else_comes_later() {
        for name in RIGHTS {
            assert_eq!(of(json!({name: "x"}), json!({})).unwrap_err(), name);
            assert_eq!(
                of(json!({name: "x"}), json!({name: "y"})).unwrap_err(),
                name
            );
            assert_eq!(
                of(json!({name: "x"}), json!({name: "x"})).unwrap().1,
                [""; 0]
            );
            assert_eq!(of(json!({}), json!({name: "x"})).unwrap().1, [name]);
        }
        assert_eq!(
            of(json!({"ShmSize": 1}), json!({"ShmSize": 2})).unwrap().1,
            ["ShmSize"]
        );
    }
}
