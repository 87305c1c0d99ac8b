//! The node halves interrupted at every call of the engine and repeated, with the engine in
//! memory: what is left must be as if each had run once, or not at all.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use onedock_common::engine::fake::{Failure, FakeEngine};
use onedock_common::engine::{CreateSpec, Engine as _, ImageState, Limits};
use onedock_common::opennebula::config::Config;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::descriptor::Descriptor;
use onedock_common::state::journal;
use onedock_common::state::paths::Paths;
use onedock_common::types::image_config::ImageConfig;
use onedock_common::types::reference::Source;
use onedock_common::{ContainerName, DiskId, VmId};
use onedock_node::client::Helper;

use super::clone::stage::Stage;
use super::delete::remove::{Delete, Deletion};
use super::mv::Rename;
use super::save::IfRunning;
use super::save::container::{SaveContainer, SavedContainer};
use crate::location::VmPath;
use crate::node::NodeContext;
use crate::request::Request;
use onedock_common::types::system_datastore::SystemDatastore;

pub(super) struct TestHost {
    pub(super) node: NodeContext<'static, FakeEngine>,
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

impl TestHost {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path().join("state"));
        fs::create_dir_all(paths.boot_dir()).unwrap();
        fs::create_dir_all(paths.state().join("lock")).unwrap();
        let config: &'static Config = Box::leak(Box::default());
        let node = NodeContext {
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

    pub(super) fn path(&self, name: &str) -> VmPath {
        VmPath::try_from(self.folder.join(name)).unwrap()
    }

    pub(super) fn perform<R: Request>(&self, request: R) -> anyhow::Result<R::Reply> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(request.perform(&self.node, &mut std::io::empty()))
    }

    pub(super) fn stage(&self) -> anyhow::Result<()> {
        self.perform(Stage {
            disk: self.path("disk.0"),
            system: SystemDatastore::Onedock,
            image: source(),
            source: source(),
            persistent: true,
            dockerrun: None,
            snapshots: Vec::new(),
        })
    }

    pub(super) fn delete(&self, name: &str) -> anyhow::Result<Deletion> {
        self.delete_in(name, SystemDatastore::Onedock)
    }

    pub(super) fn delete_in(
        &self,
        name: &str,
        system: SystemDatastore,
    ) -> anyhow::Result<Deletion> {
        self.perform(Delete {
            path: self.path(name),
            system,
            saved: None,
            registry_is_clean: true,
        })
    }

    pub(super) fn save(&self, if_running: IfRunning) -> anyhow::Result<Option<SavedContainer>> {
        self.perform(SaveContainer {
            disk: self.path("disk.0"),
            repository: None,
            tag: "vm-5-disk-0".parse().unwrap(),
            comment: "saved".to_owned(),
            if_running,
        })
    }

    fn push(&self) -> anyhow::Result<Option<SavedContainer>> {
        self.save(IfRunning::Refuse)
    }

    /// Whether the disk's state was pushed by this call.
    fn pushes(&self) -> bool {
        self.push().unwrap().is_some_and(|saved| saved.pushed)
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
                pids: 0,
            },
            body: Default::default(),
            host: Default::default(),
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
    let host = TestHost::new();
    host.stage().unwrap();
    host.node.engine.heal();
    host.stage().unwrap();
    assert!(!host.node.engine.calls().contains(&"pull"));
    let descriptor = Descriptor::read(&host.folder.join("disk.0")).unwrap();
    assert_eq!((descriptor.image, descriptor.persistent), (source(), true));
    // Nobody but the drivers and root looks into it.
    let mode = fs::metadata(&host.folder).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o750);
}

