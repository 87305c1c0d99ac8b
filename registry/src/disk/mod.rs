//! Disks in registries: artifacts whose layers are pieces of a disk's file.

pub(crate) mod duplicate;
pub(crate) mod file;
pub(crate) mod kind;
pub(crate) mod manifest;
pub(crate) mod transfer;
