//! `monitor_ds FOLDER`, on the host: the size of each VM's disks in a datastore. A disk that is a
//! container has its data in the engine; here are the files.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock_common::answer::Answer;
use onedock_common::descriptor::Descriptor;
use onedock_common::{DiskId, VmId};

pub(crate) fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let folder = arguments
        .first()
        .context("monitor_ds needs the datastore's folder")?;
    let mut lines = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("{folder} cannot be read"))? {
        let entry = entry?;
        let Some(vm) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<VmId>().ok())
        else {
            continue;
        };
        let sizes = disks(&entry.path());
        if !sizes.is_empty() {
            let text: String = sizes
                .iter()
                .map(|(disk, mb)| format!("\nDISK_SIZE = [ ID={disk}, SIZE={mb}]"))
                .collect();
            lines.push(format!(
                "VM = [ ID = {vm}, MONITOR = \"{}\"]",
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

/// Each disk's allocated size in MiB. A VM that goes meanwhile is left out.
fn disks(folder: &Path) -> Vec<(DiskId, u64)> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut sizes: Vec<(DiskId, u64)> = entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            let id = name.to_str()?.strip_prefix("disk.")?.parse().ok()?;
            let meta = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            let container = meta.len() < 1 << 20 && Descriptor::read(&entry.path()).is_ok();
            (!container).then(|| (id, (meta.blocks() * 512).div_ceil(1 << 20)))
        })
        .collect();
    sizes.sort_unstable();
    sizes
}
