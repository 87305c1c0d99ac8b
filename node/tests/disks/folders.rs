//! Trees of images and folders of the host as disks.

use std::fs;

use anyhow::{Context, Result, ensure};
use onedock_common::state::boot::DiskSource;
use onedock_common::{DiskId, VmId};
use onedock_node::request::Request;
use onedock_tests::test_host::RUNTIMES;

use crate::host::{DiskHost, VM, disk, read_only, tree};

#[test]
fn the_tree_of_an_image_is_written_to_its_own_layer_or_only_read_and_a_folder_only_read()
-> Result<()> {
    for runtime in RUNTIMES {
        let host = DiskHost::behind(runtime, &[])?;
        let of = tree(&host, "tree:1")?;
        let files = host.file("files");
        fs::create_dir(&files)?;
        fs::write(files.join("a"), "a")?;
        std::os::unix::fs::chown(files.join("a"), Some(4321), Some(4322))?;
        host.belong_to(4321, 4322)?;
        let written = disk(1, DiskSource::Tree(of.clone()), Some("/opt/tree"));
        let folder = disk(2, DiskSource::Folder(files.clone()), Some("/media/cd"));
        let id = host.create(vec![written.clone(), folder.clone()])?;
        host.start_container(&id)?;
        host.sh(&id, "cd /opt/tree/marks && busybox cat of-the-image && echo new > new && busybox rm of-the-image")?;
        host.sh(&id, "busybox test -f /media/cd/a && ! echo x > /media/cd/b")?;
        let owners = host.sh(&id, "busybox stat -c %u:%g /media/cd /media/cd/a")?;
        ensure!(owners == "0:0\n0:0", "{owners}");
        let mounts = host.sh(&id, "cat /proc/mounts")?;
        let line = mounts
            .lines()
            .find(|line| line.contains(" /media/cd "))
            .context("no folder")?;
        ensure!(line.contains(" ro,nosuid,nodev"), "{line}");
        let line = mounts
            .lines()
            .find(|line| line.contains(" /opt/tree "))
            .context("no tree")?;
        ensure!(line.contains(" rw,nosuid,nodev"), "{line}");
        let changes = host.engine.docker(&["diff", of.as_str()])?;
        ensure!(
            changes.contains("A /marks/new") && changes.contains("D /marks/of-the-image"),
            "{changes}"
        );
        let error = host.grow(&id, 1, 100).unwrap_err().to_string();
        ensure!(
            error == "disk 1 (vdb): a disk of this kind cannot be resized",
            "{error}"
        );
        let synced = Request::SyncDisk {
            vm: VmId::new(VM),
            container: id.clone(),
            disk: DiskId::new(1),
        };
        host.request(&synced)?;
        host.unplug(&id, 2)?;
        host.unplug(&id, 1)?;
        host.sh(&id, "! busybox test -e /opt && ! busybox test -e /media")?;
        host.plug(&id, &read_only(written.clone()))?;
        host.sh(&id, "cd /opt/tree/marks && busybox test -f new && ! busybox test -e of-the-image && ! echo x > y")?;
        host.stop(&id)?;
        host.nothing_left()?;
        host.engine.docker(&["rm", of.as_str()])?;
        host.remove(&id)?;
        // A tree that is gone, and one that the runtime never saw.
        let unknown = "ab".repeat(32).parse()?;
        for (tree, reason) in [(of, "No such file"), (unknown, "it is not known where")] {
            let id = host.create(vec![disk(1, DiskSource::Tree(tree), Some("/srv"))])?;
            let error = host.refused_start(&id)?;
            ensure!(error.contains(reason), "{error}");
            host.remove(&id)?;
        }
    }
    Ok(())
}
