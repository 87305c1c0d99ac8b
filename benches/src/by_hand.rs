//! The same with the engine's own means.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_tests::engine_server::PrivateEngine;

use crate::bench::Bench;

/// What one turn took.
#[derive(Debug, Default)]
pub(crate) struct ByHand {
    pub(crate) commit: Duration,
    pub(crate) push: Duration,
    pub(crate) pull: Duration,
    pub(crate) run: Duration,
    /// How long the container stood still during the commit.
    pub(crate) frozen: Duration,
}

impl ByHand {
    pub(crate) fn whole(&self) -> Duration {
        self.commit + self.push + self.pull + self.run
    }
}

/// Commits and pushes a running container with changes, then pulls and runs what was pushed.
pub(crate) fn turn(bench: &Bench<'_>, number: u32) -> Result<ByHand> {
    let (engine, name) = (bench.engine, format!("hand-{number}"));
    let image = format!("{}/hand/img-{number}:latest", bench.registry);
    let run =
        |image: &str| engine.docker(&["run", "-d", "--network", "none", "--name", &name, image]);
    run(&bench.image)?;
    let sum = bench.change(&name)?;
    let (commit, _) = timed(|| engine.docker(&["commit", &name, &image]))?;
    let frozen = frozen(engine, &name)?;
    let (push, _) = timed(|| engine.docker(&["push", &image]))?;
    engine.docker(&["rm", "-f", &name])?;
    bench.forget_images()?;
    let (pull, _) = timed(|| engine.docker(&["pull", &image]))?;
    let (run, _) = timed(|| run(&image))?;
    bench.same(&name, &sum)?;
    engine.docker(&["rm", "-f", &name])?;
    bench.forget_images()?;
    Ok(ByHand {
        commit,
        push,
        pull,
        run,
        frozen,
    })
}

fn timed<T>(work: impl FnOnce() -> Result<T>) -> Result<(Duration, T)> {
    let begin = Instant::now();
    let done = work()?;
    Ok((begin.elapsed(), done))
}

/// How long a container has stood still, by the engine's own events, of which there must be just
/// one pair.
pub(crate) fn frozen(engine: &PrivateEngine, container: &str) -> Result<Duration> {
    let filter = format!("container={container}");
    let begin = Instant::now();
    let times = loop {
        let text = engine.docker(&[
            "events",
            "--since=1h",
            "--until=0s",
            "--filter",
            &filter,
            "--filter=event=pause",
            "--filter=event=unpause",
            "--format={{.TimeNano}}",
        ])?;
        let times = text
            .lines()
            .map(|line| line.parse::<u64>().context("not a time"))
            .collect::<Result<Vec<_>>>()?;
        // The question ends at the last full second.
        if times.len() >= 2 || begin.elapsed() > Duration::from_secs(10) {
            break times;
        }
    };
    ensure!(
        times.len() == 2,
        "{container} was frozen and thawed: {times:?}"
    );
    Ok(Duration::from_nanos(times[1].saturating_sub(times[0])))
}
