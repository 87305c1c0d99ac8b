//! What became of saved disks, and smaller checks.

use anyhow::{Context as _, Result, ensure};
use nix::sys::statvfs::statvfs;
use onedock_tests::replay::contents::{FOLDER, Tree};
use onedock_tests::replay::expected::Expected;
use onedock_tests::replay::recording::Call;

use crate::walk::{Vm, Walk};

impl Walk<'_> {
    /// `disk-saveas` of the running VM: the new image holds what the disk holds. Answers its id.
    pub(crate) fn saved_while_running(&mut self, vm: &Vm) -> Result<u32> {
        self.stays("disk-saveas", vm)?;
        let image = self.new_image("disk-saveas")?;
        let trees = [("", &vm.contents[""]), ("/data", &vm.contents["/data"])];
        self.image_holds(image, &trees).context("disk-saveas")?;
        Ok(image)
    }

    /// The id of the image that an operation made.
    pub(crate) fn new_image(&self, operation: &str) -> Result<u32> {
        let calls = self.cloud.recording.operation(operation)?;
        let made = calls.iter().find(|c| c.action == "mkfs");
        Ok(made.context("no mkfs")?.args[0].parse()?)
    }

    /// The state of a container image, read by the engine alone.
    pub(crate) fn image_holds(&self, image: u32, trees: &[(&str, &Tree)]) -> Result<()> {
        let node = &self.cloud.nodes[1];
        let name = format!("{}/onedock/img-{image}", self.cloud.registry.address());
        let tags = self.cloud.tags(image)?;
        let state = tags.iter().find(|(tag, _)| tag.starts_with("state-"));
        let state = state.with_context(|| format!("image {image} has no state among {tags:?}"))?;
        // The engine's own login, which the drivers do not need.
        node.engine.docker(&[
            "login",
            "-u",
            "onedock",
            "-p",
            "hunter2",
            &self.cloud.registry.address(),
        ])?;
        let name = format!("{name}@{}", state.1.trim());
        node.engine.docker(&["pull", "--quiet", &name])?;
        let id = node.engine.docker(&[
            "run",
            "--detach",
            "--network",
            "none",
            "--entrypoint",
            "busybox",
            &name,
            "sleep",
            "600",
        ])?;
        let held = (|| {
            let pid = node
                .engine
                .docker(&["inspect", "--format", "{{.State.Pid}}", &id])?;
            for (path, tree) in trees {
                let at = format!("/proc/{pid}/root{path}/{FOLDER}");
                node.engine
                    .inside(|| Tree::read(at.as_ref()))?
                    .check(tree)
                    .with_context(|| format!("{path:?} of image {image}"))?;
            }
            Ok(())
        })();
        node.engine.docker(&["rm", "-f", "-v", &id])?;
        node.engine.docker(&["image", "prune", "-af"])?;
        held
    }

    /// The state of an image that is a disk: cloned by the recorded call that clones another, as a
    /// disk of a VM that is never started, and mounted by the test.
    pub(crate) fn disk_holds(&mut self, image: u32, tree: &Tree) -> Result<()> {
        let clone = self.clone_call(image)?;
        self.perform(&clone)?;
        let (_, path) = clone.args[1].split_once(':').context("no host")?;
        let node = &self.cloud.nodes[0];
        let mounted = node.engine.folder().join("mounted");
        let at = mounted.display().to_string();
        let held = node.engine.run("mkdir", &["-p", &at]).and_then(|_| {
            // Writable, because what was saved of a running VM has a journal to be played.
            node.engine.run("mount", &["-o", "loop", path, &at])?;
            let found = node.engine.inside(|| Tree::read(&mounted.join(FOLDER)));
            node.engine.run("umount", &[&at])?;
            found?.check(tree)
        });
        let mut delete = clone.clone();
        delete.action = "delete".into();
        delete.script.set_file_name("delete");
        delete.args = vec![clone.args[1].clone(), clone.args[2].clone(), "100".into()];
        self.perform(&delete)?;
        delete.args[0] = delete.args[0].replace("/disk.0", "");
        self.perform(&delete)?;
        held.with_context(|| format!("image {image}"))
    }

    fn clone_call(&mut self, image: u32) -> Result<Call> {
        let calls = self.cloud.recording.operation("create-disks")?;
        let clone = calls.iter().find(|c| c.action == "clone");
        let mut clone = clone.context("no clone")?.clone();
        clone.args[0] = format!("docker://localhost:5000/onedock/img-{image}");
        clone.args[1] = clone.args[1].replace("/101/0/disk.0", "/101/990/disk.0");
        clone.args[2] = "990".into();
        Ok(clone)
    }

    /// The image of `image-clone` is the first one's equal; then it goes.
    pub(crate) fn clone_and_delete(&mut self) -> Result<()> {
        self.all("image-clone")?;
        let calls = self.cloud.recording.operation("image-clone")?;
        let clone: u32 = calls[0].args[0].parse()?;
        let tags = self.cloud.tags(clone)?;
        ensure!(
            tags.iter().any(|(tag, _)| tag.starts_with("state-")),
            "image-clone: {tags:?}"
        );
        self.all("image-delete")?;
        let tags = self.cloud.tags(clone)?;
        ensure!(tags.is_empty(), "image-delete: {tags:?}");
        Ok(())
    }

    /// The files of the CD, which are nobody's.
    pub(crate) fn cd(&self, vm: &Vm, path: &str) -> Result<()> {
        let node = self.cloud.node(&vm.node)?;
        let at = node.path_inside(vm.wanted.vm, path)?.join(FOLDER);
        let there = node.engine.inside(|| Tree::read(&at))?;
        there
            .check_files(&self.given)
            .with_context(|| format!("the CD at {path}"))
    }

    /// The size in MiB of the file system at a path.
    pub(crate) fn room(&self, vm: &Vm, path: &str) -> Result<u64> {
        let node = self.cloud.node(&vm.node)?;
        let at = node.path_inside(vm.wanted.vm, path)?;
        node.engine.inside(|| {
            let found = statvfs(&at)?;
            Ok((found.blocks() * found.fragment_size()) >> 20)
        })
    }

    /// The calls of `create` for the root disk and the context alone.
    pub(crate) fn without_other_disks(&mut self, calls: &[Call]) -> Result<()> {
        let deploy = calls.last().context("no calls")?;
        let wanted: Expected = self.wanted(deploy)?;
        self.write_context(&wanted)?;
        for call in calls {
            let root = call.args.iter().any(|a| a.ends_with("/disk.0"));
            if root || call.action == "context" {
                self.perform(call)?;
            }
        }
        let mut document = deploy.document()?;
        for disk in wanted.disks.iter().filter(|d| d.id > 0) {
            let mark = format!("<DISK_ID><![CDATA[{}]]></DISK_ID>", disk.id);
            let at = document.find(&mark).context("no such disk")?;
            let begin = document[..at].rfind("<DISK>").context("no DISK")?;
            let end = at + document[at..].find("</DISK>").context("no end")? + "</DISK>".len();
            document.replace_range(begin..end, "");
        }
        let deploy = deploy.clone().with_document(document);
        let wanted = self.wanted(&deploy)?;
        self.perform(&deploy)?;
        let node = self.cloud.node(deploy.host()?)?;
        node.check_running(&wanted).map(drop)
    }
}
