//! What every driver of this project shares, in four rooms: the checked small types ([`types`])
//! with the files that a VM has on a node ([`state`]), OpenNebula's documents and answers
//! ([`opennebula`]), the client of the Docker Engine ([`engine`]) and disks that are files
//! ([`disk_file`]). Beside them stands how a program is run ([`process`]), how an event is waited for
//! ([`wait`]), the log and the resolver.
//!
//! Outside text becomes a type here, once; past this crate no function takes `&str`
//! for an id, a name, a size or an address.

pub mod disk_file;
pub mod engine;
#[cfg(feature = "log")]
pub mod log;
mod no_name_service;
pub mod opennebula;
#[cfg(feature = "options")]
pub mod options;
pub mod process;
#[cfg(feature = "resolver")]
pub mod resolver;
pub mod state;
pub mod types;
pub mod unpack;
pub mod wait;

pub use types::digest::Digest;
pub use types::dns::{NameServer, SearchDomain};
pub use types::ids::{
    ContainerId, ContainerName, DatastoreId, DiskId, HostId, ImageId, NicId, SnapshotId, VmId,
};
pub use types::names::{DeviceName, Hostname, IfName, Mac, MountPath};
