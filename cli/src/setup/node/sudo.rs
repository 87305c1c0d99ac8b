//! The rights of oneadmin: one line of ours, and, where no OpenNebula package has brought
//! them, those that its network drivers need (`share/sudoers/sudoers.rb`).

use std::fs;
use std::path::Path;

use crate::error::{Error, Result};
use crate::file_step::put;
use crate::host::Host;
use crate::owner::Owner;
use crate::step::{State, Step, Steps, action};
use onedock_common::process::Command;

/// One program without arguments: everything else comes as one checked request on its stdin.
/// Without the "" the program could be called with any arguments (`sudoers(5)`).
const OURS: &str = "oneadmin ALL=(root) NOPASSWD: /usr/lib/onedock/onedock-node \"\"\n";

/// Where sudo finds oneadmin's programs, as OpenNebula's own file says.
const SECURE_PATH: [&str; 4] = ["/sbin", "/bin", "/usr/sbin", "/usr/bin"];

/// The aliases of OpenNebula's file that its network drivers use.
const NET: [&str; 11] = [
    "iptables",
    "ip6tables",
    "ipset",
    "ip link *",
    "ip neighbour *",
    "ip route *",
    "ip rule *",
    "ip tuntap *",
    "nft",
    "bridge",
    "ethtool",
];
const NETNS: [&str; 3] = ["ip netns add *", "ip netns delete *", "ip netns pids *"];
const OVS: [&str; 3] = ["ovs-ofctl", "ovs-vsctl", "ovs-appctl"];

/// Both files.
pub(super) fn steps(host: &Host) -> Steps {
    let folder = host.path("/etc/sudoers.d");
    let mut steps: Steps = vec![file_step(&folder.join("onedock"), || OURS.to_owned())];
    if !has_stock_rights(&folder) {
        steps.push(file_step(&folder.join("onedock-network"), || {
            network_rights(&is_there)
        }));
    }
    steps
}

fn is_there(path: &str) -> bool {
    Path::new(path).exists()
}

/// A file that is checked by visudo before it is put where sudo reads it: one wrong file there
/// and nobody can use sudo any more.
fn file_step(path: &Path, text: impl Fn() -> String + Clone + 'static) -> Box<dyn Step> {
    let (a, b, wanted) = (path.to_path_buf(), path.to_path_buf(), text.clone());
    action(
        path.display().to_string(),
        move || {
            let found = fs::read_to_string(&a).unwrap_or_default();
            Ok(State::needed_if(
                found != wanted(),
                "write it, checked by visudo",
            ))
        },
        move || {
            let text = text();
            check(&text)?;
            put(&b, text.as_bytes(), 0o440, &Owner::root())
        },
    )
}

fn check(text: &str) -> Result<()> {
    let folder = tempfile::tempdir().map_err(Error::file("make", Path::new("a folder")))?;
    let path = folder.path().join("sudoers");
    fs::write(&path, text).map_err(Error::file("write", &path))?;
    Ok(Command::local("visudo")
        .args([Path::new("-cf"), &path])
        .checked()
        .map(drop)?)
}

/// Whether a package gives oneadmin the network drivers' rights on this machine.
fn has_stock_rights(folder: &Path) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| fs::read_to_string(entry.path()).is_ok_and(|text| gives_net(&text)))
}

fn gives_net(text: &str) -> bool {
    text.lines()
        .any(|line| line.starts_with("oneadmin ") && line.contains("ONE_NET"))
}

/// The rights for the programs that are there; the aliases have names of our own, so that
/// OpenNebula's file can come later beside them.
fn network_rights(is_there: &dyn Fn(&str) -> bool) -> String {
    let mut text = String::from(
        "# What OpenNebula's network drivers call on a node; written because no package of\n\
         # OpenNebula is installed here.\n\
         Defaults:oneadmin secure_path = /sbin:/bin:/usr/sbin:/usr/bin\n\n",
    );
    let mut names = Vec::new();
    for (name, commands) in [("NET", &NET[..]), ("NETNS", &NETNS[..]), ("OVS", &OVS[..])] {
        let paths: Vec<_> = commands
            .iter()
            .filter_map(|c| full_path(c, is_there))
            .collect();
        if !paths.is_empty() {
            text.push_str(&format!(
                "Cmnd_Alias ONEDOCK_{name} = {}\n",
                paths.join(", ")
            ));
            names.push(format!("ONEDOCK_{name}"));
        }
    }
    if !names.is_empty() {
        text.push_str(&format!(
            "\noneadmin ALL=(ALL) NOPASSWD: {}\n",
            names.join(", ")
        ));
    }
    text
}

fn full_path(command: &str, is_there: &dyn Fn(&str) -> bool) -> Option<String> {
    let (program, arguments) = command.split_once(' ').unwrap_or((command, ""));
    let path = SECURE_PATH
        .iter()
        .map(|f| format!("{f}/{program}"))
        .find(|p| is_there(p))?;
    Some(format!("{path} {arguments}").trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attack_our_line_allows_one_program_without_arguments() {
        assert_eq!(
            OURS,
            "oneadmin ALL=(root) NOPASSWD: /usr/lib/onedock/onedock-node \"\"\n"
        );
        check(OURS).unwrap();
    }

    #[test]
    fn the_network_rights_name_whole_paths_of_what_is_there() {
        let text = network_rights(&|p| ["/sbin/iptables", "/bin/ip"].contains(&p));
        check(&text).unwrap();
        assert!(
            text.contains("Cmnd_Alias ONEDOCK_NET = /sbin/iptables, /bin/ip link *, "),
            "{text}"
        );
        assert!(text.ends_with("oneadmin ALL=(ALL) NOPASSWD: ONEDOCK_NET, ONEDOCK_NETNS\n"));
        assert!(!text.contains("OVS"));
        check(&network_rights(&|_| false)).unwrap();
        check(&network_rights(&is_there)).unwrap();
    }

    #[test]
    fn a_rule_that_sudo_cannot_read_is_not_put_in_place() {
        assert!(check("oneadmin ALL=(root NOPASSWD: x\n").is_err());
    }

    #[test]
    fn stock_rights_are_known_by_their_rule_not_by_their_aliases() {
        assert!(gives_net(
            "x\noneadmin ALL=(ALL:ALL) NOPASSWD: ONE_CEPH, ONE_NET\n"
        ));
        assert!(!gives_net(
            "Cmnd_Alias ONE_NET = /usr/sbin/ip\n# oneadmin ALL= ONE_NET\n"
        ));
        assert!(!gives_net(
            "oneadmin ALL=(ALL) NOPASSWD: ONE_CEPH, ONE_HA\n"
        ));
    }
}
