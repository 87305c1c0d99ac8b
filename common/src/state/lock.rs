//! The per-VM lock: what one driver does to a VM, no other does at the same time, and the
//! monitor says nothing about that VM meanwhile.
//!
//! It is `flock` on a file. The kernel lets go of it when the holder dies, so nothing has to be
//! cleaned after a crash. With the VM goes its file ([`VmLock::forget`]): who has locked a file
//! looks whether it is still the one at that path, so that nobody holds an old file while another
//! holds the new one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::state::files;
use crate::state::paths::Paths;
use crate::types::ids::VmId;
use crate::wait;

/// Why a VM's lock could not be had.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another action on this VM holds it until after the deadline.
    #[error(
        "another action on VM {vm} is still running on this host after {} s; try again when it has ended",
        waited.as_secs()
    )]
    Busy {
        vm: VmId,
        /// How long was waited.
        waited: Duration,
    },
    /// The lock file cannot be made or opened.
    #[error("lock file {path} cannot be opened; it must be writable for the user of the drivers")]
    Open {
        path: PathBuf,
        /// What the system answered.
        source: io::Error,
    },
}

/// The lock of one VM, held until this value is dropped.
#[derive(Debug)]
pub struct VmLock {
    _file: File,
    path: PathBuf,
}

impl VmLock {
    /// Takes the lock for an action, waiting for another action to end, at most `deadline`.
    /// The monitor's look at the lock keeps it for microseconds, so a deadline below 100 ms
    /// may see a VM as busy that is not.
    pub fn acquire(paths: &Paths, vm: VmId, deadline: Duration) -> Result<Self, LockError> {
        let path = paths.vm_lock(vm);
        let open = |source| LockError::Open {
            path: path.clone(),
            source,
        };
        let mut file = open_or_make(&path).map_err(open)?;
        // `flock` itself has no deadline.
        let locked = wait::until_ok(deadline, || {
            loop {
                match file.try_lock() {
                    Ok(()) if is_at(&file, &path).map_err(open)? => return Ok(Some(())),
                    // Its VM was forgotten meanwhile.
                    Ok(()) => file = open_or_make(&path).map_err(open)?,
                    Err(TryLockError::WouldBlock) => return Ok(None),
                    Err(TryLockError::Error(source)) => return Err(open(source)),
                }
            }
        })?;
        match locked {
            Some(()) => Ok(Self { _file: file, path }),
            None => Err(LockError::Busy {
                vm,
                waited: deadline,
            }),
        }
    }

    /// Lets go of the lock, and takes its file away: nothing of the VM is on this host any more.
    pub fn forget(self) -> io::Result<()> {
        files::remove(&self.path)
    }

    /// For a reader: `None` when an action holds the VM now. The value keeps actions out while
    /// it lives, so a reader drops it at once. A VM that no action ever touched has no lock
    /// file and is free; none is made here.
    pub fn try_shared(paths: &Paths, vm: VmId) -> Result<Option<SharedLock>, LockError> {
        let path = paths.vm_lock(vm);
        let open = |source| LockError::Open {
            path: path.clone(),
            source,
        };
        loop {
            let file = match options().open(&path) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Ok(Some(SharedLock { _file: None }));
                }
                Err(source) => return Err(open(source)),
            };
            match file.try_lock_shared() {
                Ok(()) if is_at(&file, &path).map_err(open)? => {
                    return Ok(Some(SharedLock { _file: Some(file) }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(source)) => return Err(open(source)),
            }
        }
    }
}

/// A reader's hold on a VM; see [`VmLock::try_shared`].
#[derive(Debug)]
pub struct SharedLock {
    _file: Option<File>,
}

/// Whether the open file is still the one at `path`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let open = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(there) => Ok((open.dev(), open.ino()) == (there.dev(), there.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options
        .read(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK);
    options
}

