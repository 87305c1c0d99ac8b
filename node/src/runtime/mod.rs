//! `onedock-runtime`: an OCI runtime in front of the real one. Each call that it changes has a module
//! named like it (`create`, `start`, `delete`); [`run`] lets all others pass.

mod args;
mod backend;
mod bundle;
mod create;
mod default_mounts;
mod delete;
mod dispatch;
mod engine_log;
mod error;
pub(crate) mod etc_files;
mod exec;
mod exec_environment;
mod init;
mod ready;
mod rlimits;
mod seccomp;
mod start;

pub use args::Call;
pub use dispatch::run;
pub use engine_log::write as write_to_log;
pub use error::{CallError, one_line};
