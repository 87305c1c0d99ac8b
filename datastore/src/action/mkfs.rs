//! `mkfs`: an image without PATH. A disk (DATABLOCK, OS) is only described: whoever stages it makes
//! the file and its file system, so that an empty terabyte costs nothing. With FORMAT `save_as`
//! (`onevm disk-saveas`) a place is reserved, which `cpds` fills. Answers SOURCE alone: `oned`
//! takes the whole line for it (`ImageManager::_mkfs`, 6.10 and 7.4).

use anyhow::{Context as _, bail, ensure};
use onedock_common::disk_file;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::image::{DatastoreAction, Image, ImageKind};
use onedock_common::state::disk_image::{DiskFormat, DiskMeta, FileSystem};
use onedock_common::types::reference::{Source, Tag};
use onedock_registry::Attributes;

use super::image;
use crate::store::Store;

/// The FORMAT of an image that a VM's disk is about to be saved as (`Image::insert`).
const SAVE_AS: &str = "save_as";

pub(crate) async fn run(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let image = image(request)?;
    let id = image.id.context("IMAGE/ID is missing in the XML")?;
    let repository = store.repository(id)?;
    let digest = if image.format.as_deref() == Some(SAVE_AS) {
        let label = format!("img-{id}");
        store
            .client()
            .put_reserved(&repository, &Tag::latest(), &label)
            .await?
    } else {
        let meta = blank(image)?;
        store
            .client()
            .put_blank_disk(&repository, &Tag::latest(), &meta)
            .await?
    };
    let source = Source::new(repository, digest);
    store
        .images
        .register(&source, &Attributes::default())
        .await?;
    Ok(Answer::line(source.to_string()))
}

/// The disk that is asked for.
fn blank(image: &Image) -> anyhow::Result<DiskMeta> {
    ensure!(
        matches!(image.kind, Some(ImageKind::Os | ImageKind::Datablock)),
        "an image without PATH is a DATABLOCK or an OS image; give PATH=docker://… for a container image"
    );
    let format = match image.format.as_deref().unwrap_or("raw").parse() {
        Ok(DiskFormat::Iso) => bail!("IMAGE/FORMAT iso needs a PATH with the CD's content"),
        format => format.context("IMAGE/FORMAT")?,
    };
    let fs = image.fs.as_deref().map(str::parse::<FileSystem>);
    let fs = fs.transpose().context("IMAGE/FS")?;
    let megabytes = image.size_mb.context("IMAGE/SIZE is missing in the XML")?;
    let size = megabytes
        .checked_mul(1 << 20)
        .filter(|size| (1..=disk_file::LIMIT).contains(size))
        .with_context(|| format!("IMAGE/SIZE: no disk can have {megabytes} MB"))?;
    if let Some(fs) = fs {
        let least = disk_file::smallest(fs);
        ensure!(
            size >= least,
            "IMAGE/SIZE: {megabytes} MB are too few for {fs}, which needs {} MB at least; ask for a larger SIZE or another FS",
            least >> 20
        );
    }
    Ok(DiskMeta {
        format,
        size,
        fs,
        blank: true,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(inside: &str) -> anyhow::Result<DiskMeta> {
        let xml = format!(
            "<DS_DRIVER_ACTION_DATA><IMAGE>{inside}</IMAGE><DATASTORE/></DS_DRIVER_ACTION_DATA>"
        );
        blank(&DatastoreAction::from_xml(xml.as_bytes())?.image.unwrap())
    }

    #[test]
    fn a_datablock_is_described_as_it_is_asked_for() {
        let meta = asked("<TYPE>2</TYPE><FORMAT>raw</FORMAT><FS>ext4</FS><SIZE>100</SIZE>");
        let expected = DiskMeta {
            format: DiskFormat::Raw,
            size: 100 << 20,
            fs: Some(FileSystem::Ext4),
            blank: true,
        };
        assert_eq!(meta.unwrap(), expected);
        let meta = asked("<TYPE>0</TYPE><FORMAT>QCOW2</FORMAT><FS/><SIZE>1</SIZE>").unwrap();
        assert_eq!((meta.format, meta.fs), (DiskFormat::Qcow2, None));
    }

    #[test]
    fn what_cannot_be_made_is_refused_with_the_attribute() {
        for (bad, word) in [
            ("<TYPE>1</TYPE><SIZE>1</SIZE>", "PATH"),
            (
                "<TYPE>2</TYPE><FORMAT>vmdk</FORMAT><SIZE>1</SIZE>",
                "FORMAT",
            ),
            ("<TYPE>2</TYPE><FORMAT>iso</FORMAT><SIZE>1</SIZE>", "FORMAT"),
            ("<TYPE>2</TYPE><FS>ntfs</FS><SIZE>1</SIZE>", "FS"),
            ("<TYPE>2</TYPE><FS>xfs</FS><SIZE>1</SIZE>", "too few"),
            ("<TYPE>2</TYPE>", "SIZE"),
            ("<TYPE>2</TYPE><SIZE>0</SIZE>", "SIZE"),
            ("<TYPE>2</TYPE><SIZE>18446744073709551615</SIZE>", "SIZE"),
        ] {
            let error = format!("{:#}", asked(bad).unwrap_err());
            assert!(error.contains(word), "{bad}: {error}");
        }
    }
}
