//! The VM's command: what it resolves to, and whether that is an init system.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::arguments::{First, User};

/// Programs that have to be process 1, by the name at the end of what the command resolves to.
const INITS: [&str; 8] = [
    "init",
    "systemd",
    "openrc-init",
    "s6-init",
    "s6-svscan",
    "runit",
    "runit-init",
    "dinit",
];

/// Where they lie. A program of one of these names elsewhere is somebody's own.
const FOLDERS: [&str; 10] = [
    "/",
    "/sbin",
    "/bin",
    "/usr/sbin",
    "/usr/bin",
    "/lib/systemd",
    "/usr/lib/systemd",
    "/usr/local/bin",
    "/usr/local/sbin",
    "/command",
];

/// The context packages of OpenNebula in an image.
const CONTEXT_PACKAGES: &str = "/usr/sbin/one-contextd";

/// The file that is run for `program`, as `execvp` finds it.
pub fn resolved(program: &OsStr) -> Option<PathBuf> {
    let path = Path::new(program);
    if path.components().count() > 1 || path.is_absolute() {
        return is_program(path).then(|| path.to_owned());
    }
    let folders = env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into());
    env::split_paths(&folders)
        .map(|folder| folder.join(path))
        .find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o111 != 0)
}

/// Whether the command is an init system, by the path that it is called by or by what that is a link to.
pub fn is_init(command: &[OsString]) -> bool {
    let Some(path) = command.first().and_then(|program| resolved(program)) else {
        return false;
    };
    is_init_path(&path) || fs::canonicalize(&path).is_ok_and(|real| is_init_path(&real))
}

fn is_init_path(path: &Path) -> bool {
    let is_in = |list: &[&str], part: Option<&OsStr>| {
        part.and_then(OsStr::to_str)
            .is_some_and(|part| list.contains(&part))
    };
    is_in(&INITS, path.file_name()) && is_in(&FOLDERS, path.parent().map(Path::as_os_str))
}

/// Whether the image applies the context itself, once its init system runs.
pub fn has_context_packages() -> bool {
    Path::new(CONTEXT_PACKAGES).exists()
}

/// The command, ready to be started, with its user's HOME where the image names none.
pub fn of(first: &First) -> Option<Command> {
    let (program, arguments) = first.command.split_first()?;
    let mut command = Command::new(program);
    command.args(arguments);
    if first.home {
        let user = first.user.as_ref().map_or(0, |user: &User| user.user);
        let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
        command.env("HOME", home(&passwd, user));
    }
    Some(command)
}

/// The home folder of a user, as the runtimes choose it.
fn home(passwd: &str, user: u32) -> &str {
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let id = fields.nth(2)?;
        (id.parse() == Ok(user)).then_some(fields.nth(2))?
    });
    found.filter(|home| !home.is_empty()).unwrap_or("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_init_system_is_one_by_name_and_place() {
        for path in [
            "/init",
            "/sbin/init",
            "/usr/bin/init",
            "/s6-init",
            "/lib/systemd/systemd",
            "/usr/lib/systemd/systemd",
            "/sbin/openrc-init",
        ] {
            assert!(is_init_path(Path::new(path)), "{path}");
        }
        for path in [
            "/opt/app/init",
            "/sbin/nginx",
            "/srv/init",
            "/usr/bin/tini",
            "/",
        ] {
            assert!(!is_init_path(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_program_is_found_as_the_kernel_and_the_shell_find_it() {
        assert!(resolved(OsStr::new("sh")).is_some());
        assert_eq!(resolved(OsStr::new("/bin/sh")), Some("/bin/sh".into()));
        for program in ["/etc/passwd", "/bin", "no-such-program", ""] {
            assert_eq!(resolved(OsStr::new(program)), None, "{program}");
        }
        assert!(!is_init(&[]));
        assert!(!is_init(&["sh".into()]));
    }

    #[test]
    fn home_is_that_of_the_user_s_line() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:*:65534:65534::/:\nweb:x:33:33:w::\n";
        assert_eq!(home(passwd, 0), "/root");
        assert_eq!(home(passwd, 33), "/");
        assert_eq!(home(passwd, 1000), "/");
        assert_eq!(home("", 0), "/");
    }
}
