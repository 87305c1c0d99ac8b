//! A walk through recorded operations: a VM between two of them, what it is held to, and images.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context as _, Result, ensure};
use onedock_tests::replay::cloud::{Cloud, NODES};
use onedock_tests::replay::contents::{Payload, Tree};
use onedock_tests::replay::expected::Expected;
use onedock_tests::replay::inspect::text;
use onedock_tests::replay::performer::{Performer, Repeat};
use onedock_tests::replay::recording::Call;

/// What `restore` reads of a VM that was suspended, not stopped.
const SUSPENDED: &str = "<LCM_STATE>21</LCM_STATE>";

/// Goes through operations on one cloud.
pub(crate) struct Walk<'a> {
    pub(crate) cloud: &'a Cloud,
    pub(crate) performer: Performer<'a>,
    pub(crate) repeat: Repeat,
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
    /// What the test has put, by the path at which the disk is mounted.
    pub(crate) contents: BTreeMap<String, Tree>,
}

impl<'a> Walk<'a> {
    /// With contents of this size.
    pub(crate) fn new(cloud: &'a Cloud, seed: u64, mebibytes: u64) -> Result<Self> {
        let payload = Payload::make(cloud.front.folder(), mebibytes)?;
        Ok(Self {
            cloud,
            performer: Performer::new(cloud, seed),
            repeat: Repeat::Once,
            performed: BTreeSet::new(),
            given: cloud.fill_files(&payload)?,
            mounts: [cloud.nodes[0].mounts()?, cloud.nodes[1].mounts()?],
            payload,
            filled: 0,
        })
    }

    /// Everything, from nothing to nothing.
    pub(crate) fn lives(&mut self, repeat: Repeat) -> Result<()> {
        self.repeat = repeat;
        self.performer.set_repeat(repeat);
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
        let answer = self.performer.perform(call)?;
        let makes = matches!(call.action.as_str(), "cp" | "mkfs" | "clone");
        if call.driver == "datastore" && makes {
            let first = |text: &str| {
                let word = text.split_whitespace().next();
                word.map(str::to_owned).context("no SOURCE")
            };
            let (recorded, here) = (first(&call.recorder_replied)?, first(&answer)?);
            self.performer.mapping.source(&recorded, &here);
        }
        Ok(answer)
    }

    pub(crate) fn operation(&mut self, name: &str) -> Result<Vec<Call>> {
        self.performed.insert(name.to_owned());
        self.cloud.recording.operation(name)
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
        self.observe(vm).with_context(|| operation.to_owned())
    }

    /// The VM runs as it should, on its host alone, with all that was put on its disks.
    pub(crate) fn observe(&self, mut vm: Vm) -> Result<Vm> {
        let id = vm.wanted.vm;
        vm.container = self.cloud.node(&vm.node)?.check_running(&vm.wanted)?;
        for other in NODES.iter().filter(|name| **name != vm.node) {
            let there = self.cloud.node(other)?.container(id)?;
            ensure!(there.is_none(), "{other} has a container of it, too");
        }
        for (path, tree) in &vm.contents {
            let there = self.cloud.node(&vm.node)?.tree(id, path);
            there
                .and_then(|there| there.check(tree))
                .with_context(|| format!("what was put at {path:?}"))?;
        }
        Ok(vm)
    }

    /// An operation that leaves the VM running, in the same container.
    pub(crate) fn stays(&mut self, operation: &str, vm: &Vm) -> Result<()> {
        self.all(operation)?;
        self.same(vm).with_context(|| operation.to_owned())
    }

    pub(crate) fn same(&self, vm: &Vm) -> Result<()> {
        let now = self.observe(vm.clone())?;
        ensure!(now.container == vm.container, "it is another container");
        Ok(())
    }

    /// Puts contents on disks of a running VM.
    pub(crate) fn fill(&mut self, vm: &mut Vm, places: &[&str]) -> Result<()> {
        let node = self.cloud.node(&vm.node)?;
        for path in places {
            self.filled += 1;
            let at = node.path_inside(vm.wanted.vm, path)?;
            let tree = node
                .engine
                .inside(|| self.payload.fill(&at, self.filled))
                .with_context(|| format!("the disk at {path:?}"))?;
            vm.contents.insert((*path).to_owned(), tree);
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
        let folder = self.cloud.var.join(format!("vms/{}", wanted.vm));
        self.cloud.front.inside(|| {
            fs::create_dir_all(&folder)?;
            Ok(fs::write(folder.join("context.sh"), context)?)
        })
    }

    pub(crate) fn started_at(&self, vm: &Vm) -> Result<String> {
        let node = self.cloud.node(&vm.node)?;
        let container = node.container(vm.wanted.vm)?.context("no container")?;
        text(&container, "/State/StartedAt")
    }

    pub(crate) fn nothing_left(&self, after: &str) -> Result<()> {
        self.cloud
            .check_nothing_left(&self.mounts)
            .with_context(|| format!("after {after}"))
    }

    /// What the images of a set-up are: their ids by the recorded SOURCE's number.
    pub(crate) fn images(&self, operation: &str) -> Result<Vec<u32>> {
        let calls = self.cloud.recording.operation(operation)?;
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
        let tags = self.cloud.tags(image)?;
        ensure!(tags.is_empty(), "tags of a deleted image: {tags:?}");
        Ok(())
    }

    /// Images go, and what the nodes have staged of them, so that the next life stages anew.
    pub(crate) fn delete_all(&mut self, images: &[u32]) -> Result<()> {
        for image in images {
            self.delete(*image)
                .with_context(|| format!("deleting image {image}"))?;
        }
        for node in &self.cloud.nodes {
            node.engine.docker(&["image", "prune", "-af"])?;
        }
        Ok(())
    }
}
