//! The calls in `oned`'s order: registering an image (`src/image/ImageManagerActions.cc`), the
//! prolog and the boot of a VM, its shutdown and epilog (`src/lcm`, `src/tm`,
//! `src/vmm_mad/exec/one_vmm_exec.rb`).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock::error::{Error, Result};
use onedock_common::opennebula::oned::context::context_sh;
use onedock_common::opennebula::oned::{Reply, vm as oned_vm};
use onedock_common::{ImageId, VmId};

use super::document::{self, HOST};
use super::drivers::Drivers;
use super::say;
use super::state::{Disk, IMAGES, Image, Nic, SYSTEM, Stage, Store, Vm};
use super::template::{DiskTemplate, Template};

/// Makes the calls and keeps what was answered.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) store: Store,
    pub(crate) drivers: Drivers,
}

impl Player {
    /// Plays a template up to the running VM. What fails is undone by the calls that `oned`
    /// would make for it.
    pub(crate) fn start(&self, template: &Template) -> Result<Vm> {
        let (mut vm, described) = {
            let _lock = self.store.lock()?;
            let images = template
                .disks
                .iter()
                .map(|disk| self.registered(disk))
                .collect::<Result<Vec<_>>>()?;
            self.refuse_taken(template)?;
            self.new_vm(template, &images)?
        };
        match self.boot(&mut vm, &described) {
            Ok(()) => Ok(vm),
            Err(error) => {
                say(&format!("undoing what was made for VM {}", vm.id))?;
                match self.clean_up(&mut vm) {
                    Ok(()) => Err(error),
                    Err(also) => Err(Error::refused(format!(
                        "{}; and VM {} could not be removed: {}; try `onedock run --stop {}`",
                        error.line(),
                        vm.id,
                        also.line(),
                        vm.id
                    ))),
                }
            }
        }
    }

    /// Ends a VM as `onevm terminate` does.
    pub(crate) fn stop(&self, id: VmId) -> Result<Vec<ImageId>> {
        let mut vm = self.store.vm(id)?;
        let document = self.document(&vm)?;
        vm.stage = Stage::Epilog;
        self.store.keep_vm(&vm)?;
        let name = format!("one-{id}");
        self.call_driver("vmm shutdown", || {
            let number = id.to_string();
            self.drivers.vmm(
                "shutdown",
                [name.as_str(), HOST, &number, HOST],
                oned_vm::action(&document, id, HOST),
            )
        })?;
        self.network(&vm, "clean", &[HOST], &document)?;
        self.epilog(&vm, true)?;
        let images = vm.disks.iter().map(|disk| disk.image).collect();
        self.store.forget_vm(id)?;
        Ok(images)
    }

    /// Removes an image that no played VM is made of.
    pub(crate) fn remove_image(&self, id: ImageId) -> Result<()> {
        let _lock = self.store.lock()?;
        let Some(image) = self
            .store
            .images()?
            .into_iter()
            .find(|image| image.id == id)
        else {
            return Ok(());
        };
        if let Some(user) = self
            .store
            .vms()?
            .iter()
            .find(|vm| vm.disks.iter().any(|d| d.image == id))
        {
            return Err(Error::refused(format!(
                "the image {} is that of VM {}, too, and stays",
                image.path, user.id
            )));
        }
        self.call_driver("datastore rm", || {
            self.drivers
                .datastore("rm", &id.to_string(), document::image(&image))
        })?;
        self.store.forget_image(id)
    }

    /// The image of a disk: one that was registered before, else registered now. Its number is
    /// kept before the copy begins, so that one that is cut off is continued and not lost.
    fn registered(&self, disk: &DiskTemplate) -> Result<Image> {
        let stamp = stamp(&disk.path);
        let known = self.store.images()?.into_iter().find(|image| {
            image.path == disk.path && image.stamp == stamp && image.dockerrun == disk.dockerrun
        });
        let mut image = match known {
            Some(image) if !image.source.is_empty() => {
                say(&format!(
                    "image {} is registered already: {}",
                    image.id, image.source
                ))?;
                return Ok(image);
            }
            Some(image) => image,
            None => {
                let unregistered = document::unregistered(&disk.path, disk.dockerrun.as_deref());
                let image = Image {
                    id: self.store.new_image()?,
                    stamp,
                    size_mb: self.size(&unregistered)?,
                    ..unregistered
                };
                self.store.keep_image(&image)?;
                image
            }
        };
        let what = format!("datastore cp {} ({} MB)", disk.path, image.size_mb);
        let cp = self.call_driver(&what, || {
            self.drivers
                .datastore("cp", &image.id.to_string(), document::image(&image))
        })?;
        let (source, format) = cp
            .source_and_format()
            .map_err(|e| Error::refused(format!("datastore cp {e}")))?;
        image.source = source.to_owned();
        image.format = format.to_owned();
        self.store.keep_image(&image)?;
        Ok(image)
    }

