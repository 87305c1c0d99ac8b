//! Disks in qcow2 format: `qemu-storage-daemon` shows the content as one file (a FUSE export),
//! behind which a loop device is put. That needs no NBD in the kernel.
//!
//! The daemon has a root of its own in which there are programs and this one file: no header can lead it
//! elsewhere, it has no rights to lose, and no mount of it is seen on the host.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Lines, Read as _, Take, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use onedock_common::DiskId;
use onedock_common::disk_file::Qcow2Header;
use onedock_common::process::confined::{Confinement, PrivateRoot, private_root};
use onedock_common::process::{self, Handle};
use onedock_common::state::boot::Disk;
use onedock_common::state::files;
use onedock_common::wait;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use crate::disks::error::{Fault, step};
use crate::disks::state::Folder;
use crate::disks::{daemon, prepare, sys};
use crate::owned;

const PROGRAM: &str = "qemu-storage-daemon";
/// The longest that the daemon may take to be ready, and to end.
const LIMIT: Duration = Duration::from_secs(15);
/// The longest that its starter takes to become the daemon.
const STARTING: Duration = Duration::from_millis(500);
/// `/dev/fuse` (admin-guide/devices.txt).
const FUSE: (u64, u64) = (10, 229);
/// How long a daemon may leave a command without an answer before it counts as hung.
const SILENCE: Duration = Duration::from_secs(10);
/// The most that is read of a daemon's answers to one connection, in bytes.
const ANSWER: u64 = 64 * 1024;
/// Where the daemon finds the connection of its export: standard input.
const CONNECTION: &str = "/dev/fd/0";
/// The memory that the daemon may have, in bytes: its cache of tables is 32 MiB, a request 1 MiB.
const MEMORY: u64 = 512 << 20;

/// Serves the disk's content as one file, which is answered open.
pub(super) fn serve(folder: &Folder, disk: &Disk, path: &Path) -> Result<File, Fault> {
    let image = prepare::open(path, disk.read_only)?;
    Qcow2Header::read(&image, path)?;
    drop(image);
    end(folder, disk.id).map_err(step("ending an earlier one"))?;
    let failed = |e: io::Error| Fault::Daemon(e.to_string());
    let pid_file = new_file(&folder.file(disk.id, "pid")).map_err(failed)?;
    let log_path = folder.file(disk.id, "log");
    let log = new_file(&log_path).map_err(failed)?;
    let served = start(disk, path, &unique(folder, disk.id), (pid_file, log))
        .and_then(|mut child| ready(&mut child, disk.read_only));
    served.map_err(|e: io::Error| {
        let _ = end(folder, disk.id);
        let said = fs::read_to_string(&log_path).unwrap_or_default();
        let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
        Fault::Daemon(if said.is_empty() { e.to_string() } else { said })
    })
}

/// Starts the daemon in a root with the image and the mount point of its export.
fn start(disk: &Disk, path: &Path, unique: &str, files: (File, File)) -> io::Result<Child> {
    let program = process::find(PROGRAM).ok_or_else(|| {
        io::Error::other(format!(
            "{PROGRAM} is not installed; install the package qemu-utils"
        ))
    })?;
    let (connection, connected) = mpsc::sync_channel(1);
    let (image, read_only) = (path.to_owned(), disk.read_only);
    let root = PrivateRoot::new(owned::user()?, move |root| {
        let fuse = populate(root, &image, read_only)?;
        connection.send(fuse).map_err(io::Error::other)
    });
    let (pid_file, log) = files;
    let proc = File::open("/proc")?;
    let mut command = Command::new(program);
    arguments(&mut command, disk, unique);
    command.env_clear().stdout(Stdio::null()).stderr(log);
    let to = Confinement::to_root(root).listening().with_memory(MEMORY);
    let started = to.start(move || {
        command.stdin(connected.recv().map_err(io::Error::other)?);
        daemon::start(&mut command, proc, pid_file)
    });
    let failed =
        |e: io::Error| io::Error::new(e.kind(), format!("{PROGRAM} cannot be started: {e}"));
    Ok(started.map_err(failed)?.0)
}

fn new_file(path: &Path) -> io::Result<File> {
    files::remove(path)?;
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
}

/// A name by which the daemon of this disk is known among all.
fn unique(folder: &Folder, disk: DiskId) -> String {
    format!("c{}-{disk}", folder.container())
}

