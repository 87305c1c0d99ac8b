//! What the context says of the inside of a VM, put into force: in the order of the scripts of
//! `one-context` (`/etc/one-context.d/loc-*`). Host name, name servers and NICs are not here: the runtime
//! sets them from outside.
//!
//! What cannot be done is one line, and the rest is done.

mod accounts;
mod environment;
mod etc_file;
mod password;
mod ssh_keys;
mod timezone;
mod user;

use std::fs;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use crate::context_file::{self, ContextFile};

/// What was applied last, for [`is_applied`]; in memory, so that each start applies anew.
const APPLIED: &str = "/dev/onedock/applied";

/// Applies all of it; a line for each thing that could not be done.
pub fn all(context: &ContextFile, folder: &Path) -> Vec<String> {
    let root = Path::new("/");
    let mut problems = Vec::new();
    let mut note = |done: Result<(), String>| problems.extend(done.err());
    note(timezone::apply(root, context));
    note(environment::write(
        root,
        context,
        context_file::token(folder).as_deref(),
    ));
    for problem in user::apply(root, context) {
        note(Err(problem));
    }
    note(ssh_keys::apply(root, context));
    remember(Path::new(APPLIED), context);
    problems
}

/// Whether this very context was applied last since the VM started.
pub fn is_applied(context: &ContextFile) -> bool {
    fs::read(APPLIED).is_ok_and(|applied| applied == snapshot(context))
}

fn snapshot(context: &ContextFile) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in context.variables() {
        text.extend([key.as_bytes(), b"=", value.as_bytes(), b"\0"].concat());
    }
    text
}

/// It holds what the context holds, passwords among it: for root alone.
fn remember(path: &Path, context: &ContextFile) {
    if let Some(folder) = path.parent() {
        let _ = fs::DirBuilder::new().mode(0o700).create(folder);
        let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    }
    let _ = fs::write(path, snapshot(context));
}
