//! The files that a program of the drivers' user reaches: Landlock, which asks for no rights.

use std::io;
use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
    path_beneath_rules,
};

/// What a program needs to run. In `/proc` it sees the mounts; Landlock shows it nothing of another
/// process's that asks for the right to trace it.
const PROGRAMS: [&str; 9] = [
    "/usr",
    "/lib",
    "/lib64",
    "/bin",
    "/sbin",
    "/etc/ld.so.cache",
    "/etc/mke2fs.conf",
    "/etc/e2fsck.conf",
    "/proc",
];
/// Devices without anything of the host's.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];

/// Leaves this thread, and what it starts, these folders and the programs of the host. A kernel without
/// Landlock (before 5.13, or where it is off) leaves everything.
pub(super) fn only(folders: &[PathBuf]) -> io::Result<()> {
    restrict(folders).map_err(io::Error::other)
}

fn restrict(folders: &[PathBuf]) -> Result<(), RulesetError> {
    let abi = ABI::V3;
    let all = AccessFs::from_all(abi);
    let read = AccessFs::from_read(abi);
    // What is not there is passed over.
    Ruleset::default()
        .handle_access(all)?
        .create()?
        .add_rules(path_beneath_rules(PROGRAMS, read))?
        .add_rules(path_beneath_rules(DEVICES, AccessFs::from_file(abi)))?
        .add_rules(path_beneath_rules(folders, all))?
        .restrict_self()?;
    Ok(())
}
