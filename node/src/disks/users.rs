//! Who in a container uses a disk. What is asked here never waits for a file system of the
//! container's own.

use std::fs;
use std::io::Read;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open};
use nix::sys::stat::Mode;
use onedock_common::ContainerId;

use crate::disks::state::Mounted;
use crate::disks::sys;
use crate::mountinfo;

/// The most processes that are named.
const NAMED: usize = 5;

/// The processes of a container, also those in namespaces of their own: the engine puts its id
/// into the names of its cgroups.
fn members(container: &ContainerId) -> Vec<PathBuf> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries
        .filter(|entry| {
            entry
                .file_name()
                .as_encoded_bytes()
                .iter()
                .all(u8::is_ascii_digit)
        })
        .map(|entry| entry.path())
        .filter(|path| {
            fs::read_to_string(path.join("cgroup"))
                .is_ok_and(|groups| groups.contains(container.as_str()))
        })
        .collect()
}

/// Who uses a mount, and whether any of them has it in a mount namespace of its own.
pub(super) fn of_mount(container: &ContainerId, mounted: &Mounted) -> Vec<String> {
    named(container, |process| uses_mount(process, mounted))
}

/// Who of the container has the mount's file system in another mount namespace than `pid`.
pub(super) fn elsewhere(container: &ContainerId, pid: i32, mounted: &Mounted) -> Vec<String> {
    let own = fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    named(container, |process| {
        fs::read_link(process.join("ns/mnt")).ok() != own
            && process
                .file_name()
                .and_then(|name| mountinfo::of(name.to_str()?).ok())
                .is_some_and(|all| all.iter().any(|entry| entry.device == mounted.device))
    })
}

/// Who has one of these devices open, or mapped into its memory.
pub(super) fn of_devices(container: &ContainerId, devices: &[u64]) -> Vec<String> {
    named(container, |process| {
        let entries = fs::read_dir(process.join("fd"))
            .into_iter()
            .flatten()
            .flatten();
        let mut open = entries.filter_map(|entry| sys::block_device(&entry.path()).ok().flatten());
        open.any(|device| devices.contains(&device))
            || maps(process)
                .lines()
                .filter_map(|line| line.split_whitespace().nth(5))
                .filter(|file| file.starts_with("/dev/"))
                .any(|file| is_device(process, file, devices))
    })
}

fn is_device(process: &Path, file: &str, devices: &[u64]) -> bool {
    let path = process.join("root").join(file.trim_start_matches('/'));
    sys::block_device(&path).is_ok_and(|found| found.is_some_and(|it| devices.contains(&it)))
}

fn named(container: &ContainerId, uses: impl Fn(&Path) -> bool) -> Vec<String> {
    let users = members(container)
        .into_iter()
        .filter(|process| uses(process));
    users.take(NAMED).map(|process| name(&process)).collect()
}

/// The program and its number as the container counts.
fn name(process: &Path) -> String {
    let read = |file: &str| fs::read_to_string(process.join(file)).unwrap_or_default();
    let inside = read("status")
        .lines()
        .find_map(|line| {
            line.strip_prefix("NSpid:")?
                .split_whitespace()
                .last()
                .map(str::to_owned)
        })
        .unwrap_or_default();
    let program: String = read("comm")
        .trim()
        .chars()
        .filter(|c| !c.is_control())
        .collect();
    format!("{program} (process {inside})")
}

fn uses_mount(process: &Path, mounted: &Mounted) -> bool {
    ["cwd", "root"]
        .iter()
        .any(|link| mount_of(&process.join(link)) == Some(mounted.mount_id))
        || fs::read_dir(process.join("fdinfo"))
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| mount_in(&entry.path()) == Some(mounted.mount_id))
        || maps(process).lines().any(|line| {
            line.split_whitespace().nth(3) == Some(hexadecimal(&mounted.device).as_str())
        })
}

fn mount_of(link: &Path) -> Option<u64> {
    let held = open(link, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()).ok()?;
    mount_in(Path::new(&format!(
        "/proc/thread-self/fdinfo/{}",
        held.as_raw_fd()
    )))
}

fn mount_in(info: &Path) -> Option<u64> {
    let text = fs::read_to_string(info).ok()?;
    let id = text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?;
    id.trim().parse().ok()
}

fn maps(process: &Path) -> String {
    let mut text = Vec::new();
    if let Ok(file) = fs::File::open(process.join("maps")) {
        let _ = file.take(4 << 20).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// `7:16` as `/proc/<pid>/maps` writes it.
fn hexadecimal(device: &str) -> String {
    let mut numbers = device
        .split(':')
        .map(|part| part.parse::<u32>().unwrap_or(0));
    let (major, minor) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    format!("{major:02x}:{minor:02x}")
}
