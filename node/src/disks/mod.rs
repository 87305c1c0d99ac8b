//! The disks of a VM beside its root disk, shown in its container.
//!
//! A mounted disk is mounted where nobody sees it ([`stage`]), detached, and attached in the
//! container's mount namespace: it is never seen on the host, the container needs no right for
//! it, and when the container ends, it goes with its namespace. A disk that is shown as a device
//! has loop devices whose numbers the container may open since it was created ([`slots`]).

mod attach;
mod cleanup;
mod container;
#[expect(unsafe_code, reason = "a hook between fork and exec has no safe form")]
mod daemon;
mod detach;
mod error;
mod file_system;
mod live;
mod loop_device;
#[expect(unsafe_code, reason = "ioctls of file systems have no safe form")]
mod online_resize;
mod operations;
mod prepare;
mod present;
mod probe;
mod program;
mod qcow2;
pub(crate) mod slots;
mod stage;
mod state;
#[expect(
    unsafe_code,
    reason = "ioctls of loop devices, mapped mounts and a bare clone have no safe form"
)]
mod sys;
mod tree;
mod users;

pub use error::{DiskError, Fault};
pub(crate) use operations::{
    check, end_hung, plug_all, recorded, settle, settle_within, take_back,
};
pub use operations::{grow_one, plug_one, sync_one, unplug_one};
