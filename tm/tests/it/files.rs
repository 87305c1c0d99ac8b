//! Disks that are files.

use std::fs;
use std::os::unix::fs::FileExt as _;

use anyhow::{Result, ensure};
use onedock_common::state::disk_image::{DiskFormat, DiskMeta};
use onedock_common::types::reference::Source;

use crate::hosts::{Hosts, folder};

#[test]
fn disks_in_files_and_the_rest_of_the_folder_go_along() -> Result<()> {
    let hosts = Hosts::start()?;
    let (node1, node2) = (&hosts.node1, &hosts.node2);
    let at = |host: &str, name: &str| format!("{host}:/var/lib/one/datastores/101/5{name}");
    for _ in 0..2 {
        hosts.tm(&format!("mkimage 20 raw {} 5 101", at("node1", "/disk.1")))?;
        hosts.tm(&format!(
            "mkimage 30 qcow2 {} 5 101",
            at("node1", "/disk.2")
        ))?;
        hosts.tm(&format!("mkswap 10 {} 5 101", at("node1", "/disk.3")))?;
    }
    let content: Vec<u8> = (0..1_000_000_u32).flat_map(u32::to_le_bytes).collect();
    let path = folder(5).join("disk.1");
    node1.inside(|| {
        let file = fs::File::options().write(true).open(&path)?;
        file.write_all_at(&content, 3 << 20)?;
        fs::create_dir(folder(5).join("disk.5"))?;
        fs::write(folder(5).join("disk.5/context.sh"), "A='1'")?;
        Ok(fs::write(folder(5).join("vm.xml"), "<VM/>")?)
    })?;
    hosts.tm(&format!("snap_create {} 0 5 101", at("node1", "/disk.1")))?;
    let before = node1.inside(|| Ok(fs::read(&path)?))?;
    for disk in [1, 2, 3, 5] {
        let name = format!("/disk.{disk}");
        hosts.tm(&format!(
            "mv {} {} 5 101",
            at("node1", &name),
            at("node2", &name)
        ))?;
    }
    // The same folder by another name is left as it is.
    hosts.tm(&format!(
        "mv {} {} 5 101",
        at("other-name", ""),
        at("node1", "")
    ))?;
    ensure!(
        node1.inside(|| Ok(folder(5).join("vm.xml").exists()))?,
        "moved onto itself"
    );
    for _ in 0..2 {
        hosts.tm(&format!("mv {} {} 5 101", at("node1", ""), at("node2", "")))?;
    }
    node2.inside(|| {
        ensure!(fs::read(&path)? == before, "disk.1 has other content");
        ensure!(
            fs::read(folder(5).join("disk.1.snap/0"))? == before,
            "its snapshot"
        );
        ensure!(
            fs::read_to_string(folder(5).join("disk.5/context.sh"))? == "A='1'",
            "context"
        );
        ensure!(
            fs::read_to_string(folder(5).join("vm.xml"))? == "<VM/>",
            "vm.xml"
        );
        Ok(())
    })?;
    ensure!(
        !node1.inside(|| Ok(folder(5).exists()))?,
        "the source keeps the folder"
    );
    hosts.tm(&format!("resize {} 40 5 101", at("node2", "/disk.1")))?;
    ensure!(
        node2.inside(|| Ok(fs::metadata(&path)?.len()))? == 40 << 20,
        "size"
    );
    let line = hosts.refused(&format!("snap_revert {} 3 5 101", at("node2", "/disk.1")))?;
    ensure!(line.contains('3'), "{line}");
    let line = hosts.refused("premigrate node1 node2 /var/lib/one/datastores/101/5 5 101")?;
    ensure!(line.contains("power it off"), "{line}");
    for _ in 0..2 {
        hosts.tm(&format!("delete {} 5 101", at("node2", "/disk.1")))?;
        hosts.tm(&format!("delete {} 5 101", at("node2", "")))?;
    }
    ensure!(
        !node2.inside(|| Ok(folder(5).exists()))?,
        "the folder is left"
    );
    Ok(())
}

