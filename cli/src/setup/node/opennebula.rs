//! An OpenNebula that runs on the node itself. Its drivers are children of `oned` and have the
//! groups that oneadmin had when `oned` was started: without group docker the transfer manager
//! cannot speak to the engine of its own machine (undeploy, stop).

use std::path::{Path, PathBuf};

use super::account;
use crate::error::Result;
use crate::host::Host;
use crate::setup::processes::{self, Process};
use crate::setup::restart;

/// The remark about an `oned` that was started before oneadmin was in group docker.
pub(super) fn notice(host: &Host) -> Result<Option<String>> {
    let (Some(uid), Some(gid)) = (account::oneadmin_uid()?, account::docker_gid()?) else {
        return Ok(None);
    };
    let has_unit = restart::has_unit(host);
    Ok(describe(&processes::all(), uid, gid, has_unit))
}

fn describe(processes: &[Process], uid: u32, gid: u32, has_unit: bool) -> Option<String> {
    let oned = processes
        .iter()
        .find(|process| process.name == "oned" && process.lacks_group(uid, gid))?;
    let command = restart::command(has_unit, location(oned).as_deref());
    Some(format!(
        "WARNING: OpenNebula (oned, process {}) was started before oneadmin was in group docker: \
         until it is restarted, undeploy, stop and migration of VMs on this host fail. As root: \
         {command}",
        oned.pid
    ))
}

/// The folder of a self-contained OpenNebula.
fn location(oned: &Process) -> Option<PathBuf> {
    let named = oned.variable("ONE_LOCATION").filter(|v| v.starts_with('/'));
    let by_program = || {
        let folder = oned.program.as_ref()?.parent()?.parent()?;
        (folder != Path::new("/usr") && folder != Path::new("/")).then_some(folder)
    };
    named.map(Path::new).or_else(by_program).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHOUT: &str = "Uid:\t9869\t9869\t9869\t9869\nGroups:\t9869 \n";
    const WITH: &str = "Uid:\t9869\t9869\t9869\t9869\nGroups:\t110 9869 \n";

    fn process(name: &str, status: &str, program: &str, environment: &str) -> Process {
        Process {
            pid: 77,
            name: name.into(),
            status: status.into(),
            program: Some(program.into()),
            environment: environment.into(),
            ..Process::default()
        }
    }

    fn remark(process: Process, has_unit: bool) -> Option<String> {
        describe(&[Process::default(), process], 9869, 110, has_unit)
    }

    #[test]
    fn an_oned_without_the_group_is_to_be_restarted_with_the_command_of_the_machine() {
        let package = process("oned", WITHOUT, "/usr/bin/oned", "HOME=/var/lib/one\0");
        let line = remark(package.clone(), true).unwrap();
        assert!(line.contains("(oned, process 77)"), "{line}");
        assert!(
            line.ends_with("As root: systemctl restart opennebula"),
            "{line}"
        );
        let line = remark(package, false).unwrap();
        assert!(
            line.ends_with("As root: su - oneadmin -c 'one stop; one start'"),
            "{line}"
        );
        for own in [
            process("oned", WITHOUT, "/opt/one/bin/oned", ""),
            process(
                "oned",
                WITHOUT,
                "/somewhere/oned",
                "A=1\0ONE_LOCATION=/opt/one\0",
            ),
        ] {
            let line = remark(own, true).unwrap();
            assert!(
                line.contains("export ONE_LOCATION=/opt/one; /opt/one/bin/one stop"),
                "{line}"
            );
        }
    }

    #[test]
    fn nothing_is_said_where_no_oned_lacks_the_group() {
        assert_eq!(
            remark(process("oned", WITH, "/usr/bin/oned", ""), true),
            None
        );
        assert_eq!(
            remark(process("monitord", WITHOUT, "/usr/bin/monitord", ""), true),
            None
        );
        let of_another = WITHOUT.replace("9869\t", "1000\t");
        assert_eq!(
            remark(process("oned", &of_another, "/usr/bin/oned", ""), true),
            None
        );
    }
}