#[test]
fn what_an_image_asks_for_is_staged_with_it_and_an_image_nobody_knows_is_refused() {
    let host = TestHost::new();
    let known = ImageConfig {
        entrypoint: vec!["/entry".into()],
        cmd: vec!["serve".into()],
        volumes: vec!["/data".into()],
    };
    let engine = &host.node.engine;
    engine.set_image(&source(), ImageState::Known(known.clone()));
    host.stage().unwrap();
    let descriptor = || Descriptor::read(&host.folder.join("disk.0")).unwrap();
    assert_eq!(descriptor().image_config, Some(known));
    // Neither the engine nor the registry, which is away, knows it.
    engine.set_image(&source(), ImageState::Unknown);
    let error = format!("{:#}", host.stage().unwrap_err());
    assert!(
        error.contains("the engine does not know the configuration of"),
        "{error}"
    );
    assert!(!engine.calls().contains(&"pull"), "it is here");
    let long = ImageConfig {
        cmd: vec!["x".repeat(128 * 1024)],
        ..ImageConfig::default()
    };
    engine.set_image(&source(), ImageState::Known(long));
    let error = format!("{:#}", host.stage().unwrap_err());
    assert!(error.contains("at most 131072 are supported"), "{error}");
}

/// Only root calls the helper without sudo.
#[test]
fn fault_3_what_was_started_is_settled_before_its_container_is_removed() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut host = TestHost::new();
    let program = host.folder.with_file_name("helper");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    let answers = |script: &str| {
        fs::write(&program, format!("#!/bin/sh\ncat > $0.asked\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    };
    host.node.helper = Helper::at(&program);
    host.stage().unwrap();
    host.deploy();
    answers("echo 'it still runs' >&2; exit 1");
    let delete = || host.delete("disk.0");
    let error = format!("{:#}", delete().unwrap_err());
    assert!(error.contains("it still runs"), "{error}");
    assert_eq!(host.node.engine.containers().len(), 1);
    answers("echo '{\"done\":true}'");
    delete().unwrap();
    assert!(host.node.engine.containers().is_empty());
    let asked = fs::read_to_string(program.with_extension("asked")).unwrap();
    assert!(asked.contains("\"action\":\"settle\""), "{asked}");
}

#[test]
fn a_staging_that_is_cut_off_at_any_call_is_finished_by_the_next() {
    for call in 1..=4 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let host = TestHost::new();
            host.node.engine.fail(failure);
            host.stage().expect_err(&format!("{failure:?}"));
            assert!(!host.folder.join("disk.0").exists());
            host.node.engine.heal();
            host.stage().unwrap();
        }
    }
}

#[test]
fn fault_66_a_deletion_removes_container_boot_spec_and_files_in_any_order_and_twice() {
    for order in [&["disk.0", ""][..], &[""], &["", "disk.0"]] {
        let host = TestHost::new();
        host.stage().unwrap();
        host.deploy();
        for name in order {
            host.delete(name).unwrap();
            host.delete(name).unwrap();
        }
        if order.last() == Some(&"") || order.len() == 2 {
            assert!(host.is_empty(), "{order:?}");
        }
    }
}

#[test]
fn fault_66_a_deletion_cut_off_at_any_call_is_finished_by_the_next() {
    for call in 1..=2 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let host = TestHost::new();
            host.stage().unwrap();
            host.deploy();
            host.node.engine.fail(failure);
            host.delete("").expect_err(&format!("{failure:?}"));
            host.node.engine.heal();
            host.delete("").unwrap();
            assert!(host.is_empty(), "{failure:?}");
        }
    }
}

#[test]
fn fault_66_a_save_whose_deletion_was_cut_off_has_nothing_to_save_and_goes_on_to_delete() {
    for failure in [Failure::Before(1), Failure::After(1), Failure::Before(2)] {
        let host = TestHost::new();
        host.stage().unwrap();
        host.deploy();
        host.node.engine.fail(failure);
        host.delete("disk.0").expect_err(&format!("{failure:?}"));
        host.node.engine.heal();
        assert!(!host.pushes(), "{failure:?}");
        host.delete("disk.0").unwrap();
        host.delete("").unwrap();
        assert!(host.is_empty(), "{failure:?}");
    }
}

