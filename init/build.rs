//! Compiles `src/onedock-init.rs` to a static program without the standard library and lays it
//! beside the binaries of the other crates. A crate of its own kind of linking cannot be had
//! from a workspace profile; the compiler can.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() -> Result<(), Box<dyn Error>> {
    for file in [
        "build.rs",
        "src/onedock-init.rs",
        "src/program.rs",
        "src/system.rs",
    ] {
        println!("cargo::rerun-if-changed={file}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("no OUT_DIR")?);
    let program = out.join("onedock-init");
    let mut compiler = Command::new(env::var_os("RUSTC").ok_or("no RUSTC")?);
    compiler
        .args([
            "--edition=2024",
            "--crate-name=onedock_init",
            "--crate-type=bin",
        ])
        .arg("--target")
        .arg(env::var_os("TARGET").ok_or("no TARGET")?)
        .args([
            "-Copt-level=z",
            "-Cpanic=abort",
            "-Cstrip=symbols",
            "-Ccodegen-units=1",
        ])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args([
            "-Clink-arg=-nostartfiles",
            "-Clink-arg=-nostdlib",
            "-Clink-arg=-static",
        ])
        .args(["-Clink-arg=-no-pie", "-Clink-arg=-Wl,--build-id=none,-n"])
        .arg("-o")
        .arg(&program)
        .arg("src/onedock-init.rs");
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("-Clinker=");
        option.push(linker);
        compiler.arg(option);
    }
    let status = compiler.status()?;
    if !status.success() {
        return Err(format!("onedock-init was not compiled: {status}").into());
    }
    println!("cargo::rustc-env=ONEDOCK_INIT={}", program.display());

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
