//! Disks that move, are saved and are frozen, interrupted at every call of the engine and repeated:
//! no VM stays frozen, no state is lost.

use std::fs;
use std::time::Duration;

use onedock_common::engine::fake::Failure;
use onedock_common::engine::{CreateSpec, Engine as _, Limits};
use onedock_common::state::descriptor::Descriptor;
use onedock_common::state::journal::freezing;
use onedock_common::types::system_datastore::SystemDatastore;
use onedock_common::{ContainerName, DiskId, SnapshotId, VmId};

use super::delete::remove::{Delete, Deletion, InRegistry};
use super::fault_tests::{TestHost, source};
use super::inventory::{FoundDisk, Inventory};
use super::mv::{Adopt, Release};
use super::save::IfRunning;
use super::save::container::{SaveContainer, SavedContainer};
use super::snap_create::SnapCreate;
use super::snap_revert::SnapRevert;
use crate::request::{Arrival, Request as _};

const VM: VmId = VmId::new(5);

impl TestHost {
    fn running(&self) {
        self.stage().unwrap();
        self.deploy();
        self.node.engine.change("one-5", |c| c.info.running = true);
    }

    fn is_paused(&self) -> bool {
        self.node.engine.containers()[0].info.paused
    }

    fn descriptor(&self) -> Descriptor {
        Descriptor::read(&self.folder.join("disk.0")).unwrap()
    }

    fn inventory(&self) -> Vec<FoundDisk> {
        let path = self.path("disk.0");
        self.perform(Inventory { path, token: None }).unwrap()
    }

    fn snapshot(&self, id: u32) -> anyhow::Result<()> {
        self.perform(SnapCreate {
            disk: self.path("disk.0"),
            id: SnapshotId::new(id),
        })
    }

    fn adopt(&self, system: SystemDatastore, state: &SavedContainer) -> anyhow::Result<Arrival> {
        let descriptor = Descriptor {
            image: state.image.clone(),
            container: None,
            ..state.descriptor.clone()
        };
        self.perform(Adopt {
            disk: self.path("disk.0"),
            system,
            descriptor,
            token: "token".to_owned(),
        })
    }

    fn release(&self, system: SystemDatastore, state: &SavedContainer) -> anyhow::Result<()> {
        self.perform(Release {
            disk: self.path("disk.0"),
            system,
            content: state.image.clone(),
            container: state.descriptor.container.clone(),
        })
    }

    /// The tree of a further image, as `deploy` makes it.
    fn tree(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let labels = [("driver", "onedock"), ("tree", "5"), ("disk", "1")];
        let spec = CreateSpec {
            name: ContainerName::of_tree(VM, DiskId::new(1)),
            image: source(),
            hostname: "web".parse().unwrap(),
            labels: labels
                .map(|(k, v)| (format!("org.opennebula.{k}"), v.to_owned()))
                .into(),
            cmd: None,
            runtime: "onedock",
            terminal: false,
            no_volume_at: Vec::new(),
            limits: Limits {
                cpu_shares: 0,
                cpu_quota_us: 0,
                memory: 0,
                swap: 0,
                pids: 0,
            },
            body: Default::default(),
            host: Default::default(),
            storage_mib: None,
        };
        let id = runtime.block_on(self.node.engine.create(&spec)).unwrap();
        let mut descriptor = self.descriptor();
        descriptor.disk = DiskId::new(1);
        descriptor.container = Some(id);
        descriptor.write(&self.folder.join("disk.1")).unwrap();
    }
}

/// What the front-end does for a move, until the first failure.
fn mv(from: &TestHost, to: &TestHost) -> anyhow::Result<()> {
    if let Some(saved) = from.save(IfRunning::Refuse)? {
        to.adopt(SystemDatastore::Onedock, &saved)?;
        from.release(SystemDatastore::Onedock, &saved)?;
    }
    Ok(())
}

#[test]
fn fault_67_a_live_snapshot_cut_off_at_any_call_leaves_no_frozen_vm_and_is_taken_once() {
    for call in 1..=9 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let host = TestHost::new();
            host.running();
            host.node.engine.fail(failure);
            let first = host.snapshot(0);
            assert!(!host.is_paused(), "{failure:?}");
            assert!(!freezing::is_begun(&host.node.paths, VM), "{failure:?}");
            host.node.engine.heal();
            let snapshots = host.descriptor().snapshots.len();
            assert_eq!(snapshots, usize::from(first.is_ok()), "{failure:?}");
            for _ in 0..2 {
                host.snapshot(0).unwrap();
            }
            assert_eq!(host.descriptor().snapshots.len(), 1, "{failure:?}");
            assert!(!host.is_paused());
            assert!(host.node.engine.containers()[0].info.running);
        }
    }
}