    /// What `stat` answers, in MB, at least 1.
    fn size(&self, image: &Image) -> Result<u64> {
        let stat = self.call_driver(&format!("datastore stat {}", image.path), || {
            self.drivers.datastore("stat", "0", document::image(image))
        })?;
        let size = stat
            .size_mb()
            .map_err(|e| Error::refused(format!("datastore stat {e}")))?;
        Ok(size.max(1))
    }

    /// Addresses are leased by `oned`; here the VMs that are played are asked.
    fn refuse_taken(&self, template: &Template) -> Result<()> {
        for vm in self.store.vms()? {
            for ip in template.nics.iter().filter_map(|nic| nic.ip) {
                if vm
                    .nics
                    .iter()
                    .any(|nic| nic.ip.as_deref() == Some(&ip.to_string()))
                {
                    return Err(Error::refused(format!(
                        "the address {ip} belongs to VM {0} ({1}); end it with `onedock run --stop {0}` or choose another",
                        vm.id, vm.name
                    )));
                }
            }
        }
        Ok(())
    }

    fn new_vm(&self, template: &Template, images: &[Image]) -> Result<(Vm, oned_vm::Vm)> {
        let id = self.store.new_vm()?;
        let described = document::vm(template, id, images);
        let disks = template.disks.iter().zip(images);
        let text = |value: Option<&str>| value.unwrap_or_default().to_owned();
        let vm = Vm {
            id,
            name: template.name.clone(),
            stage: Stage::Prolog,
            disks: disks
                .map(|(disk, image)| Disk {
                    image: image.id,
                    source: image.source.clone(),
                    persistent: disk.persistent,
                })
                .collect(),
            nics: described
                .nics
                .iter()
                .map(|nic| Nic {
                    mac: text(nic.get("MAC")),
                    ip: nic.get("IP").map(str::to_owned),
                    driver: text(nic.get("VN_MAD")),
                })
                .collect(),
            context: described.context.is_some(),
            remotes: self.drivers.remotes().to_owned(),
        };
        self.store.keep_vm(&vm)?;
        Ok((vm, described))
    }

    fn boot(&self, vm: &mut Vm, described: &oned_vm::Vm) -> Result<()> {
        let (id, images) = (vm.id.to_string(), IMAGES.to_string());
        let document = described.deployment(vm.id, HOST, SYSTEM);
        self.store.write(vm.id, "vm.xml", &document)?;
        for (number, disk) in vm.disks.iter().enumerate() {
            let path = self.on_this_host(vm.id, &format!("/disk.{number}"));
            let script = if disk.persistent { "ln" } else { "clone" };
            self.call_driver(&format!("tm {script} disk.{number}"), || {
                self.drivers
                    .tm(script, [disk.source.as_str(), &path, &id, &images])
            })?;
        }
        vm.stage = Stage::Boot;
        self.store.keep_vm(vm)?;
        if let Some(variables) = &described.context {
            let file = self
                .store
                .write(vm.id, "context.sh", &context_sh(variables))?
                .display()
                .to_string();
            let path = self.on_this_host(vm.id, &format!("/disk.{}", vm.disks.len()));
            self.call_driver("tm context", || {
                self.drivers
                    .tm("context", [file.as_str(), &path, &id, &SYSTEM.to_string()])
            })?;
        }
        self.network(vm, "pre", &[], &document)?;
        let file = self
            .store
            .system_dir(vm.id)
            .join("deployment.0")
            .display()
            .to_string();
        let reply = self.call_driver("vmm deploy", || {
            self.drivers
                .vmm("deploy", [file.as_str(), HOST, &id, HOST], document.clone())
        })?;
        let deploy_id = reply
            .deploy_id()
            .map_err(|e| Error::refused(format!("vmm deploy {e}")))?;
        if deploy_id != format!("one-{id}") {
            return Err(Error::refused(format!(
                "vmm deploy answered \"{deploy_id}\" in place of one-{id}"
            )));
        }
        self.network(vm, "post", &[deploy_id, HOST], &document)?;
        vm.stage = Stage::Deployed;
        self.store.keep_vm(vm)
    }

