//! The first recording: a VM with five disks through everything that a user does to it, and one of
//! a persistent image, twice.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_tests::replay::performer::Repeat;

use crate::walk::{Vm, Walk};

/// Longer than a stop by the image's own signal takes, shorter than the grace after it.
const GRACE: Duration = Duration::from_secs(15);

/// How many deploys are cut off and given up.
const GIVEN_UP: usize = 4;

impl Walk<'_> {
    /// Images, both VMs, from nothing to nothing.
    pub(crate) fn life(&mut self) -> Result<()> {
        self.all("setup")?;
        let mut images = self.images("setup")?;
        ensure!(images.len() == 4, "{images:?}");
        let state = images[1];
        let saved = self.nginx_life()?;
        self.persistent_lives(state)?;
        self.clone_and_delete()?;
        images.push(saved);
        self.delete_all(&images)
    }

    fn nginx_life(&mut self) -> Result<u32> {
        let mut vm = self.start("create", None)?;
        self.nginx(&vm)?;
        self.fill(&mut vm, &["", "/data"])?;
        let places = Self::places(&vm);
        ensure!(places.len() == 2, "{places:?}");
        self.fill(&mut vm, &[&places[0], &places[1]])?;
        self.cd(&vm, "/media/disk.4")?;
        self.cloud
            .node(&vm.node)?
            .exec(vm.wanted.vm, "sh -c rm$IFS/bin/touch")?;
        self.cloud.node(&vm.node)?.engine.docker(&[
            "exec",
            &format!("one-{}", vm.wanted.vm),
            "busybox",
            "sh",
            "-c",
            "busybox rm -r /srv/old && busybox mkdir /srv/old && echo new >/srv/old/new",
        ])?;
        self.running(&mut vm)?;
        let saved = self.saved_while_running(&vm)?;
        self.resized(&mut vm)?;
        vm = self.asleep(vm)?;
        vm = self.off(vm)?;
        self.all("terminate")?;
        self.nothing_left("terminate")?;
        drop(vm);
        Ok(saved)
    }

    /// Reboots, and disks that come and go.
    fn running(&mut self, vm: &mut Vm) -> Result<()> {
        for operation in ["reboot", "reboot-hard"] {
            let before = self.started_at(vm)?;
            self.all(operation)?;
            ensure!(self.started_at(vm)? != before, "{operation}");
            self.same(vm).with_context(|| operation.to_owned())?;
            self.nginx(vm)?;
        }
        self.stays("disk-attach", vm)?;
        self.fill(vm, &["/media/disk.6", "/media/disk.7"])?;
        self.same(vm).context("disk-attach")?;
        vm.contents.remove("/media/disk.7");
        self.stays("disk-detach", vm)?;
        let gone = self
            .cloud
            .node(&vm.node)?
            .tree(vm.wanted.vm, "/media/disk.7");
        ensure!(gone.is_err(), "a detached disk is there: {gone:?}");
        self.nics(vm)
    }

    /// NICs and an alias that come and go in the container that runs, with their context.
    fn nics(&mut self, vm: &mut Vm) -> Result<()> {
        for (operation, nics) in [("nic-attach", 3), ("nic-detach", 2), ("nic-alias", 2)] {
            let calls = self.operation(operation)?;
            let mut wanted = self.wanted(calls.last().context("no calls")?)?;
            wanted
                .nics
                .retain(|nic| operation == "nic-attach" || !nic.attach);
            ensure!(wanted.nics.len() == nics, "{operation}: {:?}", wanted.nics);
            self.write_context(&wanted)?;
            for call in &calls {
                self.perform(call)?;
            }
            (vm.wanted.nics, vm.wanted.context) = (wanted.nics, wanted.context);
            self.same(vm).with_context(|| operation.to_owned())?;
            let node = self.cloud.node(&vm.node)?;
            // What came while it ran is there after a start that no driver made.
            if self.repeat == Repeat::Once {
                let name = format!("one-{}", vm.wanted.vm);
                node.engine.docker(&["restart", "-t", "0", &name])?;
                self.same(vm)
                    .with_context(|| format!("docker restart after {operation}"))?;
            }
        }
        let addresses = vm.wanted.nics.iter().map(|nic| nic.addresses.len());
        ensure!(addresses.eq([2, 2]), "{:?}", vm.wanted.nics);
        Ok(())
    }

    fn resized(&mut self, vm: &mut Vm) -> Result<()> {
        let before = self.room(vm, "/media/disk.1")?;
        self.stays("disk-resize", vm)?;
        let after = self.room(vm, "/media/disk.1")?;
        ensure!(
            after > before + 20,
            "{before} MiB before disk-resize, {after} after"
        );
        let calls = self.operation("resize-live")?;
        for call in &calls {
            let wanted = self.wanted(call)?;
            self.perform(call)?;
            (vm.wanted.cpu, vm.wanted.vcpu, vm.wanted.memory) =
                (wanted.cpu, wanted.vcpu, wanted.memory);
        }
        self.same(vm).context("resize-live")?;
        let calls = self.operation("updateconf")?;
        let last = calls.last().context("no calls")?;
        let wanted = self.wanted(last)?;
        self.write_context(&wanted)?;
        for call in &calls {
            self.perform(call)?;
        }
        (vm.wanted.context, vm.wanted.hostname) = (wanted.context, vm.wanted.hostname.clone());
        self.same(vm).context("updateconf")
    }

    /// Suspend and stop.
    fn asleep(&mut self, vm: Vm) -> Result<Vm> {
        self.all("suspend")?;
        let frozen = self
            .cloud
            .node(&vm.node)?
            .container(vm.wanted.vm)?
            .context("no container")?;
        ensure!(
            frozen.pointer("/State/Paused") == Some(&true.into()),
            "suspend: {:?}",
            frozen.pointer("/State")
        );
        let container = vm.container.clone();
        let vm = self.start("resume", Some(vm))?;
        ensure!(
            vm.container == container,
            "resume of a frozen VM made another container"
        );
        self.all("stop")?;
        self.gone_from(&vm, "stop")?;
        let vm = self.start("resume-stopped", Some(vm))?;
        self.others_unchanged(&vm)?;
        Ok(vm)
    }

    /// Power, hosts.
    fn off(&mut self, vm: Vm) -> Result<Vm> {
        self.power_off("poweroff", &vm)?;
        self.all("disk-snapshot-create-off")?;
        self.all("disk-snapshot-delete")?;
        self.all("migrate-off")?;
        self.gone_from(&vm, "migrate-off")?;
        let vm = self.start("resume-poff", Some(vm))?;
        ensure!(vm.node == "node2", "{}", vm.node);
        self.others_unchanged(&vm)?;
        self.power_off("poweroff-hard", &vm)?;
        let container = vm.container.clone();
        let vm = self.start("resume-poff2", Some(vm))?;
        ensure!(
            vm.container == container,
            "resume-poff2 made another container"
        );
        // oned asks again when an answer was lost: nothing starts anew.
        if self.repeat == Repeat::Twice {
            let before = self.started_at(&vm)?;
            self.start("resume-poff2", Some(vm.clone()))?;
            ensure!(self.started_at(&vm)? == before, "a deploy restarted it");
        }
        self.others_unchanged(&vm)?;
        self.all("undeploy")?;
        self.gone_from(&vm, "undeploy")?;
        let vm = self.start("resume-undeploy", Some(vm))?;
        self.others_unchanged(&vm)?;
        let before = vm.clone();
        let vm = self.start("migrate-cold", Some(vm))?;
        ensure!(vm.node == "node1", "{}", vm.node);
        self.gone_from(&before, "migrate-cold")?;
        self.others_unchanged(&vm)?;
        Ok(vm)
    }

    fn power_off(&mut self, operation: &str, vm: &Vm) -> Result<()> {
        let begin = Instant::now();
        self.all(operation)?;
        ensure!(
            begin.elapsed() < GRACE || self.repeat != Repeat::Once,
            "{operation} was long: the image's STOPSIGNAL was not sent"
        );
        self.cloud
            .node(&vm.node)?
            .check_stopped(&vm.wanted, &vm.container)
            .with_context(|| operation.to_owned())
    }

    /// Nothing of the VM is on the host that it was on.
    pub(crate) fn gone_from(&self, vm: &Vm, operation: &str) -> Result<()> {
        let node = self.cloud.node(&vm.node)?;
        let left = node.container(vm.wanted.vm)?;
        ensure!(
            left.is_none(),
            "{operation}: a container is left on {}",
            vm.node
        );
        let folder = node.vm_folder(&vm.wanted);
        node.engine.inside(|| {
            ensure!(
                !folder.exists(),
                "{operation}: {} is left",
                folder.display()
            );
            Ok(())
        })
    }

    /// What is not among the contents: removed files, the CD, the ports.
    fn others_unchanged(&self, vm: &Vm) -> Result<()> {
        let node = self.cloud.node(&vm.node)?;
        let root = node.path_inside(vm.wanted.vm, "")?;
        node.engine.inside(|| {
            ensure!(
                root.join("bin/touch").symlink_metadata().is_err(),
                "a removed file is there again"
            );
            ensure!(
                !root.join("srv/old/of the image").exists(),
                "a file of a replaced folder is there again"
            );
            ensure!(
                root.join("srv/old/new").exists(),
                "a file of a folder that replaced another is gone"
            );
            Ok(())
        })?;
        self.cd(vm, "/media/disk.4")?;
        self.nginx(vm)
    }

    /// Both ports of every address answer.
    fn nginx(&self, vm: &Vm) -> Result<()> {
        for address in vm.wanted.nics.iter().flat_map(|n| &n.addresses) {
            for port in [80, 8080] {
                let answer = self.cloud.fetch(address, port)?;
                let line = format!("nginx on {}", vm.wanted.hostname);
                ensure!(answer.contains(&line), "{address}:{port}: {answer}");
            }
        }
        Ok(())
    }

    /// The VM of a persistent image, twice: what the first life wrote is in the second.
    fn persistent_lives(&mut self, image: u32) -> Result<()> {
        let before = self.cloud.tags(image)?;
        let mut contents = None;
        for life in 1..=2 {
            let mut vm = self.start("create-persistent", None)?;
            if let Some(contents) = contents.replace(Default::default()) {
                vm.contents = contents;
                vm = self.observe(vm).context("the second life")?;
            } else {
                self.fill(&mut vm, &[""])?;
            }
            contents = Some(vm.contents.clone());
            self.all("terminate-hard-persistent")?;
            self.nothing_left("terminate-hard-persistent")?;
            let after = self.cloud.tags(image)?;
            let names =
                |tags: &[(String, String)]| tags.iter().map(|t| t.0.clone()).collect::<Vec<_>>();
            ensure!(
                names(&after) == names(&before),
                "tags {after:?} after {before:?}"
            );
            // Each life has changed something, if only what the engine writes at a start.
            ensure!(
                life == 2 || after.iter().zip(&before).all(|(new, old)| new.1 != old.1),
                "tags {after:?} after {before:?}"
            );
        }
        Ok(())
    }

    /// The first image once more, from an archive that `docker save` made.
    pub(crate) fn archive(&mut self) -> Result<()> {
        let mut image = None;
        for call in self.operation("setup")? {
            let document = call.document()?;
            let Some(path) = path_of_nginx(&document) else {
                continue;
            };
            let path = path.to_owned();
            let call = call
                .clone()
                .with_document(document.replacen(&path, "/var/tmp/web.tar", 1));
            self.perform(&call)?;
            if call.action == "cp" {
                image = Some(call.args[0].parse()?);
            }
        }
        let calls = self.operation("create")?;
        self.without_other_disks(&calls)?;
        self.all("terminate")?;
        self.nothing_left("terminate")?;
        self.delete_all(&[image.context("no image was registered")?])
    }

    /// A `deploy` that is cut off and not repeated: the user terminates the VM.
    pub(crate) fn given_up(&mut self) -> Result<()> {
        self.repeat = Repeat::Once;
        self.performer.set_repeat(Repeat::Once);
        self.all("setup")?;
        let images = self.images("setup")?;
        for _ in 0..GIVEN_UP {
            let calls = self.operation("create")?;
            let (deploy, before) = calls.split_last().context("no calls")?;
            self.write_context(&self.wanted(deploy)?)?;
            for call in before {
                self.perform(call)?;
            }
            let how = self.performer.begin(deploy)?;
            self.all("terminate").context(how.clone())?;
            self.nothing_left(&how)?;
        }
        self.delete_all(&images)
    }
}

/// `docker://nginx…` in the document.
fn path_of_nginx(document: &str) -> Option<&str> {
    let begin = document.find("docker://nginx")?;
    let length = document[begin..].find(['<', ']'])?;
    document.get(begin..begin + length)
}
