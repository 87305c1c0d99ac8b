//! A container's cgroups, found by what the kernel says of its first process and of the mounts,
//! never by a name that some version of an engine would give them. A controller that is not
//! there gives no value, and never 0 (fault 69).

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use onedock_common::ContainerId;

/// The largest control file that is read.
const LIMIT: u64 = 256 * 1024;

/// A mounted cgroup hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mount {
    /// The cgroup that is seen at `point`.
    root: String,
    point: PathBuf,
    /// v1 controllers; empty for the v2 tree.
    controllers: Vec<String>,
}

/// All mounted hierarchies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mounts(Vec<Mount>);

impl Mounts {
    /// Reads `/proc/self/mountinfo` (proc_pid_mountinfo(5)).
    pub fn parse(mountinfo: &str) -> Self {
        let read = |line: &str| {
            let (left, right) = line.split_once(" - ")?;
            let mut left = left.split(' ').skip(3);
            let (root, point) = (left.next()?, left.next()?);
            let mut right = right.split(' ');
            let kind = right.next()?;
            let controllers = match kind {
                "cgroup2" => Vec::new(),
                "cgroup" => right.nth(1)?.split(',').map(str::to_owned).collect(),
                _ => return None,
            };
            Some(Mount {
                root: root.to_owned(),
                point: PathBuf::from(unescaped(point)),
                controllers,
            })
        };
        Self(mountinfo.lines().filter_map(read).collect())
    }

    /// `1` when any v1 hierarchy is mounted, else `2`, as OpenNebula's own probe counts.
    pub fn version(&self) -> Option<u8> {
        match self.0.iter().any(|m| !m.controllers.is_empty()) {
            true => Some(1),
            false if self.0.is_empty() => None,
            false => Some(2),
        }
    }

    /// The folder of `cgroup` in the v1 hierarchy of `controller`, or in the v2 tree when the
    /// controller is empty.
    fn folder(&self, controller: &str, cgroup: &str) -> Option<PathBuf> {
        let mount = self.0.iter().find(|m| {
            if controller.is_empty() {
                m.controllers.is_empty()
            } else {
                m.controllers.iter().any(|c| c == controller)
            }
        })?;
        let inside = match mount.root.as_str() {
            "/" => cgroup,
            root => cgroup
                .strip_prefix(root)
                .filter(|r| r.is_empty() || r.starts_with('/'))?,
        };
        let inside = inside.trim_start_matches('/');
        // Outside what is mounted here: another cgroup namespace's tree.
        let outside = Path::new(inside)
            .components()
            .any(|c| c.as_os_str() == "..");
        (!outside).then(|| mount.point.join(inside))
    }
}

/// mountinfo writes blanks and backslashes as three octal digits.
fn unescaped(text: &str) -> String {
    ["\\040", "\\011", "\\012", "\\134"]
        .iter()
        .zip([" ", "\t", "\n", "\\"])
        .fold(text.to_owned(), |text, (code, c)| text.replace(code, c))
}

/// The control files of one container; what has no controller is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    cpu: Option<Cpu>,
    memory: Option<Memory>,
    io: Option<Io>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Cpu {
    /// `cpuacct.usage`, nanoseconds.
    V1(PathBuf),
    /// `cpu.stat`, `usage_usec`.
    V2(PathBuf),
}

/// Bytes in use, and the file whose `inactive_file` is cache that costs nobody anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Memory {
    usage: PathBuf,
    stat: PathBuf,
    key: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Io {
    /// Bytes and operations.
    V1(PathBuf, PathBuf),
    V2(PathBuf),
}

/// What a container has used. Absent is not known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Processor time in nanoseconds since its start.
    pub cpu_ns: Option<u64>,
    /// Memory in bytes now, without cache that can be dropped at once.
    pub memory: Option<u64>,
    /// Disk reads and writes since its start.
    pub io: Option<IoUsage>,
}

/// Disk traffic.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoUsage {
    pub read_bytes: u64,
    pub write_bytes: u64,
    pub reads: u64,
    pub writes: u64,
}

