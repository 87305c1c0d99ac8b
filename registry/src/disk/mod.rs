//! Disks in registries: artifacts whose layers are pieces of a disk's file.

mod duplicate;
mod file;
mod get;
pub(crate) mod kind;
mod manifest;
mod put;
