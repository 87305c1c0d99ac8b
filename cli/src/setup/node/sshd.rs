//! How many connections the node's sshd lets wait for their login (`MaxStartups`,
//! `sshd_config(5)`). OpenNebula opens some for each step of a VM; the default of 10:30:100 drops
//! them at random from ten on, and a VM fails with "Connection closed by remote host" when many are
//! begun at once. The setting goes into a file of its own, where sshd reads such files and nobody
//! has decided otherwise.

use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::runtime::Remarks;
use crate::error::{Error, Result};
use crate::file_step::{Folder, put};
use crate::host::Host;
use crate::owner::Owner;
use crate::setup::distribution::SSH_UNITS;
use crate::setup::processes;
use crate::step::{State, Step, action};
use onedock_common::process::{Command, find_local};

/// The configuration, and where distributions keep it that leave `/etc` to the administrator.
const CONFIGURATIONS: [&str; 2] = ["/etc/ssh/sshd_config", "/usr/etc/ssh/sshd_config"];
const FOLDER: &str = "/etc/ssh/sshd_config.d";
const FILE: &str = "/etc/ssh/sshd_config.d/onedock.conf";

/// Two hundred connections that wait for their login, and none dropped at random below.
const VALUE: &str = "200:30:400";

const TEXT: &str = "# ONEDock: OpenNebula opens a connection for each step of a VM. With the default \
                    of 10:30:100\n# some are refused when many VMs are begun at once.\n\
                    MaxStartups 200:30:400\n";

/// Whether the setting can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    /// It is made already.
    Made,
    /// A file of ours is read and nobody else has a say.
    CanBeMade,
    /// An administrator has decided.
    Decided { file: PathBuf, value: String },
    /// No file of ours would be read.
    NotRead,
}

/// The setting; what keeps it from being made goes to the remarks.
pub(super) fn step(host: &Host, remarks: &Remarks) -> Box<dyn Step> {
    step_with(host, remarks, test, reload)
}

/// `test` has sshd check its configuration, `reload` makes it read it.
fn step_with(
    host: &Host,
    remarks: &Remarks,
    test: impl Fn() -> std::result::Result<(), String> + Copy + 'static,
    reload: impl Fn() -> Result<()> + 'static,
) -> Box<dyn Step> {
    let path = host.path(FILE);
    let (a, b, remarks) = (host.clone(), path.clone(), Rc::clone(remarks));
    action(
        path.display().to_string(),
        move || {
            let needed = || Ok(State::Needed(format!("MaxStartups {VALUE}")));
            let remark = match host_verdict(&a) {
                Verdict::Made => return Ok(State::Unchanged),
                // In a dry run sshd may be yet to be installed, with its configuration.
                _ if find_local("sshd").is_none() => return needed(),
                Verdict::CanBeMade => match test() {
                    Ok(()) => return needed(),
                    // The service makes it when it starts.
                    Err(why) if missing_folder(&why).is_some() => return needed(),
                    Err(why) => format!("`sshd -t` fails before it is changed ({why})"),
                },
                Verdict::Decided { value, .. } if enough(&value) => {
                    return Ok(State::Unchanged);
                }
                Verdict::Decided { file, value } => {
                    format!("{} has MaxStartups {value}", file.display())
                }
                Verdict::NotRead => format!("its configuration does not include {FOLDER}/*.conf"),
            };
            remarks.borrow_mut().push(format!(
                "WARNING: sshd's MaxStartups was not raised, because {remark}: when many VMs are \
                 begun at once connections are refused; set MaxStartups {VALUE} yourself."
            ));
            Ok(State::Unchanged)
        },
        move || {
            put(&b, TEXT.as_bytes(), 0o644, &Owner::root())?;
            let missing = test().err().as_deref().and_then(missing_folder);
            if let Some(folder) = &missing {
                Folder::new(folder.clone(), 0o755, Owner::root()).apply()?;
            }
            let tested = test();
            if let Some(folder) = missing {
                // Only for this test: the service makes its own and removes it when it ends.
                fs::remove_dir(&folder).map_err(Error::file("remove", &folder))?;
            }
            if let Err(why) = tested {
                fs::remove_file(&b).map_err(Error::file("remove", &b))?;
                return Err(Error::refused(format!(
                    "sshd does not take MaxStartups {VALUE}, so {} was removed again: {why}",
                    b.display()
                )));
            }
            reload()
        },
    )
}

fn host_verdict(host: &Host) -> Verdict {
    let main = CONFIGURATIONS
        .iter()
        .map(|path| host.path(path))
        .find_map(|path| Some((path.clone(), fs::read_to_string(&path).ok()?)));
    let mut files: Vec<(PathBuf, String)> = fs::read_dir(host.path(FOLDER))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .filter_map(|path| Some((path.clone(), fs::read_to_string(&path).ok()?)))
        .collect();
    files.sort();
    judge(main, files, &host.path(FILE))
}

