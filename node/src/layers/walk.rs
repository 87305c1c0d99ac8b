//! The walk through a tree that may change meanwhile, and whose owner is not a friend.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::FileExt as _;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, major, minor};
use nix::unistd::{Whence, lseek};

use crate::layers::entry::{BLOCK, Entry, Kind};
use crate::layers::error::{PackError, shown};
use crate::layers::ids::Ids;
use crate::layers::xattr::Attributes;

/// The longest path that the kernel, and so whoever unpacks the archive, takes in one piece.
const LONGEST: usize = 4095;
/// The most that readers written in Go accept as one PAX header, less its other records.
const MOST_ATTRIBUTES: usize = (1 << 20) - 2 * 4096;
/// What a name must begin with to mean that something is deleted.
const DELETED: &[u8] = b".wh.";
/// In a folder: nothing of the layers below shows.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// What is collected before it is written; contents of files pass in pieces of this size.
pub(super) const PIECE: usize = 512 * 1024;

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A walk and the archive that it writes.
#[derive(Debug)]
pub(super) struct Walk<'a, W> {
    out: &'a mut W,
    ids: &'a Ids,
    whole: bool,
    /// Where the walk is, relative to the root.
    path: Vec<u8>,
    folders: Vec<Folder>,
    /// The first name of every file that has several, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    piece: Vec<u8>,
}

/// A folder on the way, with what is left to visit.
#[derive(Debug)]
struct Folder {
    fd: OwnedFd,
    /// Backwards.
    names: Vec<CString>,
    /// How long the path is without this folder.
    above: usize,
    /// The header of a mount point of ours, written only when it holds something.
    withheld: Option<Vec<u8>>,
}

/// A file that is open by `O_PATH`, so that it stays this one.
struct Found {
    fd: OwnedFd,
    stat: FileStat,
    attributes: Attributes,
}

impl<'a, W: Write> Walk<'a, W> {
    pub(super) fn new(out: &'a mut W, ids: &'a Ids, whole: bool) -> Self {
        Self {
            out,
            ids,
            whole,
            path: Vec::new(),
            folders: Vec::new(),
            links: HashMap::new(),
            piece: vec![0; PIECE],
        }
    }

    /// Writes all entries beneath `root`, each folder before what it holds, in the order of their
    /// names. The root has an entry of its own only when it differs from that of the layer
    /// `below` and from what the engine gives every container.
    pub(super) fn run(mut self, root: OwnedFd, below: Option<FileStat>) -> Result<(), PackError> {
        let found = self.inspect(root)?;
        let of = |stat: &FileStat| (stat.st_mode & 0o7777, stat.st_uid, stat.st_gid);
        let plain = (found.stat.st_mode & 0o7777) == 0o755
            && self.ids.user(found.stat.st_uid) == 0
            && self.ids.group(found.stat.st_gid) == 0;
        let same = below.is_some_and(|below| of(&below) == of(&found.stat));
        if (!plain && !same) || !found.attributes.carried.is_empty() {
            let header = self.entry(&found, b".", Kind::Folder).header();
            self.write(&header)?;
        }
        let names = self.names(&found.fd)?;
        self.folders.push(Folder {
            fd: found.fd,
            names,
            above: 0,
            withheld: None,
        });
        while let Some(folder) = self.folders.last_mut() {
            match folder.names.pop() {
                Some(name) => self.visit(&name)?,
                None => {
                    let above = folder.above;
                    self.folders.pop();
                    self.path.truncate(above);
                }
            }
        }
        Ok(())
    }

