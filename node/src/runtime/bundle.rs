//! The bundle's `config.json`, completed from the boot spec. It is edited as plain JSON: what
//! this version does not know (newer engines write more) comes through untouched.

use std::fs;
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use onedock_common::ContainerId;
use onedock_common::state::boot::{BootSpec, FirstProcess};
use onedock_common::state::files;
use onedock_common::types::capability::Capability;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::layers::ids::Ids;
use crate::runtime::{default_mounts, etc_files, init, rlimits, seccomp};

const LIMIT: u64 = 16 * 1024 * 1024;

/// Why a bundle cannot become a VM.
#[derive(Debug, Error)]
pub enum BundleError {
    #[error("the bundle's {path} cannot be {verb}")]
    File {
        path: PathBuf,
        /// What was tried.
        verb: &'static str,
        /// What the system answered.
        source: io::Error,
    },
    /// The file is not what the runtime specification says.
    #[error("the bundle's config.json has no usable {0}; is the engine older than 20.10?")]
    Shape(&'static str),
    /// The container was created with another network.
    #[error(
        "the container shares a network namespace; a VM's container must be created with network \"none\""
    )]
    SharedNetwork,
    /// A boot spec without a command.
    #[error("the VM's boot spec has no command; power the VM off and resume it")]
    NoCommand,
}

/// A bundle with its configuration.
#[derive(Debug)]
pub(crate) struct Bundle {
    path: PathBuf,
    mode: u32,
    config: Value,
}

/// What has to be mounted beside what the engine mounts; the sources were checked.
#[derive(Debug, Default)]
pub(crate) struct Extra<'a> {
    /// The context folder on the host and the folders at which it is shown.
    pub context: Option<(&'a Path, Vec<&'a str>)>,
    /// `onedock-init` on the host.
    pub init: Option<&'a Path>,
    /// The host's time zones, for an image that has none.
    pub zones: Option<&'a Path>,
    /// Files of the engine in whose place the image has a folder, which no file can be mounted on.
    pub folders_in_place_of_files: Vec<&'static str>,
}

impl Bundle {
    /// Reads the configuration of the bundle in `dir`.
    pub(crate) fn read(dir: &Path) -> Result<Self, BundleError> {
        let path = dir.join("config.json");
        let file = |verb, source| BundleError::File {
            path: path.clone(),
            verb,
            source,
        };
        let bytes = files::read_bounded(&path, LIMIT).map_err(|e| file("read", e))?;
        let config = serde_json::from_slice(&bytes).map_err(|e| file("understood", e.into()))?;
        let mode = fs::metadata(&path)
            .map_err(|e| file("read", e))?
            .permissions()
            .mode();
        Ok(Self { mode, config, path })
    }

    /// The root file system.
    pub(crate) fn root(&self) -> Result<PathBuf, BundleError> {
        let path = self.config.pointer("/root/path").and_then(Value::as_str);
        let path = Path::new(path.ok_or(BundleError::Shape("root.path"))?);
        let dir = self.path.parent().unwrap_or(Path::new("."));
        Ok(dir.join(path))
    }

    /// The owners inside and outside the container.
    pub(crate) fn ids(&self) -> Result<Ids, BundleError> {
        let linux = self.config.get("linux").unwrap_or(&Value::Null);
        Ids::of_bundle(linux).map_err(|_| BundleError::Shape("linux.uidMappings"))
    }

    /// Drops the engine's volumes at the image's VOLUME paths, and puts back the mounts that the
    /// engine left out for them. Answers the folders that must be there in the volumes' place.
    pub(crate) fn drop_volumes(&mut self, paths: &[PathBuf]) -> Result<Vec<PathBuf>, BundleError> {
        let mounts = self.mounts_mut()?;
        mounts.retain(|mount| !is_placeholder(mount, paths));
        let mut dropped = drop_anonymous_volumes(mounts, paths);
        default_mounts::restore(mounts, &dropped);
        dropped.retain(|path| !default_mounts::covers(path));
        Ok(dropped)
    }