/// From the configuration and the files beside it. An explicit setting counts wherever it stands,
/// also behind ours, where sshd would pass over it.
fn judge(main: Option<(PathBuf, String)>, files: Vec<(PathBuf, String)>, ours: &Path) -> Verdict {
    let Some((main, text)) = main else {
        return Verdict::NotRead;
    };
    if !includes_folder(&text) {
        return match setting(&text) {
            Some(value) => Verdict::Decided { file: main, value },
            None => Verdict::NotRead,
        };
    }
    let mut made = false;
    for (file, text) in files.into_iter().chain([(main, text)]) {
        if file == ours {
            made = text == TEXT;
        } else if let Some(value) = setting(&text) {
            return Verdict::Decided { file, value };
        }
    }
    if made {
        Verdict::Made
    } else {
        Verdict::CanBeMade
    }
}

/// Each line's keyword in lower case and its arguments. A `=` may stand between them. A comment's
/// is no keyword that is asked for, because the `#` belongs to it.
fn lines(text: &str) -> impl Iterator<Item = (String, &str)> {
    text.lines().filter_map(|line| {
        let line = line.trim();
        let end = line.find(|c: char| c.is_whitespace() || c == '=')?;
        let (keyword, rest) = line.split_at(end);
        let rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '=');
        Some((keyword.to_ascii_lowercase(), rest))
    })
}

fn setting(text: &str) -> Option<String> {
    lines(text)
        .find(|(keyword, _)| keyword == "maxstartups")
        .map(|(_, value)| value.trim_matches('"').to_owned())
}

/// Whether the folder's files are read, for every connection: what a `Match` includes is not.
fn includes_folder(text: &str) -> bool {
    lines(text)
        .take_while(|(keyword, _)| keyword != "match")
        .filter(|(keyword, _)| keyword == "include")
        .flat_map(|(_, files)| files.split_whitespace())
        .map(|pattern| pattern.trim_matches('"'))
        // A relative one is sought in /etc/ssh.
        .any(|pattern| {
            pattern == "sshd_config.d/*.conf" || pattern == "/etc/ssh/sshd_config.d/*.conf"
        })
}

/// Whether nothing is dropped at random where a burst of VMs is begun.
fn enough(value: &str) -> bool {
    let start = value.split(':').next().unwrap_or_default();
    start.parse::<u32>().is_ok_and(|start| start >= 100)
}

/// Has sshd check its configuration.
fn test() -> std::result::Result<(), String> {
    Command::local("sshd")
        .args(["-t"])
        .checked()
        .map(drop)
        .map_err(|why| why.to_string())
}

/// The folder in `/run` without which no sshd checks its configuration. One that was never
/// started, or that systemd starts with the first connection, has none.
fn missing_folder(why: &str) -> Option<PathBuf> {
    let (_, folder) = why.split_once("Missing privilege separation directory: ")?;
    Some(PathBuf::from(folder.trim())).filter(|folder| folder.starts_with("/run"))
}

