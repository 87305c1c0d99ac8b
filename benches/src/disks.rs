//! Keeping and moving a VM's disk with 100 MB of changes, against the same by hand: `docker
//! commit`, `push`, `pull` and `run` with the same engine and registry.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_common::state::descriptor::Descriptor;
use onedock_tests::engine_server::{Options, PrivateEngine};
use onedock_tests::registry_server::{RegistryServer, Setup};

use crate::bench::{Bench, CHECK};
use crate::by_hand::{self, ByHand};
use crate::front::{self, Front};
use crate::measure::{Times, versions};

/// Turns that count, after one that does not.
const TURNS: u32 = 5;
/// What every figure has to stay below, as a part of the same by hand.
const BOUND: f64 = 0.5;
/// What was measured in one turn.
struct Turn {
    resume: Duration,
    undeploy: Duration,
    save: Duration,
    snapshot: Duration,
    freeze: Duration,
    by_hand: ByHand,
}

pub(crate) fn bench(programs: &Path, behind: &Path) -> Result<()> {
    let engine = PrivateEngine::start(Options {
        runtime: Some(programs.join("onedock-runtime")),
        behind: Some(behind.to_owned()),
        ..Options::default()
    })?;
    let registry = engine.inside(|| RegistryServer::start(&Setup::default()))?;
    let bench = Bench::prepare(&engine, programs, registry.name().to_string())?;
    let mut turns = Vec::new();
    for number in 0..=TURNS {
        turns.push(
            bench
                .turn(number)
                .with_context(|| format!("turn {number}"))?,
        );
    }
    turns.remove(0);
    report(&turns, &versions(&engine, behind)?)
}

fn report(turns: &[Turn], versions: &str) -> Result<()> {
    let times = |of: &dyn Fn(&Turn) -> Duration| {
        let mut times = Times::default();
        turns.iter().for_each(|turn| times.add(of(turn)));
        times
    };
    let by_hand = times(&|t| t.by_hand.whole());
    println!("\ndisks with 100 MB of changes, with {versions} ({TURNS} turns)");
    println!(
        "  docker commit + push + pull + run             {}",
        by_hand.row()
    );
    type Part = fn(&Turn) -> Duration;
    let parts: [(&str, Part); 4] = [
        ("commit", |t| t.by_hand.commit),
        ("push", |t| t.by_hand.push),
        ("pull", |t| t.by_hand.pull),
        ("run", |t| t.by_hand.run),
    ];
    for (name, of) in parts {
        println!("    {name:<43} {}", times(&of).row());
    }
    println!(
        "    commit has it frozen                       {}",
        times(&|t| t.by_hand.frozen).row()
    );
    let rows = [
        (
            "power-off, resume until it runs              ",
            times(&|t| t.resume),
        ),
        (
            "undeploy, resume until it runs               ",
            times(&|t| t.undeploy),
        ),
        (
            "save-as while it runs                        ",
            times(&|t| t.save),
        ),
        (
            "live snapshot, the time in which it is frozen ",
            times(&|t| t.freeze),
        ),
    ];
    let mut above = Vec::new();
    for (name, times) in rows {
        let ratio = times.median() / by_hand.median();
        println!("  {name} {}   ratio {ratio:5.2}", times.row());
        if ratio > BOUND {
            above.push(name.trim());
        }
    }
    println!(
        "  the whole live snapshot                       {}",
        times(&|t| t.snapshot).row()
    );
    ensure!(above.is_empty(), "above {BOUND}: {}", above.join(", "));
    Ok(())
}

