//! `create`: the bundle of a VM's container is completed, then the real runtime creates it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use onedock_common::ContainerId;
use onedock_common::process::Handle;
use onedock_common::state::boot::{self, BootSpec, FirstProcess};
use onedock_common::state::paths::Paths;

use crate::disks;
use crate::disks::slots::{self, Slot, Slots};
use crate::layers::record::LayerRecord;
use crate::layers::rootfs::{FilePlace, MountPoint, Root, RootError};
use crate::namespace::Process;
use crate::network::{chain, plug};
use crate::owned::{self, NotOpened};
use crate::record::{Record, Records, Vm};
use crate::runtime::args::Call;
use crate::runtime::bundle::{Bundle, Extra};
use crate::runtime::error::CallError;
use crate::runtime::{backend, engine_log, etc_files, exec, init};

/// Where the context is shown: at `/context`, and at `/mnt`, as ONEDock had it.
const CONTEXT: [(&str, &str); 2] = [("context", "/context"), ("mnt", "/mnt")];

/// The longest that undoing a half-made container may take.
const UNDO: Duration = Duration::from_secs(30);

pub(crate) fn create(call: &Call, id: &ContainerId) -> Result<ExitCode, CallError> {
    let runtime = backend::choose()?;
    let written = |source| CallError::State {
        verb: "written",
        source,
    };
    let Some(spec) = BootSpec::read(&Paths::system(), id)? else {
        let record = Record { runtime, vm: None };
        Records::system().write(id, &record).map_err(written)?;
        return Err(exec::pass(call, Some(record))?);
    };
    let this_boot = boot::boot_id().map_err(|source| CallError::State {
        verb: "read",
        source,
    })?;
    if spec.boot_id != this_boot {
        return Err(CallError::OtherBoot);
    }
    plug::check(spec.vm, &spec.nics)?;
    disks::check(&spec.disks)?;
    record_layers(call, id)?;
    if spec.first == FirstProcess::Never {
        return Err(CallError::NeverRuns(spec.vm));
    }
    if let Some(old) = left_behind(id)? {
        return Err(exec::pass(call, Some(old))?);
    }

    let record = reserve(call, id, &spec, runtime)?;
    let prepared = prepare(call, id, &spec, record.slot());
    let vm = prepared.inspect_err(|_| forget(id, &record))?;
    let mut record = Record {
        vm: Some(vm),
        ..record
    };
    let made = Records::system()
        .write(id, &record)
        .map_err(written)
        .and_then(|()| make(call, &record.runtime, !spec.nics.is_empty()));
    match made {
        Ok(Made::Process(process)) => {
            if let Some(vm) = &mut record.vm {
                vm.process = Some(process);
            }
            let kept = Records::system().write(id, &record).map_err(written);
            kept.map(|()| ExitCode::SUCCESS)
                .inspect_err(|_| undo(call, id, &record))
        }
        Ok(Made::Refused(code)) => {
            forget(id, &record);
            Ok(code)
        }
        Err(error) => {
            undo(call, id, &record);
            Err(error)
        }
    }
}

/// Records what the container's tree is laid of, while the engine has it mounted. Without it the VM
/// lives; only its changes have to be taken from the engine.
fn record_layers(call: &Call, id: &ContainerId) -> Result<(), CallError> {
    let bundle = Bundle::read(&call.bundle())?;
    let (root, ids) = (bundle.root()?, bundle.ids()?);
    let recorded = LayerRecord::of_mount(&root, ids)
        .and_then(|record| record.map_or(Ok(()), |record| record.write(&Paths::system(), id)));
    if let Err(e) = recorded {
        let text = format!("the layers of the container are not recorded: {e}");
        engine_log::write(call, "warning", &text);
    }
    Ok(())
}

/// What an earlier life of the container has left goes. A container that lives is answered: the
/// real runtime refuses a second one of its id.
fn left_behind(id: &ContainerId) -> Result<Option<Record>, CallError> {
    let old = Records::system()
        .read(id)
        .map_err(|source| CallError::State {
            verb: "read",
            source,
        })?;
    let Some(vm) = old.as_ref().and_then(|old| old.vm.as_ref()) else {
        return Ok(None);
    };
    if vm.process.is_some_and(|process| process.lives()) {
        return Ok(old);
    }
    disks::settle(id, vm)?;
    Ok(None)
}

/// Takes numbers of loop devices for the container, where it may have any. The record names them before they are taken.
fn reserve(
    call: &Call,
    id: &ContainerId,
    spec: &BootSpec,
    runtime: PathBuf,
) -> Result<Record, CallError> {
    let bundle = Bundle::read(&call.bundle())?;
    let mut record = Record {
        runtime,
        vm: Some(Vm {
            id: spec.vm,
            root: bundle.root()?,
            stubs: Vec::new(),
            nics: Vec::new(),
            former_nics: Vec::new(),
            disks: Vec::new(),
            owner: bundle.ids()?.root(),
            slot: None,
            process: None,
        }),
    };
    let mut taking = |slot| {
        if let Some(vm) = &mut record.vm {
            vm.slot = slot;
        }
        Records::system().write(id, &record)
    };
    let taken = match slots::are_allowed() {
        true => Slots::system()
            .take(spec.vm, id, |slot| taking(Some(slot)))
            .map(drop),
        false => taking(None),
    };
    match taken {
        Ok(()) => Ok(record),
        Err(source) => {
            let _ = Records::system().remove(id);
            Err(CallError::State {
                verb: "written",
                source,
            })
        }
    }
}

/// What the real runtime made of it.
enum Made {
    Process(Process),
    /// It has written its own reason where the engine looks.
    Refused(ExitCode),
}

