//! The disk with its snapshots, from the stream of another host.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onedock_common::disk_file::{DiskFileError, LIMIT, Staged};
use onedock_common::state::vm_folder;

use super::remove::{remove_folder, remove_leftovers};
use super::stream::{Head, number};
use crate::checksummed_stream::Receiver;

/// The most snapshots of a disk.
const SNAPSHOTS: usize = 10_000;

/// Reads a disk from `input`, not one byte further, and puts it in vm_path when all of it has
/// arrived: before that there is nothing.
pub(crate) fn receive(disk: &Path, input: &mut impl Read) -> Result<()> {
    remove_leftovers(disk)?;
    let snapshots = vm_folder::new_snapshot_folder(disk);
    remove_folder(&snapshots)?;
    let received = all(disk, &snapshots, input)
        .with_context(|| format!("disk {} was not received", disk.display()));
    if received.is_err() {
        remove_folder(&snapshots)?;
    }
    received
}

fn all(disk: &Path, snapshots: &Path, input: &mut impl Read) -> Result<()> {
    let mut receiver = Receiver::new(input);
    // It reads ahead, but within the pieces only.
    let mut reader = BufReader::new(&mut receiver);
    let mut count = 0;
    let (staged, format) = loop {
        let head = Head::read(&mut reader).map_err(cut_off)?;
        ensure!(
            head.length <= LIMIT && count <= SNAPSHOTS,
            "the stream describes no disk"
        );
        count += 1;
        let Some(id) = head.snapshot else {
            let staged = Staged::beside(disk)?;
            write(&staged, &head, &mut reader)?;
            break (staged, head.format);
        };
        fs::create_dir_all(snapshots)?;
        let staged = Staged::beside(&snapshots.join(id.to_string()))?;
        write(&staged, &head, &mut reader)?;
        staged.commit(head.format)?;
    };
    let rest = reader.fill_buf().map_err(cut_off)?.len();
    ensure!(rest == 0, "more was sent than a disk");
    drop(reader);
    receiver.finish().map_err(cut_off)?;
    let old = vm_folder::snapshot_folder(disk);
    remove_folder(&old)?;
    if count > 1 {
        fs::rename(snapshots, &old)?;
    }
    // The disk last: where it is, all of it is.
    Ok(staged.commit(format)?)
}

fn cut_off(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        io::Error::new(error.kind(), "the stream ended before the disk did")
    } else {
        error
    }
}

fn write(staged: &Staged, head: &Head, from: &mut impl BufRead) -> Result<()> {
    let mut file = staged.create()?;
    let full = |source: io::Error| match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            anyhow::Error::from(DiskFileError::NoSpace {
                path: staged.path().to_owned(),
                bytes: head.length,
                source,
            })
        }
        _ => anyhow::Error::from(cut_off(source)),
    };
    file.set_len(head.length).map_err(full)?;
    while let Some((offset, length)) = part(head, from)? {
        file.seek(SeekFrom::Start(offset))?;
        copy(from, &mut file, length).map_err(full)?;
    }
    Ok(())
}

/// Where the next part lies; `None` after the last one.
fn part(head: &Head, from: &mut impl Read) -> Result<Option<(u64, u64)>> {
    let offset = number(from).map_err(cut_off)?;
    let length = number(from).map_err(cut_off)?;
    let end = offset.checked_add(length);
    ensure!(
        end.is_some_and(|end| end <= head.length),
        "the stream has data beyond the end of the disk"
    );
    Ok((length > 0).then_some((offset, length)))
}

fn copy(from: &mut impl Read, to: &mut File, length: u64) -> io::Result<()> {
    if io::copy(&mut from.take(length), to)? == length {
        Ok(())
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}
