//! `monitor_ds FOLDER`, on the host: the size of each VM's disks and their snapshots in a
//! datastore. A disk that is a container has its data in the engine, and its snapshots in the
//! registry; the others are files.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock_common::engine::labels;
use onedock_common::engine::{Docker, Engine, LayerSize};
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::descriptor::{Descriptor, Found, disk_path};
use onedock_common::{DiskId, SnapshotId, VmId};
use tokio::time::timeout;

use crate::location::VmPath;
use crate::node::{folder, volume};

/// How long the engine may take: it reads every layer.
const LAYERS: Duration = Duration::from_secs(60);

/// Bytes of the containers' layers.
type Layers = BTreeMap<(VmId, DiskId), u64>;

pub(crate) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let folder = arguments
        .first()
        .context("monitor_ds needs the datastore's folder")?;
    let engine = Docker::local()?;
    measure(Path::new(folder), &engine).await
}

async fn measure<E: Engine>(folder: &Path, engine: &E) -> anyhow::Result<Answer> {
    let unread = || format!("{} cannot be read", folder.display());
    let mut layers = None;
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).with_context(unread)? {
        let entry = entry.with_context(unread)?;
        let Ok(place) = VmPath::try_from(entry.path()) else {
            continue;
        };
        let mut text = String::new();
        // A VM that goes meanwhile is left out.
        for disk in folder::disks(&place).unwrap_or_default() {
            let path = disk_path(place.folder(), disk);
            match Descriptor::find(&path) {
                Ok(Found::File) => file(&mut text, disk, &path),
                Ok(Found::Container(descriptor)) => {
                    if layers.is_none() {
                        layers = Some(of_engine(engine).await);
                    }
                    let bytes = layers.as_ref().and_then(|l| l.get(&(place.vm(), disk)));
                    container(&mut text, &descriptor, bytes.copied());
                }
                _ => {}
            }
        }
        if !text.is_empty() {
            lines.push(format!(
                "VM = [ ID = {}, MONITOR = \"{}\"]",
                place.vm(),
                STANDARD.encode(text)
            ));
        }
    }
    Ok(if lines.is_empty() {
        Answer::done()
    } else {
        Answer::line(lines.join("\n"))
    })
}

/// An engine that does not answer tells no sizes: the last ones stay in OpenNebula.
async fn of_engine<E: Engine>(engine: &E) -> Layers {
    match timeout(LAYERS, engine.sizes()).await {
        Ok(Ok(sizes)) => sizes.into_iter().filter_map(owned).collect(),
        Ok(Err(e)) => {
            tracing::warn!("the sizes of layers cannot be asked for: {e}");
            Layers::new()
        }
        Err(_) => Layers::new(),
    }
}

fn owned(size: LayerSize) -> Option<((VmId, DiskId), u64)> {
    let id = |label| {
        size.labels
            .get(label)
            .and_then(|text: &String| text.parse().ok())
    };
    let vm: VmId = id(labels::VM).or_else(|| id(labels::TREE)).map(VmId::new)?;
    let disk = id(labels::DISK).map(DiskId::new)?;
    Some(((vm, disk), size.bytes))
}

fn mib(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20)
}

fn disk_size(text: &mut String, disk: DiskId, bytes: u64) {
    *text += &format!("\nDISK_SIZE = [ ID={disk}, SIZE={}]", mib(bytes));
}

fn snapshot_size(text: &mut String, disk: DiskId, id: SnapshotId, bytes: u64) {
    let size = mib(bytes);
    *text += &format!("\nSNAPSHOT_SIZE = [ ID={id}, DISK_ID={disk}, SIZE={size}]");
}

fn container(text: &mut String, descriptor: &Descriptor, bytes: Option<u64>) {
    // Without a container yet nothing was changed.
    let bytes = bytes.or(descriptor.container.is_none().then_some(0));
    if let Some(bytes) = bytes {
        disk_size(text, descriptor.disk, bytes);
    }
    for snapshot in &descriptor.snapshots {
        snapshot_size(text, descriptor.disk, snapshot.id, snapshot.bytes);
    }
}

fn file(text: &mut String, disk: DiskId, path: &Path) {
    let Ok(sizes) = volume::sizes(path) else {
        return;
    };
    disk_size(text, disk, sizes.disk);
    for (id, bytes) in sizes.snapshots {
        snapshot_size(text, disk, id, bytes);
    }
}

#[cfg(test)]
mod tests {
    use onedock_common::engine::fake::FakeEngine;

    use super::*;

    #[test]
    fn sizes_of_files_containers_and_snapshots_are_told_as_the_stock_scripts_tell_them() {
        let dir = tempfile::tempdir().unwrap();
        let datastore = dir.path().join("101");
        let folder = datastore.join("5");
        fs::create_dir_all(folder.join("disk.1.snap")).unwrap();
        fs::create_dir(folder.join("disk.5")).unwrap();
        for name in ["disk.1", "disk.1.snap/0", "disk.1.snap/base"] {
            fs::write(folder.join(name), vec![1; 3 << 20]).unwrap();
        }
        let source = format!("docker://front:5000/img-6@sha256:{}", "ab".repeat(32));
        let source: onedock_common::types::reference::Source = source.parse().unwrap();
        let descriptor = Descriptor {
            version: onedock_common::state::descriptor::VERSION,
            vm: VmId::new(5),
            disk: DiskId::new(0),
            image: source.clone(),
            source: source.clone(),
            persistent: false,
            dockerrun: None,
            container: None,
            snapshots: vec![onedock_common::state::descriptor::Snapshot {
                id: SnapshotId::new(2),
                image: source,
                bytes: (1 << 20) + 1,
            }],
        };
        descriptor.write(&folder.join("disk.0")).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime
            .block_on(measure(&datastore, &FakeEngine::default()))
            .unwrap()
            .output
            .unwrap();
        let packed = answer
            .strip_prefix("VM = [ ID = 5, MONITOR = \"")
            .and_then(|rest| rest.strip_suffix("\"]"))
            .unwrap();
        let text = String::from_utf8(STANDARD.decode(packed).unwrap()).unwrap();
        let lines: Vec<&str> = text.trim().lines().collect();
        assert_eq!(
            lines,
            [
                "DISK_SIZE = [ ID=0, SIZE=0]",
                "SNAPSHOT_SIZE = [ ID=2, DISK_ID=0, SIZE=2]",
                "DISK_SIZE = [ ID=1, SIZE=3]",
                "SNAPSHOT_SIZE = [ ID=0, DISK_ID=1, SIZE=3]",
            ]
        );
    }
}
