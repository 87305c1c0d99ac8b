//! `onedock-init`: process 1 of a VM whose image has no command of its own, or a bare shell that
//! would end at once without a terminal. It does nothing, reaps what is orphaned, and ends with
//! status 0 as soon as it is asked to stop, so that a shutdown takes no time.
//!
//! The program runs in any image: it is static, needs no library, no file and no heap. The
//! build script makes it from the same sources as this library, which is only there to have
//! them checked and to find the program in tests.

mod program;
#[expect(unsafe_code, reason = "system calls without a library")]
mod system;

/// The program that this build made.
pub const PROGRAM: &str = env!("ONEDOCK_INIT");

/// What the program does; never returns.
pub fn run() -> ! {
    program::run()
}