#[test]
fn a_snapshot_that_dies_while_the_vm_is_frozen_leaves_a_note_for_the_next_action() {
    let host = TestHost::new();
    host.running();
    host.node.engine.hang(Some("commit"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let request = SnapCreate {
            disk: host.path("disk.0"),
            id: SnapshotId::new(0),
        };
        let mut nothing = std::io::empty();
        let work = request.perform(&host.node, &mut nothing);
        // As when the process is killed: what it was about to do is not done.
        let ended = tokio::time::timeout(Duration::from_millis(200), work).await;
        assert!(ended.is_err());
    });
    host.node.engine.hang(None);
    assert!(host.is_paused() && freezing::is_begun(&host.node.paths, VM));
    host.inventory();
    assert!(!host.is_paused() && !freezing::is_begun(&host.node.paths, VM));
}

#[test]
fn a_vm_that_a_dead_action_froze_goes_on_with_the_next_one_and_a_suspended_one_does_not() {
    let host = TestHost::new();
    host.running();
    host.node.engine.change("one-5", |c| c.info.paused = true);
    host.inventory();
    assert!(host.is_paused(), "suspended");
    freezing::begin(&host.node.paths, VM).unwrap();
    host.inventory();
    assert!(!host.is_paused());
    assert!(!freezing::is_begun(&host.node.paths, VM));
}

#[test]
fn a_suspended_vm_is_ended_before_its_disk_moves_and_not_for_a_snapshot() {
    let host = TestHost::new();
    host.running();
    host.node.engine.change("one-5", |c| c.info.paused = true);
    host.snapshot(0).unwrap();
    assert!(host.is_paused());
    let saved = host.save(IfRunning::Refuse).unwrap();
    assert!(saved.unwrap().pushed);
    assert!(!host.node.engine.containers()[0].info.running);
}

#[test]
fn fault_64_a_move_cut_off_at_any_call_of_either_host_is_finished_by_the_next() {
    for call in 1..=8 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            for source_fails in [true, false] {
                let (from, to) = (TestHost::new(), TestHost::new());
                from.stage().unwrap();
                from.deploy();
                let failing = if source_fails { &from } else { &to };
                failing.node.engine.fail(failure);
                let _ = mv(&from, &to);
                // The state is never nowhere.
                let at_source = fs::exists(from.folder.join("disk.0")).unwrap();
                let arrived = fs::exists(to.folder.join("disk.0")).unwrap();
                let whole = !from.node.engine.containers().is_empty();
                assert!(arrived || (at_source && whole), "{failure:?}");
                failing.node.engine.heal();
                for _ in 0..2 {
                    mv(&from, &to).unwrap();
                }
                assert!(!from.folder.join("disk.0").exists(), "{failure:?}");
                assert!(from.node.engine.containers().is_empty(), "{failure:?}");
                let arrived = to.descriptor();
                assert_ne!(arrived.image, source(), "{failure:?}");
                assert_eq!(arrived.container, None);
            }
        }
    }
}

#[test]
fn in_a_stock_datastore_the_descriptor_stays_for_the_stock_scripts_and_names_the_state() {
    let (from, to) = (TestHost::new(), TestHost::new());
    from.stage().unwrap();
    from.deploy();
    let state = from.save(IfRunning::Refuse).unwrap().unwrap();
    assert_eq!(
        to.adopt(SystemDatastore::Ssh, &state).unwrap(),
        Arrival::Done
    );
    assert!(!to.folder.exists());
    let context = from.node.paths.context_folder(VM);
    for _ in 0..2 {
        // The driver's own copy of the context, which no stock script knows.
        fs::create_dir_all(&context).unwrap();
        from.release(SystemDatastore::Ssh, &state).unwrap();
        assert!(!context.exists());
        assert_eq!(from.descriptor().image, state.image);
        assert_eq!(from.descriptor().container, None);
        assert!(from.node.engine.containers().is_empty());
    }
}

