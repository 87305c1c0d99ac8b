//! The scripts that `one_tm` runs on the front-end, one module each, with the requests that they
//! send to a host and what the host does. Every script may be repeated, and may come with the
//! suffix of a stock system datastore (`clone.ssh`).

mod clone;
mod context;
mod cpds;
mod delete;
#[cfg(test)]
mod disk_tests;
#[cfg(test)]
mod fault_tests;
mod inventory;
mod migrate;
mod mkimage;
mod mkswap;
mod monitor;
pub(crate) mod monitor_ds;
mod mv;
mod mvds;
mod resize;
mod save;
mod snap_create;
mod snap_delete;
mod snap_revert;

use std::io::BufRead;

use anyhow::{Context as _, bail};
use onedock_common::VmId;
use onedock_common::engine::Docker;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;
use onedock_common::state::descriptor::DiskKind;
use onedock_common::state::paths::Paths;
use onedock_common::types::system_datastore::SystemDatastore;
use onedock_node::client::Helper;
use onedock_registry::{Client, ImageStore};

use self::inventory::{FoundDisk, Inventory};
#[cfg(test)]
pub(crate) use self::resize::Resize;
use crate::location::{HostName, Location, VmPath};
use crate::node::NodeContext;
use crate::remote::{self, Payload};
use crate::request::{Call, Request};

/// What 7.4.0's `ssh` has and this version does not support.
const NOT_SUPPORTED: &[&str] = &[
    "postbackup",
    "postbackup_live",
    "prebackup",
    "prebackup_live",
    "restore",
];

/// What every script on the front-end works with.
struct FrontEnd<'a> {
    config: &'a Config,
    system: SystemDatastore,
}

impl FrontEnd<'_> {
    /// The images, with the front-end's account: the one that may change their versions.
    fn images(&self) -> anyhow::Result<ImageStore> {
        Ok(ImageStore::new(Client::configured(self.config)?))
    }
}

pub(crate) async fn run(
    script: &str,
    arguments: &[String],
    config: &Config,
) -> anyhow::Result<Answer> {
    // A stock system datastore's name is the suffix (TM_MAD_SYSTEM).
    let (base, system) = match script.split_once('.') {
        Some((base, suffix)) => (base, suffix.parse()?),
        None => (script, SystemDatastore::Onedock),
    };
    let front = FrontEnd { config, system };
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
        "snap_create" | "snap_create_live" => snap_create::run(arguments).await,
        "snap_delete" => snap_delete::run(arguments, &front).await,
        "snap_revert" => snap_revert::run(arguments).await,
        "monitor" => monitor::run(),
        "premigrate" => migrate::before(arguments),
        "postmigrate" | "failmigrate" => migrate::after(arguments),
        known if NOT_SUPPORTED.contains(&known) => bail!(
            "{known} is not supported by onedock {}; nothing was changed",
            env!("CARGO_PKG_VERSION")
        ),
        other => bail!("\"{other}\" is not a script of a transfer manager"),
    }
}

/// Does on this host what a front-end half has requested.
pub(crate) async fn answer(
    call: Call,
    config: &Config,
    content: &mut dyn BufRead,
) -> anyhow::Result<Answer> {
    macro_rules! answer {
        ($($request:ty),+ $(,)?) => {
            match call.request.as_str() {
                $(<$request>::NAME => perform::<$request>(call, config, content).await,)+
                other => bail!("\"{other}\" is not a request to a host"),
            }
        };
    }
    answer!(
        clone::stage::Stage,
        clone::fetch::Fetch,
        context::unpack::ReplaceContext,
        delete::remove::Delete,
        inventory::Inventory,
        mkimage::MakeDisk,
        mkswap::MakeSwap,
        mv::Adopt,
        mv::Discard,
        mv::Receive,
        mv::Release,
        mv::Rename,
        mv::Send,
        resize::Resize,
        save::container::SaveContainer,
        save::file::SaveFile,
        snap_create::SnapCreate,
        snap_delete::SnapDelete,
        snap_revert::SnapRevert,
    )
}

/// The first arguments of a script; `usage` says which it needs. `oned` may give more.
fn first<'a, const N: usize>(
    arguments: &'a [String],
    usage: &str,
) -> anyhow::Result<&'a [String; N]> {
    arguments
        .first_chunk()
        .with_context(|| format!("{usage}, got {} arguments", arguments.len()))
}

/// A disk or folder of a VM on a host, from `host:path` and the VM's id.
struct Target {
    host: HostName,
    path: VmPath,
}

impl Target {
    /// Has a request done on the host.
    async fn call<R: Request>(&self, request: &R) -> anyhow::Result<R::Reply> {
        remote::call(&self.host, request, Payload::Nothing).await
    }

    /// The disks that are there.
    async fn inventory(&self, token: Option<&str>) -> anyhow::Result<Vec<FoundDisk>> {
        let request = Inventory {
            path: self.path.clone(),
            token: token.map(str::to_owned),
        };
        self.call(&request).await
    }

    /// The disk, when it is there.
    async fn find_disk(&self, token: Option<&str>) -> anyhow::Result<Option<FoundDisk>> {
        let disk = self.path.disk().context("a disk is needed, not a folder")?;
        let found = self.inventory(token).await?;
        Ok(found.into_iter().find(|found| found.disk == disk))
    }

    /// What the disk is, which must be there.
    async fn present_disk(&self) -> anyhow::Result<DiskKind> {
        let found = self.find_disk(None).await?.with_context(|| {
            format!(
                "{} is not there on host {}; nothing was changed",
                self.path.to_path_buf().display(),
                self.host.as_str()
            )
        })?;
        let host = self.host.as_str();
        found
            .kind
            .map_err(|why| anyhow::anyhow!("host {host}: {why}"))
    }
}

fn target(text: &str, vm: &str) -> anyhow::Result<Target> {
    let Location { host, path } = text.parse()?;
    let vm: VmId = vm.parse().context("the VM's id among the arguments")?;
    let path = VmPath::of(path, vm)?;
    Ok(Target { host, path })
}

/// The size in MiB among the arguments.
fn size_mib(text: &str) -> anyhow::Result<u64> {
    let size = onedock_common::types::decimal::parse_whole(text)
        .with_context(|| format!("\"{text}\" is not a size in MB"))?;
    anyhow::ensure!(
        (1..=1 << 30).contains(&size),
        "a disk of {size} MB cannot be made; 1 MB to 1 PB can"
    );
    Ok(size)
}

/// Reads one request and does it.
async fn perform<R: Request>(
    call: Call,
    config: &Config,
    content: &mut dyn BufRead,
) -> anyhow::Result<Answer> {
    let request: R = call.body()?;
    let node = NodeContext {
        engine: Docker::local()?,
        paths: paths(request.vm_path()),
        config,
        helper: Helper::default(),
    };
    R::answer(&request.perform(&node, content).await?)
}

/// The state folder, as `setup node` makes it. A front-end that is no host has none: its locks lie
/// beside its datastores' VMs, where oneadmin can write.
fn paths(vm_path: &VmPath) -> Paths {
    let system = Paths::system();
    match vm_path.folder().parent() {
        Some(datastore) if !system.boot_dir().is_dir() => Paths::at(datastore.join(".onedock")),
        _ => system,
    }
}
