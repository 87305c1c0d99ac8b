//! VMs in a system datastore of the stock transfer manager `ssh`: the recorded scripts with the
//! suffix `.ssh` are called, and what the stock scripts do between them is done by the test.

use anyhow::{Context as _, Result, ensure};
use onedock_tests::replay::stock::FRONT;

use crate::walk::{Vm, Walk};

/// The places of the disks: ours the root, its VOLUME, a data block and a tree; from the stock
/// datastore a data block, and a volatile disk.
const ROOT: &str = "";
const VOLUME: &str = "/data";
const STOCK: &str = "/media/disk.1";
const DATA: &str = "/media/disk.2";
const VOLATILE: &str = "/media/disk.3";
const TREE: &str = "/media/disk.4";

impl Walk<'_> {
    /// From nothing to nothing, with the images of `setup-disks`. Answers the saved image.
    pub(crate) fn in_stock_datastore(&mut self) -> Result<u32> {
        let mut vm = self.start_stock("ssh-create", None, |walk, vm| {
            walk.cloud.stock_disks(&vm.wanted, &vm.node)
        })?;
        vm.contents.insert(STOCK.to_owned(), self.given.clone());
        self.same(&vm).context("a disk of the stock datastore")?;
        self.fill(&mut vm, &[ROOT, VOLUME, STOCK, DATA, VOLATILE, TREE])?;
        let saved = self.snapshots_in_stock(&mut vm)?;
        vm = self.moved_by_stock(vm)?;
        self.all("ssh-terminate")?;
        self.cloud.stock_delete(&vm.wanted, &vm.node)?;
        self.nothing_left("ssh-terminate")?;
        self.persistent_in_stock()?;
        Ok(saved)
    }

    /// Snapshots while it runs and while it is off, and a disk that is saved. Ends powered off.
    fn snapshots_in_stock(&mut self, vm: &mut Vm) -> Result<u32> {
        self.stays("ssh-snapshot-live", vm)?;
        self.fill(vm, &[ROOT, VOLUME, DATA])?;
        self.stays("ssh-saveas-live", vm)?;
        let saved = self.new_image("ssh-saveas-live")?;
        let trees = [(ROOT, &vm.contents[ROOT]), (VOLUME, &vm.contents[VOLUME])];
        self.image_holds(saved, &trees).context("ssh-saveas-live")?;
        self.all("ssh-poweroff")?;
        let node = self.cloud.node(&vm.node)?;
        node.check_stopped(&vm.wanted, &vm.container)
            .context("ssh-poweroff")?;
        self.all("ssh-snapshot-off")?;
        self.all("ssh-snapshot-revert")?;
        Ok(saved)
    }

    /// Powered off to the other host, undeployed and stopped: the stock `mv` carries the folder.
    fn moved_by_stock(&mut self, mut vm: Vm) -> Result<Vm> {
        self.all("ssh-migrate-off")?;
        self.cloud.stock_move(&vm.wanted, &vm.node, "node2")?;
        self.gone_from(&vm, "ssh-migrate-off")?;
        vm = self.start_stock("ssh-resume", Some(vm), |_, _| Ok(()))?;
        ensure!(vm.node == "node2", "{}", vm.node);

        self.stays("ssh-attach", &vm)?;
        self.fill(&mut vm, &["/media/disk.6"])?;
        self.same(&vm).context("ssh-attach")?;
        vm.contents.remove("/media/disk.6");
        self.stays("ssh-detach", &vm)?;
        let before = self.room(&vm, DATA)?;
        self.stays("ssh-disk-resize", &vm)?;
        let after = self.room(&vm, DATA)?;
        ensure!(after >= before, "{before} MiB, then {after}");

        for (away, back) in [
            ("ssh-undeploy", "ssh-resume-undeploy"),
            ("ssh-stop", "ssh-resume-stopped"),
        ] {
            self.all(away)?;
            self.cloud.stock_move(&vm.wanted, &vm.node, FRONT)?;
            self.gone_from(&vm, away)?;
            vm = self.start_stock(back, Some(vm), |walk, vm| {
                walk.cloud.stock_move(&vm.wanted, FRONT, &vm.node)
            })?;
        }
        Ok(vm)
    }

    /// Persistent images, whose disks go back to their datastore by `mvds.ssh`.
    fn persistent_in_stock(&mut self) -> Result<()> {
        let mut vm = self.start_stock("ssh-create-persistent", None, |_, _| Ok(()))?;
        self.fill(&mut vm, &[ROOT, "/media/disk.1"])?;
        self.all("ssh-terminate-persistent")?;
        self.cloud.stock_delete(&vm.wanted, &vm.node)?;
        self.nothing_left("ssh-terminate-persistent")?;
        // What the first life left is in the second.
        let again = self.start_stock("ssh-create-persistent", None, |_, _| Ok(()))?;
        let again = Vm {
            contents: vm.contents,
            ..again
        };
        self.same(&again).context("the second life")?;
        self.all("ssh-terminate-persistent")?;
        self.cloud.stock_delete(&again.wanted, &again.node)?;
        self.nothing_left("ssh-terminate-persistent")
    }

    /// As [`Walk::start`], with what the stock scripts do after ours and before the context.
    fn start_stock(
        &mut self,
        operation: &str,
        before: Option<Vm>,
        stock: impl FnOnce(&Self, &Vm) -> Result<()>,
    ) -> Result<Vm> {
        self.start_with(operation, before, |walk, vm| {
            stock(walk, vm)?;
            walk.cloud.stock_context(&vm.wanted, &vm.node)
        })
        .with_context(|| operation.to_owned())
    }
}
