//! What needs root on a node, behind two programs.
//!
//! `onedock-runtime` is an OCI runtime in front of `crun` or `runc`. A container that has a boot
//! spec becomes a VM on the way: its bundle is completed at `create`, its NICs are plugged at
//! `start`, what is left of it goes at `delete`. Every other call passes as it came.
//!
//! `onedock-node` answers one typed request of `oneadmin`, who may run it by one sudoers line.
//!
//! The rooms: [`runtime`] (the OCI runtime), [`disks`], [`network`], [`layers`]. They share what
//! stands beside them: processes, namespaces, and the record of each container. Drivers use
//! [`request`] and [`client`] alone.
//!
//! State lies in `/run/onedock`, which only root writes. No environment variable moves it: what
//! root reads must not depend on who asked.

#[cfg(feature = "client")]
pub mod client;
pub mod request;

#[cfg(feature = "root")]
pub mod disks;
#[cfg(feature = "root")]
pub mod layers;
#[cfg(feature = "root")]
mod mountinfo;
#[cfg(feature = "root")]
pub mod names;
#[cfg(feature = "root")]
pub mod namespace;
#[cfg(feature = "root")]
pub mod network;
#[cfg(feature = "root")]
mod owned;
#[cfg(feature = "root")]
#[expect(unsafe_code, reason = "a death signal has no safe form")]
mod process;
#[cfg(feature = "root")]
mod record;
#[cfg(feature = "root")]
pub mod runtime;
#[cfg(feature = "root")]
pub mod settle;
#[cfg(feature = "root")]
mod state_folder;
