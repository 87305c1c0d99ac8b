//! The programs that are replayed to: those of the folder that `ONEDOCK_BIN` names, as `make test`
//! does with the static release programs, or of this build.

use std::env;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::unistd::{Uid, User, geteuid};

/// The crates whose programs are needed.
const CRATES: [&str; 7] = [
    "onedock",
    "onedock-datastore",
    "onedock-tm",
    "onedock-vmm",
    "onedock-node",
    "onedock-init",
    "onedock-im",
];

/// The folder with all programs. A test of one crate does not make cargo build the programs of
/// others, so they are built here, into the folder that this test came from.
pub(super) fn folder() -> Result<&'static Path> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| given().unwrap_or_else(build).map_err(|e| format!("{e:#}"))) {
        Ok(folder) => Ok(folder),
        Err(e) => Err(anyhow!("{e}")),
    }
}

fn given() -> Option<Result<PathBuf>> {
    let folder = PathBuf::from(env::var_os("ONEDOCK_BIN").filter(|value| !value.is_empty())?);
    Some(
        folder
            .canonicalize()
            .with_context(|| format!("ONEDOCK_BIN names {}", folder.display())),
    )
}

fn build() -> Result<PathBuf> {
    // <target>/<profile>/deps/<test>
    let test = env::current_exe()?;
    let folder = test
        .ancestors()
        .nth(2)
        .context("this test does not lie in cargo's target folder")?;
    let profile = match folder.file_name().and_then(|n| n.to_str()) {
        Some("debug") => "dev",
        Some(other) => other,
        None => bail!("{} is no folder of a profile", folder.display()),
    };
    let mut command = cargo(folder)?;
    command
        .args(["build", "--quiet", "--locked", "--bins", "--profile"])
        .arg(profile)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    for name in CRATES {
        command.args(["-p", name]);
    }
    if let Some(target) = folder.parent() {
        command.env("CARGO_TARGET_DIR", target);
    }
    let output = command
        .stdin(Stdio::null())
        .output()
        .context("cargo cannot be run; the programs that are tested are built by it")?;
    ensure!(
        output.status.success(),
        "the programs that are tested do not build:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(folder.to_owned())
}

/// cargo as the owner of the folder: tests run as root, and may be built by another user, who
/// shall find no file of root's among his.
#[expect(
    clippy::disallowed_methods,
    reason = "a test is no static program: it runs where it was built"
)]
fn cargo(folder: &Path) -> Result<Command> {
    let program = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let owner = folder.metadata()?;
    if owner.uid() == geteuid().as_raw() {
        return Ok(Command::new(program));
    }
    let user = User::from_uid(Uid::from_raw(owner.uid()))?
        .with_context(|| format!("{} belongs to nobody known here", folder.display()))?;
    let mut command = Command::new("setpriv");
    command
        .arg(format!("--reuid={}", owner.uid()))
        .arg(format!("--regid={}", owner.gid()))
        .arg("--clear-groups")
        .arg("--")
        .arg(program)
        .env("HOME", user.dir)
        .env("USER", user.name);
    Ok(command)
}