    fn visit(&mut self, name: &CStr) -> Result<(), PackError> {
        let Some(folder) = self.folders.last() else {
            return Ok(());
        };
        // O_PATH: looked at, and not opened, whatever it is. Not beyond a mount: that is another's.
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
            .resolve(
                ResolveFlag::RESOLVE_BENEATH
                    | ResolveFlag::RESOLVE_NO_SYMLINKS
                    | ResolveFlag::RESOLVE_NO_XDEV,
            );
        let opened = openat2(&folder.fd, name, how);
        let above = self.path.len();
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend(name.to_bytes());
        let found = match opened {
            Ok(fd) => self.inspect(fd)?,
            // It went since the folder was listed.
            Err(Errno::ENOENT) => {
                self.path.truncate(above);
                return Ok(());
            }
            Err(errno) => return Err(self.unreadable(errno)),
        };
        if self.path.len() > LONGEST {
            return Err(PackError::TooLong {
                path: shown(&self.path),
            });
        }
        if found.attributes.redirected {
            return Err(PackError::Redirected {
                path: shown(&self.path),
            });
        }
        if found.attributes.size() > MOST_ATTRIBUTES {
            return Err(PackError::Attributes {
                path: shown(&self.path),
            });
        }
        if found.is_whiteout() {
            self.deleted(name.to_bytes(), above)?;
        } else if name.to_bytes().starts_with(DELETED) {
            return Err(PackError::Reserved {
                path: shown(&self.path),
            });
        } else if found.kind() == SFlag::S_IFDIR {
            return self.enter(found, above);
        } else {
            self.add(&found)?;
        }
        self.path.truncate(above);
        Ok(())
    }

    /// The mark of something that the layers below have and the container has not.
    fn deleted(&mut self, name: &[u8], above: usize) -> Result<(), PackError> {
        if self.whole {
            return Ok(());
        }
        self.path.truncate(above);
        if above > 0 {
            self.path.push(b'/');
        }
        self.path.extend(DELETED);
        self.path.extend(name);
        let header = mark(&self.path).header();
        self.write(&header)
    }

    fn enter(&mut self, found: Found, above: usize) -> Result<(), PackError> {
        let mut header = self.entry(&found, &self.path, Kind::Folder).header();
        if found.attributes.opaque && !self.whole {
            header.extend(mark(&[&self.path[..], b"/", OPAQUE].concat()).header());
        }
        let withheld = if found.attributes.stub {
            Some(header)
        } else {
            self.write(&header)?;
            None
        };
        let names = self.names(&found.fd)?;
        self.folders.push(Folder {
            fd: found.fd,
            names,
            above,
            withheld,
        });
        Ok(())
    }

    fn add(&mut self, found: &Found) -> Result<(), PackError> {
        let kind = found.kind();
        // A socket is nothing without its process, and has no form in an archive.
        if kind == SFlag::S_IFSOCK {
            return Ok(());
        }
        if found.stat.st_nlink > 1 {
            let key = (found.stat.st_dev, found.stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                // Owner, mode and attributes once more: whoever unpacks sets the owner again,
                // at which the kernel takes away capabilities.
                let header = self.entry(found, &self.path, Kind::Link(first)).header();
                return self.write(&header);
            }
            self.links.insert(key, self.path.clone());
        }
        let device = (major(found.stat.st_rdev), minor(found.stat.st_rdev));
        let target;
        let kind = match kind {
            SFlag::S_IFREG => return self.file(found),
            SFlag::S_IFLNK => {
                let read = readlinkat(&found.fd, "").map_err(|errno| self.unreadable(errno))?;
                target = read.into_vec();
                Kind::Symlink(&target)
            }
            SFlag::S_IFCHR => Kind::Char(device.0, device.1),
            SFlag::S_IFBLK => Kind::Block(device.0, device.1),
            SFlag::S_IFIFO => Kind::Fifo,
            _ => return Ok(()),
        };
        let header = self.entry(found, &self.path, kind).header();
        self.write(&header)
    }

    /// A file with exactly as many bytes as its header says, whatever becomes of it meanwhile.
    fn file(&mut self, found: &Found) -> Result<(), PackError> {
        let size = u64::try_from(found.stat.st_size).unwrap_or(0);
        // The same file once more, for reading; the flags keep its time of access, and wait for
        // nobody's lease.
        let again = format!("/proc/self/fd/{}", found.fd.as_raw_fd());
        let flags = OFlag::O_RDONLY | OFlag::O_NOATIME | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let file = openat(AT_FDCWD, again.as_str(), flags, Mode::empty())
            .map_err(|errno| self.unreadable(errno))?;
        let file = File::from(file);
        let header = self.entry(found, &self.path, Kind::File(size)).header();
        self.write(&header)?;
        let stored = u64::try_from(found.stat.st_blocks).unwrap_or(0) * 512;
        let sparse = stored < size;
        let mut at = 0;
        while at < size {
            if sparse {
                // A hole that is read would take memory for its zeros.
                let data = data_from(&file, at, size);
                self.zeros(data - at)?;
                at = data;
            }
            let want = usize::try_from(size - at).map_or(PIECE, |left| left.min(PIECE));
            match file.read_at(&mut self.piece[..want], at) {
                Ok(0) => {
                    self.zeros(size - at)?;
                    at = size;
                }
                Ok(got) => {
                    self.out
                        .write_all(&self.piece[..got])
                        .map_err(PackError::Output)?;
                    at += got as u64;
                }
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => {
                    let errno = Errno::from_raw(e.raw_os_error().unwrap_or_default());
                    return Err(self.unreadable(errno));
                }
            }
        }
        self.zeros(size.next_multiple_of(BLOCK as u64) - size)
    }

