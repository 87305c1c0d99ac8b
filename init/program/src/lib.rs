//! `onedock-init`: what works inside a VM, with the VM's own rights. `onedock-runtime` shows it in the
//! container at `/dev/onedock-init`.
//!
//! - As process 1 it applies the context (`/context/context.sh`), runs the start scripts, then the VM's
//!   command as the image's user, passes signals on, reaps orphans and ends with the command's exit code
//!   ([`first_process`]). An image whose command is an init system gets that as process 1.
//! - `onedock-init reconfigure`, started in a running VM by the driver, applies a context that has changed
//!   ([`reconfigure`]).
//!
//! It runs in any image: static, without a name service, and with no need of a file but the context.

pub mod apply;
pub mod arguments;
pub mod command;
pub mod context_file;
pub mod first_process;
pub mod helper;
mod onegate;
pub mod reconfigure;
pub mod report;
pub mod scripts;
#[expect(
    unsafe_code,
    reason = "signals of process 1, and what a child does before it becomes a program"
)]
mod system;
