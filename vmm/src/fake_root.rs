//! A fake of the privileged helper: it keeps what is plugged, and can fail at its nth
//! request, before the request has an effect or after it.

use std::collections::BTreeSet;

use anyhow::bail;
use onedock_common::engine::fake::{Failure, Shared};
use onedock_common::state::boot::Nic;
use onedock_node::client::Root;
use onedock_node::request::{Answer, Request};

#[derive(Debug, Default)]
struct State {
    requests: Vec<Request>,
    plugged: BTreeSet<u32>,
    nics: Option<Vec<Nic>>,
    failure: Option<Failure>,
    busy: bool,
    unbounded: bool,
}

#[derive(Debug, Default)]
pub(crate) struct FakeRoot(Shared<State>);

impl FakeRoot {
    /// Lets a request fail, counted from 1 from now on.
    pub(crate) fn fail(&self, failure: Option<Failure>) {
        let mut state = self.0.borrow_mut();
        state.requests.clear();
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

    pub(crate) fn requests(&self) -> Vec<Request> {
        self.0.borrow().requests.clone()
    }

    /// The NICs that the running container was given last.
    pub(crate) fn nics(&self) -> Option<Vec<Nic>> {
        self.0.borrow().nics.clone()
    }

    /// The disks that were plugged while the container ran.
    pub(crate) fn plugged(&self) -> Vec<u32> {
        self.0.borrow().plugged.iter().copied().collect()
    }
}

impl Root for FakeRoot {
    async fn call(&self, request: &Request) -> anyhow::Result<Answer> {
        let mut state = self.0.borrow_mut();
        state.requests.push(request.clone());
        let nth = state.requests.len();
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
            Request::ChangeNics { nics, .. } => state.nics = Some(nics.clone()),
            Request::Settle { .. } => state.plugged.clear(),
            _ => {}
        }
        if state.failure == Some(Failure::After(nth)) {
            bail!("root's answer was lost");
        }
        Ok(Answer {
            done: true,
            note: None,
            unbounded: state.unbounded && matches!(request, Request::BoundLayer { .. }),
        })
    }
}
