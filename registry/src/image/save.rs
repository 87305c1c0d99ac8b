//! An image as an archive on this machine, as `docker save` of a current engine writes it: an
//! OCI layout that also has `manifest.json`. Engines from 1.10 on load it; registered again with
//! `cp` it has the same digest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::Source;
use serde_json::{Value, json};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};

use crate::blocking::blocking;
use crate::chunks::Chunks as _;
use crate::client::Client;
use crate::error::{Error, cannot_write};
use crate::new_file::NewFile;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::{ImageManifest, Manifest};
use crate::oci::media_type::OCI_INDEX;
use crate::oci::platform::{EntryPlatform, Platform};
use crate::repository::remote::{RemoteRepository, Resolved};

/// A block of a tar archive, in bytes.
const BLOCK: u64 = 512;
/// How much is written at once, in bytes.
const BUFFER: usize = 256 * 1024;

/// What is written to the archive.
struct Content {
    manifests: Vec<Resolved>,
    /// By digest: several images share layers.
    blobs: BTreeMap<Digest, Descriptor>,
    /// `manifest.json`: the image for this machine, else the first.
    table: Value,
}

impl Client {
    /// Writes an image, with all its platforms, to the archive `path`, which is created (an
    /// existing file is an error) and removed when it fails.
    pub async fn save_archive(&self, source: &Source, path: &Path) -> Result<(), Error> {
        let what = format!("the archive of {source}");
        self.at(source.repository(), &what, async |remote| {
            let resolved = remote.resolve(&source.reference()).await?;
            let index = json!({
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [{
                    "mediaType": resolved.media_type,
                    "size": resolved.bytes.len(),
                    "digest": resolved.digest,
                }],
            });
            let content = Content::of(&remote, resolved, self.options.image_limit).await?;
            let failed = cannot_write(path);
            let new = NewFile::create(path, 0).map_err(failed)?;
            let file = File::from_std(new.handle().map_err(failed)?);
            let mut archive = Archive(BufWriter::with_capacity(BUFFER, file));
            let small = [
                ("oci-layout", json!({"imageLayoutVersion": "1.0.0"})),
                ("index.json", index),
                ("manifest.json", content.table),
            ];
            for (name, json) in small {
                let bytes = Bytes::from(json.to_string());
                archive.member(name, &bytes).await.map_err(failed)?;
            }
            for manifest in &content.manifests {
                let name = blob_name(&manifest.digest);
                archive
                    .member(&name, &manifest.bytes)
                    .await
                    .map_err(failed)?;
            }
            for blob in content.blobs.values() {
                let name = blob_name(&blob.digest);
                archive.header(&name, blob.size).await.map_err(failed)?;
                let mut download = remote.download(blob);
                while let Some(chunk) = download.next().await? {
                    archive.0.write_all(&chunk).await.map_err(failed)?;
                }
                archive.pad(blob.size).await.map_err(failed)?;
            }
            archive.finish().await.map_err(failed)?;
            blocking(move || new.finish()).await.map_err(failed)
        })
        .await
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn row(image: &ImageManifest) -> Value {
    let layers = image.layers.iter().map(|layer| blob_name(&layer.digest));
    json!([{
        "Config": blob_name(&image.config.digest),
        "RepoTags": Value::Null,
        "Layers": layers.collect::<Vec<_>>(),
    }])
}

impl Content {
    async fn of(remote: &RemoteRepository, resolved: Resolved, limit: u64) -> Result<Self, Error> {
        let mut images = Vec::new();
        let mut manifests = vec![resolved.clone()];
        match remote.parse(&resolved)? {
            Manifest::Image(image) => images.push(image),
            Manifest::Index(index) => {
                let here = |platform: &EntryPlatform| Platform::here().runs(platform);
                let mut entries = index.entries.iter();
                let first = entries.find(|entry| entry.known_platform().is_some_and(here));
                let first = first.map(|entry| &entry.digest);
                let mut known = BTreeSet::new();
                for entry in index.entries.iter().filter(|e| known.insert(&e.digest)) {
                    let child = remote.manifest_of(&entry.digest).await?;
                    let Manifest::Image(image) = remote.parse(&child)? else {
                        return Err(remote.refuse("its index names another index".to_owned()));
                    };
                    manifests.push(child);
                    if first == Some(&entry.digest) {
                        images.insert(0, image);
                    } else {
                        images.push(image);
                    }
                }
            }
        }
        let mut blobs = BTreeMap::new();
        for image in &images {
            image.check(limit).map_err(|reason| remote.refuse(reason))?;
            let all = image.blobs().map_err(|reason| remote.refuse(reason))?;
            blobs.extend(all.into_iter().map(|blob| (blob.digest.clone(), blob)));
        }
        let table = images.first().map(row);
        Ok(Self {
            table: table.ok_or_else(|| remote.refuse("its index is empty".to_owned()))?,
            manifests,
            blobs,
        })
    }
}

/// A tar archive being written.
struct Archive(BufWriter<File>);

impl Archive {
    async fn header(&mut self, name: &str, size: u64) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_mode(0o644);
        header.set_size(size);
        header.set_cksum();
        self.0.write_all(header.as_bytes()).await
    }

    async fn pad(&mut self, size: u64) -> io::Result<()> {
        let length = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or_default();
        self.0
            .write_all([0; 512].get(..length).unwrap_or_default())
            .await
    }

    async fn member(&mut self, name: &str, bytes: &Bytes) -> io::Result<()> {
        self.header(name, bytes.len() as u64).await?;
        self.0.write_all(bytes).await?;
        self.pad(bytes.len() as u64).await
    }

    async fn finish(&mut self) -> io::Result<()> {
        self.0.write_all(&[0; 1024]).await?;
        self.0.flush().await
    }
}
