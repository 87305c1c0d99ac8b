//! The host's tasks interrupted at every call of the engine and repeated, with the engine in
//! memory: what is left must be as if each had run once, or not at all.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use onedock_common::boot::BootSpec;
use onedock_common::config::Config;
use onedock_common::descriptor::Descriptor;
use onedock_common::engine::fake::{Failure, FakeEngine};
use onedock_common::engine::{CreateSpec, Engine as _, Limits};
use onedock_common::journal;
use onedock_common::paths::Paths;
use onedock_common::reference::Source;
use onedock_common::{ContainerName, DiskId, VmId};
use onedock_node::client::Helper;

use super::Node;
use crate::location::Place;
use crate::message::{Outcome, Pack, Running, Task};
use crate::system::System;

pub(super) struct Bed {
    pub(super) node: Node<'static, FakeEngine>,
    pub(super) folder: PathBuf,
    _dir: tempfile::TempDir,
}

pub(super) fn source() -> Source {
    format!(
        "docker://front:5000/onedock/img-6@sha256:{}",
        "ab".repeat(32)
    )
    .parse()
    .unwrap()
}

impl Bed {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path().join("state"));
        fs::create_dir_all(paths.boot_dir()).unwrap();
        fs::create_dir_all(paths.state().join("lock")).unwrap();
        let config: &'static Config = Box::leak(Box::default());
        let node = Node {
            engine: FakeEngine::default(),
            paths,
            config,
            helper: Helper::default(),
        };
        Self {
            node,
            folder: dir.path().join("101/5"),
            _dir: dir,
        }
    }

    pub(super) fn place(&self, name: &str) -> Place {
        Place::try_from(self.folder.join(name)).unwrap()
    }

    pub(super) fn perform(&self, task: Task) -> anyhow::Result<Outcome> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(self.node.perform(task))
    }

    pub(super) fn stage(&self) -> anyhow::Result<Outcome> {
        self.perform(Task::Stage {
            disk: self.place("disk.0"),
            system: System::Onedock,
            image: source(),
            source: source(),
            persistent: true,
            dockerrun: None,
            snapshots: Vec::new(),
        })
    }

    pub(super) fn delete(&self, name: &str) -> anyhow::Result<Outcome> {
        self.delete_in(name, System::Onedock)
    }

    pub(super) fn delete_in(&self, name: &str, system: System) -> anyhow::Result<Outcome> {
        self.perform(Task::Delete {
            place: self.place(name),
            system,
            saved: None,
            registry_is_clean: true,
        })
    }

    pub(super) fn pack(&self, from: Running) -> anyhow::Result<Outcome> {
        self.perform(Task::Pack(Pack {
            disk: self.place("disk.0"),
            repository: None,
            tag: "vm-5-disk-0".parse().unwrap(),
            comment: "saved".to_owned(),
            credential: None,
            from,
        }))
    }

    fn push(&self) -> anyhow::Result<Outcome> {
        self.pack(Running::Refused)
    }

    /// Whether the disk's state was pushed by this call.
    fn pushes(&self) -> bool {
        matches!(self.push().unwrap(), Outcome::State(state) if state.pushed)
    }

    /// A container as `deploy` makes it.
    pub(super) fn deploy(&self) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let labels = [("driver", "onedock"), ("vm", "5"), ("disk", "0")];
        let spec = CreateSpec {
            name: ContainerName::of(VmId::new(5)),
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
                cpu_shares: 1024,
                cpu_quota_us: 0,
                memory: 1 << 20,
                swap: 0,
            },
            storage_mib: None,
        };
        let id = runtime.block_on(self.node.engine.create(&spec)).unwrap();
        fs::write(self.node.paths.boot_spec(&id), "{}").unwrap();
        let path = self.folder.join("disk.0");
        let mut descriptor = Descriptor::read(&path).unwrap();
        descriptor.container = Some(id.clone());
        descriptor.write(&path).unwrap();
        runtime.block_on(self.node.engine.start(&id)).unwrap();
        self.node.engine.change("one-5", |c| c.info.running = false);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.node.engine.containers().is_empty()
            && !self.folder.exists()
            && fs::read_dir(self.node.paths.boot_dir()).unwrap().count() == 0
            && !self.node.paths.vm_lock(VmId::new(5)).exists()
    }
}

#[test]
fn fault_32_a_staged_image_is_fetched_once_and_the_disk_is_described_again_at_a_retry() {
    let bed = Bed::new();
    bed.stage().unwrap();
    bed.node.engine.heal();
    bed.stage().unwrap();
    assert!(!bed.node.engine.calls().contains(&"pull"));
    let descriptor = Descriptor::read(&bed.folder.join("disk.0")).unwrap();
    assert_eq!((descriptor.image, descriptor.persistent), (source(), true));
}

#[test]
fn a_staging_that_is_cut_off_at_any_call_is_finished_by_the_next() {
    for call in 1..=4 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let bed = Bed::new();
            bed.node.engine.fail(failure);
            bed.stage().expect_err(&format!("{failure:?}"));
            assert!(!bed.folder.join("disk.0").exists());
            bed.node.engine.heal();
            bed.stage().unwrap();
        }
    }
}

#[test]
fn fault_66_a_deletion_removes_container_boot_spec_and_files_in_any_order_and_twice() {
    for order in [&["disk.0", ""][..], &[""], &["", "disk.0"]] {
        let bed = Bed::new();
        bed.stage().unwrap();
        bed.deploy();
        for name in order {
            bed.delete(name).unwrap();
            bed.delete(name).unwrap();
        }
        if order.last() == Some(&"") || order.len() == 2 {
            assert!(bed.is_empty(), "{order:?}");
        }
    }
}

