//! The second recording: every kind of disk on one VM, snapshots and save-as of it running and off,
//! and persistent images with snapshots.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onedock_tests::replay::cloud::run;
use onedock_tests::replay::contents::Tree;
use onedock_tests::replay::performer::Repeat;

use crate::walk::{Vm, Walk};

/// Contents by the mount point of the disk.
type Contents = BTreeMap<String, Tree>;

/// The disks that have snapshots: the root with its VOLUME, a data block, a tree.
const ROOT: &str = "";
const VOLUME: &str = "/data";
const DATA: &str = "/media/disk.2";
const TREE: &str = "/media/disk.3";

impl Walk<'_> {
    /// From nothing to nothing.
    pub(crate) fn disks(&mut self) -> Result<()> {
        self.all("setup-disks")?;
        let images = self.images("setup-disks")?;
        ensure!(images == [0, 1, 2, 3, 4, 5, 6, 7], "{images:?}");
        let (saved, persistent) = self.disks_of_one_vm()?;
        self.persistent_disks(&persistent)?;
        self.data_blocks_cloned()?;
        self.exported()?;
        let in_stock = self.in_stock_datastore()?;
        self.delete_all(&[in_stock])?;
        self.delete_all(&images)?;
        self.delete_all(&saved)
    }

    /// Answers the images that were saved, and what was put on the persistent data block.
    fn disks_of_one_vm(&mut self) -> Result<(Vec<u32>, Tree)> {
        let mut vm = self.start("create-disks", None)?;
        for path in ["/media/disk.5", "/media/disk.6"] {
            let tree = self.given.clone();
            vm.contents.insert(path.to_owned(), tree);
        }
        self.same(&vm).context("data blocks from files")?;
        self.cd(&vm, "/media/disk.7")?;
        self.fill(&mut vm, &[ROOT, VOLUME])?;
        for path in Self::places(&vm) {
            self.fill(&mut vm, &[&path])?;
        }
        let saved = self.snapshots(&mut vm)?;
        let vm = self.hot_plug(vm)?;
        let (mut vm, persistent) = vm;
        self.all("undeploy-disks")?;
        self.gone_from(&vm, "undeploy-disks")?;
        vm = self.start("resume-undeploy-disks", Some(vm))?;
        ensure!(vm.node == "node2", "{}", vm.node);
        self.cd(&vm, "/media/disk.7")?;
        self.all("undeploy-hard")?;
        self.gone_from(&vm, "undeploy-hard")?;
        self.all("terminate-undeployed")?;
        self.nothing_left("terminate-undeployed")?;
        Ok((saved, persistent))
    }

    fn snapshots(&mut self, vm: &mut Vm) -> Result<Vec<u32>> {
        self.stays("disk-snapshot-create-live", vm)?;
        let first = vm.contents.clone();
        self.fill(vm, &[ROOT, VOLUME, DATA, TREE])?;
        self.stays("disk-snapshot-create-live2", vm)?;
        let second = vm.contents.clone();
        self.fill(vm, &[ROOT, VOLUME, DATA, TREE])?;
        let third = vm.contents.clone();
        let mut saved = Vec::new();
        for (operation, contents) in [
            ("disk-saveas-live", &third),
            ("disk-saveas-live-disk", &third),
            ("disk-saveas-live-snapshot", &first),
            ("disk-saveas-live-snapshot-disk", &first),
        ] {
            self.stays(operation, vm)?;
            saved.push(self.saved(operation, contents)?);
        }
        self.all("poweroff-disks")?;
        self.all("disk-snapshot-create-off2")?;
        self.all("disk-snapshot-revert")?;
        for (operation, contents) in [
            ("disk-saveas-off", &first),
            ("disk-saveas-off-disk", &first),
            ("disk-saveas-off-snapshot", &second),
            ("disk-saveas-off-snapshot-disk", &second),
        ] {
            self.all(operation)?;
            saved.push(self.saved(operation, contents)?);
        }
        self.all("disk-snapshot-delete-off")?;
        for path in [ROOT, VOLUME, DATA, TREE] {
            vm.contents.insert(path.to_owned(), first[path].clone());
        }
        *vm = self.start("resume-disks", Some(vm.clone()))?;
        self.stays("disk-snapshot-delete-live", vm)?;
        self.stays("resize-root", vm)?;
        self.all("suspend-disks")?;
        *vm = self.start("resume-suspended", Some(vm.clone()))?;
        Ok(saved)
    }

    /// The image that an operation saved holds what the disk or the snapshot held.
    fn saved(&mut self, operation: &str, contents: &Contents) -> Result<u32> {
        let image = self.new_image(operation)?;
        let held = if operation.ends_with("-disk") {
            self.disk_holds(image, &contents[DATA])
        } else {
            self.image_holds(
                image,
                &[(ROOT, &contents[ROOT]), (VOLUME, &contents[VOLUME])],
            )
        };
        held.with_context(|| operation.to_owned())?;
        Ok(image)
    }

    /// A tree that goes and another that comes; a persistent data block that comes and goes.
    fn hot_plug(&mut self, mut vm: Vm) -> Result<(Vm, Tree)> {
        vm.contents.remove(TREE);
        self.stays("detach-tree", &vm)?;
        let gone = self.cloud.node(&vm.node)?.tree(vm.wanted.vm, TREE);
        ensure!(gone.is_err(), "detach-tree: {gone:?}");
        self.stays("attach-tree", &vm)?;
        self.fill(&mut vm, &["/media/disk.9"])?;
        self.stays("attach-persistent", &vm)?;
        self.fill(&mut vm, &["/media/disk.10"])?;
        let persistent = vm.contents.remove("/media/disk.10").context("no tree")?;
        self.stays("detach-persistent", &vm)?;
        Ok((vm, persistent))
    }

    fn persistent_disks(&mut self, contents: &Tree) -> Result<()> {
        let mut vm = self.start("create-persistent-disks", None)?;
        vm.contents.insert("/media/disk.1".into(), contents.clone());
        self.same(&vm).context("what detach-persistent saved")?;
        let mut first = None;
        for operation in [
            "persistent-snapshot-live",
            "persistent-snapshot-live2",
            "persistent-snapshot-live3",
        ] {
            self.fill(&mut vm, &[ROOT, "/media/disk.1"])?;
            self.stays(operation, &vm)?;
            first.get_or_insert_with(|| vm.contents.clone());
        }
        self.fill(&mut vm, &[ROOT, "/media/disk.1"])?;
        self.all("terminate-persistent-disks")?;
        self.nothing_left("terminate-persistent-disks")?;
        self.snapshots_of(&[0, 1, 2])?;
        self.all("image-snapshot-revert")?;
        self.all("image-snapshot-delete")?;
        self.snapshots_of(&[0, 2])?;
        let mut again = self.start("create-persistent-again", None)?;
        again.contents = first.context("no snapshot")?;
        self.same(&again).context("image-snapshot-revert")?;
        self.all("terminate-persistent-again")?;
        self.nothing_left("terminate-persistent-again")?;
        self.all("image-snapshot-flatten")?;
        self.snapshots_of(&[])
    }

    /// The snapshots that both persistent images have.
    fn snapshots_of(&self, ids: &[u32]) -> Result<()> {
        for image in [3, 4] {
            let tags = self.cloud.tags(image)?;
            let found: Vec<&str> = tags
                .iter()
                .filter_map(|(tag, _)| tag.strip_prefix("snap-"))
                .collect();
            let wanted: Vec<String> = ids.iter().map(u32::to_string).collect();
            ensure!(
                found == wanted,
                "image {image} has snapshots {found:?}, not {wanted:?}"
            );
        }
        Ok(())
    }

    fn data_blocks_cloned(&mut self) -> Result<()> {
        self.all("image-clone-disk")?;
        let tree = self.given.clone();
        self.disk_holds(18, &tree).context("image-clone-disk")?;
        self.all("image-delete-disk")?;
        for image in [17, 18] {
            let tags = self.cloud.tags(image)?;
            ensure!(tags.is_empty(), "image-delete-disk: {tags:?}");
        }
        Ok(())
    }

    /// What a marketplace is handed is whole, and goes by the command that comes with it. Each
    /// call makes a file of its own, so none is repeated.
    fn exported(&mut self) -> Result<()> {
        self.performer.set_repeat(Repeat::Once);
        for call in self.operation("market-export")? {
            let answer = self.perform(&call)?;
            let field = |name: &str| {
                let (_, rest) = answer.split_once(&format!("<{name}><![CDATA["))?;
                rest.split_once("]]>").map(|(value, _)| value.to_owned())
            };
            let file = field("IMPORT_SOURCE").context("no IMPORT_SOURCE")?;
            let (sum, dispose) = (field("MD5"), field("DISPOSE_CMD"));
            let there = run(&self.cloud.front, "md5sum", &["--", &file])?;
            ensure!(
                there.split_whitespace().next() == sum.as_deref(),
                "{there}, not {sum:?}"
            );
            let dispose = dispose.context("no DISPOSE_CMD")?;
            let words: Vec<&str> = dispose.split(' ').collect();
            run(&self.cloud.front, words[0], &words[1..])?;
            ensure!(!Path::new(&file).exists(), "{file} is left");
        }
        self.performer.set_repeat(self.repeat);
        Ok(())
    }
}
