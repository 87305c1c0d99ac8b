//! The front-end's half: what `one_tm` runs. Every script may be repeated, and may come with the
//! suffix of a stock system datastore (`clone.ssh`).

mod clone;
mod context;
mod cpds;
mod delete;
mod migrate;
mod mkimage;
mod mkswap;
mod monitor;
mod mv;
mod mvds;
mod resize;
mod snap_create;
mod snap_delete;
mod snap_revert;

use anyhow::{Context as _, bail};
use onedock_common::VmId;
use onedock_common::answer::Answer;
use onedock_common::config::Config;
use onedock_common::reference::RegistryName;
use onedock_common::secret::Credential;
use onedock_registry::{Client, ImageStore};

use crate::location::{Location, Place};
use crate::message::{Outcome, Seen, Task, What};
use crate::remote::{self, Payload};
use crate::system::System;

/// What 7.4.0's `ssh` has and this version does not serve.
const NOT_SERVED: &[&str] = &[
    "postbackup",
    "postbackup_live",
    "prebackup",
    "prebackup_live",
    "restore",
];

/// What every script works with.
struct Front<'a> {
    config: &'a Config,
    system: System,
}

impl Front<'_> {
    /// The images, with the front-end's account: the one that may change tags.
    fn images(&self) -> anyhow::Result<ImageStore> {
        Ok(ImageStore::new(Client::configured(self.config)?))
    }

    /// The account, for a host that pushes in our place.
    fn credential(&self, registry: &RegistryName) -> anyhow::Result<Option<Credential>> {
        Ok(onedock_registry::credential(
            &self.config.auth_file,
            registry,
        )?)
    }
}

pub(crate) async fn run(
    script: &str,
    arguments: &[String],
    config: &Config,
) -> anyhow::Result<Answer> {
    let (base, suffix) = match script.split_once('.') {
        Some((base, suffix)) => (base, Some(suffix)),
        None => (script, None),
    };
    let system = System::of_suffix(suffix)?;
    let front = Front { config, system };
    match base {
        "clone" => clone::run(arguments, &front, clone::Kind::Copy).await,
        "ln" => clone::run(arguments, &front, clone::Kind::Persistent).await,
        "context" => context::run(arguments).await,
        "cpds" => cpds::run(arguments, &front).await,
        "delete" => delete::run(arguments, &front).await,
        "mkimage" => mkimage::run(arguments).await,
        "mkswap" => mkswap::run(arguments).await,
        "mv" => mv::run(arguments, &front).await,
        "mvds" => mvds::run(arguments, &front).await,
        "resize" => resize::run(arguments).await,
        "snap_create" | "snap_create_live" => snap_create::run(arguments, &front).await,
        "snap_delete" => snap_delete::run(arguments, &front).await,
        "snap_revert" => snap_revert::run(arguments).await,
        "monitor" => monitor::run(),
        "premigrate" => migrate::before(arguments),
        "postmigrate" | "failmigrate" => migrate::after(arguments),
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

impl Target {
    /// Has something done where it is.
    async fn call(&self, task: Task) -> anyhow::Result<Outcome> {
        remote::call(&self.location.host, task, Payload::Nothing).await
    }

    /// What lies there.
    async fn look(&self, token: Option<&str>) -> anyhow::Result<Vec<Seen>> {
        let task = Task::Look {
            place: self.place.clone(),
            token: token.map(str::to_owned),
        };
        match self.call(task).await? {
            Outcome::Seen(seen) => Ok(seen),
            other => Err(self.unexpected(&other)),
        }
    }

    /// What the disk is, when there is one.
    async fn disk(&self, token: Option<&str>) -> anyhow::Result<Option<What>> {
        let disk = self
            .place
            .disk()
            .context("a disk is needed, not a folder")?;
        let seen = self.look(token).await?;
        Ok(seen.into_iter().find(|s| s.disk == disk).map(|s| s.what))
    }

    /// The disk must be there.
    async fn present_disk(&self) -> anyhow::Result<What> {
        let what = self.disk(None).await?.with_context(|| {
            format!(
                "{} is not there on host {}; nothing was changed",
                self.place.path().display(),
                self.location.host.as_str()
            )
        })?;
        match what {
            What::Damaged(why) => bail!("host {}: {why}", self.location.host.as_str()),
            what => Ok(what),
        }
    }

    fn unexpected(&self, outcome: &Outcome) -> anyhow::Error {
        tracing::error!(?outcome, "unexpected");
        anyhow::anyhow!(
            "host {} answered something else than what was asked",
            self.location.host.as_str()
        )
    }
}

fn target(text: &str, vm: &str) -> anyhow::Result<Target> {
    let location: Location = text.parse()?;
    let vm: VmId = vm.parse().context("the VM's id among the arguments")?;
    let place = Place::of(location.path.clone(), vm)?;
    Ok(Target { location, place })
}

/// The size in MiB among the arguments.
fn size_mib(text: &str) -> anyhow::Result<u64> {
    let size = onedock_common::decimal::parse_whole(text)
        .with_context(|| format!("\"{text}\" is not a size in MB"))?;
    anyhow::ensure!(
        (1..=1 << 30).contains(&size),
        "a disk of {size} MB cannot be made; 1 MB to 1 PB can"
    );
    Ok(size)
}
