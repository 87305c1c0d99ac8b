//! The disk with its snapshots, as one stream.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write};
use std::path::Path;

use anyhow::{Context as _, Result};
use onedock_common::SnapshotId;
use onedock_common::disk_file::{self, data_extents};
use onedock_common::state::vm_folder;

use super::stream::Head;
use crate::checksummed_stream::Sender;

/// Writes the disk to `out`; no VM uses it now.
pub(crate) fn send(disk: &Path, out: &mut impl Write) -> Result<()> {
    let mut sender = Sender::new(out);
    for id in vm_folder::snapshots(disk)? {
        send_file(&vm_folder::snapshot(disk, id), Some(id), &mut sender)?;
    }
    send_file(disk, None, &mut sender)?;
    sender
        .finish()
        .with_context(|| format!("disk {} was not sent", disk.display()))
}

fn send_file(path: &Path, snapshot: Option<SnapshotId>, to: &mut impl Write) -> Result<()> {
    let format = disk_file::inspect(path)?.format;
    let (mut file, _) = disk_file::open(path)?;
    write(&mut file, snapshot, format, to)
        .with_context(|| format!("disk {} was not sent", path.display()))
}

fn write(
    file: &mut File,
    snapshot: Option<SnapshotId>,
    format: disk_file::Format,
    to: &mut impl Write,
) -> io::Result<()> {
    let length = file.metadata()?.len();
    let head = Head {
        snapshot,
        format,
        length,
    };
    serde_json::to_writer(&mut *to, &head)?;
    to.write_all(b"\n")?;
    for extent in data_extents(file, length)? {
        to.write_all(&extent.offset.to_be_bytes())?;
        to.write_all(&extent.length.to_be_bytes())?;
        file.seek(SeekFrom::Start(extent.offset))?;
        let sent = io::copy(&mut file.take(extent.length), to)?;
        if sent != extent.length {
            return Err(io::Error::other("it became shorter while it was sent"));
        }
    }
    to.write_all(&[0; 16])
}
