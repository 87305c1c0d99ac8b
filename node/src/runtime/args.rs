//! The command line of an OCI runtime, as containerd's runc shim sends it
//! (`--root R --log F --log-format json [--systemd-cgroup] SUB … ID`). It is read, never
//! changed: what goes to the real runtime is what came.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use onedock_common::ContainerId;

/// Global options of runc and crun that take a value of their own.
const WITH_VALUE: [&str; 7] = [
    "root",
    "log",
    "log-format",
    "log-level",
    "criu",
    "cgroup-manager",
    "rootless",
];

/// A call of the runtime.
#[derive(Debug, Clone, Default)]
pub struct Call {
    args: Vec<OsString>,
    sub: Option<usize>,
}

impl Call {
    /// Reads the arguments without the program's own name.
    pub fn new(args: impl IntoIterator<Item = OsString>) -> Self {
        let args: Vec<OsString> = args.into_iter().collect();
        let mut at = 0;
        let mut sub = None;
        while let Some(arg) = args.get(at) {
            match option_name(arg) {
                None => {
                    sub = Some(at);
                    break;
                }
                Some(name) => at += if WITH_VALUE.contains(&name) { 2 } else { 1 },
            }
        }
        Self { args, sub }
    }

    /// All arguments, as they came.
    pub fn args(&self) -> &[OsString] {
        &self.args
    }

    /// `create`, `start`, …; empty when there is none.
    pub fn sub_command(&self) -> &str {
        self.sub
            .and_then(|at| self.args.get(at))
            .and_then(|arg| arg.to_str())
            .unwrap_or("")
    }

    /// The container: the first argument behind the sub-command that is an engine's id. `exec`
    /// and `kill` have more behind it, the others end with it.
    pub fn container(&self) -> Option<ContainerId> {
        self.behind_sub()
            .iter()
            .find_map(|arg| arg.to_str()?.parse().ok())
    }

    /// `--bundle`, else the working directory.
    pub fn bundle(&self) -> PathBuf {
        value(self.behind_sub(), &["bundle", "b"]).map_or_else(|| ".".into(), PathBuf::from)
    }

    /// `--pid-file`.
    pub fn pid_file(&self) -> Option<PathBuf> {
        value(self.behind_sub(), &["pid-file"]).map(PathBuf::from)
    }

    /// `--process`, of an `exec`.
    pub fn process(&self) -> Option<PathBuf> {
        value(self.behind_sub(), &["process", "p"]).map(PathBuf::from)
    }

    /// `--log`, where the engine looks for the reason of a failure.
    pub fn log(&self) -> Option<PathBuf> {
        value(self.globals(), &["log"]).map(PathBuf::from)
    }

    /// Whether that file has JSON lines.
    pub fn log_is_json(&self) -> bool {
        value(self.globals(), &["log-format"]).is_some_and(|v| v == "json")
    }

    /// Whether the engine wants details in its log.
    pub fn debug(&self) -> bool {
        self.globals()
            .iter()
            .any(|arg| option_name(arg) == Some("debug"))
    }

    /// `--root`, the state folder of the real runtime.
    pub fn state_root(&self) -> Option<PathBuf> {
        value(self.globals(), &["root"]).map(PathBuf::from)
    }

    fn globals(&self) -> &[OsString] {
        let end = self.sub.unwrap_or(self.args.len());
        self.args.get(..end).unwrap_or_default()
    }

    fn behind_sub(&self) -> &[OsString] {
        self.sub
            .and_then(|at| self.args.get(at + 1..))
            .unwrap_or_default()
    }
}

/// The name of an option written `--name`, `-name`, `--name=value`; for the latter an empty
/// name, because its value does not stand apart.
fn option_name(arg: &OsStr) -> Option<&str> {
    let text = arg.to_str()?;
    let name = text.strip_prefix("--").or_else(|| text.strip_prefix('-'))?;
    Some(if name.contains('=') { "" } else { name })
}

fn value(args: &[OsString], names: &[&str]) -> Option<OsString> {
    let mut rest = args.iter();
    while let Some(arg) = rest.next() {
        let Some(text) = arg.to_str() else { continue };
        let Some(name) = text.strip_prefix("--").or_else(|| text.strip_prefix('-')) else {
            continue;
        };
        match name.split_once('=') {
            Some((name, value)) if names.contains(&name) => return Some(value.into()),
            None if names.contains(&name) => return rest.next().cloned(),
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(line: &str) -> Call {
        Call::new(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn the_calls_of_containerds_shim_are_read() {
        let id = "2e3e".repeat(16);
        let create = call(&format!(
            "--root /r/moby --log /b/log.json --log-format json --systemd-cgroup create --bundle /b --pid-file /b/init.pid {id}"
        ));
        assert_eq!(create.sub_command(), "create");
        assert_eq!(create.bundle(), PathBuf::from("/b"));
        assert_eq!(create.pid_file(), Some("/b/init.pid".into()));
        assert_eq!(create.log(), Some("/b/log.json".into()));
        assert_eq!(create.state_root(), Some("/r/moby".into()));
        assert!(create.log_is_json() && !create.debug());
        assert_eq!(create.container().unwrap().as_str(), id);
        for (line, sub) in [
            (
                format!("--root /r --log=/l --debug delete --force {id}"),
                "delete",
            ),
            (format!("--root /r kill {id} 15"), "kill"),
            (
                format!("--root /r exec --process /tmp/p --detach --pid-file /x.pid {id}"),
                "exec",
            ),
            (format!("--root /r update --resources - {id}"), "update"),
        ] {
            let call = call(&line);
            assert_eq!(call.sub_command(), sub);
            assert_eq!(call.container().unwrap().as_str(), id, "{line}");
        }
    }

    #[test]
    fn a_call_without_a_container_is_read_too() {
        assert_eq!(call("features").sub_command(), "features");
        assert_eq!(call("--version").sub_command(), "");
        assert_eq!(call("").sub_command(), "");
        assert!(call("--root start").container().is_none());
        assert_eq!(call("--root start").sub_command(), "");
        assert!(call("create ../../etc").container().is_none());
    }

    #[test]
    fn a_bundle_may_be_written_in_any_form() {
        for line in [
            "create -b /b x",
            "create --bundle=/b x",
            "create -bundle /b x",
        ] {
            assert_eq!(call(line).bundle(), PathBuf::from("/b"));
        }
        assert_eq!(call("create x").bundle(), PathBuf::from("."));
    }

    #[test]
    fn the_real_runtime_gets_the_call_as_it_came() {
        let words = ["--root", "/r", "start", "x"];
        let passed = call(&words.join(" "));
        assert_eq!(passed.args(), words.map(OsString::from));
    }

    #[test]
    fn the_engine_s_log_is_json_and_detailed_only_where_it_says_so() {
        assert!(!call("--log /l --log-format text create x").log_is_json());
        assert!(!call("--log /l create x").log_is_json());
        assert!(call("--debug create x").debug());
        assert!(!call("create --debug x").debug());
    }

    #[test]
    fn a_value_of_one_option_is_not_taken_for_that_of_another() {
        let created = call("--log=/l create --other=/o --bundle /b x");
        assert_eq!(created.bundle(), PathBuf::from("/b"));
        // What stands before the sub-command is not behind it.
        let listed = call("--root /r --bundle /no start x");
        assert_eq!(listed.bundle(), PathBuf::from("."));
    }
}
