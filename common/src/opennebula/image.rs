//! The request to a datastore driver: DS_DRIVER_ACTION_DATA with IMAGE and DATASTORE, base64 on
//! standard input (`src/datastore_mad/one_datastore.rb`, both releases).

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::opennebula::xml::{Element, LIMIT, Node, XmlError};
use crate::types::ids::{DatastoreId, ImageId, SnapshotId};

/// The largest request that is read, in bytes: base64 takes four for three of the XML.
pub const REQUEST_LIMIT: usize = LIMIT / 3 * 4;

/// Why the request could not be read.
#[derive(Debug, Error)]
pub enum RequestError {
    /// Not base64.
    #[error("the request on standard input is not base64 ({0}); it is written by one_datastore")]
    Base64(base64::DecodeError),
    /// Too much of it.
    #[error("the request on standard input has more than {LIMIT} bytes")]
    TooLarge,
    /// Not the expected XML.
    #[error(transparent)]
    Xml(#[from] XmlError),
}

/// One call of a datastore driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatastoreAction {
    /// The image; `monitor` has none.
    pub image: Option<Image>,
    /// The datastore.
    pub datastore: Datastore,
}

/// IMAGE, as much of it as is given: `stat` gets PATH alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// ID; absent for `stat`, which is called before there is an image.
    pub id: Option<ImageId>,
    /// PATH as the user wrote it.
    pub path: Option<String>,
    /// SOURCE as `cp` answered it.
    pub source: Option<String>,
    /// TEMPLATE/DOCKERRUN: the command in place of the image's.
    pub dockerrun: Option<String>,
    /// TYPE; absent for `stat`.
    pub kind: Option<ImageKind>,
    /// FORMAT, in lower case: what an image without PATH is to be, or `save_as`.
    pub format: Option<String>,
    /// FS, in lower case.
    pub fs: Option<String>,
    /// SIZE in MB.
    pub size_mb: Option<u64>,
    /// CLONING_ID: the image that this one is to be a copy of. `oned` writes -1 for none.
    pub cloning: Option<ImageId>,
    /// TARGET_SNAPSHOT: the snapshot that is to be acted upon. `oned` writes -1 for none.
    pub target_snapshot: Option<SnapshotId>,
}

/// TYPE of an image (`Image::ImageType`, `include/Image.h`), as far as it matters here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImageKind {
    /// 0, OS: what a VM boots from.
    Os,
    /// 1, CDROM: read-only.
    Cdrom,
    /// 2, DATABLOCK.
    Datablock,
    /// KERNEL, RAMDISK, CONTEXT, BACKUP, FILESYSTEM, or one of a later release.
    Other,
}

impl ImageKind {
    fn of_number(number: &str) -> Result<Self, crate::types::decimal::NotANumber> {
        Ok(match crate::types::decimal::parse_u32(number)? {
            0 => Self::Os,
            1 => Self::Cdrom,
            2 => Self::Datablock,
            _ => Self::Other,
        })
    }
}

/// DATASTORE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datastore {
    /// ID.
    pub id: Option<DatastoreId>,
    /// TEMPLATE/REGISTRY: the private registry of this datastore, in place of LOCAL_SERVER.
    pub registry: Option<String>,
    /// TEMPLATE/DEFAULT_REGISTRY: where an unqualified name is looked for, in place of Docker Hub.
    pub default_registry: Option<String>,
    /// SAFE_DIRS: local paths below these may be read.
    pub safe_dirs: Vec<String>,
    /// RESTRICTED_DIRS: local paths below these may not, unless a safe one is nearer.
    pub restricted_dirs: Vec<String>,
    /// LIMIT_MB, when the administrator bounds the datastore.
    pub limit_mb: Option<u64>,
    /// BASE_PATH: the datastore's folder on the front-end, which need not be there.
    pub base_path: Option<String>,
}

impl DatastoreAction {
    /// Reads the base64 that `one_datastore` writes to standard input.
    pub fn from_base64(mut bytes: Vec<u8>) -> Result<Self, RequestError> {
        if bytes.len() > REQUEST_LIMIT {
            return Err(RequestError::TooLarge);
        }
        bytes.retain(|b| !b.is_ascii_whitespace());
        let xml = STANDARD.decode(&bytes).map_err(RequestError::Base64)?;
        // Beside its XML it would take as much memory again.
        drop(bytes);
        Ok(Self::from_xml(&xml)?)
    }

    /// Reads the XML itself.
    pub fn from_xml(xml: &[u8]) -> Result<Self, XmlError> {
        let document = Element::document(xml, "DS_DRIVER_ACTION_DATA")?;
        let root = document.node();
        Ok(Self {
            image: root
                .child("IMAGE")?
                .map(|node| Image::from_node(&node))
                .transpose()?,
            datastore: Datastore::from_node(&root.required_child("DATASTORE")?)?,
        })
    }
}

/// An id where -1 stands for none.
fn or_none<T: FromStr>(text: &str) -> Result<Option<T>, T::Err> {
    match text {
        "-1" => Ok(None),
        id => id.parse().map(Some),
    }
}

