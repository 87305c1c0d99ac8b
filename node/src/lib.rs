//! What needs root on a node, behind two programs.
//!
//! `onedock-runtime` is an OCI runtime in front of `crun` or `runc`. A container that has a boot
//! spec becomes a VM on the way: its bundle is completed at `create`, its NICs are plugged at
//! `start`, what is left of it goes at `delete`. Every other call passes as it came.
//!
//! `onedock-node` answers one typed request of `oneadmin`, who may run it by one sudoers line.
//!
//! State lies in `/run/onedock`, which only root writes. No environment variable moves it: what
//! root reads must not depend on who asked.

pub mod request;

#[cfg(feature = "kernel")]
pub mod kernel;