    /// `oned`'s CLEANUP and the epilog of a VM that failed: every call is made, whatever the one
    /// before it answered.
    fn clean_up(&self, vm: &mut Vm) -> Result<()> {
        let mut first = Ok(());
        let mut also = |result: Result<()>| {
            if let (Ok(()), Err(error)) = (&first, result) {
                first = Err(error);
            }
        };
        if vm.stage != Stage::Prolog {
            let (document, id) = (self.document(vm)?, vm.id.to_string());
            also(
                self.call_driver("vmm cancel", || {
                    let name = format!("one-{id}");
                    self.drivers.vmm(
                        "cancel",
                        [name.as_str(), HOST, &id, HOST],
                        oned_vm::action(&document, vm.id, HOST),
                    )
                })
                .map(drop),
            );
            also(self.network(vm, "clean", &[HOST], &document));
        }
        also(self.epilog(vm, false));
        first?;
        self.store.forget_vm(vm.id)
    }

    fn epilog(&self, vm: &Vm, save: bool) -> Result<()> {
        let (id, images) = (vm.id.to_string(), IMAGES.to_string());
        for (number, disk) in vm.disks.iter().enumerate() {
            let path = self.on_this_host(vm.id, &format!("/disk.{number}"));
            if disk.persistent && save {
                self.call_driver(&format!("tm mvds disk.{number}"), || {
                    self.drivers
                        .tm("mvds", [path.as_str(), &disk.source, &id, &images])
                })?;
            } else {
                self.call_driver(&format!("tm delete disk.{number}"), || {
                    self.drivers.tm("delete", [path.as_str(), &id, &images])
                })?;
            }
        }
        let path = self.on_this_host(vm.id, "");
        self.call_driver("tm delete the VM's folder", || {
            self.drivers
                .tm("delete", [path.as_str(), &id, &SYSTEM.to_string()])
        })?;
        Ok(())
    }

    /// A script of each network driver of the VM, once.
    fn network(&self, vm: &Vm, script: &str, arguments: &[&str], document: &str) -> Result<()> {
        let drivers: BTreeSet<&str> = vm.nics.iter().map(|nic| nic.driver.as_str()).collect();
        for driver in drivers {
            let begun = Instant::now();
            let reply = self
                .drivers
                .vnm(driver, script, arguments, STANDARD.encode(document))?;
            if let Some(reply) = reply {
                report(&format!("vnm {driver} {script}"), begun, &reply)?;
            }
        }
        Ok(())
    }

    fn document(&self, vm: &Vm) -> Result<String> {
        let path = self.store.file(vm.id, "vm.xml");
        std::fs::read_to_string(&path).map_err(Error::file("read", &path))
    }

    /// `host:path` of something in a VM's folder.
    fn on_this_host(&self, vm: VmId, name: &str) -> String {
        format!("{HOST}:{}{name}", self.store.system_dir(vm).display())
    }

    fn call_driver(&self, what: &str, call: impl FnOnce() -> Result<Reply>) -> Result<Reply> {
        let begun = Instant::now();
        let reply = call()?;
        report(what, begun, &reply)?;
        Ok(reply)
    }
}

/// A line for a call that succeeded, with its notes.
fn report(what: &str, begun: Instant, reply: &Reply) -> Result<()> {
    say(&format!("  {:5} ms  {what}", begun.elapsed().as_millis()))?;
    for note in reply.notes() {
        say(&format!("            {note}"))?;
    }
    Ok(())
}

/// What tells a file's content from the one that was registered before under the same name.
fn stamp(path: &str) -> Option<String> {
    let meta = std::fs::metadata(path).ok()?;
    Some(format!(
        "{} {}.{:09}",
        meta.size(),
        meta.mtime(),
        meta.mtime_nsec()
    ))
}