impl Image {
    fn from_node(image: &Node<'_>) -> Result<Self, XmlError> {
        let template = image.child("TEMPLATE")?;
        let dockerrun = match &template {
            Some(template) => template.text("DOCKERRUN")?.map(str::to_owned),
            None => None,
        };
        Ok(Self {
            id: image.value("ID")?,
            path: image.text("PATH")?.map(str::to_owned),
            source: image.text("SOURCE")?.map(str::to_owned),
            dockerrun,
            kind: image.read("TYPE", ImageKind::of_number)?,
            format: image.text("FORMAT")?.map(str::to_ascii_lowercase),
            fs: image.text("FS")?.map(str::to_ascii_lowercase),
            size_mb: image.read("SIZE", crate::types::decimal::parse_whole)?,
            cloning: image.read("CLONING_ID", or_none)?.flatten(),
            target_snapshot: image.read("TARGET_SNAPSHOT", or_none)?.flatten(),
        })
    }
}

impl Datastore {
    fn from_node(datastore: &Node<'_>) -> Result<Self, XmlError> {
        let id = datastore.value("ID")?;
        let base_path = datastore.text("BASE_PATH")?.map(str::to_owned);
        let Some(template) = datastore.child("TEMPLATE")? else {
            return Ok(Self {
                id,
                registry: None,
                default_registry: None,
                safe_dirs: Vec::new(),
                restricted_dirs: Vec::new(),
                limit_mb: None,
                base_path,
            });
        };
        let text = |name: &str| template.text(name).map(|t| t.map(str::to_owned));
        let dirs = |name: &str| {
            template.text(name).map(|t| {
                t.unwrap_or_default()
                    .split_whitespace()
                    .map(str::to_owned)
                    .collect()
            })
        };
        Ok(Self {
            id,
            registry: text("REGISTRY")?,
            default_registry: text("DEFAULT_REGISTRY")?,
            safe_dirs: dirs("SAFE_DIRS")?,
            restricted_dirs: dirs("RESTRICTED_DIRS")?,
            limit_mb: template.read("LIMIT_MB", crate::types::decimal::parse_whole)?,
            base_path,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CP: &str = include_str!("../../testdata/datastore-cp-7.4.0.xml");
    const STAT: &str = include_str!("../../testdata/datastore-stat-6.10.xml");

    #[test]
    fn what_one_datastore_sends_for_cp_and_stat_is_read() {
        let packed = STANDARD.encode(CP);
        let action = DatastoreAction::from_base64(packed.into_bytes()).unwrap();
        let image = action.image.unwrap();
        assert_eq!(image.id, Some(ImageId::new(6)));
        assert!(
            image
                .path
                .unwrap()
                .starts_with("docker://nginx:1.27-alpine?size=256&")
        );
        assert_eq!(image.dockerrun.as_deref(), Some("nginx -g 'daemon off;'"));
        assert_eq!(action.datastore.registry.as_deref(), Some("localhost:5000"));
        assert_eq!(action.datastore.restricted_dirs, ["/"]);

        assert_eq!(image.kind, Some(ImageKind::Os));
        assert_eq!((image.cloning, image.target_snapshot), (None, None));
        assert_eq!(image.size_mb, Some(64));

        let action = DatastoreAction::from_xml(STAT.as_bytes()).unwrap();
        assert_eq!(action.image.unwrap().id, None);
    }

    #[test]
    fn ids_that_name_nothing_are_none_and_damaged_ones_are_refused() {
        let read = |inside: &str| {
            let xml = format!(
                "<DS_DRIVER_ACTION_DATA><IMAGE>{inside}</IMAGE><DATASTORE/></DS_DRIVER_ACTION_DATA>"
            );
            DatastoreAction::from_xml(xml.as_bytes()).map(|action| action.image.unwrap())
        };
        let image = read(
            "<TYPE>2</TYPE><CLONING_ID>6</CLONING_ID><TARGET_SNAPSHOT>0</TARGET_SNAPSHOT><FORMAT>RAW</FORMAT><SIZE/>",
        )
        .unwrap();
        assert_eq!(image.kind, Some(ImageKind::Datablock));
        assert_eq!(image.cloning, Some(ImageId::new(6)));
        assert_eq!(image.target_snapshot, Some(SnapshotId::new(0)));
        assert_eq!(image.format.as_deref(), Some("raw"));
        assert_eq!(image.size_mb, None);
        for (number, kind) in [(1, ImageKind::Cdrom), (7, ImageKind::Other)] {
            let image = read(&format!("<TYPE>{number}</TYPE>")).unwrap();
            assert_eq!(image.kind, Some(kind));
        }
        for bad in [
            "<TYPE>OS</TYPE>",
            "<CLONING_ID>-2</CLONING_ID>",
            "<TARGET_SNAPSHOT>../0</TARGET_SNAPSHOT>",
            "<SIZE>1e9</SIZE>",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_request_is_read_up_to_12_mebibytes_of_xml() {
        assert_eq!(REQUEST_LIMIT, 16_777_216);
        let mut blank = vec![b' '; REQUEST_LIMIT];
        let refused = DatastoreAction::from_base64(blank.clone()).unwrap_err();
        assert!(matches!(refused, RequestError::Xml(_)), "{refused}");
        blank.extend(b"  ");
        let refused = DatastoreAction::from_base64(blank.clone()).unwrap_err();
        assert!(matches!(refused, RequestError::TooLarge), "{refused}");
    }

    #[test]
    fn attack_8_bad_base64_and_other_documents_are_refused_in_one_line() {
        for bad in [&b"%%%"[..], b"PFZNLz4=", b"", b"\xff\xff"] {
            assert!(DatastoreAction::from_base64(bad.to_vec()).is_err());
        }
    }
}
