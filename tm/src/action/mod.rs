//! The front-end's half: what `one_tm` runs. Every script may be repeated, and may come from a
//! fallback of a suffixed name (`clone.ssh`): the suffix is not visible here.

mod clone;
mod context;
mod delete;
mod monitor;
mod mv;
mod mvds;

use anyhow::{Context as _, bail};
use onedock_common::VmId;
use onedock_common::answer::Answer;
use onedock_common::config::Config;

use crate::location::{Location, Place};

/// What 7.4.0's `ssh` has and this version does not serve.
const NOT_SERVED: &[&str] = &[
    "cpds",
    "mkimage",
    "mkswap",
    "failmigrate",
    "postbackup",
    "postbackup_live",
    "postmigrate",
    "prebackup",
    "prebackup_live",
    "premigrate",
    "resize",
    "restore",
    "snap_create",
    "snap_create_live",
    "snap_delete",
    "snap_revert",
];

pub(crate) async fn run(
    script: &str,
    arguments: &[String],
    config: &Config,
) -> anyhow::Result<Answer> {
    let base = script.split_once('.').map_or(script, |(base, _)| base);
    match base {
        "clone" => clone::run(arguments, config, clone::Kind::Copy).await,
        "ln" => clone::run(arguments, config, clone::Kind::Persistent).await,
        "context" => context::run(arguments).await,
        "delete" => delete::run(arguments).await,
        "mv" => mv::run(arguments).await,
        "mvds" => mvds::run(arguments, config).await,
        "monitor" => monitor::run(),
        known if NOT_SERVED.contains(&known) => bail!(
            "{known} is not served by onedock {}; nothing was changed",
            env!("CARGO_PKG_VERSION")
        ),
        other => bail!("\"{other}\" is not a script of a transfer manager"),
    }
}

/// A disk or folder of a VM on a host, from `host:path` and the VM's id.
struct Target {
    location: Location,
    place: Place,
}

fn target(text: &str, vm: &str) -> anyhow::Result<Target> {
    let location: Location = text.parse()?;
    let vm: VmId = vm.parse().context("the VM's id among the arguments")?;
    let place = Place::of(location.path.clone(), vm)?;
    Ok(Target { location, place })
}
