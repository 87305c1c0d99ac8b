//! The recorded calls of both releases, replayed to the drivers of this build as they are
//! installed, on a machine of the test's own (`onedock_tests::replay`).

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_tests::replay::bed::Bed;
use onedock_tests::replay::expected::Expected;
use onedock_tests::replay::look::text;
use onedock_tests::replay::performer::{Manner, Performer};
use onedock_tests::replay::recording::Call;
use onedock_tests::replay::table;

/// How many times all calls are cut off somewhere; `ONEDOCK_REPLAY_ROUNDS` asks for more.
const ROUNDS: u64 = 3;

/// How many deploys are cut off and given up.
const GIVEN_UP: usize = 8;

/// The seed of where; a failure names it and the round. `ONEDOCK_REPLAY_SEED` sets another.
const SEED: u64 = 0x6f6e_6564_6f63_6b21;

/// Longer than a stop by the image's own signal takes, shorter than the grace after it.
const GRACE: Duration = Duration::from_secs(15);

/// A file in the root disk, and one in the VOLUME of the image.
const KEPT: [&str; 2] = ["/kept", "/data/kept"];

#[test]
fn the_calls_of_7_4_0_do_what_they_say_behind_crun() -> Result<()> {
    release("7.4.0", "/usr/bin/crun")
}

#[test]
fn the_calls_of_6_10_do_what_they_say_behind_runc() -> Result<()> {
    release("6.10", "/usr/sbin/runc")
}

fn release(release: &str, behind: &str) -> Result<()> {
    let (rounds, seed) = (
        from_environment("ONEDOCK_REPLAY_ROUNDS", ROUNDS)?,
        from_environment("ONEDOCK_REPLAY_SEED", SEED)?,
    );
    let bed = Bed::start(release, behind)?;
    let mut replay = Replay {
        bed: &bed,
        performer: Performer::new(&bed, seed),
        mounts: bed.mounts()?,
        performed: BTreeSet::new(),
    };
    let told = |e: anyhow::Error, what: &str| {
        e.context(format!(
            "{release}, {what}; the drivers' log:\n{}",
            bed.drivers_log()
        ))
    };
    replay
        .lives(Manner::Once)
        .map_err(|e| told(e, "each call once"))?;
    replay
        .archive()
        .map_err(|e| told(e, "an image from an archive"))?;
    let passing: BTreeSet<String> = table::passing(release)
        .into_iter()
        .map(str::to_owned)
        .collect();
    ensure!(
        replay.performed == passing,
        "table.rs says that {passing:?} pass, replayed were {:?}",
        replay.performed
    );
    replay
        .given_up()
        .map_err(|e| told(e, &format!("given up, seed {seed}")))?;
    replay
        .lives(Manner::Twice)
        .map_err(|e| told(e, "each call twice"))?;
    for round in 0..rounds {
        replay
            .lives(Manner::CutOff)
            .map_err(|e| told(e, &format!("cut off, seed {seed}, round {round}")))?;
    }
    Ok(())
}

fn from_environment(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| name.to_owned()),
        Err(_) => Ok(default),
    }
}

struct Replay<'a> {
    bed: &'a Bed,
    performer: Performer<'a>,
    mounts: BTreeSet<String>,
    performed: BTreeSet<String>,
}

/// A VM between two operations.
struct Vm {
    wanted: Expected,
    container: String,
}

