//! A walk through recorded operations: a VM between two of them, what it is held to, and images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use onedock_tests::replay::bed::{Bed, NODES};
use onedock_tests::replay::contents::{Payload, Tree};
use onedock_tests::replay::expected::Expected;
use onedock_tests::replay::look::text;
use onedock_tests::replay::performer::{Manner, Performer};
use onedock_tests::replay::recording::Call;

/// What `restore` is told of a VM that was suspended, not stopped.
const SUSPENDED: &str = "<LCM_STATE>21</LCM_STATE>";

/// Goes through operations on one bed.
pub(crate) struct Walk<'a> {
    pub(crate) bed: &'a Bed,
    pub(crate) performer: Performer<'a>,
    pub(crate) manner: Manner,
    /// The operations that were performed.
    pub(crate) performed: BTreeSet<String>,
    /// What is on the CD and the data blocks from files.
    pub(crate) given: Tree,
    mounts: [BTreeSet<String>; 2],
    payload: Payload,
    filled: u64,
}

/// A VM between two operations.
#[derive(Clone)]
pub(crate) struct Vm {
    pub(crate) wanted: Expected,
    pub(crate) node: String,
    pub(crate) container: String,
    /// What the test has put, by the place where the disk is mounted.
    pub(crate) contents: BTreeMap<String, Tree>,
}

impl<'a> Walk<'a> {
    /// With contents of this size.
    pub(crate) fn new(bed: &'a Bed, seed: u64, mebibytes: u64) -> Result<Self> {
        let payload = Payload::make(bed.front.folder(), mebibytes)?;
        Ok(Self {
            bed,
            performer: Performer::new(bed, seed),
            manner: Manner::Once,
            performed: BTreeSet::new(),
            given: bed.fill_files(&payload)?,
            mounts: [bed.nodes[0].mounts()?, bed.nodes[1].mounts()?],
            payload,
            filled: 0,
        })
    }

    /// Everything, from nothing to nothing.
    pub(crate) fn lives(&mut self, manner: Manner) -> Result<()> {
        self.manner = manner;
        self.performer.become_manner(manner);
        self.life()?;
        self.disks()?;
        self.nothing_left("the end")
    }

    /// All calls of an operation. A SOURCE that one of them answers is known from then on.
    pub(crate) fn all(&mut self, operation: &str) -> Result<()> {
        for call in self.operation(operation)? {
            self.perform(&call)?;
        }
        Ok(())
    }

    pub(crate) fn perform(&mut self, call: &Call) -> Result<String> {
        let said = self.performer.perform(call)?;
        let makes = matches!(call.action.as_str(), "cp" | "mkfs" | "clone");
        if call.driver == "datastore" && makes {
            let first = |text: &str| {
                let word = text.split_whitespace().next();
                word.map(str::to_owned).context("no SOURCE")
            };
            let (recorded, here) = (first(&call.recorder_replied)?, first(&said)?);
            self.performer.mapping.source(&recorded, &here);
        }
        Ok(said)
    }

    pub(crate) fn operation(&mut self, name: &str) -> Result<Vec<Call>> {
        self.performed.insert(name.to_owned());
        self.bed.recording.operation(name)
    }

    /// The document of the call that starts a VM, as it is sent here.
    pub(crate) fn wanted(&self, call: &Call) -> Result<Expected> {
        Expected::of(&self.performer.mapping.apply(call)?.document()?)
    }

    /// The calls that end in a running VM. `oned` has written the context's files by then.
    pub(crate) fn start(&mut self, operation: &str, before: Option<Vm>) -> Result<Vm> {
        self.start_with(operation, before, |_, _| Ok(()))
    }

    /// The same; `last` is done right before the call that starts it.
    pub(crate) fn start_with(
        &mut self,
        operation: &str,
        before: Option<Vm>,
        last: impl FnOnce(&Self, &Vm) -> Result<()>,
    ) -> Result<Vm> {
        let calls = self.operation(operation)?;
        let at = calls
            .iter()
            .position(|c| matches!(c.action.as_str(), "deploy" | "restore"))
            .context("nothing starts")?;
        let starts = &calls[at];
        let mut wanted = self.wanted(starts)?;
        // A frozen VM goes on as it was: what changed meanwhile comes with its next start.
        if let (Some(before), true) = (&before, starts.document()?.contains(SUSPENDED)) {
            wanted.nics.clone_from(&before.wanted.nics);
            wanted.hostname.clone_from(&before.wanted.hostname);
        }
        let node = self.performer.mapping.apply(starts)?.host()?.to_owned();
        self.write_context(&wanted)?;
        let vm = Vm {
            container: String::new(),
            contents: before.map(|vm| vm.contents).unwrap_or_default(),
            wanted,
            node,
        };
        for call in &calls[..at] {
            self.perform(call)?;
        }
        last(self, &vm)?;
        for call in &calls[at..] {
            self.perform(call)?;
        }
        self.look(vm).with_context(|| operation.to_owned())
    }

