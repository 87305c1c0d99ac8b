//! Disks from a registry into files, with holes.

use std::fs::File;
use std::io;
use std::path::Path;

use onedock_common::state::disk_image::DiskMeta;
use onedock_common::types::reference::Source;
use tokio::sync::mpsc;

use super::file::{Unpack, unpack};
use super::kind::{Kind, of_manifest};
use super::manifest::{DiskManifest, Piece, piece_length};
use crate::blocking::blocking;
use crate::chunks::{Cancellation, Chunks as _, transfer_all};
use crate::client::Client;
use crate::error::{Error, cannot_write};
use crate::new_file::NewFile;
use crate::repository::remote::RemoteRepository;

impl Client {
    /// Writes a disk's file to `path`, with holes, every piece verified, synchronised to its
    /// storage. `path` is created (an existing file is an error) and removed when it fails:
    /// the caller gives a temporary name beside the final one and renames it. Of a blank disk
    /// no file is made: the caller makes it as the returned [`DiskMeta`] says.
    pub async fn get_disk(&self, source: &Source, path: &Path) -> Result<DiskMeta, Error> {
        let what = format!("the disk of {source}");
        self.at(source.repository(), &what, async |repository| {
            let resolved = repository.resolve(&source.reference()).await?;
            let Kind::Disk(meta) = of_manifest(&repository, &resolved).await? else {
                return Err(repository.refuse("it is no disk".to_owned()));
            };
            if meta.blank {
                return Ok(meta);
            }
            let manifest = DiskManifest::parse(&resolved.bytes, &meta, self.options.image_limit);
            let DiskManifest { length, pieces } =
                manifest.map_err(|reason| repository.refuse(reason))?;
            let failed = cannot_write(path);
            let file = NewFile::create(path, length).map_err(failed)?;
            let (repository, new) = (&repository, &file);
            transfer_all(pieces, |piece, cancellation| async move {
                let handle = new.handle().map_err(failed)?;
                let received = receive(repository, &piece, handle, length, cancellation);
                received.await?.map_err(|fault| match fault {
                    Unpack::Write(source) => failed(source),
                    Unpack::Damaged => repository.refuse(format!(
                        "its piece {} is damaged when unpacked",
                        piece.blob.digest
                    )),
                })
            })
            .await?;
            blocking(move || file.finish()).await.map_err(failed)?;
            Ok(meta)
        })
        .await
    }
}

/// Writes one piece into the file.
async fn receive(
    repository: &RemoteRepository,
    piece: &Piece,
    file: File,
    length: u64,
    cancellation: Cancellation,
) -> Result<Result<(), Unpack>, Error> {
    let (sender, packed) = mpsc::channel(4);
    let (offset, length) = (piece.offset, piece_length(piece.offset, length));
    let unpacked = tokio::task::spawn_blocking(move || unpack(packed, &file, offset, length));
    let mut download = repository.download(&piece.blob).until(cancellation);
    while let Some(chunk) = download.next().await? {
        if sender.send(chunk).await.is_err() {
            break;
        }
    }
    drop(sender);
    let unpacked = unpacked.await;
    Ok(unpacked.unwrap_or_else(|e| Err(Unpack::Write(io::Error::other(e)))))
}
