//! A node without engine and root: a VM's folder and the driver's state in a temporary folder, the
//! engine in memory, and a recorder of the requests to root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use onedock_common::engine::fake::FakeEngine;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;
use onedock_common::options::policy::Policy;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::descriptor::{self, Descriptor};
use onedock_common::state::paths::Paths;
use onedock_common::state::vm_folder;
use onedock_common::types::image_config::ImageConfig;
use onedock_common::types::reference::Source;
use onedock_common::types::system_datastore::SystemDatastore;
use onedock_common::{DiskId, VmId};

use super::Action;
use crate::Host;
use crate::fake_root::FakeRoot;

/// The document of a recorded `deploy`, with five disks.
pub(super) const RECORDED: &str = include_str!("../../../common/testdata/deploy-7.4.0.xml");

/// What the recorded template asks for that is not supported, section or attribute.
const UNSUPPORTED: [&str; 5] = [
    "GRAPHICS",
    "RAW",
    "START_SCRIPT",
    "SSH_PUBLIC_KEY",
    "DOCKER_ENV",
];

/// The recorded document without what is not supported, which the VM's log would note.
pub(super) fn supported() -> String {
    let mut text = RECORDED.to_owned();
    for name in UNSUPPORTED {
        let from = text.find(&format!("<{name}>")).unwrap();
        let end = format!("</{name}>");
        let to = text.find(&end).unwrap() + end.len();
        text.replace_range(from..to, "");
    }
    text
}

/// That document with its root disk only.
pub(super) fn small() -> String {
    let mut text = supported();
    for id in 1..=4 {
        text = without_disk(&text, id);
    }
    text
}

/// A document without one of its disks.
pub(super) fn without_disk(document: &str, id: u32) -> String {
    let mark = format!("<DISK_ID><![CDATA[{id}]]>");
    let at = document.find(&mark).unwrap();
    let from = document[..at].rfind("<DISK>").unwrap();
    let to = at + document[at..].find("</DISK>").unwrap() + "</DISK>".len();
    format!("{}{}", &document[..from], &document[to..])
}

/// A document with this put into one of its disks.
pub(super) fn with_disk(document: &str, id: u32, text: &str) -> String {
    let mark = format!("<DISK_ID><![CDATA[{id}]]></DISK_ID>");
    assert!(document.contains(&mark));
    document.replace(&mark, &format!("{mark}{text}"))
}

/// The document of an action other than `deploy`.
pub(super) fn action(document: &str, lcm_state: u32) -> String {
    let vm = document
        .find("<VM>")
        .map(|at| &document[at..])
        .unwrap()
        .replace("<LCM_STATE>2<", &format!("<LCM_STATE>{lcm_state}<"));
    format!("<VMM_DRIVER_ACTION_DATA>{vm}</VMM_DRIVER_ACTION_DATA>")
}

/// An image in the registry.
pub(super) fn image(number: u32) -> Source {
    let hex = "ab".repeat(32);
    format!("docker://front:5000/onedock/img-{number}@sha256:{hex}")
        .parse()
        .unwrap()
}

/// What an image asks for.
pub(super) fn httpd() -> ImageConfig {
    ImageConfig {
        cmd: vec!["httpd".into()],
        ..ImageConfig::default()
    }
}

pub(super) struct FakeNode {
    pub(super) host: Host<FakeEngine, FakeRoot>,
    pub(super) system_dir: PathBuf,
    pub(super) dir: tempfile::TempDir,
}

