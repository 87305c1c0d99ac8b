//! The calls in `oned`'s order: registering an image (`src/image/ImageManagerActions.cc`), the
//! prolog and the boot of a VM, its shutdown and epilog (`src/lcm`, `src/tm`,
//! `src/vmm_mad/exec/one_vmm_exec.rb`).

use std::collections::BTreeSet;
use std::os::unix::fs::MetadataExt as _;
use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock::error::{Error, Result};
use onedock_common::process::Output;
use onedock_common::types::decimal::parse_whole;
use onedock_common::{ImageId, VmId};

use super::document::{self, Facts, HOST, IMAGES, SYSTEM};
use super::drivers::{Drivers, notes};
use super::say;
use super::state::{Disk, Image, Nic, Stage, Store, Vm};
use super::template::{DiskTemplate, Template};

/// Who plays.
#[derive(Debug)]
pub(crate) struct Player {
    pub(crate) store: Store,
    pub(crate) drivers: Drivers,
}

impl Player {
    /// Plays a template up to the running VM. What fails is undone by the calls that `oned`
    /// would make for it.
    pub(crate) fn start(&self, template: &Template) -> Result<Vm> {
        let (mut vm, images) = {
            let _held = self.store.lock()?;
            let images = template
                .disks
                .iter()
                .map(|disk| self.registered(disk))
                .collect::<Result<Vec<_>>>()?;
            self.refuse_taken(template)?;
            (self.new_vm(template, &images)?, images)
        };
        let facts = Facts {
            id: vm.id,
            images: &images,
        };
        let document = document::vm(template, &facts);
        match self.boot(template, &mut vm, &facts, &document) {
            Ok(()) => Ok(vm),
            Err(error) => {
                say(&format!("undoing what was made of VM {}", vm.id))?;
                match self.clean_up(&mut vm) {
                    Ok(()) => Err(error),
                    Err(also) => Err(Error::refused(format!(
                        "{}; and VM {} could not be taken away: {}; try `onedock run --stop {}`",
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
                document::action(&document, id),
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
        let _held = self.store.lock()?;
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
    /// kept before the copy begins, so that one that is cut off is gone on with and not lost.
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
                let asked = document::asked(&disk.path, disk.dockerrun.as_deref());
                let image = Image {
                    id: self.store.new_image()?,
                    stamp,
                    size_mb: self.size(&asked)?,
                    ..asked
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
        let mut words = cp.stdout.split_whitespace();
        let (Some(source), Some(format), None) = (words.next(), words.next(), words.next()) else {
            return Err(Error::refused(format!(
                "datastore cp answered \"{}\", which is not SOURCE and FORMAT",
                cp.stdout.trim()
            )));
        };
        image.source = source.to_owned();
        image.format = format.to_owned();
        self.store.keep_image(&image)?;
        Ok(image)
    }

    /// What `stat` says, in MB, at least 1.
    fn size(&self, asked: &Image) -> Result<u64> {
        let stat = self.call_driver(&format!("datastore stat {}", asked.path), || {
            self.drivers.datastore("stat", "0", document::image(asked))
        })?;
        let said = stat.stdout.trim();
        let size = parse_whole(said).map_err(|e| {
            Error::refused(format!(
                "datastore stat answered \"{said}\", which is no size in MB: {e}"
            ))
        })?;
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
                        "the address {ip} belongs to VM {0} ({1}); end it with `onedock run --stop {0}` or say another",
                        vm.id, vm.name
                    )));
                }
            }
        }
        Ok(())
    }

    fn new_vm(&self, template: &Template, images: &[Image]) -> Result<Vm> {
        let id = self.store.new_vm()?;
        let disks = template.disks.iter().zip(images);
        let nics = template.nics.iter().enumerate();
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
            nics: nics
                .map(|(number, nic)| Nic {
                    mac: document::mac(nic, id, number),
                    ip: nic.ip.map(|ip| ip.to_string()),
                    driver: nic
                        .rest
                        .iter()
                        .find(|a| a.name == "VN_MAD")
                        .and_then(|a| a.text())
                        .unwrap_or("bridge")
                        .to_owned(),
                })
                .collect(),
            context: template.context.is_some(),
            remotes: self.drivers.remotes().to_owned(),
        };
        self.store.keep_vm(&vm)?;
        Ok(vm)
    }

