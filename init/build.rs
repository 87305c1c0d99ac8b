//! Builds `onedock-init` (`program/`) as a static program and lays it beside the binaries of the other
//! crates. No profile of a workspace can ask for one static member; a `cargo` of its own can.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    for file in [
        "build.rs",
        "program/Cargo.toml",
        "program/src",
        "../Cargo.lock",
    ] {
        println!("cargo::rerun-if-changed={file}");
    }
    let variable = |name: &str| env::var(name).map_err(|_| format!("no {name}"));
    let out = PathBuf::from(variable("OUT_DIR")?);
    let target = variable("TARGET")?;
    let manifest = Path::new(&variable("CARGO_MANIFEST_DIR")?).join("program/Cargo.toml");

    // A folder of its own: this build holds the lock of the other one.
    let folder = out.join("target");
    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--quiet", "--locked", "--profile=init"])
        .arg(format!("--target={target}"))
        .arg("--manifest-path")
        .arg(manifest)
        .arg("--target-dir")
        .arg(&folder)
        .env("RUSTFLAGS", "-C target-feature=+crt-static");
    for name in [
        "CARGO_ENCODED_RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_BUILD_TARGET",
        "CARGO_PROFILE_INIT_DEBUG",
    ] {
        cargo.env_remove(name);
    }
    let status = cargo.status()?;
    if !status.success() {
        return Err(format!("onedock-init was not built: {status}").into());
    }
    let program = folder.join(&target).join("init/onedock-init-program");
    println!(
        "cargo::rustc-env=ONEDOCK_INIT={}",
        out.join("onedock-init").display()
    );
    place(&program, &out)?;

    // OUT_DIR is <target>/<profile>/build/<crate>-<hash>/out.
    let profile = out.ancestors().nth(3).ok_or("no profile folder")?;
    place(&program, profile)
}

/// Renamed over an older one, which a running container may hold.
fn place(program: &Path, folder: &Path) -> Result<(), Box<dyn Error>> {
    let new = folder.join(format!(".onedock-init.{}", std::process::id()));
    fs::copy(program, &new)?;
    fs::rename(&new, folder.join(OsStr::new("onedock-init")))?;
    Ok(())
}