fn open_or_make(path: &Path) -> io::Result<File> {
    let open = || {
        options()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o660)
            .open(path)
    };
    let file = match open() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            open()?
        }
        other => other?,
    };
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    // Fault 70: a umask of 077 would shut the other user of the drivers out. Only the owner
    // can mend it, and has done so when it made the file.
    if meta.permissions().mode() & 0o777 != 0o660 {
        let _ = file.set_permissions(fs::Permissions::from_mode(0o660));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn temporary() -> (tempfile::TempDir, Paths) {
        let dir = tempfile::tempdir().unwrap();
        let paths = Paths::at(dir.path());
        (dir, paths)
    }

    const VM: VmId = VmId::new(7);

    #[test]
    fn fault_14_a_second_action_on_the_same_vm_waits_and_then_gives_up_with_the_reason() {
        let (_dir, paths) = temporary();
        let held = VmLock::acquire(&paths, VM, Duration::ZERO).unwrap();
        let began = Instant::now();
        let refused = VmLock::acquire(&paths, VM, Duration::from_millis(60)).unwrap_err();
        assert!(began.elapsed() >= Duration::from_millis(60));
        assert!(refused.to_string().contains("VM 7"), "{refused}");
        VmLock::acquire(&paths, VmId::new(8), Duration::ZERO).unwrap();
        drop(held);
        VmLock::acquire(&paths, VM, Duration::ZERO).unwrap();
    }

    #[test]
    fn a_waiting_action_goes_on_as_soon_as_the_first_one_has_ended() {
        let (_dir, paths) = temporary();
        let held = VmLock::acquire(&paths, VM, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| VmLock::acquire(&paths, VM, Duration::from_secs(20)));
            crate::wait::pause(Duration::from_millis(30));
            assert!(!waiter.is_finished());
            drop(held);
            assert!(waiter.join().unwrap().is_ok());
        });
    }

    #[test]
    fn a_reader_sees_whether_an_action_runs_and_makes_no_file() {
        let (_dir, paths) = temporary();
        assert!(VmLock::try_shared(&paths, VM).unwrap().is_some());
        assert!(!paths.vm_lock(VM).exists());
        let held = VmLock::acquire(&paths, VM, Duration::ZERO).unwrap();
        assert!(VmLock::try_shared(&paths, VM).unwrap().is_none());
        drop(held);
        let one = VmLock::try_shared(&paths, VM).unwrap();
        let other = VmLock::try_shared(&paths, VM).unwrap();
        assert!(one.is_some() && other.is_some());
        drop((one, other));
        assert!(paths.vm_lock(VM).exists());
    }

    #[test]
    fn a_lock_file_goes_with_its_vm_and_who_waited_for_it_is_alone_all_the_same() {
        let (_dir, paths) = temporary();
        let held = VmLock::acquire(&paths, VM, Duration::ZERO).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| VmLock::acquire(&paths, VM, Duration::from_secs(20)));
            crate::wait::pause(Duration::from_millis(30));
            held.forget().unwrap();
            let waited = waiter.join().unwrap().unwrap();
            assert!(VmLock::try_shared(&paths, VM).unwrap().is_none());
            assert!(VmLock::acquire(&paths, VM, Duration::ZERO).is_err());
            waited.forget().unwrap();
        });
        assert!(!paths.vm_lock(VM).exists());
    }

    #[test]
    fn many_that_lock_and_forget_at_once_are_never_two_and_keep_readers_out() {
        let (_dir, paths) = temporary();
        let inside = std::sync::atomic::AtomicU32::new(0);
        thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..50_000 {
                    if let Some(reader) = VmLock::try_shared(&paths, VM).unwrap()
                        && reader._file.is_some()
                    {
                        let actions = inside.load(std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(actions, 0);
                    }
                }
            });
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        let lock = VmLock::acquire(&paths, VM, Duration::from_secs(20)).unwrap();
                        let others = inside.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        assert_eq!(others, 0);
                        thread::yield_now();
                        inside.fetch_sub(1, std::sync::atomic::Ordering::SeqCst);
                        lock.forget().unwrap();
                    }
                });
            }
        });
    }

    #[test]
    fn the_group_may_use_a_lock_file_whatever_the_umask() {
        let (_dir, paths) = temporary();
        drop(VmLock::acquire(&paths, VM, Duration::ZERO).unwrap());
        let mode = fs::metadata(paths.vm_lock(VM))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o660);
    }

    #[test]
    fn attack_45_a_link_in_place_of_the_lock_file_is_refused() {
        let (dir, paths) = temporary();
        fs::create_dir_all(paths.vm_lock(VM).parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(dir.path().join("victim"), paths.vm_lock(VM)).unwrap();
        assert!(VmLock::acquire(&paths, VM, Duration::ZERO).is_err());
        assert!(VmLock::try_shared(&paths, VM).is_err());
        assert!(!dir.path().join("victim").exists());
    }

    #[test]
    fn a_pipe_in_place_of_the_lock_file_holds_nobody_up() {
        let (_dir, paths) = temporary();
        let path = paths.vm_lock(VM);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let _ = VmLock::try_shared(&paths, VM);
        assert!(VmLock::acquire(&paths, VM, Duration::ZERO).is_err());
    }
}
