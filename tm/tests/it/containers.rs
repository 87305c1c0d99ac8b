//! Disks that are containers.

use std::fs;

use anyhow::{Result, ensure};

use crate::hosts::{Hosts, deploy, descriptor, exec, folder, has_container, stop};
use crate::{SHOW, WRITE};

#[test]
fn a_container_disk_goes_from_host_to_host_with_its_changes_and_its_snapshots() -> Result<()> {
    goes_there_and_back(&Hosts::start()?)
}

/// What an administrator does about VMs whose engine is to have another image store: their disks go
/// through the registry.
#[test]
#[ignore = "needs an engine with both image stores, from 28 on: make test-engines"]
fn a_container_disk_goes_from_one_image_store_to_the_other_and_back() -> Result<()> {
    goes_there_and_back(&Hosts::start_with(&[
        "--feature",
        "containerd-snapshotter=true",
    ])?)
}

fn goes_there_and_back(hosts: &Hosts) -> Result<()> {
    let source = hosts.image(6)?;
    let (node1, node2) = (&hosts.node1, &hosts.node2);
    let at = |host: &str| format!("{host}:/var/lib/one//datastores/101/5/disk.0");
    for _ in 0..2 {
        hosts.tm(&format!("clone {source} {} 5 100", at("node1")))?;
    }
    deploy(node1, 5)?;
    exec(node1, 5, WRITE)?;
    let before = exec(node1, 5, SHOW)?;
    let line = hosts.refused(&format!("mv {} {} 5 100", at("node1"), at("node2")))?;
    ensure!(line.contains("still runs"), "{line}");
    stop(node1, 5)?;

    // By another name of the same host nothing moves.
    hosts.tm(&format!("mv {} {} 5 100", at("other-name"), at("node1")))?;
    ensure!(has_container(node1, 5)?, "the container is gone");

    for _ in 0..2 {
        hosts.tm(&format!("mv {} {} 5 100", at("node1"), at("node2")))?;
    }
    hosts.tm("mv node1:/var/lib/one/datastores/101/5 node2:/var/lib/one/datastores/101/5 5 101")?;
    ensure!(!has_container(node1, 5)?, "the source keeps a container");
    ensure!(
        !node1.inside(|| Ok(folder(5).exists()))?,
        "the source keeps the folder"
    );
    deploy(node2, 5)?;
    ensure!(exec(node2, 5, SHOW)? == before, "{}", exec(node2, 5, SHOW)?);

    // A snapshot of the running VM; it goes on.
    for _ in 0..2 {
        hosts.tm(&format!("snap_create_live {} 0 5 100", at("node2")))?;
    }
    exec(node2, 5, "echo later > /later")?;
    stop(node2, 5)?;
    hosts.tm(&format!("snap_create {} 1 5 100", at("node2")))?;
    ensure!(
        hosts.tags(6).contains(&"vm-5-disk-0-snap-1".to_owned()),
        "{:?}",
        hosts.tags(6)
    );
    let line = hosts.refused(&format!("snap_revert {} 7 5 100", at("node2")))?;
    ensure!(line.contains("no snapshot 7, it has 0, 1"), "{line}");
    ensure!(
        has_container(node2, 5)?,
        "a refused revert removed the container"
    );

    // Back on the first host, without its container, the snapshots are there.
    hosts.tm(&format!("mv {} {} 5 100", at("node2"), at("localhost")))?;
    for _ in 0..2 {
        hosts.tm(&format!("snap_revert {} 0 5 100", at("localhost")))?;
    }
    deploy(node1, 5)?;
    ensure!(
        exec(node1, 5, SHOW)? == before,
        "the snapshot has other content"
    );
    ensure!(
        exec(node1, 5, "ls /")?.lines().all(|l| l != "later"),
        "written later"
    );
    stop(node1, 5)?;
    hosts.tm(&format!("snap_revert {} 1 5 100", at("node1")))?;
    for _ in 0..2 {
        hosts.tm(&format!("snap_delete {} 1 5 100", at("node1")))?;
    }
    deploy(node1, 5)?;
    ensure!(
        exec(node1, 5, "cat /later")? == "later",
        "not the second snapshot"
    );
    exec(node1, 5, "echo more > /more")?;
    stop(node1, 5)?;
    // The state that the disk stands on is still there to build upon.
    hosts.tm(&format!("snap_create {} 2 5 100", at("node1")))?;
    ensure!(descriptor(node1, 5)?.snapshots.len() == 2, "snapshots");

    for words in [
        at("node1"),
        "node1:/var/lib/one/datastores/101/5".to_owned(),
    ] {
        for _ in 0..2 {
            hosts.tm(&format!("delete {words} 5 100"))?;
        }
    }
    ensure!(!has_container(node1, 5)?, "a container is left");
    ensure!(hosts.tags(6) == ["latest"], "{:?}", hosts.tags(6));
    ensure!(
        !node1.inside(|| Ok(folder(5).exists()))?,
        "the folder is left"
    );
    Ok(())
}

