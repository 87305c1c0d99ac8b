//! The files that a VM has on a node, beside its disks: descriptor, boot spec, lock, journal, and
//! where each of them lies.

pub mod boot;
pub mod descriptor;
pub mod disk_image;
pub mod disk_sizes;
pub mod extracted;
pub mod files;
pub mod journal;
pub mod lock;
pub mod paths;
pub mod vm_folder;