    fn mounts_mut(&mut self) -> Result<&mut Vec<Value>, BundleError> {
        self.config
            .get_mut("mounts")
            .and_then(Value::as_array_mut)
            .ok_or(BundleError::Shape("mounts"))
    }

    /// Makes the container the VM of `spec`, once its volumes are dropped.
    pub(crate) fn complete(
        &mut self,
        spec: &BootSpec,
        container: &ContainerId,
        extra: &Extra<'_>,
    ) -> Result<(), BundleError> {
        seccomp::restrict(&mut self.config);
        let config = self
            .config
            .as_object_mut()
            .ok_or(BundleError::Shape("object"))?;
        own_network(config)?;
        drop_lifted_quota(config);
        pin(config, spec)?;
        mask(config)?;
        process(config, spec)?;
        config.insert("hostname".into(), json!(spec.hostname));
        let mounts = self.mounts_mut()?;
        mounts.retain(|mount| {
            !etc_files::TARGETS
                .iter()
                .any(|target| is_engine_file(mount, target, container))
        });
        for target in etc_files::TARGETS {
            if !extra.folders_in_place_of_files.contains(&target) {
                mounts.push(etc_file(&etc_files::file(container, target), target));
            }
        }
        if let Some((source, targets)) = &extra.context {
            for target in targets {
                mounts.push(read_only(source, target));
            }
            if let Some(init) = extra.init {
                mounts.push(read_only(init, init::OF_CONTEXT));
            }
        }
        if let Some(init) = extra.init {
            mounts.push(read_only(init, init::PROGRAM));
        }
        if let Some(zones) = extra.zones {
            mounts.push(read_only(zones, init::ZONES));
        }
        Ok(())
    }

    /// Lets the container open the loop devices of these minor numbers. What the engine allows
    /// and denies stays.
    pub(crate) fn allow_loops(&mut self, minors: &[u32]) -> Result<(), BundleError> {
        let shape = || BundleError::Shape("linux.resources.devices");
        let linux = self.config.get_mut("linux").and_then(Value::as_object_mut);
        let resources = linux
            .ok_or_else(shape)?
            .entry("resources")
            .or_insert_with(|| json!({}));
        let resources = resources.as_object_mut().ok_or_else(shape)?;
        let devices = resources.entry("devices").or_insert_with(|| json!([]));
        let devices = devices.as_array_mut().ok_or_else(shape)?;
        devices.extend(minors.iter().map(
            |minor| json!({"allow": true, "type": "b", "major": 7, "minor": minor, "access": "rw"}),
        ));
        Ok(())
    }

    /// Whether something is mounted at `target` already.
    pub(crate) fn mounts_at(&self, target: &Path) -> bool {
        let mounts = self.config.get("mounts").and_then(Value::as_array);
        mounts.is_some_and(|all| all.iter().any(|mount| destination(mount) == Some(target)))
    }

    /// Writes the configuration back, in one step. Not synchronised to disk: a bundle does not
    /// outlive the boot.
    pub(crate) fn write(&self) -> Result<(), BundleError> {
        let file = |verb, source| BundleError::File {
            path: self.path.clone(),
            verb,
            source,
        };
        let bytes = serde_json::to_vec(&self.config).map_err(|e| file("written", e.into()))?;
        let temporary = self.path.with_extension("json.onedock");
        let written = (|| {
            let _ = fs::remove_file(&temporary);
            let mut new = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(self.mode & 0o777)
                .open(&temporary)?;
            io::Write::write_all(&mut new, &bytes)?;
            fs::rename(&temporary, &self.path)
        })();
        written.map_err(|e| file("written", e))
    }
}