/// Runs the real runtime and, in the same time, makes sure of OpenNebula's chain.
fn make(call: &Call, runtime: &Path, has_nics: bool) -> Result<Made, CallError> {
    let (status, chain) = thread::scope(|scope| {
        let chain = has_nics.then(|| scope.spawn(chain::ensure));
        let status = exec::spawn(runtime, call).and_then(|mut child| child.wait());
        let chain = chain.map_or(Ok(Ok(())), |thread| thread.join());
        (status, chain)
    });
    let run = |source| CallError::Run {
        path: runtime.to_owned(),
        source,
    };
    let status = status.map_err(run)?;
    if !status.success() {
        return Ok(Made::Refused(exec::code_of(status)));
    }
    chain.map_err(|_| run(io::Error::other("a thread panicked")))??;
    let pid_file = call.pid_file().ok_or(CallError::NoPidFile)?;
    Ok(Made::Process(Process::from_pid_file(&pid_file)?))
}

/// Completes the bundle, and makes in the root what the mounts need.
fn prepare(
    call: &Call,
    id: &ContainerId,
    spec: &BootSpec,
    slot: Option<Slot>,
) -> Result<Vm, CallError> {
    let mut bundle = Bundle::read(&call.bundle())?;
    if let Some(slot) = slot {
        bundle.allow_loops(&slot.minors())?;
    }
    let path = bundle.root()?;
    let owner = bundle.ids()?.root();
    let root = Root::open(&path, owner)?;
    let mut stubs = Vec::new();
    let prepared = complete(call, id, spec, &mut bundle, &root, &mut stubs);
    match prepared {
        Ok(()) => Ok(Vm {
            id: spec.vm,
            root: path,
            stubs,
            nics: spec.nics.clone(),
            former_nics: Vec::new(),
            disks: spec.disks.clone(),
            owner,
            slot,
            process: None,
        }),
        Err(error) => {
            remove_stubs(&root, &stubs);
            Err(error)
        }
    }
}

fn complete(
    call: &Call,
    id: &ContainerId,
    spec: &BootSpec,
    bundle: &mut Bundle,
    root: &Root,
    stubs: &mut Vec<String>,
) -> Result<(), CallError> {
    root.check_kernel_folders()?;
    let mut extra = Extra::default();
    let volumes = bundle.drop_volumes(&spec.volumes)?;
    let context = spec.context.as_deref().map(context_folder).transpose()?;
    let mut targets = Vec::new();
    for (name, target) in CONTEXT {
        if context.is_none() || bundle.mounts_at(Path::new(target)) {
            root.remove_marked_stub(name)?;
            continue;
        }
        match root.mount_point(name) {
            Ok(MountPoint::OfTheImage) => targets.push(target),
            Ok(MountPoint::Stub) => {
                stubs.push(name.to_owned());
                targets.push(target);
            }
            Err(e @ RootError::NotAFolder { .. }) if name == "mnt" => {
                engine_log::write(call, "warning", &format!("{e}; the context is at /context"));
            }
            Err(e) => return Err(e.into()),
        }
    }
    extra.context = context.as_deref().map(|source| (source, targets));
    let has_init = matches!(spec.first, FirstProcess::Init | FirstProcess::KeepAlive);
    // A VM with a context has the program at hand, for what changes in it later.
    let init = match has_init || context.is_some() {
        true => Some(init::find().ok_or(CallError::NoInit)?),
        false => None,
    };
    extra.init = init.as_deref();
    extra.zones = context.is_some().then(init::zones).flatten();
    for target in etc_files::TARGETS {
        if root.make_way_for_file(Path::new(target))? == FilePlace::Folder {
            let text = format!(
                "{target} in the image is a folder with something in it, so that the VM sees that and not its own {target}"
            );
            engine_log::write(call, "warning", &text);
            extra.folders_in_place_of_files.push(target);
        }
    }

    bundle.complete(spec, id, &extra)?;
    for path in &volumes {
        root.folder(path)?;
    }
    etc_files::lay(id, &etc_files::contents(spec), root.owner()).map_err(|source| {
        CallError::File {
            path: etc_files::folder(id),
            source,
        }
    })?;
    Ok(bundle.write()?)
}

fn context_folder(path: &Path) -> Result<PathBuf, CallError> {
    let refused = |reason| CallError::Context {
        path: path.to_owned(),
        reason,
    };
    owned::folder(path).map_err(refused)?;
    let real = fs::canonicalize(path);
    real.map_err(|e| {
        refused(NotOpened::from(Errno::from_raw(
            e.raw_os_error().unwrap_or_default(),
        )))
    })
}

/// Removes what the real runtime has made, when something of ours failed behind it. The first
/// error is the one to tell, so that what fails here is left to the engine's own `delete`.
fn undo(call: &Call, id: &ContainerId, record: &Record) {
    let mut command = Command::new(&record.runtime);
    if let Some(root) = call.state_root() {
        command.arg("--root").arg(root);
    }
    command.args(["delete", "--force", id.as_str()]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let deleted = command
        .spawn()
        .and_then(|mut child| Handle::wait(&mut child, UNDO));
    if deleted.is_ok_and(|status| status.success()) {
        forget(id, record);
    }
}

fn forget(id: &ContainerId, record: &Record) {
    let _ = etc_files::remove(id);
    if let Some(vm) = &record.vm
        && let Ok(root) = Root::open(&vm.root, (0, 0))
    {
        remove_stubs(&root, &vm.stubs);
    }
    if let Some(vm) = &record.vm {
        let _ = disks::settle(id, vm);
    }
    let _ = Records::system().remove(id);
}

fn remove_stubs(root: &Root, stubs: &[String]) {
    for name in stubs {
        let _ = root.remove_stub(name);
    }
}
