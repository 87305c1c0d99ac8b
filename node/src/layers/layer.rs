//! The folder that the engine's overlay2 driver keeps for a layer: `diff` with the files, `lower`
//! with the layers below, as `l/<short name>` joined by colons, where `l/<short name>` is a link to
//! `../<layer>/diff`.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2, readlinkat};
use nix::sys::stat::{FileStat, fstat};

use crate::layers::error::PackError;
use crate::layers::ids::Ids;

/// The most that a list of 128 layers takes, several times over.
const LIST: u64 = 64 * 1024;

/// An open folder of a layer.
#[derive(Debug)]
pub(crate) struct Layer {
    path: PathBuf,
    name: String,
    all: OwnedFd,
    folder: OwnedFd,
    ids: Ids,
}

impl Layer {
    /// Opens `<absolute>/overlay2/<64 digits>`. No part of the path may be a link, and the last
    /// two folders must be the engine's: nobody else has root read or bound anything.
    ///
    /// # Errors
    ///
    /// Whatever is not such a folder.
    pub(crate) fn open(path: &Path) -> Result<Self, PackError> {
        let not = || PackError::NotALayer {
            path: path.to_owned(),
        };
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(not)?;
        let above = path.parent().ok_or_else(not)?;
        // Also without "..", "." and double slashes: the path is the one that the engine names.
        let plain = path.components().collect::<PathBuf>();
        let same = plain.as_os_str() == path.as_os_str();
        let upward = path.components().any(|c| c.as_os_str() == "..");
        if !path.is_absolute()
            || !same
            || upward
            || !is_layer(name)
            || above.file_name() != Some("overlay2".as_ref())
        {
            return Err(not());
        }
        let all = open(AT_FDCWD, above, ResolveFlag::empty()).map_err(at(above))?;
        let folder = beneath(&all, name).map_err(at(path))?;
        let remapped = above
            .parent()
            .and_then(|data| remapped_root(data).transpose())
            .transpose()
            .map_err(at(above))?;
        for (fd, path) in [(&all, above), (&folder, path)] {
            let stat = fstat(fd).map_err(at(path))?;
            let owned = stat.st_uid == 0 || Some(stat.st_uid) == remapped.map(|r| r.0);
            if !owned || stat.st_mode & 0o022 != 0 {
                return Err(PackError::NotTheEngines {
                    path: path.to_owned(),
                });
            }
        }
        Ok(Self {
            path: path.to_owned(),
            name: name.to_owned(),
            all,
            folder,
            ids: remapped.map(Ids::remapped).unwrap_or_default(),
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder itself.
    pub(crate) fn folder(&self) -> &OwnedFd {
        &self.folder
    }

    /// The folder of all layers.
    pub(crate) fn all(&self) -> &OwnedFd {
        &self.all
    }

    /// Whose files these are.
    pub(super) fn ids(&self) -> &Ids {
        &self.ids
    }

    /// The folder with the files.
    pub(super) fn diff(&self) -> Result<OwnedFd, PackError> {
        beneath(&self.folder, "diff").map_err(at(&self.path))
    }

    /// The root folder of the layer below, without the one that the engine itself has made.
    pub(super) fn root_below(&self) -> Result<Option<FileStat>, PackError> {
        let names = self.below()?;
        let Some(name) = names.first() else {
            return Ok(None);
        };
        let folder = self.diff_of(name)?;
        fstat(&folder).map(Some).map_err(at(&self.path))
    }

    /// The names of the layers below, the nearest first. The engine's own one (`…-init`, with the
    /// mount points of its files in /etc) is none of the container's.
    pub(super) fn below(&self) -> Result<Vec<String>, PackError> {
        let failed = |reason: String| PackError::Below {
            path: self.path.clone(),
            reason,
        };
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
        let file = match openat2(&self.folder, "lower", how) {
            Ok(file) => File::from(file),
            Err(Errno::ENOENT) => return Ok(Vec::new()),
            Err(errno) => return Err(failed(errno.to_string())),
        };
        let mut text = String::new();
        file.take(LIST)
            .read_to_string(&mut text)
            .map_err(|e| failed(e.to_string()))?;
        let mut names = Vec::new();
        for link in text.trim().split(':').filter(|link| !link.is_empty()) {
            let name = self.named_by(link).map_err(failed)?;
            if name != format!("{}-init", self.name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    /// The `diff` of a layer below.
    pub(super) fn diff_of(&self, name: &str) -> Result<OwnedFd, PackError> {
        let path = Path::new(name).join("diff");
        beneath(&self.all, &path).map_err(|errno| PackError::Below {
            path: self.path.clone(),
            reason: format!("{}: {errno}", path.display()),
        })
    }

    /// The layer that `l/<short name>` stands for.
    fn named_by(&self, link: &str) -> Result<String, String> {
        let short = link.strip_prefix("l/").unwrap_or_default();
        if short.is_empty() || !short.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(format!("{link:?} names no layer"));
        }
        let links = beneath(&self.all, "l").map_err(|errno| format!("l: {errno}"))?;
        let target = readlinkat(&links, short).map_err(|errno| format!("{link}: {errno}"))?;
        let name = target
            .to_str()
            .and_then(|t| t.strip_prefix("../")?.strip_suffix("/diff"))
            .filter(|name| is_layer(name.strip_suffix("-init").unwrap_or(name)));
        name.map(str::to_owned)
            .ok_or_else(|| format!("{link} leads to {target:?}, which is no layer"))
    }
}

/// Opens a folder; no link is followed on the way.
pub(super) fn open(at: impl AsFd, path: &Path, further: ResolveFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | further);
    openat2(at, path, how)
}

fn beneath(folder: &OwnedFd, path: impl AsRef<Path>) -> Result<OwnedFd, Errno> {
    open(folder, path.as_ref(), ResolveFlag::RESOLVE_BENEATH)
}

fn at(path: &Path) -> impl Fn(Errno) -> PackError {
    move |errno| PackError::Open {
        path: path.to_owned(),
        errno,
    }
}

/// Whether this is the name of a layer's folder: 64 hexadecimal digits.
pub(crate) fn is_layer(name: &str) -> bool {
    let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    name.len() == 64 && name.bytes().all(digit)
}

/// The host's ids of the container's root, when `data` is the folder of a remapped engine:
/// `<uid>.<gid>`, and of that group (older engines: of that user too). A data folder that only
/// has such a name is not of that group.
fn remapped_root(data: &Path) -> Result<Option<(u32, u32)>, Errno> {
    let name = data.file_name().map(|n| n.as_bytes()).unwrap_or_default();
    let number = |bytes: &[u8]| {
        let plain = !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
        let text = std::str::from_utf8(bytes).ok().filter(|_| plain)?;
        text.parse::<u32>().ok().filter(|n| *n != 0)
    };
    let mut parts = name.splitn(2, |b| *b == b'.');
    let ids = (parts.next().and_then(number), parts.next().and_then(number));
    let (Some(uid), Some(gid)) = ids else {
        return Ok(None);
    };
    let stat = fstat(open(AT_FDCWD, data, ResolveFlag::empty())?)?;
    Ok((stat.st_gid == gid).then_some((uid, gid)))
}
