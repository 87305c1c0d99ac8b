//! What is missing, full or too much.

use std::fs;

use anyhow::{Result, ensure};

use crate::hosts::{self, Hosts, deploy, descriptor, exec, has_container, stop};
use crate::{SHOW, WRITE};

#[test]
fn fault_29_and_21_no_space_and_no_registry_are_reported_with_the_host_and_the_retry_works()
-> Result<()> {
    let mut hosts = Hosts::start()?;
    let source = hosts.image(6)?;
    let at = |host: &str| format!("{host}:/var/lib/one/datastores/101/5/disk.0");
    hosts.node1.inside(|| {
        nix::mount::mount(
            Some("tmpfs"),
            hosts::DATASTORE,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("size=2m"),
        )?;
        Ok(())
    })?;
    hosts.tm(&format!("clone {source} {} 5 100", at("node1")))?;
    deploy(&hosts.node1, 5)?;
    exec(&hosts.node1, 5, WRITE)?;
    let line = hosts.refused(&format!("snap_create_live {} 0 5 100", at("node1")))?;
    ensure!(
        line.contains("No space left") && line.contains("101/5 on this host"),
        "{line}"
    );
    let words = [
        "inspect",
        "-f",
        "{{.State.Paused}} {{.State.Running}}",
        "one-5",
    ];
    ensure!(
        hosts.node1.docker(&words)? == "false true",
        "it does not go on"
    );
    ensure!(
        descriptor(&hosts.node1, 5)?.snapshots.is_empty(),
        "a snapshot"
    );
    let line = hosts
        .refused(&format!(
            "mkimage 50 raw {} 5 100",
            at("node1").replace(".0", ".1")
        ))
        .or_else(|_| Ok::<_, anyhow::Error>("sparse".to_owned()))?;
    ensure!(line == "sparse" || line.contains("disk.1"), "{line}");
    exec(
        &hosts.node1,
        5,
        "/bin/busybox rm /data /hard; echo small > /data",
    )?;
    hosts.tm(&format!("snap_create_live {} 0 5 100", at("node1")))?;

    stop(&hosts.node1, 5)?;
    hosts.registry.stop();
    // A copy of an image that the host has needs no registry. A persistent one has to be the newest.
    let of = |vm: u32| format!("node1:/var/lib/one/datastores/101/{vm}/disk.0");
    hosts.tm(&format!("clone {source} {} 6 100", of(6)))?;
    let line = hosts.refused(&format!("ln {source} {} 7 100", of(7)))?;
    ensure!(line.contains(&hosts.registry.address()), "{line}");
    ensure!(descriptor(&hosts.node1, 7).is_err(), "a stale copy");
    let line = hosts.refused(&format!("mv {} {} 5 100", at("node1"), at("node2")))?;
    ensure!(line.contains(&hosts.registry.address()), "{line}");
    ensure!(has_container(&hosts.node1, 5)?, "the container went");
    let line = hosts.refused(&format!("delete {} 5 100", at("node1")))?;
    ensure!(line.contains(&hosts.registry.address()), "{line}");
    ensure!(has_container(&hosts.node1, 5)?, "the container went");
    let Hosts {
        registry, node1, ..
    } = &mut hosts;
    node1.inside(|| registry.resume())?;
    hosts.tm(&format!("mv {} {} 5 100", at("node1"), at("node2")))?;
    deploy(&hosts.node2, 5)?;
    ensure!(
        exec(&hosts.node2, 5, "cat /data")? == "small",
        "other content"
    );
    stop(&hosts.node2, 5)?;
    hosts.tm(&format!("delete {} 5 100", at("node2")))?;
    ensure!(hosts.tags(6) == ["latest"], "{:?}", hosts.tags(6));
    Ok(())
}