#[test]
fn what_the_registry_has_is_reported_before_anything_is_removed() {
    let host = TestHost::new();
    host.stage().unwrap();
    host.deploy();
    let request = |registry_is_clean| Delete {
        path: host.path(""),
        system: SystemDatastore::Onedock,
        saved: None,
        registry_is_clean,
    };
    for _ in 0..2 {
        let deletion = host.perform(request(false)).unwrap();
        let held = InRegistry {
            disk: DiskId::new(0),
            repository: source().repository().clone(),
        };
        assert_eq!(deletion, Deletion::RegistryFirst(vec![held]));
        assert_eq!(host.node.engine.containers().len(), 1);
    }
    // Also of a descriptor that is damaged: by the note beside it, else by the label.
    fs::write(host.folder.join("disk.0"), "{\"version\":2,").unwrap();
    assert!(matches!(
        host.perform(request(false)).unwrap(),
        Deletion::RegistryFirst(_)
    ));
    fs::remove_file(host.folder.join("disk.0.registry")).unwrap();
    host.node.engine.change("one-5", |c| {
        let label = "org.opennebula.source".to_owned();
        c.info.labels.insert(label, source().to_string());
    });
    assert!(matches!(
        host.perform(request(false)).unwrap(),
        Deletion::RegistryFirst(_)
    ));
    for _ in 0..2 {
        assert_eq!(host.perform(request(true)).unwrap(), Deletion::Done);
    }
    assert!(host.node.engine.containers().is_empty() && !host.folder.exists());
}

#[test]
fn the_tree_of_a_further_image_is_saved_without_having_run_and_goes_with_its_disk() {
    let host = TestHost::new();
    host.stage().unwrap();
    host.deploy();
    host.tree();
    let request = SaveContainer {
        disk: host.path("disk.1"),
        repository: None,
        tag: "vm-5-disk-1".parse().unwrap(),
        comment: "saved".to_owned(),
        if_running: IfRunning::Refuse,
    };
    let saved = host.perform(request.clone()).unwrap();
    assert!(saved.unwrap().pushed);
    host.node.engine.change("one-5", |c| c.info.running = true);
    let refused = host.perform(request.clone()).unwrap_err().to_string();
    assert!(refused.contains("still runs"), "{refused}");
    // Whose file is gone is not taken for one that was saved and deleted.
    let file = host.folder.join("disk.1");
    let text = fs::read(&file).unwrap();
    fs::remove_file(&file).unwrap();
    let refused = host.perform(request.clone()).unwrap_err().to_string();
    assert!(refused.contains("its container is there"), "{refused}");
    fs::write(&file, text).unwrap();
    host.delete("disk.1").unwrap();
    assert_eq!(host.perform(request).unwrap(), None);
    assert_eq!(host.node.engine.containers().len(), 1);
    assert_eq!(host.node.engine.containers()[0].name, "one-5");
}

#[test]
fn a_revert_to_a_snapshot_that_was_never_taken_changes_nothing() {
    let host = TestHost::new();
    host.stage().unwrap();
    host.deploy();
    let before = host.descriptor();
    let request = SnapRevert {
        disk: host.path("disk.0"),
        id: SnapshotId::new(3),
    };
    let refused = host.perform(request).unwrap_err().to_string();
    assert!(refused.contains("no snapshot 3, it has none"), "{refused}");
    assert_eq!(host.descriptor(), before);
    assert_eq!(host.node.engine.containers().len(), 1);
}

#[test]
fn our_state_of_a_vm_in_a_stock_datastore_goes_with_its_last_container() {
    let host = TestHost::new();
    host.stage().unwrap();
    host.deploy();
    let paths = &host.node.paths;
    fs::create_dir_all(paths.context_folder(VM)).unwrap();
    fs::create_dir_all(paths.extracted_folder(VM, DiskId::new(2))).unwrap();
    fs::write(host.folder.join("vm.xml"), "<VM/>").unwrap();
    for _ in 0..2 {
        host.delete_in("disk.0", SystemDatastore::Ssh).unwrap();
    }
    assert!(host.folder.join("vm.xml").exists(), "the stock script's");
    assert!(!paths.context_folder(VM).exists() && !paths.extracted_of(VM).exists());
    assert!(!paths.vm_lock(VM).exists());
}
