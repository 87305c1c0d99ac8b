//! `onedock-init`: process 1 of a VM that has nothing to run, and that lives until it is told to
//! stop. `onedock-runtime` starts it where the boot spec says keep-alive
//! (`onedock_common::state::boot::FirstProcess`): for an image without a command, and for a bare shell in
//! a container that an earlier version made without a terminal, where the shell would end at once.
//! It does nothing, reaps what is orphaned (what `docker exec` starts and leaves behind), and ends
//! with status 0 as soon as it is asked to stop, so that a shutdown takes no time.
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
