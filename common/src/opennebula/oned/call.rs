//! How `oned` runs a driver's script: values as arguments, the document on standard input, as
//! oneadmin with all of its groups.

use std::path::Path;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::process::Command;

/// The deadline of a call that moves layers, which may be many and the line slow.
pub const TRANSFER_DEADLINE: Duration = Duration::from_secs(4000);
/// The deadline of every other call. A shutdown waits for the VM.
pub const ACTION_DEADLINE: Duration = Duration::from_secs(300);

/// oneadmin's home on a front-end and on a node.
const HOME: &str = "/var/lib/one";
/// How much of a driver's output is read, in bytes.
const OUTPUT: usize = 1 << 20;

/// A call of a script by its path, as `user` when root calls, with [`ACTION_DEADLINE`].
pub fn call(script: &Path, user: &str) -> Command {
    let command = if geteuid().is_root() {
        Command::local("setpriv")
            .args(["--reuid", user, "--regid", user, "--init-groups", "--"])
            .args([script])
            .env("HOME", HOME)
            .env("USER", user)
    } else {
        Command::local(script)
    };
    command.within(ACTION_DEADLINE).keeping(OUTPUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_gets_its_arguments_and_its_document_and_answers() {
        let script = "cat; echo \"$1 $WORD\"; echo \"INFO: $HOME\" >&2; exit 3";
        let call = call(Path::new("/bin/sh"), "root")
            .args(["-c", script, "sh", "an argument"])
            .env("WORD", "w")
            .input("document ");
        let output = call.run().unwrap();
        assert_eq!(output.code, Some(3));
        assert_eq!(output.stdout, "document an argument w\n");
        assert!(!geteuid().is_root() || output.stderr == "INFO: /var/lib/one\n");
    }
}