    /// The VM runs as it should, on its host alone, with all that was put on its disks.
    pub(crate) fn look(&self, mut vm: Vm) -> Result<Vm> {
        let id = vm.wanted.vm;
        vm.container = self.bed.node(&vm.node)?.check_running(&vm.wanted)?;
        for other in NODES.iter().filter(|name| **name != vm.node) {
            let there = self.bed.node(other)?.container(id)?;
            ensure!(there.is_none(), "{other} has a container of it, too");
        }
        for (place, tree) in &vm.contents {
            let there = self.bed.node(&vm.node)?.tree(id, place);
            there
                .and_then(|there| there.check(tree))
                .with_context(|| format!("what was put at {place:?}"))?;
        }
        Ok(vm)
    }

    /// An operation that leaves the VM running, in the same container.
    pub(crate) fn stays(&mut self, operation: &str, vm: &Vm) -> Result<()> {
        self.all(operation)?;
        self.same(vm).with_context(|| operation.to_owned())
    }

    pub(crate) fn same(&self, vm: &Vm) -> Result<()> {
        let now = self.look(vm.clone())?;
        ensure!(now.container == vm.container, "it is another container");
        Ok(())
    }

    /// Puts contents on disks of a running VM.
    pub(crate) fn fill(&mut self, vm: &mut Vm, places: &[&str]) -> Result<()> {
        let node = self.bed.node(&vm.node)?;
        for place in places {
            self.filled += 1;
            let at = node.place(vm.wanted.vm, place)?;
            let tree = node
                .engine
                .inside(|| self.payload.fill(&at, self.filled))
                .with_context(|| format!("the disk at {place:?}"))?;
            vm.contents.insert((*place).to_owned(), tree);
        }
        Ok(())
    }

    /// Where each disk with a file system is mounted, without the root and the CDs.
    pub(crate) fn places(vm: &Vm) -> Vec<String> {
        let disks = vm.wanted.disks.iter().filter(|d| d.id > 0);
        disks
            .filter(|d| d.kind == "FILE" || d.kind == "fs")
            .map(|d| format!("/media/disk.{}", d.id))
            .collect()
    }

    /// The file that `oned` writes before it calls `context`.
    pub(crate) fn write_context(&self, wanted: &Expected) -> Result<()> {
        let Some(context) = wanted.context_sh() else {
            return Ok(());
        };
        let folder = self.bed.var.join(format!("vms/{}", wanted.vm));
        self.bed.front.inside(|| {
            fs::create_dir_all(&folder)?;
            Ok(fs::write(folder.join("context.sh"), context)?)
        })
    }

    pub(crate) fn started_at(&self, vm: &Vm) -> Result<String> {
        let node = self.bed.node(&vm.node)?;
        let container = node.container(vm.wanted.vm)?.context("no container")?;
        text(&container, "/State/StartedAt")
    }

    pub(crate) fn nothing_left(&self, after: &str) -> Result<()> {
        self.bed
            .check_nothing_left(&self.mounts)
            .with_context(|| format!("after {after}"))
    }

    /// What the images of a set-up are: their ids by the recorded SOURCE's number.
    pub(crate) fn images(&self, operation: &str) -> Result<Vec<u32>> {
        let calls = self.bed.recording.operation(operation)?;
        calls
            .iter()
            .filter(|c| matches!(c.action.as_str(), "cp" | "mkfs"))
            .map(|c| Ok(c.args[0].parse()?))
            .collect()
    }

    /// Deletes an image by the recorded call that deletes another.
    pub(crate) fn delete(&mut self, image: u32) -> Result<()> {
        for call in self.operation("image-delete")? {
            if call.action != "rm" {
                continue;
            }
            let clone = format!("docker://localhost:5000/onedock/img-{}", call.args[0]);
            let name = format!("docker://localhost:5000/onedock/img-{image}");
            let source = self.performer.mapping.of_source(&name).map(str::to_owned);
            // One of the images may have the clone's number.
            let before = self.performer.mapping.of_source(&clone).map(str::to_owned);
            self.performer
                .mapping
                .source(&clone, &source.context("no such image")?);
            self.perform(&call)?;
            if let Some(before) = before {
                self.performer.mapping.source(&clone, &before);
            }
        }
        let tags = self.bed.tags(image)?;
        ensure!(tags.is_empty(), "tags of a deleted image: {tags:?}");
        Ok(())
    }

    /// Images go, and what the nodes have staged of them, so that the next life stages anew.
    pub(crate) fn delete_all(&mut self, images: &[u32]) -> Result<()> {
        for image in images {
            self.delete(*image)
                .with_context(|| format!("deleting image {image}"))?;
        }
        for node in &self.bed.nodes {
            node.engine.docker(&["image", "prune", "-af"])?;
        }
        Ok(())
    }
}
