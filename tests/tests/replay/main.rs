//! The recorded calls of both releases, replayed to the drivers of this build as they are
//! installed, on machines of the test's own (`onedock_tests::replay`).

mod disks;
mod life;
mod saved;
mod stock;
mod walk;

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use onedock_tests::replay::cloud::Cloud;
use onedock_tests::replay::performer::Repeat;
use onedock_tests::replay::table;

use walk::Walk;

/// How many times all calls are cut off somewhere; `ONEDOCK_REPLAY_ROUNDS` asks for more.
const ROUNDS: u64 = 1;

/// The seed of where; a failure names it and the round. `ONEDOCK_REPLAY_SEED` sets another.
const SEED: u64 = 0x6f6e_6564_6f63_6b21;

/// What each disk holds in MiB when calls are made once.
const MEBIBYTES: u64 = 100;

/// And when they are made more than once: the contents are the same, the big file is not.
const FEW_MEBIBYTES: u64 = 1;

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
    let cloud = Cloud::start(release, behind)?;
    let mut walk = Walk::new(&cloud, seed, MEBIBYTES)?;
    let with_log = |e: anyhow::Error, what: &str| {
        e.context(format!(
            "{release}, {what}; the drivers' log:\n{}",
            cloud.drivers_log()
        ))
    };
    walk.lives(Repeat::Once)
        .map_err(|e| with_log(e, "each call once"))?;
    walk.archive()
        .map_err(|e| with_log(e, "an image from an archive"))?;
    let passing: BTreeSet<String> = table::passing(release)
        .into_iter()
        .map(str::to_owned)
        .collect();
    ensure!(
        walk.performed == passing,
        "table.rs says that {passing:?} pass, replayed were {:?}",
        walk.performed
    );
    let mut walk = Walk::new(&cloud, seed, FEW_MEBIBYTES)?;
    walk.given_up()
        .map_err(|e| with_log(e, &format!("given up, seed {seed}")))?;
    walk.lives(Repeat::Twice)
        .map_err(|e| with_log(e, "each call twice"))?;
    for round in 0..rounds {
        walk.lives(Repeat::CutOff)
            .map_err(|e| with_log(e, &format!("cut off, seed {seed}, round {round}")))?;
    }
    Ok(())
}

fn from_environment(name: &str, default: u64) -> Result<u64> {
    match std::env::var(name) {
        Ok(text) => text.parse().with_context(|| name.to_owned()),
        Err(_) => Ok(default),
    }
}
