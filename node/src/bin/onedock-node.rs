//! The root part of the drivers: one typed request on standard input, run by `oneadmin` through
//! one line of sudoers. It takes no arguments.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, umask};
use onedock_common::state::paths::Paths;
use onedock_node::layers::quota::{self, QuotaError};
use onedock_node::layers::{PackError, pack, record};
use onedock_node::network::{change, plug};
use onedock_node::request::{Answer, LIMIT, Request};
use onedock_node::settle::settle;
use onedock_node::{disks, names, runtime};

fn main() -> ExitCode {
    // sudo may leave the caller's.
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
    std::panic::set_hook(Box::new(|_| {}));
    let line = match std::panic::catch_unwind(run) {
        Ok(Ok(())) => return ExitCode::SUCCESS,
        Ok(Err(e)) => runtime::one_line(e.as_ref()),
        Err(_) => "onedock-node: internal error; please report it".into(),
    };
    let _ = writeln!(io::stderr(), "{line}");
    ExitCode::FAILURE
}

fn run() -> anyhow::Result<()> {
    if std::env::args_os().len() > 1 {
        bail!("onedock-node takes no arguments, but one JSON request on its standard input");
    }
    let mut bytes = Vec::new();
    io::stdin()
        .take(LIMIT as u64 + 1)
        .read_to_end(&mut bytes)
        .context("no request")?;
    if bytes.len() > LIMIT {
        bail!("the request is larger than {LIMIT} bytes");
    }
    let mut note = None;
    let mut unbounded = false;
    let paths = Paths::system();
    match serde_json::from_slice(&bytes).context("the request is not one of this version")? {
        Request::Unplug { vm, host_ends } => plug::pull(vm, &host_ends)?,
        Request::ChangeNics {
            vm,
            container,
            nics,
        } => change::change(vm, &container, &nics)?,
        Request::ChangeNames {
            container,
            before,
            spec,
        } => names::change(&container, &before, &spec)?,
        Request::PackLayer { container, whole } => {
            // Not through `Stdout`, which looks for the ends of lines.
            let out = io::stdout().as_fd().try_clone_to_owned()?;
            return Ok(pack::pack(&paths, &container, whole, File::from(out))?);
        }
        Request::BoundLayer {
            container,
            size_mib,
        } => match quota::limit(&paths, &container, size_mib) {
            Err(QuotaError::NoQuota | QuotaError::Layer(PackError::Unknown { .. })) => {
                unbounded = true
            }
            done => done?,
        },
        Request::ForgetLayer { container } => record::forget(&paths, &container)?,
        Request::PlugDisk {
            vm,
            container,
            disk,
        } => disks::plug_one(vm, &container, &disk)?,
        Request::UnplugDisk {
            vm,
            container,
            disk,
        } => disks::unplug_one(vm, &container, disk)?,
        Request::GrowDisk {
            vm,
            container,
            disk,
            size_mib,
        } => note = disks::grow_one(vm, &container, disk, size_mib)?,
        Request::SyncDisk {
            vm,
            container,
            disk,
        } => disks::sync_one(vm, &container, disk)?,
        Request::Settle { vm, container } => note = settle(vm, &container)?,
    }
    let answer = serde_json::to_string(&Answer {
        done: true,
        note,
        unbounded,
    })?;
    writeln!(io::stdout(), "{answer}").context("the answer cannot be written")
}
