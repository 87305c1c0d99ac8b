//! The image datastore: images live in the private registry, one repository each
//! (`onedock/img-<id>`). One module an action of `src/datastore_mad/remotes/fs`.

mod action;
mod content;
mod hosts;
mod imports;
mod local_file;
mod path;
mod store;

use std::ffi::{OsStr, OsString};
use std::io::Read as _;

use anyhow::{Context as _, bail};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;
use onedock_common::opennebula::image::{DatastoreAction, REQUEST_LIMIT};

use store::Store;

/// What is asked only of a datastore that keeps backups (its DS_MAD, `src/vmm_mad/exec` and
/// `ImageManager::restore_image`, `flatten_increments`): `oned` never asks it of an image datastore.
const OF_BACKUPS: &[&str] = &[
    "backup",
    "backup_cancel",
    "increment_flatten",
    "ls",
    "restore",
];

/// Runs one action: its name, one argument (the image's or request's id), base64 XML on
/// standard input.
pub fn run(name: &OsStr, arguments: Vec<OsString>) -> anyhow::Result<Answer> {
    let name = name.to_str().context("the action's name is not UTF-8")?;
    if OF_BACKUPS.contains(&name) {
        bail!(
            "{name} is for datastores that keep backups, and DS_MAD onedock keeps images; take a datastore of TYPE BACKUP_DS with DS_MAD restic or rsync"
        );
    }
    let config = Config::load()?;
    let _span = tracing::info_span!("datastore", action = name, id = ?arguments.first()).entered();
    tracing::info!("begins");
    let request = DatastoreAction::from_base64(read_input()?)?;
    let store = Store::open(
        &config,
        &request.datastore,
        (name == "stat").then_some(action::stat::LIMIT),
        request.image.as_ref().and_then(|image| image.size_mb),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async {
        match name {
            "stat" => action::stat::run(&store, &request).await,
            "cp" => action::cp::run(&store, &request).await,
            "rm" => action::rm::run(&store, &request).await,
            "mkfs" => action::mkfs::run(&store, &request).await,
            "clone" => action::clone::run(&store, &request).await,
            "snap_delete" => action::snapshot::delete(&store, &request).await,
            "snap_revert" => action::snapshot::revert(&store, &request).await,
            "snap_flatten" => action::snapshot::flatten(&store, &request).await,
            "export" => action::export::run(&store, &request).await,
            "monitor" => action::monitor::run(&config, &request.datastore),
            other => bail!("\"{other}\" is not an action of a datastore driver"),
        }
    });
    tracing::info!("ends");
    answer
}

fn read_input() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = REQUEST_LIMIT as u64 + 1;
    std::io::stdin()
        .take(limit)
        .read_to_end(&mut bytes)
        .context("standard input cannot be read")?;
    Ok(bytes)
}