    fn boot(
        &self,
        template: &Template,
        vm: &mut Vm,
        facts: &Facts<'_>,
        document: &str,
    ) -> Result<()> {
        let (id, images) = (vm.id.to_string(), IMAGES.to_string());
        self.store.write(vm.id, "vm.xml", document)?;
        for (number, disk) in vm.disks.iter().enumerate() {
            let place = self.place(vm.id, &format!("/disk.{number}"));
            let script = if disk.persistent { "ln" } else { "clone" };
            self.call_driver(&format!("tm {script} disk.{number}"), || {
                self.drivers
                    .tm(script, [disk.source.as_str(), &place, &id, &images])
            })?;
        }
        vm.stage = Stage::Boot;
        self.store.keep_vm(vm)?;
        if let Some(text) = document::context_sh(template, facts) {
            let file = self
                .store
                .write(vm.id, "context.sh", &text)?
                .display()
                .to_string();
            let place = self.place(vm.id, &format!("/disk.{}", vm.disks.len()));
            self.call_driver("tm context", || {
                self.drivers
                    .tm("context", [file.as_str(), &place, &id, &SYSTEM.to_string()])
            })?;
        }
        self.network(vm, "pre", &[], document)?;
        let file = self
            .store
            .system_dir(vm.id)
            .join("deployment.0")
            .display()
            .to_string();
        let answer = self.call_driver("vmm deploy", || {
            self.drivers.vmm(
                "deploy",
                [file.as_str(), HOST, &id, HOST],
                document.to_owned(),
            )
        })?;
        let deploy_id = answer.stdout.split_whitespace().next().unwrap_or("-");
        if deploy_id != format!("one-{id}") {
            return Err(Error::refused(format!(
                "vmm deploy answered \"{deploy_id}\" in place of one-{id}"
            )));
        }
        self.network(vm, "post", &[deploy_id, HOST], document)?;
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
                        document::action(&document, vm.id),
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
            let place = self.place(vm.id, &format!("/disk.{number}"));
            if disk.persistent && save {
                self.call_driver(&format!("tm mvds disk.{number}"), || {
                    self.drivers
                        .tm("mvds", [place.as_str(), &disk.source, &id, &images])
                })?;
            } else {
                self.call_driver(&format!("tm delete disk.{number}"), || {
                    self.drivers.tm("delete", [place.as_str(), &id, &images])
                })?;
            }
        }
        let place = self.place(vm.id, "");
        self.call_driver("tm delete the VM's folder", || {
            self.drivers
                .tm("delete", [place.as_str(), &id, &SYSTEM.to_string()])
        })?;
        Ok(())
    }

    /// A script of each network driver of the VM, once.
    fn network(&self, vm: &Vm, script: &str, arguments: &[&str], document: &str) -> Result<()> {
        let drivers: BTreeSet<&str> = vm.nics.iter().map(|nic| nic.driver.as_str()).collect();
        for driver in drivers {
            let begun = Instant::now();
            let answer = self
                .drivers
                .vnm(driver, script, arguments, STANDARD.encode(document))?;
            if let Some(answer) = answer {
                tell(&format!("vnm {driver} {script}"), begun, &answer)?;
            }
        }
        Ok(())
    }

    fn document(&self, vm: &Vm) -> Result<String> {
        let path = self.store.file(vm.id, "vm.xml");
        std::fs::read_to_string(&path).map_err(Error::file("read", &path))
    }

    /// `host:path` of something in a VM's folder.
    fn place(&self, vm: VmId, name: &str) -> String {
        format!("{HOST}:{}{name}", self.store.system_dir(vm).display())
    }

    fn call_driver(&self, what: &str, call: impl FnOnce() -> Result<Output>) -> Result<Output> {
        let begun = Instant::now();
        let answer = call()?;
        tell(what, begun, &answer)?;
        Ok(answer)
    }
}

/// A line for a call that went well, with its notes.
fn tell(what: &str, begun: Instant, answer: &Output) -> Result<()> {
    say(&format!("  {:5} ms  {what}", begun.elapsed().as_millis()))?;
    for note in notes(answer) {
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
