//! The tags that the drivers set in an image's repository. Each has one form; a tag of any other
//! form is somebody else's and is never changed.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

use super::{Source, Tag};
use crate::types::digest::Digest;
use crate::types::ids::{DiskId, SnapshotId, VmId};

/// A tag with its meaning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageTag {
    /// `latest`: the current version, for people. No driver reads it.
    Latest,
    /// `state-<hex>`: the current version of the image whose SOURCE has this digest. SOURCE pins
    /// the digest that `cp` answered and `oned` never changes it, while a persistent image changes
    /// with every VM that used it (`docs/decisions/0006-saved-images.md`).
    State(Digest),
    /// `attributes`: the image's attributes that no layer holds.
    Attributes,
    /// `snap-<id>`: a snapshot of a persistent image.
    Snapshot(SnapshotId),
    /// `vm-<vm>-disk-<disk>`: the saved content of a VM's disk, and with `-snap-<id>` behind it a
    /// snapshot of that disk.
    Disk {
        /// The VM.
        vm: VmId,
        /// The disk within it.
        disk: DiskId,
        /// The snapshot; `None` for the disk itself.
        snapshot: Option<SnapshotId>,
    },
    /// `saving-vm-<vm>-disk-<disk>`: a disk while it is saved as another image.
    Saving {
        /// The VM.
        vm: VmId,
        /// The disk within it.
        disk: DiskId,
    },
}

/// A tag that is not of the drivers' forms.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("\"{0}\" is not a tag of the drivers")]
pub struct UnknownTag(String);

impl ImageTag {
    /// The tag of the current version of an image.
    pub fn state_of(image: &Source) -> Self {
        Self::State(image.digest().clone())
    }

    /// The tag of a VM's disk.
    pub fn disk(vm: VmId, disk: DiskId) -> Self {
        Self::Disk {
            vm,
            disk,
            snapshot: None,
        }
    }

    /// Whether it is the VM's own: of this disk or of one of its snapshots.
    pub fn is_of_disk(&self, of: (VmId, DiskId)) -> bool {
        matches!(*self, Self::Disk { vm, disk, .. } if (vm, disk) == of)
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::State(digest) => write!(f, "state-{}", digest.hex()),
            Self::Attributes => f.write_str("attributes"),
            Self::Snapshot(id) => write!(f, "snap-{id}"),
            Self::Disk { vm, disk, snapshot } => {
                write!(f, "vm-{vm}-disk-{disk}")?;
                match snapshot {
                    Some(id) => write!(f, "-snap-{id}"),
                    None => Ok(()),
                }
            }
            Self::Saving { vm, disk } => write!(f, "saving-vm-{vm}-disk-{disk}"),
        }
    }
}

impl From<&ImageTag> for Tag {
    /// Every form is a tag: letters, digits and hyphens, at most 70 of them.
    fn from(tag: &ImageTag) -> Self {
        Self(tag.to_string())
    }
}

impl FromStr for ImageTag {
    type Err = UnknownTag;
    fn from_str(text: &str) -> Result<Self, UnknownTag> {
        read(text)
            // One form each: `snap-07` is not ours.
            .filter(|tag| tag.to_string() == text)
            .ok_or_else(|| UnknownTag(text.chars().take(128).collect()))
    }
}

fn read(text: &str) -> Option<ImageTag> {
    Some(match text {
        "latest" => ImageTag::Latest,
        "attributes" => ImageTag::Attributes,
        _ => {
            if let Some(hex) = text.strip_prefix("state-") {
                ImageTag::State(format!("sha256:{hex}").parse().ok()?)
            } else if let Some(id) = text.strip_prefix("snap-") {
                ImageTag::Snapshot(id.parse().ok()?)
            } else if let Some(rest) = text.strip_prefix("saving-vm-") {
                let (vm, disk) = rest.split_once("-disk-")?;
                ImageTag::Saving {
                    vm: vm.parse().ok()?,
                    disk: disk.parse().ok()?,
                }
            } else {
                let (vm, rest) = text.strip_prefix("vm-")?.split_once("-disk-")?;
                let (disk, snapshot) = match rest.split_once("-snap-") {
                    Some((disk, id)) => (disk, Some(id.parse().ok()?)),
                    None => (rest, None),
                };
                ImageTag::Disk {
                    vm: vm.parse().ok()?,
                    disk: disk.parse().ok()?,
                    snapshot,
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const VM: VmId = VmId::new(5);

    #[test]
    fn each_tag_of_the_drivers_has_one_form() {
        let digest = Digest::of(b"");
        let state = format!("state-{}", digest.hex());
        let disk = |disk, snapshot: Option<u32>| ImageTag::Disk {
            vm: VM,
            disk: DiskId::new(disk),
            snapshot: snapshot.map(SnapshotId::new),
        };
        let saving = ImageTag::Saving {
            vm: VM,
            disk: DiskId::new(0),
        };
        for (text, tag) in [
            ("latest", ImageTag::Latest),
            (&state, ImageTag::State(digest)),
            ("attributes", ImageTag::Attributes),
            ("snap-3", ImageTag::Snapshot(SnapshotId::new(3))),
            ("vm-5-disk-1", disk(1, None)),
            ("vm-5-disk-10-snap-12", disk(10, Some(12))),
            ("saving-vm-5-disk-0", saving),
        ] {
            assert_eq!(tag.to_string(), text);
            assert_eq!(text.parse(), Ok(tag.clone()));
            // The registry's own grammar takes it as well.
            assert_eq!(text.parse(), Ok(Tag::from(&tag)));
        }
    }

    #[test]
    fn any_other_tag_is_somebody_else_s() {
        for text in [
            "",
            "Latest",
            "1.36",
            "snap-",
            "snap-x",
            "snap-03",
            "snap--1",
            "state-",
            "state-abc",
            "vm-5",
            "vm-5-disk-",
            "vm-05-disk-1",
            "vm-5-disk-1-x",
            "vm-5-disk-1-snap-x",
            "vm-5-disk-1-snap-1-snap-2",
            "saving-vm-5-disk-0-snap-1",
            "saving-vm-x-disk-0",
        ] {
            assert!(text.parse::<ImageTag>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_vm_owns_the_tags_of_its_own_disk_and_no_other() {
        let is_own = |text: &str| {
            let tag: ImageTag = text.parse().unwrap();
            tag.is_of_disk((VM, DiskId::new(1)))
        };
        assert!(is_own("vm-5-disk-1") && is_own("vm-5-disk-1-snap-12"));
        for other in [
            "vm-5-disk-10",
            "vm-55-disk-1",
            "vm-5-disk-10-snap-1",
            "saving-vm-5-disk-1",
            "snap-1",
            "latest",
        ] {
            assert!(!is_own(other), "{other}");
        }
    }
}