/// The NICs go into a namespace of the container's own, never into another's.
fn own_network(config: &Map<String, Value>) -> Result<(), BundleError> {
    let list = config
        .get("linux")
        .and_then(|linux| linux.get("namespaces"))
        .and_then(Value::as_array)
        .ok_or(BundleError::Shape("linux.namespaces"))?;
    let own = list.iter().any(|namespace| {
        let path = namespace.get("path").and_then(Value::as_str).unwrap_or("");
        namespace.get("type") == Some(&json!("network")) && path.is_empty()
    });
    if own {
        Ok(())
    } else {
        Err(BundleError::SharedNetwork)
    }
}

/// Drops a processor quota that bounds nothing. An engine keeps the -1 by which a quota was lifted
/// and hands it to every later start, and crun before 1.8.4 cannot write it on cgroup v1.
fn drop_lifted_quota(config: &mut Map<String, Value>) {
    let cpu = config
        .get_mut("linux")
        .and_then(|linux| linux.pointer_mut("/resources/cpu"))
        .and_then(Value::as_object_mut);
    if let Some(cpu) = cpu
        && cpu
            .get("quota")
            .and_then(Value::as_i64)
            .is_some_and(|quota| quota <= 0)
    {
        cpu.remove("quota");
    }
}

/// Pins the VM to its processors and memory nodes.
fn pin(config: &mut Map<String, Value>, spec: &BootSpec) -> Result<(), BundleError> {
    let lists = [("cpus", &spec.cpus), ("mems", &spec.memory_nodes)];
    for (name, list) in lists {
        let Some(list) = list else { continue };
        let resources = config
            .get_mut("linux")
            .and_then(Value::as_object_mut)
            .map(|linux| linux.entry("resources").or_insert_with(|| json!({})));
        let cpu = resources
            .and_then(Value::as_object_mut)
            .map(|resources| resources.entry("cpu").or_insert_with(|| json!({})))
            .and_then(Value::as_object_mut)
            .ok_or(BundleError::Shape("linux.resources.cpu"))?;
        cpu.insert(name.to_owned(), json!(list));
    }
    Ok(())
}

/// What the kernel tells of the disks of all VMs, in every container: the files behind loop devices, and
/// the labels and devices of file systems that are mounted on the host.
const MASKED: [&str; 4] = [
    "/sys/devices/virtual/block",
    "/sys/fs/btrfs",
    "/sys/fs/ext4",
    "/sys/fs/xfs",
];

fn mask(config: &mut Map<String, Value>) -> Result<(), BundleError> {
    let linux = config.get_mut("linux").and_then(Value::as_object_mut);
    let masked = linux
        .ok_or(BundleError::Shape("linux"))?
        .entry("maskedPaths")
        .or_insert_with(|| json!([]));
    let masked = masked
        .as_array_mut()
        .ok_or(BundleError::Shape("linux.maskedPaths"))?;
    masked.extend(MASKED.map(Value::from));
    Ok(())
}

fn process(config: &mut Map<String, Value>, spec: &BootSpec) -> Result<(), BundleError> {
    let process = config
        .get_mut("process")
        .and_then(Value::as_object_mut)
        .ok_or(BundleError::Shape("process"))?;
    let env = process
        .entry("env")
        .or_insert_with(|| json!([]))
        .as_array_mut()
        .ok_or(BundleError::Shape("process.env"))?;
    set_variable(env, "HOSTNAME", spec.hostname.as_str());
    for variable in &spec.environment {
        set_variable(env, variable.name(), variable.value());
    }
    drop_capabilities(process, &spec.drop_capabilities);
    let args = match spec.first {
        FirstProcess::Never => return Err(BundleError::NoCommand),
        FirstProcess::Command | FirstProcess::Init if spec.args.is_empty() => {
            return Err(BundleError::NoCommand);
        }
        FirstProcess::Command => json!(spec.args),
        FirstProcess::Init | FirstProcess::KeepAlive => {
            init::arguments(process, spec).ok_or(BundleError::Shape("process.user"))?
        }
    };
    process.insert("args".into(), args);
    rlimits::add(process);
    Ok(())
}