impl FakeNode {
    /// A VM of one disk, staged.
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let system_dir = dir.path().join("datastores/101/5");
        vm_folder::prepare(&system_dir, SystemDatastore::Onedock).unwrap();
        fs::create_dir(system_dir.join("disk.5")).unwrap();
        let paths = Paths::at(dir.path().join("state"));
        fs::create_dir_all(paths.boot_dir()).unwrap();
        fs::create_dir_all(paths.state().join("lock")).unwrap();
        let node = Self {
            host: Host {
                engine: FakeEngine::with_image(&image(6), httpd()),
                root: FakeRoot::default(),
                paths,
                config: Config::default(),
                policy: Policy::default(),
            },
            system_dir,
            dir,
        };
        node.host.engine.record_layers(node.host.paths.layers_dir());
        node.stage(0, &image(6));
        node
    }

    /// A VM of five: root, volatile, swap, tree, CD.
    pub(super) fn full() -> Self {
        let node = Self::new();
        node.file(1, 50);
        node.file(2, 32);
        node.host.engine.stage(&image(8));
        node.stage(3, &image(8));
        let files = node.dir.path().join("cd");
        fs::create_dir(&files).unwrap();
        fs::write(files.join("readme"), "a CD").unwrap();
        node.iso(4, &files);
        node
    }

    /// A descriptor, as the transfer manager's `clone` writes it.
    pub(super) fn stage(&self, disk: u32, image: &Source) {
        let descriptor = Descriptor {
            version: descriptor::VERSION,
            vm: VmId::new(5),
            disk: DiskId::new(disk),
            image: image.clone(),
            source: image.clone(),
            image_config: Some(httpd()),
            persistent: false,
            dockerrun: None,
            container: None,
            snapshots: Vec::new(),
        };
        descriptor.write(&self.disk(disk)).unwrap();
    }

    /// An empty disk in a file.
    pub(super) fn file(&self, disk: u32, mib: u64) {
        let file = fs::File::create(self.disk(disk)).unwrap();
        file.set_len(mib << 20).unwrap();
    }

    /// An ISO image of a folder, all of it root's.
    pub(super) fn iso(&self, disk: u32, files: &Path) {
        self.iso_with(disk, files, &["-r"]);
    }

    pub(super) fn iso_with(&self, disk: u32, files: &Path, options: &[&str]) {
        let made = Command::new("genisoimage")
            .args(["-quiet", "-J"])
            .args(options)
            .arg("-o")
            .args([&self.disk(disk), files])
            .status()
            .unwrap();
        assert!(made.success());
    }

    pub(super) fn disk(&self, disk: u32) -> PathBuf {
        vm_folder::disk(&self.system_dir, DiskId::new(disk))
    }

    pub(super) fn descriptor(&self) -> Descriptor {
        self.descriptor_of(0)
    }

    pub(super) fn descriptor_of(&self, disk: u32) -> Descriptor {
        Descriptor::read(&self.disk(disk)).unwrap()
    }

    pub(super) fn deploy_with(&self, document: &str) -> anyhow::Result<Answer> {
        let file = self.system_dir.join("deployment.0").display().to_string();
        self.act("deploy", &[&file, "node1", "5", "node1"], document)
    }

    pub(super) fn deploy(&self) -> anyhow::Result<Answer> {
        self.deploy_with(&small())
    }

    /// With a clock that goes on as soon as everybody waits for it.
    pub(super) fn deploy_in_no_time(&self) -> anyhow::Result<Answer> {
        let file = self.system_dir.join("deployment.0").display().to_string();
        let arguments = [file.as_str(), "node1", "5", "node1"].map(str::to_owned);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        let document = || Ok(small().into_bytes());
        runtime.block_on(Action::Deploy.run(&self.host, &arguments, document))
    }

    pub(super) fn end(&self, action: &str) -> anyhow::Result<Answer> {
        self.act(action, &["one-5", "node1", "5", "node1"], "")
    }

    pub(super) fn act(
        &self,
        action: &str,
        arguments: &[&str],
        document: &str,
    ) -> anyhow::Result<Answer> {
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let action: Action = action.parse().unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(action.run(&self.host, &arguments, || Ok(document.as_bytes().to_vec())))
    }

    /// The boot spec of the VM's container.
    pub(super) fn spec(&self) -> BootSpec {
        let id = self.descriptor().container.unwrap();
        BootSpec::read(&self.host.paths, &id).unwrap().unwrap()
    }

    /// The disks of the boot spec.
    pub(super) fn booted_disks(&self) -> Vec<u32> {
        self.spec().disks.iter().map(|d| d.id.get()).collect()
    }

    /// Whether the VM's container runs, is frozen, and how often it was started.
    pub(super) fn root_state(&self) -> (bool, bool, u32) {
        let containers = self.host.engine.containers();
        let root = containers.iter().find(|c| c.name == "one-5").unwrap();
        (root.info.running, root.info.paused, root.starts)
    }

    /// The state that a single undisturbed `deploy` leaves.
    pub(super) fn assert_runs_once(&self, starts: u32) {
        let containers = self.host.engine.containers();
        assert_eq!(containers.len(), 1, "{containers:?}");
        let container = &containers[0];
        assert!(container.info.running && !container.info.paused);
        assert_eq!(container.starts, starts);
        assert_eq!(
            self.descriptor().container.as_ref(),
            Some(&container.info.id)
        );
        assert!(
            BootSpec::read(&self.host.paths, &container.info.id)
                .unwrap()
                .is_some()
        );
    }

    /// The state before the first `deploy`.
    pub(super) fn assert_nothing_left(&self) {
        assert!(self.host.engine.containers().is_empty());
        assert_eq!(self.descriptor().container, None);
        assert_eq!(fs::read_dir(self.host.paths.boot_dir()).unwrap().count(), 0);
        assert!(!self.host.paths.state().join("extracted/5/4").exists());
    }
}