impl Replay<'_> {
    /// Both images, both VMs, from nothing to nothing.
    fn lives(&mut self, manner: Manner) -> Result<()> {
        self.performer.become_manner(manner);
        let [nginx, state] = self.setup()?;
        self.nginx_life(manner, true)?;
        self.persistent_lives(state)?;
        for image in [nginx, state] {
            self.delete(image)?;
        }
        self.bed.check_nothing_left(&self.mounts)?;
        // The next life stages its images anew.
        self.bed.engine.docker(&["image", "prune", "-af"])?;
        Ok(())
    }

    /// The datastore's calls; answers the images' ids.
    fn setup(&mut self) -> Result<[u32; 2]> {
        let mut images = Vec::new();
        for call in self.operation("setup")? {
            let said = self.performer.perform(&call)?;
            match call.action.as_str() {
                "stat" if call.document()?.contains("size=256") => ensure!(said == "256", "{said}"),
                "cp" => images.push(self.registered(&call, &said)?),
                _ => {}
            }
        }
        images
            .try_into()
            .map_err(|all| anyhow::anyhow!("{all:?} are not two images"))
    }

    /// What `cp` answered is in the registry; from now on it is the image's SOURCE.
    fn registered(&mut self, call: &Call, said: &str) -> Result<u32> {
        let image: u32 = call.args[0].parse()?;
        let source = said.trim_end_matches(" raw");
        let recorded = call.recorder_replied.trim().trim_end_matches(" raw");
        self.performer.mapping.source(recorded, source);
        let (_, hex) = source.rsplit_once(':').context("SOURCE")?;
        let digest = format!("sha256:{hex}");
        let state = format!("state-{hex}");
        let tags = self.bed.tags(image)?;
        let names: Vec<&str> = tags.iter().map(|(name, _)| name.as_str()).collect();
        let mut wanted = vec!["latest", state.as_str()];
        if call.document()?.contains("<DOCKERRUN>") {
            wanted.insert(0, "attributes");
        }
        ensure!(names == wanted, "tags {names:?}");
        ensure!(
            tags.iter()
                .all(|(name, at)| name == "attributes" || *at == digest),
            "{tags:?} do not lead to {digest}"
        );
        Ok(image)
    }

    /// The VM of the image nginx, through power-off and resume, or only created and ended.
    fn nginx_life(&mut self, manner: Manner, whole: bool) -> Result<()> {
        let mut vm = self.start("create", None)?;
        self.check_nginx(&vm)?;
        if whole {
            for file in KEPT {
                self.bed.exec(vm.wanted.vm, &format!("touch {file}"))?;
            }
            for operation in ["reboot", "reboot-hard"] {
                let before = self.started_at(vm.wanted.vm)?;
                self.all(operation)?;
                ensure!(self.started_at(vm.wanted.vm)? != before, "{operation}");
                self.check_same(&vm).with_context(|| operation.to_owned())?;
                self.check_nginx(&vm)?;
            }
            for (off, on) in [
                ("poweroff", "resume-poff"),
                ("poweroff-hard", "resume-poff2"),
            ] {
                let begin = Instant::now();
                self.all(off)?;
                ensure!(
                    begin.elapsed() < GRACE,
                    "{off} was long: the image's STOPSIGNAL was not sent"
                );
                self.bed
                    .check_stopped(vm.wanted.vm, &vm.container)
                    .with_context(|| off.to_owned())?;
                vm = self.start(on, Some(&vm))?;
                self.check_nginx(&vm)?;
            }
            // oned asks again when an answer was lost: nothing starts anew.
            if manner == Manner::Twice {
                let before = self.started_at(vm.wanted.vm)?;
                self.start("resume-poff2", Some(&vm))?;
                ensure!(
                    self.started_at(vm.wanted.vm)? == before,
                    "a deploy restarted it"
                );
            }
        }
        self.all("terminate")?;
        self.bed
            .check_nothing_left(&self.mounts)
            .context("terminate")
    }

    /// The VM of a persistent image, twice: what the first life wrote is in the second.
    fn persistent_lives(&mut self, image: u32) -> Result<()> {
        let before = self.bed.tags(image)?;
        for life in 1..=2 {
            let vm = self.start("create-persistent", None)?;
            let id = vm.wanted.vm;
            let kept = self.bed.exec(id, "cat /kept");
            if life == 1 {
                ensure!(kept.is_err(), "a file of no life: {kept:?}");
                // Its image's command is a bare shell, so it lives on and does nothing.
                self.bed.exec(id, "sh -c echo$IFS\"life\"$IFS\"1\">/kept")?;
            } else {
                let kept = kept.context("what the first life wrote is gone")?;
                ensure!(kept == "life 1", "{kept:?}");
            }
            for port in ["80", "8080"] {
                self.bed.exec(id, &format!("httpd -p {port} -h /etc"))?;
                let address = &vm.wanted.nics[0].addresses[0];
                let answer = self.bed.fetch(address, port.parse()?)?;
                ensure!(answer.starts_with("HTTP/1."), "{answer}");
            }
            self.all("terminate-hard-persistent")?;
            self.bed
                .check_nothing_left(&self.mounts)
                .context("terminate-hard-persistent")?;
            let after = self.bed.tags(image)?;
            let names =
                |tags: &[(String, String)]| tags.iter().map(|t| t.0.clone()).collect::<Vec<_>>();
            ensure!(
                names(&after) == names(&before),
                "tags {after:?} after {before:?}"
            );
            ensure!(
                after.iter().zip(&before).all(|(new, old)| new.1 != old.1)
                    && after.iter().all(|tag| tag.1 == after[0].1),
                "tags {after:?} after {before:?}"
            );
        }
        Ok(())
    }

    /// The calls that end in a running VM. `oned` has written the context's files by then.
    fn start(&mut self, operation: &str, before: Option<&Vm>) -> Result<Vm> {
        let calls = self.operation(operation)?;
        let deploy = calls.iter().find(|c| c.action == "deploy");
        let wanted = Expected::of(&deploy.context("no deploy")?.stdin)?;
        self.write_context(&wanted)?;
        for call in &calls {
            self.performer.perform(call)?;
        }
        let container = self
            .bed
            .check_running(&wanted)
            .with_context(|| operation.to_owned())?;
        let vm = Vm { wanted, container };
        if let Some(before) = before {
            ensure!(
                vm.container == before.container,
                "{operation} made another container"
            );
            self.check_kept(&vm)?;
        }
        Ok(vm)
    }

    /// The file that `oned` writes before it calls `context`.
    fn write_context(&self, wanted: &Expected) -> Result<()> {
        let Some(context) = wanted.context_sh() else {
            return Ok(());
        };
        let folder = self.bed.var.join(format!("vms/{}", wanted.vm));
        self.bed.engine.inside(|| {
            fs::create_dir_all(&folder)?;
            Ok(fs::write(folder.join("context.sh"), context)?)
        })
    }

    fn check_same(&self, vm: &Vm) -> Result<()> {
        let container = self.bed.check_running(&vm.wanted)?;
        ensure!(container == vm.container, "it is another container");
        self.check_kept(vm)
    }

    fn check_kept(&self, vm: &Vm) -> Result<()> {
        for file in KEPT {
            self.bed
                .exec(vm.wanted.vm, &format!("ls {file}"))
                .with_context(|| format!("{file} is gone"))?;
        }
        Ok(())
    }

    /// Both ports of every address answer.
    fn check_nginx(&self, vm: &Vm) -> Result<()> {
        for address in vm.wanted.nics.iter().flat_map(|n| &n.addresses) {
            for port in [80, 8080] {
                let answer = self.bed.fetch(address, port)?;
                let line = format!("nginx on {}", vm.wanted.hostname);
                ensure!(answer.contains(&line), "{address}:{port}: {answer}");
            }
        }
        Ok(())
    }

    fn started_at(&self, vm: u32) -> Result<String> {
        let container = self.bed.container(vm)?.context("no container")?;
        text(&container, "/State/StartedAt")
    }

    /// The image's manifests and tags go.
    fn delete(&mut self, image: u32) -> Result<()> {
        for call in self.operation("image-delete")? {
            if call.action == "rm" {
                let clone = format!("docker://localhost:5000/onedock/img-{}", call.args[0]);
                let name = format!("docker://localhost:5000/onedock/img-{image}");
                let source = self.performer.mapping.of_source(&name).map(str::to_owned);
                self.performer
                    .mapping
                    .source(&clone, &source.context("no such image")?);
            }
            self.performer.perform(&call)?;
        }
        let tags = self.bed.tags(image)?;
        ensure!(tags.is_empty(), "tags of a deleted image: {tags:?}");
        Ok(())
    }

    /// The first image once more, from an archive that `docker save` made.
    fn archive(&mut self) -> Result<()> {
        self.performer.become_manner(Manner::Once);
        let mut image = None;
        for call in self.operation("setup")? {
            let document = call.document()?;
            let Some((before, path, after)) = path_of_nginx(&document) else {
                continue;
            };
            let call = call
                .clone()
                .with_document(document.replacen(path, "/var/tmp/web.tar", 1));
            ensure!(!before.is_empty() && !after.is_empty(), "no PATH");
            let said = self.performer.perform(&call)?;
            if call.action == "cp" {
                image = Some(self.registered(&call, &said)?);
            }
        }
        self.nginx_life(Manner::Once, false)?;
        self.delete(image.context("no image was registered")?)?;
        self.bed.engine.docker(&["image", "prune", "-af"])?;
        Ok(())
    }

    /// A `deploy` that is cut off and not repeated: the user terminates the VM.
    fn given_up(&mut self) -> Result<()> {
        self.performer.become_manner(Manner::Once);
        let [nginx, state] = self.setup()?;
        for _ in 0..GIVEN_UP {
            let calls = self.operation("create")?;
            let (deploy, before) = calls.split_last().context("no calls")?;
            self.write_context(&Expected::of(&deploy.stdin)?)?;
            for call in before {
                self.performer.perform(call)?;
            }
            let how = self.performer.begin(deploy)?;
            self.all("terminate").context(how.clone())?;
            self.bed.check_nothing_left(&self.mounts).context(how)?;
        }
        for image in [nginx, state] {
            self.delete(image)?;
        }
        Ok(())
    }

    /// All calls of an operation.
    fn all(&mut self, operation: &str) -> Result<()> {
        for call in self.operation(operation)? {
            self.performer.perform(&call)?;
        }
        Ok(())
    }

    fn operation(&mut self, name: &str) -> Result<Vec<Call>> {
        self.performed.insert(name.to_owned());
        self.bed.recording.operation(name)
    }
}

/// `docker://nginx…` in the document, with what is around it.
fn path_of_nginx(document: &str) -> Option<(&str, &str, &str)> {
    let begin = document.find("docker://nginx")?;
    let length = document[begin..].find(['<', ']'])?;
    let (before, rest) = document.split_at(begin);
    let (path, after) = rest.split_at(length);
    Some((before, path, after))
}
