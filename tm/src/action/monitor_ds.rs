//! `monitor_ds FOLDER`, on the host, called by OpenNebula's own probes: the size of each VM's disks
//! and their snapshots in a datastore. The agent of onedock reports the same
//! ([`onedock_common::state::disk_sizes`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock_common::VmId;
use onedock_common::engine::{Docker, Engine, LayerSize};
use onedock_common::opennebula::answer::Answer;
use onedock_common::state::disk_sizes::DiskSizes;
use onedock_common::state::files;
use tokio::time::timeout;

/// How long the engine may take: it reads every layer.
const LAYERS: Duration = Duration::from_secs(60);

pub(crate) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let folder = arguments
        .first()
        .context("monitor_ds needs the datastore's folder")?;
    let engine = Docker::local()?;
    measure(Path::new(folder), &engine).await
}

async fn measure<E: Engine>(datastore: &Path, engine: &E) -> anyhow::Result<Answer> {
    let names = files::names(datastore);
    let mut all: BTreeMap<VmId, DiskSizes> = BTreeMap::new();
    for name in names.with_context(|| format!("{} cannot be read", datastore.display()))? {
        if let Ok(vm) = name.parse() {
            all.entry(vm).or_default().add_folder(&datastore.join(name));
        }
    }
    if all.values().any(DiskSizes::has_container) {
        for layer in layers(engine).await {
            if let Some(sizes) = all.get_mut(&layer.vm) {
                sizes.add_layer(layer.disk, layer.bytes);
            }
        }
    }
    let known = all.iter().filter(|(_, sizes)| !sizes.is_empty());
    let lines: Vec<String> = known
        .map(|(vm, sizes)| {
            let packed = STANDARD.encode(sizes.to_string());
            format!("VM = [ ID = {vm}, MONITOR = \"{packed}\"]")
        })
        .collect();
    Ok(if lines.is_empty() {
        Answer::done()
    } else {
        Answer::line(lines.join("\n"))
    })
}

/// Without an answer of the engine no sizes of layers are reported: the last ones stay in
/// OpenNebula.
async fn layers<E: Engine>(engine: &E) -> Vec<LayerSize> {
    match timeout(LAYERS, engine.sizes()).await {
        Ok(Ok(sizes)) => sizes,
        Ok(Err(e)) => {
            tracing::warn!("the sizes of layers are not known: {e}");
            Vec::new()
        }
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use onedock_common::engine::fake::FakeEngine;

    use super::*;

    #[test]
    fn each_vm_in_the_datastore_has_one_line_as_the_stock_scripts_print_it() {
        let dir = tempfile::tempdir().unwrap();
        for folder in ["5/disk.1.snap", "6", "7", "x"] {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        for file in ["5/disk.1", "5/disk.1.snap/0", "7/disk.0", "x/disk.0"] {
            fs::write(dir.path().join(file), vec![1; 3 << 20]).unwrap();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let answer = runtime
            .block_on(measure(dir.path(), &FakeEngine::default()))
            .unwrap()
            .output
            .unwrap();
        let lines: Vec<&str> = answer.lines().collect();
        let decoded = |line: &str, vm: u32| {
            let packed = line
                .strip_prefix(&format!("VM = [ ID = {vm}, MONITOR = \""))
                .and_then(|rest| rest.strip_suffix("\"]"))
                .unwrap();
            String::from_utf8(STANDARD.decode(packed).unwrap()).unwrap()
        };
        assert_eq!(
            decoded(lines[0], 5),
            "DISK_SIZE = [ ID=1, SIZE=3]\nSNAPSHOT_SIZE = [ ID=0, DISK_ID=1, SIZE=3]\n"
        );
        assert_eq!(decoded(lines[1], 7), "DISK_SIZE = [ ID=0, SIZE=3]\n");
        assert_eq!(lines.len(), 2);
    }
}
