//! Disks of a VM under a real Docker Engine, in front of runc and of crun: their contents, what
//! is refused, and that nothing is left.
#![allow(clippy::unwrap_used, reason = "fixed values of a test")]

mod devices;
mod folders;
mod host;
mod killed;
mod mounted;
mod qcow2;
mod refused;