#[test]
fn a_persistent_image_takes_its_changes_and_snapshots_and_a_copy_is_saved_of_a_running_vm()
-> Result<()> {
    let hosts = Hosts::start()?;
    let source = hosts.image(6)?;
    let saved = hosts.image(7)?;
    let node1 = &hosts.node1;
    let disk = |vm: u32| format!("localhost:/var/lib/one/datastores/101/{vm}/disk.0");
    hosts.tm(&format!("ln {source} {} 5 100", disk(5)))?;
    deploy(node1, 5)?;
    exec(node1, 5, WRITE)?;
    let before = exec(node1, 5, SHOW)?;

    hosts.tm(&format!("snap_create_live {} 0 5 100", disk(5)))?;
    let line = hosts.refused(&format!("cpds {} {saved} 9 5 100", disk(5)))?;
    ensure!(line.contains("no snapshot 9"), "{line}");
    exec(node1, 5, "echo later > /later")?;
    for _ in 0..2 {
        hosts.tm(&format!("cpds {} {saved} -1 5 100", disk(5)))?;
    }
    let words = [
        "inspect",
        "-f",
        "{{.State.Paused}} {{.State.Running}}",
        "one-5",
    ];
    ensure!(node1.docker(&words)? == "false true", "it does not go on");
    stop(node1, 5)?;
    for _ in 0..2 {
        hosts.tm(&format!("mvds {} {source} 5 100", disk(5)))?;
    }
    ensure!(!has_container(node1, 5)?, "a container is left");
    ensure!(
        hosts
            .tags(6)
            .iter()
            .all(|t| t == "latest" || t == "snap-0" || t.starts_with("state-")),
        "{:?}",
        hosts.tags(6)
    );
    hosts.tm("delete localhost:/var/lib/one/datastores/101/5 5 101")?;

    // The next VM has all of it, and may go back to the snapshot that stayed with the image.
    hosts.tm(&format!("ln {source} {} 6 100", disk(6)))?;
    deploy(node1, 6)?;
    ensure!(exec(node1, 6, SHOW)? == before, "other content");
    ensure!(exec(node1, 6, "cat /later")? == "later", "not the newest");
    stop(node1, 6)?;
    hosts.tm(&format!("snap_revert {} 0 6 100", disk(6)))?;
    // Saved without having run again: the image is the snapshot from now on.
    hosts.tm(&format!("mvds {} {source} 6 100", disk(6)))?;
    hosts.tm(&format!("clone {source} {} 8 100", disk(8)))?;
    deploy(node1, 8)?;
    ensure!(
        exec(node1, 8, "ls /")?.lines().all(|l| l != "later"),
        "not the snapshot"
    );

    hosts.tm(&format!("clone {saved} {} 7 100", disk(7)))?;
    deploy(node1, 7)?;
    ensure!(
        exec(node1, 7, SHOW)? == before,
        "the saved disk has other content"
    );

    // A descriptor that is damaged keeps nothing from being deleted.
    node1.inside(|| Ok(fs::write(folder(7).join("disk.0"), "{\"vers")?))?;
    let line = hosts.refused(&format!("mvds {} {saved} 7 100", disk(7)))?;
    ensure!(line.contains("disk.0"), "{line}");
    for vm in [6, 7, 8] {
        for _ in 0..2 {
            hosts.tm(&format!("delete {} {vm} 100", disk(vm)))?;
            hosts.tm(&format!(
                "delete localhost:/var/lib/one/datastores/101/{vm} {vm} 101"
            ))?;
        }
        ensure!(!has_container(node1, vm)?, "a container of VM {vm} is left");
    }
    Ok(())
}

#[test]
fn in_a_stock_datastore_the_stock_scripts_carry_the_folder_and_nothing_is_done_twice_at_once()
-> Result<()> {
    let hosts = Hosts::start()?;
    let source = hosts.image(6)?;
    let (node1, node2) = (&hosts.node1, &hosts.node2);
    let at = |host: &str| format!("{host}:/var/lib/one/datastores/101/5/disk.0");
    let twice = |words: &str| -> Result<()> {
        std::thread::scope(|scope| {
            let [one, other] = [(); 2].map(|()| scope.spawn(|| hosts.tm(words)));
            for ended in [one, other] {
                let stderr = ended.join().map_err(|_| anyhow::anyhow!("panic"))??;
                ensure!(stderr.is_empty(), "{stderr}");
            }
            Ok(())
        })
    };
    twice(&format!("clone.ssh {source} {} 5 100", at("node1")))?;
    let marker =
        node1.inside(|| Ok(fs::read_to_string("/var/lib/one/datastores/101/.monitor")?))?;
    ensure!(marker == "ssh\n", "{marker}");
    deploy(node1, 5)?;
    exec(node1, 5, WRITE)?;
    let before = exec(node1, 5, SHOW)?;
    twice(&format!("snap_create_live.ssh {} 0 5 100", at("node1")))?;
    ensure!(descriptor(node1, 5)?.snapshots.len() == 1, "one snapshot");
    stop(node1, 5)?;
    for _ in 0..2 {
        hosts.tm(&format!("mv.ssh {} {} 5 100", at("node1"), at("node2")))?;
    }
    ensure!(!has_container(node1, 5)?, "the source keeps a container");
    // The stock `mv` of the folder.
    let written = node1.inside(|| Ok(fs::read(folder(5).join("disk.0"))?))?;
    let noted = node1.inside(|| Ok(fs::read(folder(5).join("disk.0.registry"))?))?;
    node2.inside(|| {
        fs::create_dir_all(folder(5))?;
        fs::write(folder(5).join("disk.0"), written)?;
        Ok(fs::write(folder(5).join("disk.0.registry"), noted)?)
    })?;
    node1.inside(|| Ok(fs::remove_dir_all(folder(5))?))?;
    deploy(node2, 5)?;
    ensure!(exec(node2, 5, SHOW)? == before, "other content");
    stop(node2, 5)?;
    twice(&format!("delete.ssh {} 5 100", at("node2")))?;
    ensure!(!has_container(node2, 5)?, "a container is left");
    ensure!(hosts.tags(6) == ["latest"], "{:?}", hosts.tags(6));
    let line = hosts.refused(&format!("clone.ceph {source} {} 5 100", at("node1")))?;
    ensure!(line.contains("TM_MAD=ceph"), "{line}");
    Ok(())
}
