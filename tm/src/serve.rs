//! The node half: one request on standard input, done as oneadmin with the host's engine.

use std::io::{BufRead, Read as _, stdin};

use anyhow::{Context as _, Result, ensure};
use onedock_common::engine::Docker;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::config::Config;
use onedock_common::state::paths::Paths;
use onedock_node::client::Helper;

use crate::action;
use crate::location::VmPath;
use crate::node::NodeContext;
use crate::request::{Call, LIMIT, Request};

pub(crate) async fn run(config: &Config) -> Result<Answer> {
    // What follows the first line is the request's content, so the reader is used on.
    let mut input = stdin().lock();
    let mut line = Vec::new();
    input
        .by_ref()
        .take(LIMIT)
        .read_until(b'\n', &mut line)
        .context("the request cannot be read")?;
    ensure!(
        line.ends_with(b"\n"),
        "the request is not one line of at most {LIMIT} bytes"
    );
    action::answer(Call::parse(&line)?, config, &mut input).await
}

/// Reads the request and does it.
pub(crate) async fn one<R: Request>(
    call: Call,
    config: &Config,
    content: &mut dyn BufRead,
) -> Result<Answer> {
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