#[test]
fn an_image_that_would_get_too_many_layers_gets_one() -> Result<()> {
    let hosts = Hosts::start()?;
    let mut source = hosts.image(6)?;
    let node1 = &hosts.node1;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    // Each layer has one small file.
    source = node1.inside(|| {
        let client = onedock_registry::Client::new(onedock_registry::Options::default())?;
        let mut image: onedock_common::types::reference::Source = source.parse()?;
        for number in 0..99 {
            let mut layer = tar::Builder::new(Vec::new());
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            layer.append_data(&mut header, format!("file-{number}"), std::io::empty())?;
            let layer = std::io::Cursor::new(layer.into_inner()?);
            let repository = image.repository().clone();
            let tag = "latest".parse()?;
            let made = runtime.block_on(client.append_layer(
                &image,
                &repository,
                &tag,
                layer,
                false,
                &format!("layer {number}"),
            ))?;
            let made = made.ok_or_else(|| anyhow::anyhow!("empty"))?;
            image = onedock_common::types::reference::Source::new(repository, made.digest);
        }
        ensure!(runtime.block_on(client.depth(&image))? == 100, "depth");
        Ok(image.to_string())
    })?;
    let disk = "node1:/var/lib/one/datastores/101/5/disk.0";
    hosts.tm(&format!("ln {source} {disk} 5 100"))?;
    deploy(node1, 5)?;
    exec(node1, 5, WRITE)?;
    let before = exec(node1, 5, SHOW)?;
    stop(node1, 5)?;
    hosts.tm(&format!("snap_create {disk} 0 5 100"))?;
    let kept = descriptor(node1, 5)?.snapshots[0].image.clone();
    let depth = node1.inside(|| {
        let client = onedock_registry::Client::new(onedock_registry::Options::default())?;
        Ok(runtime.block_on(client.depth(&kept))?)
    })?;
    ensure!(depth == 1, "{depth} layers");
    hosts.tm(&format!("snap_revert {disk} 0 5 100"))?;
    deploy(node1, 5)?;
    ensure!(exec(node1, 5, SHOW)? == before, "{}", exec(node1, 5, SHOW)?);
    ensure!(
        exec(node1, 5, "ls / | /bin/busybox grep -c file-")? == "99",
        "files"
    );
    stop(node1, 5)?;
    hosts.tm(&format!("delete {disk} 5 100"))?;
    Ok(())
}

#[test]
fn a_front_end_that_is_no_host_keeps_disks_without_an_engine() -> Result<()> {
    let hosts = Hosts::start()?;
    let source = hosts.image(6)?;
    let (node1, node2) = (&hosts.node1, &hosts.node2);
    let at = |host: &str| format!("{host}:/var/lib/one/datastores/101/5/disk.0");
    hosts.tm(&format!("clone {source} {} 5 100", at("node2")))?;
    deploy(node2, 5)?;
    exec(node2, 5, WRITE)?;
    let before = exec(node2, 5, SHOW)?;
    stop(node2, 5)?;
    // Neither the programs nor the state folder of a host, nor a socket that answers.
    node1.inside(|| {
        nix::mount::umount("/var/lib/onedock")?;
        fs::remove_dir("/var/lib/onedock")?;
        fs::remove_dir_all("/usr/lib/onedock")?;
        Ok(fs::rename(
            node1.socket(),
            node1.folder().join("hidden.sock"),
        )?)
    })?;
    let folders = ["node2", "node1"].map(|host| format!("{host}:/var/lib/one/datastores/101/5"));
    for _ in 0..2 {
        hosts.tm(&format!("mv {} {} 5 100", at("node2"), at("node1")))?;
        hosts.tm(&format!("mv {} {} 5 101", folders[0], folders[1]))?;
    }
    ensure!(descriptor(node1, 5)?.container.is_none(), "a container");
    ensure!(!has_container(node2, 5)?, "the source keeps a container");
    for _ in 0..2 {
        hosts.tm(&format!("mv {} {} 5 100", at("node1"), at("node2")))?;
        hosts.tm(&format!("mv {} {} 5 101", folders[1], folders[0]))?;
    }
    deploy(node2, 5)?;
    ensure!(exec(node2, 5, SHOW)? == before, "other content");
    stop(node2, 5)?;
    hosts.tm(&format!("mv {} {} 5 100", at("node2"), at("node1")))?;
    for _ in 0..2 {
        hosts.tm(&format!("delete {} 5 100", at("node1")))?;
        hosts.tm(&format!("delete {} 5 101", folders[1]))?;
    }
    ensure!(hosts.tags(6) == ["latest"], "{:?}", hosts.tags(6));
    node1.inside(|| {
        Ok(fs::rename(
            node1.folder().join("hidden.sock"),
            node1.socket(),
        )?)
    })
}