#[test]
fn fault_2_a_container_that_the_engine_still_makes_for_a_deploy_cut_off_goes_with_its_disk() {
    let host = TestHost::new();
    host.stage().unwrap();
    host.deploy();
    let id = onedock_common::ContainerId::numbered(1);
    BootSpec::remove(&host.node.paths, &id).unwrap();
    let mut descriptor = Descriptor::read(&host.folder.join("disk.0")).unwrap();
    descriptor.container = None;
    descriptor.write(&host.folder.join("disk.0")).unwrap();
    let (vm, disk) = (VmId::new(5), DiskId::new(0));
    journal::creating(&host.node.paths, vm, disk).unwrap();
    host.node.engine.hide(3);
    host.delete("disk.0").unwrap();
    host.delete("").unwrap();
    assert!(host.is_empty());
    assert_eq!(journal::on_its_way(&host.node.paths, vm, disk), None);
}

#[test]
fn fault_20_a_container_that_never_comes_is_waited_for_once_and_not_for_ever() {
    let host = TestHost::new();
    host.stage().unwrap();
    let (vm, disk) = (VmId::new(5), DiskId::new(0));
    journal::creating(&host.node.paths, vm, disk).unwrap();
    let noted = SystemTime::now() - (journal::MAKING - Duration::from_millis(200));
    fs::File::options()
        .write(true)
        .open(host.node.paths.journal(vm))
        .unwrap()
        .set_modified(noted)
        .unwrap();
    host.delete("disk.0").unwrap();
    assert_eq!(journal::on_its_way(&host.node.paths, vm, disk), None);
}

#[test]
fn a_container_without_a_descriptor_goes_with_its_disk_and_a_foreign_one_stays() {
    let host = TestHost::new();
    host.stage().unwrap();
    host.deploy();
    fs::remove_file(host.folder.join("disk.0")).unwrap();
    host.delete("disk.0").unwrap();
    assert!(host.node.engine.containers().is_empty());
    host.node.engine.add(
        "one-5",
        [("org.opennebula.vm".to_owned(), "5".to_owned())].into(),
    );
    host.delete("disk.0").unwrap();
    host.delete("").unwrap();
    assert_eq!(host.node.engine.containers().len(), 1);
}

#[test]
fn fault_8_what_is_saved_leaves_no_local_tag_even_when_the_push_fails() {
    for call in 1..=4 {
        let host = TestHost::new();
        host.stage().unwrap();
        host.deploy();
        host.node.engine.fail(Failure::After(call));
        host.push().unwrap_err();
        host.node.engine.heal();
        assert!(host.pushes());
        assert_eq!(host.node.engine.containers().len(), 1);
    }
}

#[test]
fn a_disk_that_never_ran_or_was_saved_and_deleted_before_has_nothing_to_save() {
    let host = TestHost::new();
    assert_eq!(host.push().unwrap(), None);
    host.stage().unwrap();
    assert!(!host.pushes());
}

#[test]
fn a_running_vm_s_disk_is_not_saved() {
    let host = TestHost::new();
    host.stage().unwrap();
    host.deploy();
    host.node.engine.change("one-5", |c| c.info.running = true);
    assert!(host.push().unwrap_err().to_string().contains("still runs"));
}

#[test]
fn a_move_to_another_system_datastore_takes_descriptor_and_context_along() {
    let host = TestHost::new();
    host.stage().unwrap();
    fs::create_dir(host.folder.join("disk.1")).unwrap();
    let other = host
        .folder
        .parent()
        .and_then(Path::parent)
        .unwrap()
        .join("102/5");
    let to = |name: &str| VmPath::try_from(other.join(name)).unwrap();
    for _ in 0..2 {
        host.perform(Rename {
            from: host.path("disk.0"),
            to: to("disk.0"),
        })
        .unwrap();
        host.perform(Rename {
            from: host.path(""),
            to: to(""),
        })
        .unwrap();
    }
    assert!(Descriptor::read(&other.join("disk.0")).is_ok());
    assert!(other.join("disk.1").is_dir());
    assert!(!host.folder.exists());
    assert!(
        BootSpec::read(&host.node.paths, &onedock_common::ContainerId::numbered(1))
            .unwrap()
            .is_none()
    );
}
