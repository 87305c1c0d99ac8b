//! The layers of a container, open.

use std::fmt::Write as _;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{FileStat, fstat};
use onedock_common::ContainerId;
use onedock_common::state::paths::Paths;

use crate::layers::error::PackError;
use crate::layers::ids::Ids;
use crate::layers::record::LayerRecord;

/// The layers of one container. All are open by `O_PATH`, so that what was examined is what is used.
#[derive(Debug)]
pub(crate) struct Layer {
    record: LayerRecord,
    upper: OwnedFd,
}

impl Layer {
    /// Opens what is recorded of `container`.
    ///
    /// # Errors
    ///
    /// There is no record, or the folder is another one by now.
    pub(crate) fn of(paths: &Paths, container: &ContainerId) -> Result<Self, PackError> {
        let short = || container.short().to_owned();
        let record = LayerRecord::read(paths, container).map_err(|source| PackError::Record {
            container: short(),
            source,
        })?;
        let record = record.ok_or_else(|| PackError::Unknown { container: short() })?;
        let upper = open(&record.upper)?;
        let same = record.is(&upper).map_err(|source| PackError::Record {
            container: short(),
            source,
        })?;
        if !same {
            return Err(PackError::Replaced {
                container: short(),
                path: record.upper,
            });
        }
        Ok(Self { record, upper })
    }

    /// The folder with the container's changes, on the host.
    pub(crate) fn path(&self) -> &Path {
        &self.record.upper
    }

    /// The same, open.
    pub(crate) fn upper(&self) -> &OwnedFd {
        &self.upper
    }

    /// The same once more.
    pub(super) fn upper_again(&self) -> Result<OwnedFd, PackError> {
        let again = self.upper.try_clone();
        again.map_err(|e| at(&self.record.upper)(Errno::from_raw(e.raw_os_error().unwrap_or(0))))
    }

    /// The kernel's folder beside it.
    pub(crate) fn work(&self) -> Result<OwnedFd, PackError> {
        open(&self.record.work)
    }

    /// The owners inside.
    pub(super) fn ids(&self) -> &Ids {
        &self.record.ids
    }

    /// The root folder of the nearest layer of the image.
    pub(super) fn root_below(&self) -> Result<Option<FileStat>, PackError> {
        let Some(path) = self.record.lower.first() else {
            return Ok(None);
        };
        let stat = fstat(open(path)?).map_err(at(path))?;
        Ok(Some(stat))
    }

    /// The layers of the image, the nearest first.
    fn below(&self) -> Result<Vec<OwnedFd>, PackError> {
        self.record.lower.iter().map(|path| open(path)).collect()
    }

    /// Mounts the whole tree at `target`; with `writable` what is written goes into the
    /// container's own layer.
    pub(crate) fn mount(
        &self,
        target: &Path,
        writable: bool,
        flags: MsFlags,
    ) -> Result<(), PackError> {
        let failed = |errno| PackError::Mount {
            path: self.record.upper.clone(),
            errno,
        };
        let mut lower = self.below()?;
        if let (true, Some(engine)) = (lower.is_empty(), &self.record.engine) {
            // The kernel lays no single layer.
            lower.push(open(engine)?);
        }
        let work = writable.then(|| self.work()).transpose()?;
        // By descriptor: 128 layers fit into one page.
        let link = |folder: &OwnedFd| format!("/proc/self/fd/{}", folder.as_raw_fd());
        let mut options = String::from("lowerdir=");
        if work.is_none() {
            let _ = write!(options, "{}:", link(&self.upper));
        }
        let lower: Vec<String> = lower.iter().map(link).collect();
        options.push_str(&lower.join(":"));
        if let Some(work) = &work {
            let _ = write!(
                options,
                ",upperdir={},workdir={}",
                link(&self.upper),
                link(work)
            );
        }
        // index=off: a running container's layer is in use as an upper one. The others are refused
        // wherever they occur in a layer's changes.
        options.push_str(",index=off,metacopy=off,redirect_dir=");
        options.push_str(if work.is_some() { "off" } else { "nofollow" });
        let overlay = Some("overlay");
        mount(overlay, target, overlay, flags, Some(options.as_str())).map_err(failed)
    }
}

/// Opens a folder; no part of the path may be a link.
pub(super) fn open(path: &Path) -> Result<OwnedFd, PackError> {
    folder(path).map_err(at(path))
}

fn folder(path: &Path) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(AT_FDCWD, path, how)
}

fn at(path: &Path) -> impl Fn(Errno) -> PackError {
    move |errno| PackError::Open {
        path: path.to_owned(),
        errno,
    }
}
