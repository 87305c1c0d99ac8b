//! What is done only when it is sure: nothing is removed before what was pushed is read back, and a
//! disk goes back to its own image only.

use anyhow::{Result, ensure};
use onedock_tests::engine_server::uses_containerd;

use crate::hiding_registry::HidingRegistry;
use crate::hosts::{Hosts, deploy, descriptor, exec, has_container, stop};
use crate::{SHOW, WRITE};

#[test]
fn nothing_is_removed_or_made_current_while_what_was_pushed_cannot_be_read_back() -> Result<()> {
    let hosts = Hosts::start()?;
    let node1 = &hosts.node1;
    let registry = node1.inside(|| HidingRegistry::start(hosts.registry.address()))?;
    let source = hosts.image_at(registry.address(), 6)?;
    let saved = hosts.image_at(registry.address(), 7)?;
    let disk = |vm: u32| format!("node1:/var/lib/one/datastores/101/{vm}/disk.0");
    let refused = |words: &str| -> Result<()> {
        let line = hosts.refused(words)?;
        ensure!(line.contains("cannot be read back"), "{words}: {line}");
        Ok(())
    };
    hosts.tm(&format!("ln {source} {} 5 100", disk(5)))?;
    deploy(node1, 5)?;
    exec(node1, 5, WRITE)?;
    let before = (hosts.tags(6), hosts.tags(7));

    registry.hide(true);
    refused(&format!("snap_create_live {} 0 5 100", disk(5)))?;
    ensure!(descriptor(node1, 5)?.snapshots.is_empty(), "a snapshot");
    refused(&format!("cpds {} {saved} -1 5 100", disk(5)))?;
    stop(node1, 5)?;
    let to = disk(5).replace("node1", "node2");
    refused(&format!("mv {} {to} 5 100", disk(5)))?;
    refused(&format!("mvds {} {source} 5 100", disk(5)))?;
    ensure!(has_container(node1, 5)?, "the container went");
    let states = |tags: Vec<String>| -> Vec<String> {
        tags.into_iter()
            .filter(|tag| tag.starts_with("state-"))
            .collect()
    };
    ensure!(
        (states(hosts.tags(6)), states(hosts.tags(7))) == (states(before.0), states(before.1)),
        "a version was made current"
    );
    // Disks that were not changed are the image that they stand on, which has to be there as well.
    registry.hide(false);
    hosts.tm(&format!("ln {source} {} 8 100", disk(8)))?;
    registry.hide(true);
    refused(&format!("cpds {} {saved} -1 8 100", disk(8)))?;
    refused(&format!("mvds {} {source} 8 100", disk(8)))?;
    ensure!(descriptor(node1, 8).is_ok(), "the disk went");

    registry.hide(false);
    hosts.tm(&format!("mvds {} {source} 5 100", disk(5)))?;
    ensure!(!has_container(node1, 5)?, "a container is left");
    ensure!(states(hosts.tags(6)).len() == 1, "{:?}", hosts.tags(6));
    hosts.tm(&format!("delete {} 8 100", disk(8))).map(drop)
}

/// Where the engine itself commits and pushes.
#[test]
fn a_disk_of_an_engine_without_overlays_moves_when_it_can_be_read_back() -> Result<()> {
    let storage = if uses_containerd() {
        "--storage-driver=native"
    } else {
        "--storage-driver=vfs"
    };
    let hosts = Hosts::start_with(&[storage])?;
    let (node1, node2) = (&hosts.node1, &hosts.node2);
    let registry = node1.inside(|| HidingRegistry::start(hosts.registry.address()))?;
    let source = hosts.image_at(registry.address(), 6)?;
    let [from, to] =
        ["node1", "node2"].map(|h| format!("{h}:/var/lib/one/datastores/101/5/disk.0"));
    hosts.tm(&format!("clone {source} {from} 5 100"))?;
    deploy(node1, 5)?;
    exec(node1, 5, WRITE)?;
    let before = exec(node1, 5, SHOW)?;
    stop(node1, 5)?;
    registry.hide(true);
    let line = hosts.refused(&format!("mv {from} {to} 5 100"))?;
    ensure!(line.contains("cannot be read back"), "{line}");
    ensure!(has_container(node1, 5)?, "the container went");
    registry.hide(false);
    hosts.tm(&format!("mv {from} {to} 5 100"))?;
    ensure!(!has_container(node1, 5)?, "the source keeps a container");
    deploy(node2, 5)?;
    // The engine's own commit knows no pipes and no hard links.
    let after = exec(node2, 5, SHOW)?;
    ensure!(after.lines().next() == before.lines().next(), "{after}");
    stop(node2, 5)?;
    hosts.tm(&format!("delete {to} 5 100")).map(drop)
}

#[test]
fn a_disk_is_not_saved_into_another_image() -> Result<()> {
    let hosts = Hosts::start()?;
    let node1 = &hosts.node1;
    let (source, other) = (hosts.image(6)?, hosts.image(7)?);
    let disk = "node1:/var/lib/one/datastores/101/5/disk.0";
    hosts.tm(&format!("ln {source} {disk} 5 100"))?;
    deploy(node1, 5)?;
    exec(node1, 5, WRITE)?;
    stop(node1, 5)?;
    let line = hosts.refused(&format!("mvds {disk} {other} 5 100"))?;
    ensure!(line.contains("is a disk of the image"), "{line}");
    ensure!(has_container(node1, 5)?, "the container went");
    ensure!(hosts.tags(7) == ["latest"], "{:?}", hosts.tags(7));
    hosts.tm(&format!("delete {disk} 5 100")).map(drop)
}
