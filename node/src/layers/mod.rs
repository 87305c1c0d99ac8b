//! The file trees of containers: the root file system as the runtime and the disks use it
//! ([`rootfs`]), and the writable layer in the engine's storage ([`record`] says where), packed as an
//! archive ([`pack`]) and bounded ([`quota`]).

mod entry;
mod error;
pub(crate) mod ids;
pub(crate) mod layer;
mod merged;
pub mod pack;
#[expect(unsafe_code, reason = "attributes of files have no safe form")]
mod project;
#[expect(unsafe_code, reason = "quotas of a project have no safe form")]
pub mod quota;
pub mod record;
pub mod rootfs;
mod walk;
mod xattr;

pub use error::PackError;