#[test]
fn an_image_that_is_a_disk_takes_its_changes_and_its_snapshots_back() -> Result<()> {
    let hosts = Hosts::start()?;
    let node1 = &hosts.node1;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let [source, reserved] = node1.inside(|| {
        let client = onedock_registry::Client::new(onedock_registry::Options::default())?;
        let meta = DiskMeta {
            format: DiskFormat::Raw,
            size: 20 << 20,
            fs: None,
            blank: true,
        };
        let tag = "latest".parse()?;
        let repository = hosts.registry.repository("onedock/img-8")?;
        let digest = runtime.block_on(client.put_blank_disk(&repository, &tag, &meta))?;
        let source = Source::new(repository, digest).to_string();
        let repository = hosts.registry.repository("onedock/img-9")?;
        let digest = runtime.block_on(client.put_reserved(&repository, &tag, "img-9"))?;
        Ok([source, Source::new(repository, digest).to_string()])
    })?;
    let disk = |vm: u32| format!("node1:/var/lib/one/datastores/101/{vm}/disk.1");
    let file = |vm: u32| folder(vm).join("disk.1");
    let write = |vm: u32, text: &str| {
        node1.inside(|| {
            let opened = fs::File::options().write(true).open(file(vm))?;
            Ok(opened.write_all_at(text.as_bytes(), 1 << 20)?)
        })
    };
    let read = |vm: u32| {
        node1.inside(|| {
            let mut text = [0; 5];
            fs::File::open(file(vm))?.read_exact_at(&mut text, 1 << 20)?;
            Ok(String::from_utf8_lossy(&text).into_owned())
        })
    };
    let line = hosts.refused(&format!("clone {reserved} {} 5 100", disk(5)))?;
    ensure!(line.contains("no content yet"), "{line}");
    for _ in 0..2 {
        hosts.tm(&format!("ln {source} {} 5 100", disk(5)))?;
    }
    write(5, "first")?;
    hosts.tm(&format!("snap_create {} 0 5 100", disk(5)))?;
    write(5, "later")?;
    hosts.tm(&format!("cpds {} {reserved} 0 5 100", disk(5)))?;
    let line = hosts.refused(&format!("mvds {} {reserved} 5 100", disk(5)))?;
    ensure!(line.contains("is a disk of the image"), "{line}");
    ensure!(read(5)? == "later", "the disk went");
    for _ in 0..2 {
        hosts.tm(&format!("mvds {} {source} 5 100", disk(5)))?;
    }
    hosts.tm("delete node1:/var/lib/one/datastores/101/5 5 101")?;
    let left = hosts.tags(8);
    ensure!(
        left.iter()
            .all(|t| t == "latest" || t == "snap-0" || t.starts_with("state-")),
        "{left:?}"
    );
    hosts.tm(&format!("ln {source} {} 6 100", disk(6)))?;
    ensure!(read(6)? == "later", "{}", read(6)?);
    hosts.tm(&format!("snap_revert {} 0 6 100", disk(6)))?;
    ensure!(read(6)? == "first", "{}", read(6)?);
    hosts.tm(&format!("snap_delete {} 0 6 100", disk(6)))?;
    hosts.tm(&format!("mvds {} {source} 6 100", disk(6)))?;
    ensure!(
        !hosts.tags(8).contains(&"snap-0".to_owned()),
        "a deleted snapshot is left"
    );
    hosts.tm(&format!("clone {reserved} {} 7 100", disk(7)))?;
    ensure!(read(7)? == "first", "{}", read(7)?);
    for vm in [6, 7] {
        hosts.tm(&format!(
            "delete node1:/var/lib/one/datastores/101/{vm} {vm} 101"
        ))?;
    }
    Ok(())
}