impl<'a> Bench<'a> {
    fn prepare(engine: &'a PrivateEngine, programs: &'a Path, registry: String) -> Result<Self> {
        engine.inside(|| install(programs))?;
        // Ends at once at `docker stop` and at shutdown alike.
        let command = "CMD [\"/bin/sh\", \"-c\", \"trap 'exit 0' TERM; while :; do sleep 1000 & wait; done\"]";
        let name = format!("{registry}/onedock/img-1:latest");
        let applets = ["sh", "sleep", "cat", "dd", "seq", "sync", "sha256sum"];
        let root = engine.busybox_root(&applets)?;
        fs::create_dir(root.path().join("data"))?;
        engine.import(&name, root.path(), &[command])?;
        engine.docker(&["push", &name])?;
        let format = "{{index .RepoDigests 0}}";
        let image = engine.docker(&["image", "inspect", "--format", format, &name])?;
        let conf = engine.folder().join("onedock.conf");
        fs::write(&conf, "# Every key has its default.\n")?;
        let front = Front::start(engine, programs, &conf)?;
        Ok(Self {
            engine,
            programs,
            registry,
            image,
            front,
        })
    }

    fn turn(&self, number: u32) -> Result<Turn> {
        let vm = 2000 + number;
        let by_hand = by_hand::turn(self, vm)?;
        let name = format!("one-{vm}");
        self.clone_and_deploy(vm)?;
        let sum = self.change(&name)?;

        let since = |name: &str| {
            let format = "{{.State.StartedAt}}";
            self.engine.docker(&["inspect", "--format", format, name])
        };
        let before = since(&name)?;
        let begin = Instant::now();
        self.shutdown(vm)?;
        self.deploy(vm)?;
        let resume = begin.elapsed();
        ensure!(since(&name)? != before, "{name} was not off");
        self.same(&name, &sum).context("power-off, resume")?;

        // Other changes for each, so that none finds the registry filled by the one before.
        let sum = self.change(&name)?;
        let begin = Instant::now();
        self.snapshot(vm)?;
        let snapshot = begin.elapsed();
        let freeze = by_hand::frozen(self.engine, &name)?;
        let descriptor = Descriptor::read(&self.folder(vm).join("disk.0"))?;
        let saved = descriptor.snapshots.first().context("no snapshot")?;
        self.holds(&saved.image.reference().to_string(), &sum)
            .context("snapshot")?;
        self.forget_images()?;

        let sum = self.change(&name)?;
        let begin = Instant::now();
        let saved = self.save(vm)?;
        let save = begin.elapsed();
        self.holds(&saved, &sum).context("save-as")?;
        self.forget_images()?;

        let sum = self.change(&name)?;
        let begin = Instant::now();
        self.shutdown(vm)?;
        self.moved(
            vm,
            ("localhost", &self.folder(vm)),
            (front::NAME, &self.away(vm)),
        )?;
        let away = begin.elapsed();
        let container = format!("name=^one-{vm}$");
        let left = self.engine.docker(&["ps", "-aq", "--filter", &container])?;
        ensure!(left.is_empty(), "the source still has its container");
        self.forget_images()?;
        let begin = Instant::now();
        self.moved(
            vm,
            (front::NAME, &self.away(vm)),
            ("localhost", &self.folder(vm)),
        )?;
        self.deploy(vm)?;
        let undeploy = away + begin.elapsed();
        self.same(&name, &sum).context("undeploy, resume")?;

        self.shutdown(vm)?;
        self.tm(&[
            "delete",
            &self.disk("localhost", &self.folder(vm)),
            &vm.to_string(),
            "0",
        ])?;
        self.forget_images()?;
        Ok(Turn {
            resume,
            undeploy,
            save,
            snapshot,
            freeze,
            by_hand,
        })
    }

    /// An image in the registry has the changes.
    fn holds(&self, image: &str, sum: &str) -> Result<()> {
        let arguments = [
            "run",
            "--rm",
            "--network",
            "none",
            image,
            "/bin/sh",
            "-c",
            CHECK,
        ];
        let found = self.engine.docker(&arguments)?;
        ensure!(
            found == sum,
            "{image} does not have the changes: {found} instead of {sum}"
        );
        Ok(())
    }
}

/// What `setup node` lays where only root writes; the `/usr/lib` is the machine's of the bench alone.
fn install(programs: &Path) -> Result<()> {
    let folder = Path::new("/usr/lib/onedock");
    fs::create_dir_all(folder)?;
    for name in ["onedock-node", "onedock-init"] {
        fs::copy(programs.join(name), folder.join(name)).with_context(|| name.to_owned())?;
    }
    Ok(())
}