/// Takes capabilities out of every set.
fn drop_capabilities(process: &mut Map<String, Value>, names: &[Capability]) {
    let sets = process
        .get_mut("capabilities")
        .and_then(Value::as_object_mut);
    for set in sets.into_iter().flat_map(|sets| sets.values_mut()) {
        if let Some(set) = set.as_array_mut() {
            let is_dropped = |name: &Value| {
                let name = name.as_str().unwrap_or_default();
                names.iter().any(|dropped| dropped.is_called(name))
            };
            set.retain(|name| !is_dropped(name));
        }
    }
}

/// In the place of the variable of this name, or behind all.
fn set_variable(env: &mut Vec<Value>, name: &str, value: &str) {
    let entry = json!(format!("{name}={value}"));
    let is_of = |text: &str| text.split('=').next() == Some(name);
    let old = env.iter_mut().find(|old| old.as_str().is_some_and(is_of));
    match old {
        Some(old) => *old = entry,
        None => env.push(entry),
    }
}

fn destination(mount: &Value) -> Option<&Path> {
    mount.get("destination")?.as_str().map(Path::new)
}

fn source(mount: &Value) -> Option<&Path> {
    mount.get("source")?.as_str().map(Path::new)
}

/// Drops the anonymous volumes at `paths`; answers the paths of those that were there. Any other
/// mount stays, even at the same place: a named volume or a bind was asked for.
fn drop_anonymous_volumes(mounts: &mut Vec<Value>, paths: &[PathBuf]) -> Vec<PathBuf> {
    let mut dropped = Vec::new();
    mounts.retain(|mount| {
        let Some(target) = destination(mount) else {
            return true;
        };
        let listed = paths.iter().any(|path| path == target);
        if listed && source(mount).is_some_and(is_anonymous_volume) {
            dropped.push(target.to_owned());
            false
        } else {
            true
        }
    });
    dropped
}

/// `…/volumes/<64 hexadecimal digits>/_data`, as the engine's local driver lays them.
fn is_anonymous_volume(source: &Path) -> bool {
    let names: Vec<&str> = source
        .iter()
        .rev()
        .take(3)
        .filter_map(|n| n.to_str())
        .collect();
    matches!(names.as_slice(), ["_data", id, "volumes"] if id.parse::<ContainerId>().is_ok())
}

/// What the driver asks the engine to mount where the image has a VOLUME and the engine a file of
/// its own, because the engine makes no container with a volume at a file.
fn is_placeholder(mount: &Value, volumes: &[PathBuf]) -> bool {
    let at_file = destination(mount).is_some_and(|target| {
        let at = |file: &&str| target == Path::new(file);
        etc_files::TARGETS.iter().any(at) && volumes.iter().any(|path| path == target)
    });
    at_file && mount.get("type") == Some(&json!("tmpfs"))
}

fn is_engine_file(mount: &Value, target: &str, container: &ContainerId) -> bool {
    destination(mount) == Some(Path::new(target))
        && source(mount)
            .is_some_and(|source| etc_files::is_the_engines(source, target, container.as_str()))
}

fn read_only(source: &Path, target: &str) -> Value {
    bind(source, target, &["ro", "nosuid", "nodev"])
}

/// With the flags of the mount that it comes from: in a user namespace none of them can be dropped.
fn etc_file(source: &Path, target: &str) -> Value {
    bind(source, target, &["rw", "nosuid", "nodev", "noexec"])
}

fn bind(source: &Path, target: &str, flags: &[&str]) -> Value {
    let options = [&["bind"], flags, &["rprivate"]].concat();
    json!({"destination": target, "type": "bind", "source": source, "options": options})
}

#[cfg(test)]
#[path = "bundle_tests.rs"]
mod tests;