/// Puts into the daemon's root the image, and the mount of what it shows. It is mounted here, because the
/// daemon may not. Returns the connection behind it, which the daemon gets as its standard input.
fn populate(root: &Path, image: &Path, read_only: bool) -> io::Result<File> {
    for name in ["disk", "export"] {
        File::create(root.join(name))?;
    }
    // Of this mount namespace, and still what was checked.
    let open = owned::file(image, true).map_err(io::Error::other)?;
    private_root::bind(&owned::by_descriptor(&open), &root.join("disk"), read_only)?;
    let fuse = root.join("dev/fuse");
    private_root::device(&fuse, FUSE)?;
    let connection = OpenOptions::new().read(true).write(true).open(fuse)?;
    // Only root reaches what is shown.
    let options = format!(
        "fd={},rootmode=100000,user_id=0,group_id=0",
        connection.as_raw_fd()
    );
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let (source, kind) = (Some("onedock"), Some("fuse"));
    mount(source, &root.join("export"), kind, flags, Some(&*options))?;
    // A regular file, as the daemon expects of a mount point; its name says to libfuse that the mount
    // is there and which descriptor has the connection (`fuse_session_mount`, libfuse 3.3).
    fs::create_dir(root.join("dev/fd"))?;
    File::create(root.join(CONNECTION.trim_start_matches('/')))?;
    Ok(connection)
}

fn arguments(command: &mut Command, disk: &Disk, unique: &str) {
    let (read_only, writable) = if disk.read_only {
        ("on", "off")
    } else {
        ("off", "on")
    };
    command
        .arg("--blockdev")
        .arg(format!("driver=file,node-name=file,filename=/disk,read-only={read_only},discard=unmap"))
        .arg("--blockdev")
        .arg(format!("driver=qcow2,node-name=disk,file=file,read-only={read_only},discard=unmap"))
        .arg("--chardev")
        .arg("socket,id=monitor,path=/monitor,server=on,wait=off")
        .args(["--monitor", "chardev=monitor"])
        .arg("--export")
        .arg(format!(
            "type=fuse,id={unique},node-name=disk,mountpoint={CONNECTION},writable={writable},growable=off,allow-other=off"
        ));
}

/// Opens what lies in the daemon's root. It could lay links there that lead out of it.
fn in_root(pid: u32, name: &str, flags: OFlags) -> io::Result<File> {
    let root = File::open(format!("/proc/{pid}/root"))?;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let flags = flags | OFlags::CLOEXEC;
    Ok(openat2(&root, name, flags, Mode::empty(), beneath)?.into())
}

/// Waits until the content is there: a daemon that answers its monitor has carried out its arguments.
fn ready(child: &mut Child, read_only: bool) -> io::Result<File> {
    let pid = child.id();
    let access = match read_only {
        true => OFlags::RDONLY,
        false => OFlags::RDWR,
    };
    let (sender, opened) = mpsc::channel();
    // Each of its calls can wait for the daemon without end, and ends with it.
    thread::spawn(move || {
        let answers = wait::until(LIMIT, || Monitor::open(pid).ok()).is_some();
        if answers {
            let _ = sender.send(in_root(pid, "export", access));
        }
    });
    let served = wait::until_ok(LIMIT, || match child.try_wait()? {
        Some(status) => Err(io::Error::other(format!("{PROGRAM} has ended ({status})"))),
        None => opened.try_recv().ok().transpose(),
    });
    served
        .and_then(|file| {
            file.ok_or_else(|| io::Error::other(format!("{PROGRAM} is not ready within 15 s")))
        })
        .inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })
}

/// The daemon of a disk, if it runs.
fn find(folder: &Folder, disk: DiskId) -> io::Result<Option<u32>> {
    let text = match files::read_bounded(&folder.file(disk, "pid"), 64) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        read => read?,
    };
    let Ok(pid) = String::from_utf8_lossy(&text).trim().parse::<u32>() else {
        return Ok(None);
    };
    let unique = unique(folder, disk);
    let name = |link: &str| {
        let path = fs::read_link(format!("/proc/{pid}/{link}")).unwrap_or_default();
        path.file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned()
    };
    // A starter that was ended has left a child that is about to become the daemon.
    wait::until(STARTING, || {
        (!name("exe").starts_with("onedock-")).then_some(())
    });
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let ours = name("exe").starts_with(PROGRAM)
        && String::from_utf8_lossy(&command).contains(&format!("id={unique},"));
    Ok(ours.then_some(pid))
}

