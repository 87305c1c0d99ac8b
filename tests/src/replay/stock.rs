//! What OpenNebula's own transfer manager does to a VM of ours in a system datastore of its kind:
//! the scripts without a suffix (`ssh/mkimage`, `ssh/context`, `ssh/mv`, `ssh/delete`). They are
//! not shipped here and were not recorded, so the test does what they do, where `oned` calls them.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};

use super::cloud::{Cloud, run};
use super::expected::{Disk, Expected};
use crate::machine::Machine;

/// The data block of the front-end from which `ssh/clone` makes a disk (`images.rs`).
const BLOCK: &str = "/var/tmp/block.raw";

/// The front-end among the machines.
pub const FRONT: &str = "vm";

impl Cloud {
    /// `clone` and `mkimage`, for every disk that is not an image of ours.
    pub fn stock_disks(&self, wanted: &Expected, node: &str) -> Result<()> {
        let stock = wanted.disks.iter().filter(|d| is_stock(d));
        for disk in stock {
            let to = self.vm_folder(wanted).join(format!("disk.{}", disk.id));
            match disk.kind.as_str() {
                "FILE" => self.bring(BLOCK.as_ref(), node, &to)?,
                // Without a file system: the stock script makes one only where FS is known to it.
                "fs" => {
                    let size = format!("{}M", disk.size);
                    let machine = self.machine(node)?;
                    run(machine, "truncate", &["-s", &size, text(&to)?])?;
                    self.give_to_oneadmin(machine, &to)?;
                }
                other => bail!("no stock script is played for a disk of type {other}"),
            }
        }
        Ok(())
    }

    /// `context`: an ISO image with the label CONTEXT, made on the front-end.
    pub fn stock_context(&self, wanted: &Expected, node: &str) -> Result<()> {
        let Some(disk) = wanted.context_disk() else {
            return Ok(());
        };
        let file = self.var.join(format!("vms/{}/context.sh", wanted.vm));
        let image = self.front.folder().join("context.iso");
        let words = [
            "-quiet",
            "-V",
            "CONTEXT",
            "-J",
            "-R",
            "-o",
            text(&image)?,
            text(&file)?,
        ];
        run(&self.front, "genisoimage", &words)?;
        let to = self.vm_folder(wanted).join(format!("disk.{disk}"));
        self.bring(&image, node, &to)
    }

    /// `mv` of the VM's folder, which carries all that lies in it; `vm` is the front-end.
    pub fn stock_move(&self, wanted: &Expected, from: &str, to: &str) -> Result<()> {
        let folder = self.vm_folder(wanted);
        let (above, name) = (folder.parent().context("no folder")?, wanted.vm.to_string());
        let archive = self.front.folder().join("stock.tar");
        let (above, archive) = (text(above)?, text(&archive)?);
        self.check_owners(from, &folder)?;
        run(
            self.machine(from)?,
            "tar",
            &["-C", above, "-cSf", archive, &name],
        )?;
        let there = self.machine(to)?;
        run(there, "mkdir", &["-p", above])?;
        self.give_to_oneadmin(there, above.as_ref())?;
        run(there, "rm", &["-rf", text(&folder)?])?;
        run(there, "tar", &["-C", above, "-xSf", archive])?;
        if to != FRONT {
            self.mark(to, above.as_ref(), &wanted.transfer_manager)?;
        }
        self.stock_delete(wanted, from)
    }

    /// `delete` of the VM's folder.
    pub fn stock_delete(&self, wanted: &Expected, at: &str) -> Result<()> {
        let folder = self.vm_folder(wanted);
        self.check_owners(at, &folder)?;
        run(self.machine(at)?, "rm", &["-rf", text(&folder)?]).map(drop)
    }

    /// The marker that every stock script leaves in a datastore's folder on a host
    /// (`enable_local_monitoring` in `tm_common.sh`).
    fn mark(&self, node: &str, datastore: &Path, name: &str) -> Result<()> {
        let marker = datastore.join(".monitor");
        let machine = self.machine(node)?;
        machine.inside(|| Ok(fs::write(&marker, format!("{name}\n"))?))?;
        self.give_to_oneadmin(machine, &marker)
    }

    /// The VM's folder, which has the same path everywhere.
    fn vm_folder(&self, wanted: &Expected) -> PathBuf {
        self.nodes[0].vm_folder(wanted)
    }

    /// The stock scripts work as oneadmin: what is not its own they could not carry or remove.
    fn check_owners(&self, at: &str, folder: &Path) -> Result<()> {
        self.machine(at)?.inside(|| {
            let mut todo = vec![folder.to_owned()];
            while let Some(path) = todo.pop() {
                let meta = path
                    .symlink_metadata()
                    .with_context(|| path.display().to_string())?;
                ensure!(
                    meta.uid() == self.oneadmin.uid,
                    "{} on {at} belongs to user {}",
                    path.display(),
                    meta.uid()
                );
                if meta.is_dir() {
                    for entry in fs::read_dir(&path)? {
                        todo.push(entry?.path());
                    }
                }
            }
            Ok(())
        })
    }

    /// A file of the front-end becomes a node's.
    fn bring(&self, from: &Path, node: &str, to: &Path) -> Result<()> {
        let between = self.front.folder().join("between");
        let machine = self.machine(node)?;
        run(
            &self.front,
            "cp",
            &["--sparse=always", text(from)?, text(&between)?],
        )?;
        run(
            machine,
            "cp",
            &["--sparse=always", text(&between)?, text(to)?],
        )?;
        self.give_to_oneadmin(machine, to)
    }

    fn give_to_oneadmin(&self, machine: &Machine, path: &Path) -> Result<()> {
        let owner = format!("{}:{}", self.oneadmin.uid, self.oneadmin.gid);
        run(machine, "chown", &[&owner, text(path)?]).map(drop)
    }
}

/// Whether the disk is made by stock scripts.
fn is_stock(disk: &Disk) -> bool {
    disk.transfer_manager != "onedock"
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path that is not text")
}
