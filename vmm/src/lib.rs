//! The hypervisor driver: what `oned` asks of a VM, done to a container. One module an action;
//! what a VM becomes is decided in [`plan`], which touches nothing.

mod action;
pub mod attributes;
mod bridges;
mod checkpoint;
#[cfg(test)]
mod fake_root;
mod host_ends;
mod iso;
mod labels;
mod options;
pub mod plan;
mod request;
mod signals;

use std::ffi::{OsStr, OsString};
use std::io::Read;

use anyhow::Context as _;
use onedock_common::engine::Docker;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;
use onedock_common::options::policy::Policy;
use onedock_common::state::paths::Paths;

pub use action::Action;
pub use onedock_node::client::{Helper, Root};

/// What every action works with.
#[derive(Debug)]
pub struct Host<E, R> {
    /// The container engine.
    pub engine: E,
    /// Who does what needs root.
    pub root: R,
    /// Where the state of this node lies.
    pub paths: Paths,
    /// `onedock.conf`.
    pub config: Config,
    /// What users may ask of Docker.
    pub policy: Policy,
}

/// Runs one action as `one_vmm_exec` calls it: its name, its arguments, its standard input.
pub fn run(name: &OsStr, arguments: Vec<OsString>) -> anyhow::Result<Answer> {
    let name = name.to_str().context("the action's name is not UTF-8")?;
    let action: Action = name.parse()?;
    let arguments = request::texts(arguments)?;
    let config = Config::load()?;
    let host = Host {
        engine: Docker::local()?,
        root: Helper::default(),
        paths: Paths::system(),
        policy: Policy::load(Config::place().as_deref())?,
        config,
    };
    let _span = tracing::info_span!(
        "vmm",
        action = name,
        vm = arguments.get(2).map(String::as_str)
    )
    .entered();
    tracing::info!("begins");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(action.run(&host, &arguments, read_input));
    tracing::info!("ends");
    answer
}

/// Standard input, at most as much as a VM's document may have.
fn read_input() -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = onedock_common::opennebula::xml::LIMIT as u64 + 1;
    std::io::stdin()
        .take(limit)
        .read_to_end(&mut bytes)
        .context("standard input cannot be read")?;
    Ok(bytes)
}
