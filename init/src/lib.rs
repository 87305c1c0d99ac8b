//! Where the program `onedock-init` of this build is. Its sources are in `program/`; the build script
//! links it statically whatever the profile is, as it has to run in any image, and lays it beside the
//! programs of the other crates.

/// The program that this build made.
pub const PROGRAM: &str = env!("ONEDOCK_INIT");
