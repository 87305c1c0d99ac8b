//! The image datastore: images live in the private registry, one repository each
//! (`onedock/img-<id>`). One module an action of `src/datastore_mad/remotes/fs`.

mod action;
mod hosts;
mod local_file;
mod path;
mod store;

use std::ffi::{OsStr, OsString};
use std::io::Read as _;

use anyhow::{Context as _, bail};
use onedock_common::answer::Answer;
use onedock_common::config::Config;
use onedock_common::image::DatastoreAction;

use store::Store;

/// What 7.4.0 asks and this version does not serve.
const NOT_SERVED: &[&str] = &[
    "backup",
    "backup_cancel",
    "clone",
    "export",
    "increment_flatten",
    "ls",
    "mkfs",
    "restore",
    "snap_delete",
    "snap_flatten",
    "snap_revert",
];

/// Runs one action: its name, one argument (the image's or request's id), base64 XML on
/// standard input.
pub fn run(name: &OsStr, arguments: Vec<OsString>) -> anyhow::Result<Answer> {
    let name = name.to_str().context("the action's name is not UTF-8")?;
    if NOT_SERVED.contains(&name) {
        bail!(
            "{name} is not served by onedock {}; nothing was changed",
            env!("CARGO_PKG_VERSION")
        );
    }
    let config = Config::load()?;
    let _span = tracing::info_span!("datastore", action = name, id = ?arguments.first()).entered();
    tracing::info!("begins");
    let request = DatastoreAction::from_base64(&read_input()?)?;
    let store = Store::open(
        &config,
        &request.datastore,
        (name == "stat").then_some(action::stat::LIMIT),
    )?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async {
        match name {
            "stat" => action::stat::run(&store, &request).await,
            "cp" => action::cp::run(&store, &request).await,
            "rm" => action::rm::run(&store, &request).await,
            "monitor" => action::monitor::run(&config, &request.datastore),
            other => bail!("\"{other}\" is not an action of a datastore driver"),
        }
    });
    tracing::info!("ends");
    answer
}

fn read_input() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // Base64 takes four bytes for three.
    let limit = onedock_common::xml::LIMIT as u64 / 3 * 4 + 1;
    std::io::stdin()
        .take(limit)
        .read_to_end(&mut bytes)
        .context("standard input cannot be read")?;
    Ok(bytes)
}