impl Files {
    /// Finds the cgroups of container `id` from `/proc/<pid>/cgroup` of one of its processes.
    /// Only a path that holds the container's whole id is taken, so a pid that meanwhile
    /// belongs to somebody else gives nothing; what the container made below is cut off.
    pub fn find(mounts: &Mounts, cgroups: &str, id: &ContainerId) -> Self {
        let path_of = |controller: &str| {
            let path = cgroups.lines().find_map(|line| {
                let mut parts = line.splitn(3, ':').skip(1);
                let (names, path) = (parts.next()?, parts.next()?);
                let matches = match controller {
                    "" => names.is_empty(),
                    _ => names.split(',').any(|n| n == controller),
                };
                matches.then_some(path)
            })?;
            let at = path.find(id.as_str())?;
            let end = path[at..].find('/').map_or(path.len(), |slash| at + slash);
            mounts.folder(controller, &path[..end])
        };
        let v1 = |controller: &str| path_of(controller);
        let v2 = |file: &str| {
            let path = path_of("")?.join(file);
            path.exists().then_some(path)
        };
        let cpu = v1("cpuacct").map(|d| Cpu::V1(d.join("cpuacct.usage")));
        let memory = v1("memory").map(|d| Memory {
            usage: d.join("memory.usage_in_bytes"),
            stat: d.join("memory.stat"),
            key: "total_inactive_file",
        });
        let io = v1("blkio").and_then(|d| {
            let recursive = d.join("blkio.throttle.io_service_bytes_recursive");
            let suffix = if recursive.exists() { "_recursive" } else { "" };
            let bytes = d.join(format!("blkio.throttle.io_service_bytes{suffix}"));
            let operations = d.join(format!("blkio.throttle.io_serviced{suffix}"));
            bytes.exists().then_some(Io::V1(bytes, operations))
        });
        Self {
            cpu: cpu.or_else(|| v2("cpu.stat").map(Cpu::V2)),
            memory: memory.or_else(|| {
                Some(Memory {
                    usage: v2("memory.current")?,
                    stat: v2("memory.stat")?,
                    key: "inactive_file",
                })
            }),
            io: io.or_else(|| v2("io.stat").map(Io::V2)),
        }
    }

    /// Reads what is used now. When nothing at all can be read the cgroups are gone.
    pub fn read(&self, buffer: &mut String) -> Option<Usage> {
        let cpu_ns = self.cpu.as_ref().and_then(|cpu| match cpu {
            Cpu::V1(path) => number(slurp(path, buffer).ok()?.trim()),
            Cpu::V2(path) => value(slurp(path, buffer).ok()?, "usage_usec")?.checked_mul(1000),
        });
        let memory = self.memory.as_ref().and_then(|memory| {
            let usage = number(slurp(&memory.usage, buffer).ok()?.trim())?;
            let cache = value(slurp(&memory.stat, buffer).ok()?, memory.key)?;
            Some(usage.saturating_sub(cache))
        });
        let io = self.io.as_ref().and_then(|io| match io {
            Io::V1(bytes, operations) => {
                let (read_bytes, write_bytes) = service(slurp(bytes, buffer).ok()?);
                let (reads, writes) = service(slurp(operations, buffer).ok()?);
                Some(IoUsage {
                    read_bytes,
                    write_bytes,
                    reads,
                    writes,
                })
            }
            Io::V2(path) => Some(io_stat(slurp(path, buffer).ok()?)),
        });
        let usage = Usage { cpu_ns, memory, io };
        (usage != Usage::default()).then_some(usage)
    }
}

fn slurp<'b>(path: &Path, buffer: &'b mut String) -> io::Result<&'b str> {
    buffer.clear();
    File::open(path)?.take(LIMIT).read_to_string(buffer)?;
    Ok(buffer)
}

fn number(text: &str) -> Option<u64> {
    onedock_common::types::decimal::parse_whole(text).ok()
}

/// The number behind `key` in lines of `key number`.
fn value(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(' ')?;
        (name == key).then(|| number(value.trim()))?
    })
}

/// Sums the `<device> Read <n>` and `<device> Write <n>` lines.
fn service(text: &str) -> (u64, u64) {
    let sum = |word: &str| {
        text.lines()
            .filter_map(|line| {
                let mut parts = line.split(' ').skip(1);
                (parts.next() == Some(word)).then(|| number(parts.next()?))?
            })
            .fold(0u64, u64::saturating_add)
    };
    (sum("Read"), sum("Write"))
}

/// Sums `<device> rbytes=… wbytes=… rios=… wios=… …` lines.
fn io_stat(text: &str) -> IoUsage {
    let sum = |key: &str| {
        text.split_ascii_whitespace()
            .filter_map(|word| number(word.strip_prefix(key)?))
            .fold(0u64, u64::saturating_add)
    };
    IoUsage {
        read_bytes: sum("rbytes="),
        write_bytes: sum("wbytes="),
        reads: sum("rios="),
        writes: sum("wios="),
    }
}

#[cfg(test)]
#[path = "cgroup_tests.rs"]
mod tests;
