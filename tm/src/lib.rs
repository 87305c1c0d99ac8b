//! The transfer manager: one module for each script of `src/tm_mad/ssh` in [`action`], its front-end half
//! and its node half side by side; [`node`] is what all node halves work with.

mod action;
mod checksummed_stream;
mod location;
mod node;
mod remote;
mod request;
mod serve;

use std::ffi::{OsStr, OsString};

use anyhow::Context as _;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;

/// Runs one script as `one_tm` calls it.
pub fn run(name: &OsStr, arguments: Vec<OsString>) -> anyhow::Result<Answer> {
    let name = name.to_str().context("the script's name is not UTF-8")?;
    let arguments = arguments
        .into_iter()
        .map(|a| {
            a.into_string()
                .map_err(|a| anyhow::anyhow!("argument {} is not UTF-8", a.display()))
        })
        .collect::<Result<Vec<_>, _>>()?;
    let config = Config::load()?;
    let _span = tracing::info_span!("tm", action = name, arguments = ?arguments).entered();
    tracing::info!("begins");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let answer = runtime.block_on(async {
        match name {
            "node" => serve::run(&config).await,
            "monitor_ds" => action::monitor_ds::run(&arguments).await,
            script => action::run(script, &arguments, &config).await,
        }
    });
    tracing::info!("ends");
    answer
}
