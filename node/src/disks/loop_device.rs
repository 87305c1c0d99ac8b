//! Loop devices. One machine has one set of them, whatever namespaces it has.
//!
//! A mounted disk has any free one, which goes by itself with the mount (autoclear). A disk that
//! is shown as a device has one of the minor numbers that its container may open, which stays
//! until it is taken away.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use onedock_common::disk_file::RESERVED;
use onedock_common::wait;
use serde::{Deserialize, Serialize};

use crate::disks::sys::{self, LOOP_AUTOCLEAR, LOOP_READ_ONLY, LoopInfo};

/// The kernel's number of loop devices (admin-guide/devices.txt).
pub(super) const MAJOR: u64 = 7;
/// `/dev/loop-control`.
const CONTROL: (u64, u64) = (10, 237);
/// Others may take a free device before us; this many in a row do not.
const RACES: usize = 64;

/// How long a device that is open is waited for before it is left to its users.
const GLANCE: Duration = Duration::from_millis(200);
/// How long the removal of a device that udev has open is tried.
const REMOVAL: Duration = Duration::from_millis(40);

/// A loop device in use, known again by the file behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Loop {
    /// The kernel's index.
    pub(super) index: u32,
    device: u64,
    inode: u64,
}

/// What of the file a loop device shows, and how.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Part {
    /// In bytes.
    pub(super) offset: u64,
    /// In bytes; 0: to the end.
    pub(super) size: u64,
    pub(super) read_only: bool,
}

/// How far the kernel shifts an index to make a minor number of it, which it does where loop
/// devices have partitions of their own (`loop.max_part`).
pub(super) fn shift() -> u32 {
    let text = fs::read_to_string("/sys/module/loop/parameters/max_part").unwrap_or_default();
    let most: u32 = text.trim().parse().unwrap_or(0);
    u32::BITS - most.leading_zeros()
}

/// A node of a loop device in `folder`, made under this name.
pub(super) fn node(folder: &Path, name: &str, index: u32) -> nix::Result<()> {
    block(&folder.join(name), u64::from(index) << shift())
}

fn block(path: &Path, minor: u64) -> nix::Result<()> {
    let mode = Mode::from_bits_truncate(0o600);
    mknod(path, SFlag::S_IFBLK, mode, makedev(MAJOR, minor))
}

/// The devices, opened by nodes in a folder that allows them and is private.
#[derive(Debug)]
pub(super) struct Loops<'a> {
    folder: &'a Path,
    control: File,
}