/// Ends the daemon of a disk, which brings everything into the file before; none is ended.
pub(super) fn end(folder: &Folder, disk: DiskId) -> io::Result<()> {
    if let Some(pid) = find(folder, disk)?
        && let Ok(handle) = Handle::open(i32::try_from(pid).map_err(io::Error::other)?)
        && find(folder, disk)? == Some(pid)
    {
        handle.terminate()?;
        if !handle.ends_within(LIMIT)? {
            handle.kill()?;
            handle.ends_within(LIMIT)?;
        }
    }
    files::remove(&folder.file(disk, "log"))?;
    files::remove(&folder.file(disk, "pid"))
}

/// Ends the daemon of a disk if it does not answer any more: what waits for it can then end with errors.
/// Answers whether it was so. What it had not written is lost.
pub(super) fn end_hung(folder: &Folder, disk: DiskId) -> io::Result<bool> {
    let Some(pid) = find(folder, disk)?.filter(|pid| hangs(*pid)) else {
        return Ok(false);
    };
    let Ok(handle) = Handle::open(i32::try_from(pid).map_err(io::Error::other)?) else {
        return Ok(false);
    };
    if find(folder, disk)? != Some(pid) {
        return Ok(false);
    }
    handle.kill()?;
    handle.ends_within(LIMIT)
}

/// Whether a daemon leaves a command of its monitor without an answer. Its main loop carries that out, which
/// serves the disk as well.
fn hangs(pid: u32) -> bool {
    let (sender, answered) = mpsc::channel();
    // Not even a connection need come about. The thread ends with the daemon, or with this program.
    thread::spawn(move || {
        let _ = sender.send(Monitor::open(pid).is_ok());
    });
    matches!(
        answered.recv_timeout(SILENCE),
        Err(RecvTimeoutError::Timeout)
    )
}

/// Makes the content larger, in the file and in the export.
pub(super) fn grow(folder: &Folder, disk: DiskId, size: u64) -> Result<(), Fault> {
    let failed = |e: io::Error| Fault::Daemon(e.to_string());
    let pid = find(folder, disk).map_err(failed)?;
    let pid = pid.ok_or_else(|| Fault::Daemon("its daemon has ended".to_owned()))?;
    resize(pid, size).map_err(failed)?;
    let file = in_root(pid, "export", OFlags::RDONLY).map_err(failed)?;
    let grown = wait::until_ok(LIMIT, || -> Result<_, Fault> {
        let seen = sys::fresh_size(&file).map_err(step("reading its size"))?;
        Ok((seen >= size).then_some(()))
    });
    grown?.ok_or_else(|| Fault::Daemon("the new size is not seen within 15 s".to_owned()))
}

/// A connection to a daemon's monitor (QMP), where it takes commands: one JSON object a line.
struct Monitor {
    stream: UnixStream,
    lines: Lines<BufReader<Take<UnixStream>>>,
}

impl Monitor {
    fn open(pid: u32) -> io::Result<Self> {
        let socket = in_root(pid, "monitor", OFlags::PATH)?;
        let stream = UnixStream::connect(owned::by_descriptor(&socket.into()))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.set_write_timeout(Some(LIMIT))?;
        // No command that is given here is answered with more.
        let lines = BufReader::new(stream.try_clone()?.take(ANSWER)).lines();
        let mut monitor = Self { stream, lines };
        monitor.ask(&serde_json::json!({"execute": "qmp_capabilities"}))?;
        Ok(monitor)
    }

    fn ask(&mut self, request: &serde_json::Value) -> io::Result<()> {
        writeln!(self.stream, "{request}")?;
        for line in self.lines.by_ref() {
            let answer: serde_json::Value = serde_json::from_str(&line?)?;
            if let Some(error) = answer.get("error") {
                let text = error.get("desc").and_then(|text| text.as_str());
                return Err(io::Error::other(text.unwrap_or("it refused").to_owned()));
            }
            if answer.get("return").is_some() {
                return Ok(());
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn resize(pid: u32, size: u64) -> io::Result<()> {
    let arguments = serde_json::json!({"node-name": "disk", "size": size});
    let request = serde_json::json!({"execute": "block_resize", "arguments": arguments});
    Monitor::open(pid)?.ask(&request)
}
