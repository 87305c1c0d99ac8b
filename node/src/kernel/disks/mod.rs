//! The disks of a VM beside its root disk, shown in its container.
//!
//! A mounted disk is mounted where nobody sees it ([`stage`]), detached, and attached in the
//! container's mount namespace: it is never seen on the host, the container needs no right for
//! it, and when the container ends, it goes with its namespace. A disk that is shown as a device
//! has loop devices whose numbers the container may open since it was created ([`slots`]).

mod container;
#[expect(unsafe_code, reason = "a hook between fork and exec has no safe form")]
mod daemon;
mod error;
mod live;
mod loops;
mod mounts;
mod plug;
mod probe;
mod qcow2;
mod settle;
mod shown;
pub(crate) mod slots;
mod stage;
#[expect(
    unsafe_code,
    reason = "loop devices and detached mounts have no safe form"
)]
mod sys;
mod tool;
mod trees;
mod unplug;
mod users;
mod volume;
mod work;

pub use error::{DiskError, Fault};
pub(crate) use work::{check, plug_all, settle, take_back};
pub use work::{grow_one, plug_one, settle_all, sync_one, unplug_one};
