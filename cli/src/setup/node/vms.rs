//! What this node's VMs have in the engine. Their root disks are containers: an engine that is given
//! another image store or folder has none of them any more (docs/engines.md).

use std::collections::BTreeSet;
use std::fs;

use onedock_common::state::boot::BootSpec;
use onedock_common::state::paths::Paths;
use onedock_common::{ContainerId, VmId};
use serde::Deserialize;

use super::engine::Engine;
use crate::host::Host;

/// Remarks about root disks that the engine does not have, and what would lose those that it has.
pub(super) fn notes(host: &Host, engine: &Engine) -> Vec<String> {
    let (Ok(info), Ok(there)) = (engine.info(), containers(engine)) else {
        return Vec::new();
    };
    let store = format!("{} in {}", info.driver, info.docker_root_dir);
    describe(&store, &started(host), &there)
}

fn containers(engine: &Engine) -> crate::error::Result<BTreeSet<ContainerId>> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Listed {
        id: ContainerId,
    }
    let all: Vec<Listed> = engine.answer("/containers/json?all=1")?;
    Ok(all.into_iter().map(|one| one.id).collect())
}

/// The containers of VMs that were started here: each has a boot spec until its disk is deleted.
fn started(host: &Host) -> Vec<(VmId, ContainerId)> {
    let paths = Paths::at(host.path("/var/lib/onedock"));
    let entries = fs::read_dir(paths.boot_dir()).into_iter().flatten();
    let names = entries.flatten().map(|entry| entry.file_name());
    let ids = names.filter_map(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
    ids.filter_map(|id| Some((BootSpec::read(&paths, &id).ok()??.vm, id)))
        .collect()
}

fn describe(
    store: &str,
    started: &[(VmId, ContainerId)],
    there: &BTreeSet<ContainerId>,
) -> Vec<String> {
    let vms = |here: bool| -> BTreeSet<VmId> {
        let ours = started.iter().filter(|(_, id)| there.contains(id) == here);
        ours.map(|(vm, _)| *vm).collect()
    };
    let (have, lack) = (vms(true), vms(false));
    let mut notes = Vec::new();
    if !lack.is_empty() {
        let ids: Vec<String> = lack.iter().map(VmId::to_string).collect();
        notes.push(format!(
            "WARNING: this engine does not have the containers of VM {}, which are their disks: they were \
             removed, or the engine had another image store or folder than {store}. Give it back the \
             former one, and nothing is lost (docs/engines.md).",
            ids.join(", ")
        ));
    }
    if !have.is_empty() {
        notes.push(format!(
            "The root disks of {} are in this engine ({store}). Another image store or folder of the \
             engine would not have them: before you change either, undeploy those VMs, and resume them \
             afterwards (docs/engines.md).",
            match have.len() {
                1 => "one VM".to_owned(),
                many => format!("{many} VMs"),
            }
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(digit: &str) -> ContainerId {
        digit.repeat(64).parse().unwrap()
    }

    #[test]
    fn disks_that_the_engine_has_and_has_not_are_said_by_vm() {
        let vm = VmId::new;
        let started = [(vm(5), id("a")), (vm(5), id("b")), (vm(7), id("c"))];
        let there = |ids: &[&str]| ids.iter().map(|one| id(one)).collect();
        let all = describe("overlay2 in /d", &started, &there(&["a", "b", "c", "d"]));
        assert_eq!(all.len(), 1);
        assert!(all[0].starts_with("The root disks of 2 VMs are in this engine (overlay2 in /d)."));
        let some = describe("overlayfs in /d", &started, &there(&["a"]));
        assert!(some[0].contains("the containers of VM 5, 7,"), "{some:?}");
        assert!(some[1].contains("The root disks of one VM are"), "{some:?}");
        assert!(describe("overlay2 in /d", &[], &there(&["a"])).is_empty());
    }

    #[test]
    fn what_was_started_here_is_known_by_its_boot_spec() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert!(started(&host).is_empty());
        let boot = host.path("/var/lib/onedock/boot");
        fs::create_dir_all(&boot).unwrap();
        fs::write(boot.join("nonsense.json"), "{}").unwrap();
        fs::write(boot.join(format!("{}.json", id("b"))), "{}").unwrap();
        let spec = serde_json::json!({
            "version": onedock_common::state::boot::VERSION, "vm": 5, "boot_id": "b",
            "hostname": "web", "args": [], "first": "keep_alive", "nics": [], "dns": [],
            "search": [], "context": null, "volumes": [],
        });
        fs::write(boot.join(format!("{}.json", id("a"))), spec.to_string()).unwrap();
        assert_eq!(started(&host), [(VmId::new(5), id("a"))]);
    }
}
