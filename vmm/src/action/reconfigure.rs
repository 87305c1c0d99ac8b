//! `reconfigure`: the context was written anew, by `updateconf` or with a NIC or an alias that was
//! attached or detached. Addresses and routes of the NICs, the VM's names, and what is applied inside are
//! put into force as the context has them now. On a system datastore of ours the files are there already;
//! on those of OpenNebula's own they come as an ISO image, whose files take the place of those that the
//! running container sees.

use std::time::Duration;

use anyhow::Context as _;
use onedock_common::engine::{ContainerInfo, Engine, EngineError};
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::vm::Vm;
use onedock_common::options::Options;
use onedock_common::state::boot::BootSpec;
use onedock_common::state::descriptor::{Descriptor, DiskKind};
use onedock_common::state::lock::VmLock;
use onedock_common::types::text::folded;
use onedock_node::client::Root;
use onedock_node::request::Request;

use super::{LOCK_WAIT, context, nics, running};
use crate::request::ReconfigureRequest;
use crate::{Host, attributes, options, plan};

/// `onedock-init` in a container with a context (`node/src/runtime/init.rs`). A container that an earlier
/// version made has none of this name, and another program of the other one.
const INIT: &str = "/dev/onedock-context";
/// The longest that applying a context may take; scripts go on behind it.
const APPLYING: Duration = Duration::from_secs(60);
/// The longest line of a note.
const LINE: usize = 300;

pub(super) async fn run<E: Engine, R: Root>(
    host: &Host<E, R>,
    request: &ReconfigureRequest,
    document: &[u8],
) -> anyhow::Result<Answer> {
    let vm = Vm::from_action_with(document, host.config.default_prefix)?;
    running::ensure_same(&vm, request.name)?;
    let mut notes = attributes::of_context("reconfigure", &vm)?;
    let _lock = VmLock::acquire(&host.paths, vm.id, LOCK_WAIT)?;
    if Descriptor::find(&request.disk)? != Some(DiskKind::Folder) {
        context::of(host, vm.id, request.disk.clone()).await?;
    }
    if let Some(container) = running::own(host, request.name).await?
        && container.running
        && let Some(spec) = BootSpec::read(&host.paths, &container.id)?
    {
        let described = nics::described(&vm, &spec)?;
        if described != spec.nics {
            nics::change(host, &container, spec.clone(), described.clone()).await?;
        }
        let before = BootSpec {
            nics: described,
            ..spec.clone()
        };
        // From here on nothing fails: `oned` would take a NIC that is plugged for one that is not.
        let (options, note) = options::of_running(host, "reconfigure", &vm, &container);
        notes.extend(note);
        if let Err(error) = names(host, &vm, &container, &options, &spec, before).await {
            notes.push(format!("reconfigure: {error:#}"));
        }
        if !container.paused && vm.context.as_ref().is_some_and(|c| c.asks_inside()) {
            notes.extend(inside(host, &container).await);
        }
    }
    Ok(Answer::done().with_notes(notes))
}

/// Changes the VM's names where they are others now. `was` is what it was started with, `now` the same
/// with the NICs of now, whose addresses stand in `/etc/hosts`.
async fn names<E: Engine, R: Root>(
    host: &Host<E, R>,
    vm: &Vm,
    container: &ContainerInfo,
    options: &Options,
    was: &BootSpec,
    now: BootSpec,
) -> anyhow::Result<()> {
    let mut spec = now.clone();
    plan::renew_names(&mut spec, vm, &host.config, options);
    if !names_the_vm(vm, options) {
        // As the context packages: a VM keeps the name that it has until its next start.
        spec.hostname = now.hostname.clone();
    }
    if spec == *was {
        return Ok(());
    }
    let request = Request::ChangeNames {
        container: container.id.clone(),
        before: Box::new(only_names(was)),
        spec: Box::new(only_names(&spec)),
    };
    host.root
        .call(&request)
        .await
        .context("the VM's names cannot be changed")?;
    if spec != now {
        running::keep(host, container, &spec)?;
    }
    Ok(())
}

/// Whether the VM is given a name of its own, beside that of OpenNebula.
fn names_the_vm(vm: &Vm, options: &Options) -> bool {
    let context = |key| vm.context.as_ref().and_then(|context| context.get(key));
    options.hostname.is_some()
        || context("SET_HOSTNAME").is_some()
        || context("EC2_HOSTNAME").is_some_and(|yes| yes.eq_ignore_ascii_case("YES"))
}

/// What a request has to carry.
fn only_names(spec: &BootSpec) -> BootSpec {
    let mut nics = spec.nics.clone();
    for nic in &mut nics {
        nic.routes.clear();
        nic.leases.clear();
    }
    BootSpec {
        nics,
        args: Vec::new(),
        environment: Vec::new(),
        volumes: Vec::new(),
        disks: Vec::new(),
        ..spec.clone()
    }
}

/// Applies the context inside; a line for each thing that could not be done.
async fn inside<E: Engine, R: Root>(host: &Host<E, R>, container: &ContainerInfo) -> Vec<String> {
    let note = |line: &str| format!("reconfigure: {}", folded(line, LINE));
    let command = [INIT, "reconfigure"];
    match host.engine.exec(&container.id, &command, APPLYING).await {
        Ok(done) if done.code == 0 => done.lines.iter().map(|line| note(line)).collect(),
        // The engine's words for a program that the container does not have.
        Ok(done) if matches!(done.code, 126 | 127) => vec![note(WITHOUT_INIT)],
        Ok(done) => vec![note(&format!(
            "the context could not be applied inside the VM: onedock-init ended with exit code {}",
            done.code
        ))],
        Err(EngineError::Refused { message, .. }) if message.contains(INIT) => {
            vec![note(WITHOUT_INIT)]
        }
        // The VM has ended meanwhile; its next start applies it.
        Err(EngineError::Conflict { .. } | EngineError::Missing { .. }) => Vec::new(),
        Err(e) => vec![note(&format!(
            "the context could not be applied inside the VM: {e}"
        ))],
    }
}

const WITHOUT_INIT: &str = "the VM was started without a context or by an earlier version, so that nothing in it applies the new one; it counts from its next start on";