    fn zeros(&mut self, mut count: u64) -> Result<(), PackError> {
        while count > 0 {
            let piece = usize::try_from(count).map_or(ZEROS.len(), |c| c.min(ZEROS.len()));
            self.out
                .write_all(&ZEROS[..piece])
                .map_err(PackError::Output)?;
            count -= piece as u64;
        }
        Ok(())
    }

    /// Writes a header, after those of the folders above that have waited for something in them.
    fn write(&mut self, header: &[u8]) -> Result<(), PackError> {
        for folder in &mut self.folders {
            if let Some(withheld) = folder.withheld.take() {
                self.out.write_all(&withheld).map_err(PackError::Output)?;
            }
        }
        self.out.write_all(header).map_err(PackError::Output)
    }

    fn entry<'e>(&self, found: &'e Found, path: &'e [u8], kind: Kind<'e>) -> Entry<'e> {
        Entry {
            path,
            kind,
            mode: found.stat.st_mode & 0o7777,
            uid: self.ids.user(found.stat.st_uid),
            gid: self.ids.group(found.stat.st_gid),
            mtime: (found.stat.st_mtime, found.stat.st_mtime_nsec),
            attributes: &found.attributes.carried,
        }
    }

    fn inspect(&self, fd: OwnedFd) -> Result<Found, PackError> {
        let unreadable = |errno| self.unreadable(errno);
        let stat = fstat(&fd).map_err(unreadable)?;
        let attributes = Attributes::read(&fd, self.ids).map_err(unreadable)?;
        Ok(Found {
            fd,
            stat,
            attributes,
        })
    }

    /// What is in a folder, backwards; nothing in one that was deleted meanwhile.
    fn names(&self, folder: &OwnedFd) -> Result<Vec<CString>, PackError> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOATIME | OFlag::O_CLOEXEC;
        let mut names = Vec::new();
        let listed = match Dir::openat(folder, ".", flags, Mode::empty()) {
            Ok(mut dir) => dir.iter().try_for_each(|entry| {
                let name = entry?.file_name().to_owned();
                if !matches!(name.to_bytes(), b"." | b"..") {
                    names.push(name);
                }
                Ok(())
            }),
            Err(errno) => Err(errno),
        };
        match listed {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(self.unreadable(errno)),
        }
        names.sort_unstable_by(|a, b| b.cmp(a));
        Ok(names)
    }

    fn unreadable(&self, errno: Errno) -> PackError {
        PackError::Read {
            path: shown(&self.path),
            errno,
        }
    }
}

impl Found {
    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.stat.st_mode) & SFlag::S_IFMT
    }

    /// Overlay's two forms of a deletion: the device 0/0, and since Linux 6.7 an empty file with
    /// a mark.
    fn is_whiteout(&self) -> bool {
        match self.kind() {
            SFlag::S_IFCHR => self.stat.st_rdev == 0,
            SFlag::S_IFREG => self.attributes.whiteout && self.stat.st_size == 0,
            _ => false,
        }
    }
}

/// An entry that is only a name.
fn mark(path: &[u8]) -> Entry<'_> {
    Entry {
        path,
        kind: Kind::File(0),
        mode: 0o600,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        attributes: &[],
    }
}

/// Where the next data begins; `at` where the file system cannot tell.
fn data_from(file: &File, at: u64, size: u64) -> u64 {
    let Ok(offset) = i64::try_from(at) else {
        return at;
    };
    match lseek(file, offset, Whence::SeekData) {
        Ok(data) => u64::try_from(data).map_or(at, |data| data.clamp(at, size)),
        Err(Errno::ENXIO) => size,
        Err(_) => at,
    }
}