#[test]
fn fault_66_a_deletion_cut_off_at_any_call_is_finished_by_the_next() {
    for call in 1..=2 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let bed = Bed::new();
            bed.stage().unwrap();
            bed.deploy();
            bed.node.engine.fail(failure);
            bed.delete("").expect_err(&format!("{failure:?}"));
            bed.node.engine.heal();
            bed.delete("").unwrap();
            assert!(bed.is_empty(), "{failure:?}");
        }
    }
}

#[test]
fn fault_66_a_save_whose_deletion_was_cut_off_has_nothing_to_save_and_goes_on_to_delete() {
    for failure in [Failure::Before(1), Failure::After(1), Failure::Before(2)] {
        let bed = Bed::new();
        bed.stage().unwrap();
        bed.deploy();
        bed.node.engine.fail(failure);
        bed.delete("disk.0").expect_err(&format!("{failure:?}"));
        bed.node.engine.heal();
        assert!(!bed.pushes(), "{failure:?}");
        bed.delete("disk.0").unwrap();
        bed.delete("").unwrap();
        assert!(bed.is_empty(), "{failure:?}");
    }
}

#[test]
fn fault_2_a_container_that_the_engine_still_makes_for_a_deploy_cut_off_goes_with_its_disk() {
    let bed = Bed::new();
    bed.stage().unwrap();
    bed.deploy();
    let id = onedock_common::ContainerId::numbered(1);
    BootSpec::remove(&bed.node.paths, &id).unwrap();
    let mut descriptor = Descriptor::read(&bed.folder.join("disk.0")).unwrap();
    descriptor.container = None;
    descriptor.write(&bed.folder.join("disk.0")).unwrap();
    let (vm, disk) = (VmId::new(5), DiskId::new(0));
    journal::creating(&bed.node.paths, vm, disk).unwrap();
    bed.node.engine.hide(3);
    bed.delete("disk.0").unwrap();
    bed.delete("").unwrap();
    assert!(bed.is_empty());
    assert_eq!(journal::on_its_way(&bed.node.paths, vm, disk), None);
}

#[test]
fn fault_20_a_container_that_never_comes_is_waited_for_once_and_not_for_ever() {
    let bed = Bed::new();
    bed.stage().unwrap();
    let (vm, disk) = (VmId::new(5), DiskId::new(0));
    journal::creating(&bed.node.paths, vm, disk).unwrap();
    let noted = SystemTime::now() - (journal::MAKING - Duration::from_millis(200));
    fs::File::options()
        .write(true)
        .open(bed.node.paths.journal(vm))
        .unwrap()
        .set_modified(noted)
        .unwrap();
    bed.delete("disk.0").unwrap();
    assert_eq!(journal::on_its_way(&bed.node.paths, vm, disk), None);
}

#[test]
fn a_container_without_a_descriptor_goes_with_its_disk_and_a_foreign_one_stays() {
    let bed = Bed::new();
    bed.stage().unwrap();
    bed.deploy();
    fs::remove_file(bed.folder.join("disk.0")).unwrap();
    bed.delete("disk.0").unwrap();
    assert!(bed.node.engine.containers().is_empty());
    bed.node.engine.add(
        "one-5",
        [("org.opennebula.vm".to_owned(), "5".to_owned())].into(),
    );
    bed.delete("disk.0").unwrap();
    bed.delete("").unwrap();
    assert_eq!(bed.node.engine.containers().len(), 1);
}

#[test]
fn fault_8_what_is_saved_leaves_no_local_tag_even_when_the_push_fails() {
    for call in 1..=4 {
        let bed = Bed::new();
        bed.stage().unwrap();
        bed.deploy();
        bed.node.engine.fail(Failure::After(call));
        bed.push().unwrap_err();
        bed.node.engine.heal();
        assert!(bed.pushes());
        assert_eq!(bed.node.engine.containers().len(), 1);
    }
}

#[test]
fn a_disk_that_never_ran_or_was_saved_and_deleted_before_has_nothing_to_save() {
    let bed = Bed::new();
    assert_eq!(bed.push().unwrap(), Outcome::Absent);
    bed.stage().unwrap();
    assert!(!bed.pushes());
}

#[test]
fn a_running_vm_s_disk_is_not_saved() {
    let bed = Bed::new();
    bed.stage().unwrap();
    bed.deploy();
    bed.node.engine.change("one-5", |c| c.info.running = true);
    assert!(bed.push().unwrap_err().to_string().contains("still runs"));
}

#[test]
fn a_move_to_another_system_datastore_takes_descriptor_and_context_along() {
    let bed = Bed::new();
    bed.stage().unwrap();
    fs::create_dir(bed.folder.join("disk.1")).unwrap();
    let other = bed
        .folder
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("102/5");
    let to = |name: &str| Place::try_from(other.join(name)).unwrap();
    for _ in 0..2 {
        bed.perform(Task::Move {
            from: bed.place("disk.0"),
            to: to("disk.0"),
        })
        .unwrap();
        bed.perform(Task::Move {
            from: bed.place(""),
            to: to(""),
        })
        .unwrap();
    }
    assert!(Descriptor::read(&other.join("disk.0")).is_ok());
    assert!(other.join("disk.1").is_dir());
    assert!(!bed.folder.exists());
    assert!(
        BootSpec::read(&bed.node.paths, &onedock_common::ContainerId::numbered(1))
            .unwrap()
            .is_none()
    );
}
