//! What needs root on the node, asked of `onedock-node`: one typed request on its standard input,
//! by the one line in sudoers. The only place of this driver that starts it.

use std::future::Future;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use onedock_node::request::{Answer, Request};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

/// The one program that may do it.
const NODE: &str = "/usr/lib/onedock/onedock-node";

/// Who does what needs root.
pub trait Root {
    /// Has it done. Every request can be repeated; one that failed names the reason in one line.
    /// Answers what the user should be told all the same.
    fn ask(&self, request: &Request) -> impl Future<Output = anyhow::Result<Option<String>>>;
}

/// `onedock-node` through sudo, without it where the driver is root already.
#[derive(Debug, Clone, Copy)]
pub struct Sudo;

impl Root for Sudo {
    async fn ask(&self, request: &Request) -> anyhow::Result<Option<String>> {
        let bytes = serde_json::to_vec(request)?;
        let deadline = deadline(request);
        let root = nix::unistd::geteuid().is_root();
        let mut command = if root {
            Command::new(NODE)
        } else {
            Command::new("/usr/bin/sudo")
        };
        if !root {
            command.args(["-n", NODE]);
        }
        let program = command.as_std().get_program().display().to_string();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!("cannot run {program}; run 'onedock setup node' on this host")
            })?;
        // One that refuses stops reading; its reason is on standard error, not in the broken pipe.
        let sent = match child.stdin.take() {
            Some(mut stdin) => stdin.write_all(&bytes).await,
            None => Ok(()),
        };
        let output = timeout(deadline, child.wait_with_output())
            .await
            .with_context(|| format!("{NODE} did not end within {} s", deadline.as_secs()))??;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_end_matches('.');
            match said {
                "" => bail!("{NODE} ended with {} and without a reason", output.status),
                said => bail!("{said}"),
            }
        }
        sent.with_context(|| format!("{NODE} took no request"))?;
        let answer: Answer = serde_json::from_slice(&output.stdout)
            .with_context(|| format!("{NODE} is of another version; run 'onedock setup node'"))?;
        Ok(answer.note)
    }
}

/// How long a request may take: growing a file system moves some of it, and a daemon that lets
/// go of a disk writes first what it has not written.
fn deadline(request: &Request) -> Duration {
    Duration::from_secs(match request {
        Request::Unplug { .. } => 10,
        Request::BoundLayer { .. } => 60,
        // Root's part cannot be ended from here (sudo runs it), so it must not outlive its answer:
        // a disk would be shown of which OpenNebula believes that it is not. It waits a minute for
        // another call, and checks and grows a file system in up to three runs of two minutes.
        Request::PlugDisk { .. } => 480,
        _ => 180,
    })
}

#[cfg(test)]
pub(crate) mod recorded {
    //! In root's place in the fault tests: it keeps what is plugged, and can fail at its nth
    //! request, before the request has an effect or after it.

    use std::collections::BTreeSet;

    use onedock_common::engine::fake::{Failure, Shared};

    use super::*;

    #[derive(Debug, Default)]
    struct State {
        asked: Vec<Request>,
        plugged: BTreeSet<u32>,
        failure: Option<Failure>,
        busy: bool,
        unbounded: bool,
    }

    #[derive(Debug, Default)]
    pub(crate) struct Recorded(Shared<State>);

    impl Recorded {
        /// Lets a request fail, counted from 1 from now on.
        pub(crate) fn fail(&self, failure: Option<Failure>) {
            let mut state = self.0.borrow_mut();
            state.asked.clear();
            state.failure = failure;
        }

        /// Something in the container uses every disk.
        pub(crate) fn busy(&self, busy: bool) {
            self.0.borrow_mut().busy = busy;
        }

        /// The engine's storage keeps no quota.
        pub(crate) fn unbounded(&self) {
            self.0.borrow_mut().unbounded = true;
        }

        pub(crate) fn asked(&self) -> Vec<Request> {
            self.0.borrow().asked.clone()
        }

        /// The disks that were plugged while the container ran.
        pub(crate) fn plugged(&self) -> Vec<u32> {
            self.0.borrow().plugged.iter().copied().collect()
        }
    }

    impl Root for Recorded {
        async fn ask(&self, request: &Request) -> anyhow::Result<Option<String>> {
            let mut state = self.0.borrow_mut();
            state.asked.push(request.clone());
            let nth = state.asked.len();
            if state.failure == Some(Failure::Before(nth)) {
                bail!("root did nothing");
            }
            match request {
                Request::PlugDisk { disk, .. } => {
                    state.plugged.insert(disk.id.get());
                }
                Request::UnplugDisk { disk, .. } => {
                    if state.busy {
                        bail!("disk {disk} is in use");
                    }
                    state.plugged.remove(&disk.get());
                }
                Request::SettleDisks { .. } => state.plugged.clear(),
                Request::BoundLayer { .. } if state.unbounded => {
                    bail!("the engine's storage keeps no project quota")
                }
                _ => {}
            }
            if state.failure == Some(Failure::After(nth)) {
                bail!("root's answer was lost");
            }
            Ok(None)
        }
    }
}