impl<'a> Loops<'a> {
    pub(super) fn open(folder: &'a Path) -> io::Result<Self> {
        let path = folder.join("loop-control");
        let device = makedev(CONTROL.0, CONTROL.1);
        match mknod(
            &path,
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o600),
            device,
        ) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let control = File::options().read(true).write(true).open(path)?;
        Ok(Self { folder, control })
    }

    /// Opens a device by its index.
    pub(super) fn device(&self, index: u32) -> io::Result<File> {
        let name = format!("loop{index}");
        match node(self.folder, &name, index) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        // A device behind which lies a file to be read only is opened for writing, too: what is
        // written is refused, and only a writer may configure it.
        File::options()
            .read(true)
            .write(true)
            .open(self.folder.join(name))
    }

    /// Puts `file` behind a free device, which lets go of it when the answer is dropped and
    /// nothing else uses it.
    pub(super) fn attach(&self, file: &File, part: Part, name: &Path) -> io::Result<(File, Loop)> {
        for _ in 0..RACES {
            let mut index = sys::loop_free(&self.control)?;
            if index >= RESERVED {
                index = self.fresh()?;
            }
            let device = self.device(index)?;
            match sys::loop_configure(&device, file, info(part, LOOP_AUTOCLEAR, name)) {
                Ok(()) => return Ok((device, Loop::of(index, file)?)),
                Err(Errno::EBUSY) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other("others took every free loop device"))
    }

    /// A device below the reserved ones that is not there yet.
    fn fresh(&self) -> io::Result<u32> {
        for index in 0..RESERVED {
            match sys::loop_add(&self.control, index) {
                Ok(()) => return Ok(index),
                Err(Errno::EEXIST) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Err(io::Error::other("there is no free loop device"))
    }

    /// Puts `file` behind the device of this very index; none when somebody else has it.
    pub(super) fn attach_at(
        &self,
        index: u32,
        file: &File,
        part: Part,
        name: &Path,
    ) -> io::Result<Option<Loop>> {
        match sys::loop_add(&self.control, index) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        let device = self.device(index)?;
        match sys::loop_configure(&device, file, info(part, 0, name)) {
            Ok(()) => Ok(Some(Loop::of(index, file)?)),
            Err(Errno::EBUSY) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Lets a reserved device go of its file. False when somebody still has it open: then it
    /// stays as it was.
    pub(super) fn release(&self, index: u32) -> io::Result<bool> {
        if !exists(index) {
            return Ok(true);
        }
        let device = self.device(index)?;
        // A host's udev looks at each device for a moment; whoever stays longer uses it.
        let free = wait::until_ok(GLANCE, || -> io::Result<_> {
            clear(&device)?;
            Ok(sys::loop_info(&device)?.is_none().then_some(()))
        })?;
        if free.is_some() {
            drop(device);
            self.remove(index);
            return Ok(true);
        }
        // With other users, it has only been told to let go when they have gone.
        if let Some(mut info) = sys::loop_info(&device)? {
            info.flags &= !LOOP_AUTOCLEAR;
            sys::loop_set_info(&device, &info)?;
        }
        Ok(false)
    }

    /// As [`Self::release`], for a container that has ended: what still has it open ends soon.
    pub(super) fn abandon(&self, index: u32) -> io::Result<()> {
        let device = self.device(index)?;
        clear(&device)?;
        drop(device);
        self.remove(index);
        Ok(())
    }

    /// A device that cannot be removed is busy with one that looks at it (udev), and is of no
    /// harm: it holds no file.
    fn remove(&self, index: u32) {
        wait::until(REMOVAL, || {
            let removed = sys::loop_remove(&self.control, index);
            (removed != Err(Errno::EBUSY)).then_some(())
        });
    }

    /// Makes the device as large as its file.
    pub(super) fn grow(&self, of: &Loop) -> io::Result<()> {
        let device = self.device(of.index)?;
        Ok(sys::loop_set_capacity(&device)?)
    }

    /// Brings what was written to the device into its file.
    pub(super) fn sync(&self, of: &Loop) -> io::Result<()> {
        self.device(of.index)?.sync_all()
    }

    /// Whether the device still has the file.
    pub(super) fn holds(&self, of: &Loop) -> io::Result<bool> {
        if !bound(of.index) {
            return Ok(false);
        }
        let device = self.device(of.index)?;
        Ok(sys::loop_info(&device)?.is_some_and(|info| {
            // Opened here, the device that was to let go waits for us instead.
            (info.device, info.inode) == (of.device, of.inode)
        }))
    }
}

impl Loop {
    fn of(index: u32, file: &File) -> io::Result<Self> {
        let meta = file.metadata()?;
        Ok(Self {
            index,
            // As the kernel writes it (huge_encode_dev).
            device: meta.dev(),
            inode: meta.ino(),
        })
    }

    /// The device's number.
    pub(super) fn number(&self) -> u64 {
        makedev(MAJOR, u64::from(self.index) << shift())
    }
}

/// Has the device let go of its file; one that has none, or is open elsewhere, is no error.
fn clear(device: &File) -> io::Result<()> {
    match sys::loop_clear(device) {
        Ok(()) | Err(Errno::ENXIO | Errno::EBUSY) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

fn info(part: Part, flags: u32, name: &Path) -> LoopInfo {
    let read_only = if part.read_only { LOOP_READ_ONLY } else { 0 };
    let mut info = LoopInfo::new(part.offset, part.size, flags | read_only);
    let bytes = name.as_os_str().as_encoded_bytes();
    for (to, from) in info.name.iter_mut().take(63).zip(bytes) {
        *to = *from;
    }
    info
}

/// Whether there is a device of this index at all.
pub(super) fn exists(index: u32) -> bool {
    Path::new(&format!("/sys/block/loop{index}")).exists()
}

/// Whether the device of this index has a file.
pub(super) fn bound(index: u32) -> bool {
    Path::new(&format!("/sys/block/loop{index}/loop/backing_file")).exists()
}
