//! The OpenNebula contract as types, and what every driver of this project shares:
//! identifiers, the VM as `oned` describes it, the reply protocol, configuration,
//! the disk descriptor, the boot spec, the per-VM lock and the engine behind a trait.
//!
//! Outside text becomes a type here, once; past this crate no function takes `&str`
//! for an id, a name, a size or an address.

pub mod answer;
pub mod boot;
pub mod config;
pub mod decimal;
pub mod descriptor;
pub mod digest;
pub mod disk_image;
pub mod dns;
pub mod engine;
pub mod extracted;
pub mod files;
pub mod ids;
pub mod image;
pub mod journal;
pub mod labels;
pub mod lock;
#[cfg(feature = "log")]
pub mod log;
pub mod names;
pub mod nic;
mod no_name_service;
pub mod paths;
pub mod reference;
#[cfg(feature = "resolver")]
pub mod resolver;
pub mod secret;
pub mod terminal;
pub mod vm;
pub mod volume;
pub mod xml;

pub use digest::Digest;
pub use dns::{NameServer, SearchDomain};
pub use ids::{
    ContainerId, ContainerName, DatastoreId, DiskId, HostId, ImageId, NicId, SnapshotId, VmId,
};
pub use names::{DeviceName, Hostname, IfName, Mac, MountPath};
