//! The bridges on which VMs are held to their own addresses (docs/networking.md); `onedock-runtime` reads
//! the list at each start (`node/src/network/guard.rs`).

use std::str::FromStr;

use onedock_common::IfName;
use onedock_common::process::find_local;

use crate::file_step::PutFile;
use crate::host::Host;
use crate::owner::Owner;
use crate::step::Step;

const PATH: &str = "/etc/onedock/guarded-bridges";

/// A bridge by its name, or all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuardedBridge(String);

impl FromStr for GuardedBridge {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if text != "*" {
            text.parse::<IfName>().map_err(|e| e.to_string())?;
        }
        Ok(Self(text.to_owned()))
    }
}

/// Writes the list, in place of an earlier one.
pub(super) fn step(host: &Host, bridges: &[GuardedBridge]) -> Box<dyn Step> {
    let mut text = String::from(
        "# Bridges on which a VM sends with its own addresses only, one a line; * stands for all.\n\
         # In force from the next start of each VM on (docs/networking.md).\n",
    );
    for GuardedBridge(name) in bridges {
        text += &format!("{name}\n");
    }
    PutFile::new(host.path(PATH), text, 0o644, Owner::root())
}

/// The remark where no VM could start on a guarded bridge.
pub(super) fn notes(host: &Host) -> Option<String> {
    (host.path(PATH).exists() && find_local("nft").is_none()).then(|| {
        format!(
            "WARNING: the program nft is missing, without which no VM starts on a bridge in {PATH}: \
             install the package nftables."
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{Mode, run};

    #[test]
    fn a_bridge_is_named_as_the_kernel_names_it_or_all_are() {
        for good in ["onebr0", "*", "vxbr.7"] {
            assert_eq!(good.parse(), Ok(GuardedBridge(good.to_owned())));
        }
        for bad in ["", "a b", "../x", "br0\nbr1", "a-name-of-17-bytes"] {
            assert!(bad.parse::<GuardedBridge>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_list_is_written_as_it_was_given() {
        let dir = tempfile::tempdir().unwrap();
        let host = Host::at(dir.path());
        std::fs::create_dir_all(host.path("/etc/onedock")).unwrap();
        let bridges = ["onebr0", "onebr1"].map(|name| name.parse().unwrap());
        let steps = vec![step(&host, &bridges)];
        // As another user than root the owner cannot be set.
        if run(&steps, Mode::Apply, &mut Vec::new()).is_ok() {
            let text = std::fs::read_to_string(host.path(PATH)).unwrap();
            assert!(text.ends_with("\nonebr0\nonebr1\n"), "{text}");
        }
    }
}
