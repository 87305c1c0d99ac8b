//! What root does: processes, files, namespaces and netlink.

pub mod args;
pub mod backend;
#[expect(unsafe_code, reason = "quotas of a project have no safe form")]
pub mod bound;
pub mod bundle;
pub mod chain;
mod create;
mod default_mounts;
mod delete;
pub mod disks;
pub mod engine_log;
pub mod error;
pub mod etc_files;
#[expect(
    unsafe_code,
    reason = "pidfd_open and a death signal have no safe form"
)]
pub mod exec;
pub mod links;
pub mod namespace;
pub mod pack;
pub mod plug;
mod ready;
pub mod record;
#[expect(
    unsafe_code,
    reason = "extended attributes of a descriptor have no safe form"
)]
pub mod rootfs;
pub mod runtime;
pub mod seccomp;
mod start;