/// A running sshd reads its configuration again. Connections that are open stay.
fn reload() -> Result<()> {
    if Host::this().has_systemd() {
        for unit in SSH_UNITS {
            let active = Command::local("systemctl")
                .args(["is-active", "--quiet", unit])
                .run()?;
            if active.succeeded() {
                return Ok(Command::local("systemctl")
                    .args(["reload", unit])
                    .checked()
                    .map(drop)?);
            }
        }
        return Ok(());
    }
    let pid = fs::read_to_string("/run/sshd.pid").unwrap_or_default();
    let pid: i32 = pid.trim().parse().unwrap_or_default();
    // A number outlives its process.
    let runs = processes::all()
        .iter()
        .any(|process| process.pid == pid && process.name == "sshd");
    if !runs {
        return Ok(());
    }
    kill(Pid::from_raw(pid), Signal::SIGHUP)
        .map_err(|e| Error::refused(format!("sshd, process {pid}, cannot be reloaded: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// The head of Debian 12's file.
    const DEBIAN: &str = "# This is the sshd server system-wide configuration file.\n\n\
        Include /etc/ssh/sshd_config.d/*.conf\n\n#Port 22\n#MaxStartups 10:30:100\nUsePAM yes\n";

    fn verdict(main: &str, files: &[(&str, &str)]) -> Verdict {
        let files = files.iter().map(|(n, t)| (n.into(), (*t).to_owned()));
        let main = Some(("/etc/ssh/sshd_config".into(), main.to_owned()));
        judge(main, files.collect(), Path::new(FILE))
    }

    fn decided(file: &str, value: &str) -> Verdict {
        Verdict::Decided {
            file: file.into(),
            value: value.into(),
        }
    }

    #[test]
    fn a_stock_configuration_lets_it_be_made_and_then_it_is() {
        assert_eq!(verdict(DEBIAN, &[]), Verdict::CanBeMade);
        assert_eq!(verdict(DEBIAN, &[(FILE, TEXT)]), Verdict::Made);
        assert_eq!(
            verdict(DEBIAN, &[(FILE, "MaxStartups 5\n")]),
            Verdict::CanBeMade
        );
        assert_eq!(
            verdict("include sshd_config.d/*.conf other\n", &[]),
            Verdict::CanBeMade
        );
        assert!(TEXT.ends_with(&format!("MaxStartups {VALUE}\n")));
        assert!(enough(VALUE));
    }

    #[test]
    fn what_an_administrator_has_said_stays_wherever_it_stands() {
        let behind = DEBIAN.replace("#MaxStartups", "  maxstartups");
        let before = format!("MaxStartups=50\n{DEBIAN}");
        for (main, file, text, value) in [
            (&*behind, "/etc/ssh/sshd_config", "", "10:30:100"),
            (&before, "/etc/ssh/sshd_config", "", "50"),
            (
                DEBIAN,
                "/etc/ssh/sshd_config.d/a.conf",
                "MaxStartups \"9\"\n",
                "9",
            ),
            (
                DEBIAN,
                "/etc/ssh/sshd_config.d/z.conf",
                "MAXSTARTUPS 300\n",
                "300",
            ),
        ] {
            let files: &[(&str, &str)] = if text.is_empty() {
                &[]
            } else {
                &[(file, text)]
            };
            assert_eq!(verdict(main, files), decided(file, value));
        }
        assert!(enough("300:30:400") && enough("100") && !enough("10:30:100") && !enough("x"));
    }

    #[test]
    fn a_file_that_sshd_would_not_read_for_every_connection_is_not_written() {
        for main in [
            "Port 22\n",
            "# Include /etc/ssh/sshd_config.d/*.conf\n",
            "Match User x\n  Include /etc/ssh/sshd_config.d/*.conf\n",
            "Include /etc/ssh/other.d/*.conf\n",
        ] {
            assert_eq!(verdict(main, &[]), Verdict::NotRead, "{main}");
        }
        assert_eq!(
            verdict("MaxStartups 7\n", &[]),
            decided("/etc/ssh/sshd_config", "7")
        );
        assert_eq!(judge(None, Vec::new(), Path::new(FILE)), Verdict::NotRead);
    }

    #[test]
    fn an_sshd_that_was_never_started_lacks_its_folder_and_nothing_else() {
        let why = "sshd: failed: Missing privilege separation directory: /run/sshd";
        assert_eq!(missing_folder(why), Some("/run/sshd".into()));
        assert_eq!(missing_folder(&why.replace("/run", "/etc")), None);
        assert_eq!(missing_folder("sshd: failed: no hostkeys available"), None);
    }

    #[test]
    fn what_sshd_does_not_take_is_removed_again_and_what_it_takes_is_in_force() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        fs::create_dir_all(host.path(FOLDER)).unwrap();
        fs::write(host.path("/etc/ssh/sshd_config"), DEBIAN).unwrap();
        let (remarks, reloads) = (Remarks::default(), Rc::new(Cell::new(0)));
        let ours = host.path(FILE);
        let with = |test: fn() -> std::result::Result<(), String>| {
            let reloads = Rc::clone(&reloads);
            step_with(&host, &remarks, test, move || {
                reloads.set(reloads.get() + 1);
                Ok(())
            })
        };
        let refusing = with(|| Err("line 3: Bad configuration option".into()));
        let line = refusing.apply().unwrap_err().line();
        assert!(line.contains("was removed again: line 3: Bad"), "{line}");
        assert_eq!((ours.exists(), reloads.get()), (false, 0));
        // One that is broken before is left alone, with a remark.
        assert_eq!(refusing.check().unwrap(), State::Unchanged);
        let text = remarks.take().join("\n");
        assert!(
            text.contains("fails before it is changed (line 3: Bad"),
            "{text}"
        );
        let taking = with(|| Ok(()));
        assert!(matches!(taking.check().unwrap(), State::Needed(_)));
        taking.apply().unwrap();
        assert_eq!(fs::read_to_string(&ours).unwrap(), TEXT);
        assert_eq!(reloads.get(), 1);
        assert_eq!(taking.check().unwrap(), State::Unchanged);
        assert!(remarks.take().is_empty());
    }

    #[test]
    fn the_files_of_a_machine_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        assert_eq!(host_verdict(&host), Verdict::NotRead);
        fs::create_dir_all(host.path(FOLDER)).unwrap();
        fs::write(host.path("/etc/ssh/sshd_config"), DEBIAN).unwrap();
        fs::write(host.path(FOLDER).join("backup.conf.old"), "MaxStartups 1\n").unwrap();
        assert_eq!(host_verdict(&host), Verdict::CanBeMade);
        fs::write(host.path(FILE), TEXT).unwrap();
        assert_eq!(host_verdict(&host), Verdict::Made);
    }
}
