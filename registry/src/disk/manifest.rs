//! The manifest of a disk: its configuration describes the disk, its layers are pieces of its
//! file, each with its offset. What a registry answers is hostile input.

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::state::disk_image::{DiskFormat, DiskMeta};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::check_total;
use crate::oci::media_type::OCI_MANIFEST;

/// The media type of a disk's configuration.
pub(crate) const DISK_CONFIG: &str = "application/vnd.opennebula.onedock.disk.config.v1+json";
/// The media type of a reserved SOURCE, without content.
pub(crate) const RESERVED_CONFIG: &str =
    "application/vnd.opennebula.onedock.reserved.config.v1+json";
/// The media type of a piece of a disk's file.
pub(crate) const PIECE_TYPE: &str = "application/vnd.opennebula.onedock.disk.piece.v1+gzip";
/// The largest configuration of a disk, in bytes.
pub(crate) const DISK_CONFIG_LIMIT: u64 = 64 * 1024;
/// The length of every piece but a file's last, unpacked, in bytes.
pub(crate) const PIECE: u64 = 64 << 20;
/// The most pieces: their manifest has less than the 4 MiB that registries take.
pub(crate) const PIECES: usize = 8_000;
/// The largest disk, in bytes.
const SIZE_LIMIT: u64 = 64 << 40;
/// The most that gzip makes of what cannot shrink (an eighth more with the fixed code).
const PACKED_LIMIT: u64 = PIECE + PIECE / 8 + 4096;

/// A disk as its manifest describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DiskManifest {
    /// The length of its file, in bytes.
    pub(crate) length: u64,
    /// The pieces that are not zeros, in the file's order.
    pub(crate) pieces: Vec<Piece>,
}

/// A piece of a disk's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    pub(crate) blob: Descriptor,
    /// Its offset in the file, in bytes.
    pub(crate) offset: u64,
    /// The digest of its bytes in the file, by which an unchanged piece is found without being
    /// packed.
    pub(crate) content: Digest,
}

#[derive(Serialize, Deserialize)]
struct RawPiece {
    #[serde(flatten)]
    blob: Descriptor,
    #[serde(default)]
    annotations: Option<PieceAnnotations>,
}

#[derive(Serialize, Deserialize)]
struct PieceAnnotations {
    #[serde(rename = "org.opennebula.onedock.offset")]
    offset: String,
    #[serde(rename = "org.opennebula.onedock.content")]
    content: Digest,
}

#[derive(Serialize, Deserialize)]
struct Annotations {
    #[serde(rename = "org.opennebula.onedock.length")]
    length: String,
}

#[derive(Deserialize)]
struct RawManifest {
    layers: Vec<RawPiece>,
    annotations: Option<Annotations>,
}

/// How long the piece at `offset` of a file of `length` bytes is.
pub(crate) fn piece_length(offset: u64, length: u64) -> u64 {
    length.saturating_sub(offset).min(PIECE)
}

/// Whether a disk can be as its description says. The error is the reason in words.
pub(crate) fn check_meta(meta: &DiskMeta) -> Result<(), String> {
    if meta.size == 0 || meta.size > SIZE_LIMIT {
        return Err(format!(
            "its disk has {} bytes (1 to {SIZE_LIMIT} are supported)",
            meta.size
        ));
    }
    if meta.blank && meta.format == DiskFormat::Iso {
        return Err("a CD without content is useless".to_owned());
    }
    Ok(())
}

/// Whether a disk's file can have this length.
pub(crate) fn check_length(meta: &DiskMeta, length: u64) -> Result<(), String> {
    let fits = match meta.format {
        DiskFormat::Raw | DiskFormat::Iso => length == meta.size,
        DiskFormat::Qcow2 => (1..=SIZE_LIMIT).contains(&length),
    };
    if fits {
        Ok(())
    } else {
        Err(format!(
            "its disk has {} bytes and its file {length}",
            meta.size
        ))
    }
}

impl DiskManifest {
    /// The manifest of a disk with this configuration.
    pub(crate) fn to_bytes(&self, config: &Descriptor) -> Bytes {
        let layers: Vec<RawPiece> = self.pieces.iter().map(RawPiece::from).collect();
        let length = self.length.to_string();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config,
            "layers": layers,
            "annotations": Annotations { length },
        });
        Bytes::from(manifest.to_string())
    }

    /// Reads the manifest of a disk that is not blank. `limit` is the most bytes that all its
    /// packed pieces may have. The error is the reason in words.
    pub(crate) fn parse(bytes: &[u8], meta: &DiskMeta, limit: u64) -> Result<Self, String> {
        let damaged = |e: serde_json::Error| format!("its manifest is damaged ({e})");
        let raw: RawManifest = serde_json::from_slice(bytes).map_err(damaged)?;
        let number = |text: &str| {
            onedock_common::types::decimal::parse_whole(text)
                .map_err(|_| "its manifest has an offset or a length that is no number".to_owned())
        };
        let annotations = raw.annotations.ok_or("its manifest has no length")?;
        let length = number(&annotations.length)?;
        check_length(meta, length)?;
        if raw.layers.len() > PIECES {
            return Err(format!("it has {} pieces", raw.layers.len()));
        }
        let (mut pieces, mut next) = (Vec::<Piece>::new(), 0);
        for piece in raw.layers {
            let blob = piece.blob;
            if blob.media_type != PIECE_TYPE || !blob.urls.is_empty() {
                return Err(format!("its piece {} is of another kind", blob.digest));
            }
            let annotations = piece.annotations.ok_or("its manifest has no offsets")?;
            let offset = number(&annotations.offset)?;
            if offset % PIECE != 0 || offset < next || offset >= length {
                return Err(format!("its piece {} has a wrong offset", blob.digest));
            }
            if blob.size > PACKED_LIMIT {
                return Err(format!("its piece {} has {} bytes", blob.digest, blob.size));
            }
            next = offset.saturating_add(PIECE);
            pieces.push(Piece {
                blob,
                offset,
                content: annotations.content,
            });
        }
        check_total(pieces.iter().map(|piece| piece.blob.size), limit)?;
        Ok(Self { length, pieces })
    }
}

/// The pieces that a manifest of our own names, whatever their offsets.
pub(crate) fn pieces_of(bytes: &[u8]) -> impl Iterator<Item = Piece> {
    let raw: Option<RawManifest> = serde_json::from_slice(bytes).ok();
    let layers = raw.map(|raw| raw.layers).unwrap_or_default();
    layers.into_iter().filter_map(|piece| {
        let annotations = piece.annotations?;
        let ours = piece.blob.media_type == PIECE_TYPE && piece.blob.urls.is_empty();
        ours.then_some(Piece {
            blob: piece.blob,
            offset: 0,
            content: annotations.content,
        })
    })
}

impl From<&Piece> for RawPiece {
    fn from(piece: &Piece) -> Self {
        Self {
            blob: piece.blob.clone(),
            annotations: Some(PieceAnnotations {
                offset: piece.offset.to_string(),
                content: piece.content.clone(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: DiskMeta = DiskMeta {
        format: DiskFormat::Raw,
        size: 3 * PIECE + 1,
        fs: None,
        blank: false,
    };

    fn blob(content: &[u8]) -> Descriptor {
        Descriptor::new(PIECE_TYPE, content.len() as u64, Digest::of(content))
    }

    fn disk(offsets: &[u64]) -> DiskManifest {
        let piece = |offset: &u64| Piece {
            blob: blob(&offset.to_le_bytes()),
            offset: *offset,
            content: Digest::of(b"content"),
        };
        DiskManifest {
            length: META.size,
            pieces: offsets.iter().map(piece).collect(),
        }
    }

    fn written(disk: &DiskManifest) -> String {
        let bytes = disk.to_bytes(&blob(b"config"));
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn what_is_written_is_read() {
        let disk = disk(&[0, 2 * PIECE, 3 * PIECE]);
        let text = written(&disk);
        assert_eq!(DiskManifest::parse(text.as_bytes(), &META, 100), Ok(disk));
        assert_eq!(piece_length(3 * PIECE, META.size), 1);
        assert_eq!(piece_length(PIECE, META.size), PIECE);
    }

    #[test]
    fn attack_19_pieces_that_overlap_lie_outside_or_are_too_many_are_refused() {
        let parse = |text: &str| DiskManifest::parse(text.as_bytes(), &META, 1 << 40);
        for offsets in [
            &[PIECE, PIECE][..],
            &[PIECE, 0],
            &[1],
            &[4 * PIECE],
            &[PIECE / 2],
            &[u64::MAX / PIECE * PIECE],
        ] {
            let error = parse(&written(&disk(offsets))).unwrap_err();
            assert!(error.contains("wrong offset"), "{offsets:?}: {error}");
        }
        let good = written(&disk(&[0, PIECE]));
        for (from, to) in [
            ("\"size\":8", "\"size\":80000000"),
            ("\"size\":8", "\"urls\":[\"http://x\"],\"size\":8"),
            ("piece.v1+gzip", "piece.v1+zstd"),
            ("\"67108864\"", "\"+67108864\""),
            ("\"67108864\"", "\"18446744073709551616\""),
            ("\"201326593\"", "\"201326592\""),
            ("onedock.length", "onedock.width"),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            assert!(parse(&bad).is_err(), "{to}");
        }
        let text = good.as_bytes();
        assert!(DiskManifest::parse(text, &META, 15).is_err());
        let many = disk(
            &(0..PIECES as u64 + 1)
                .map(|n| n * PIECE)
                .collect::<Vec<_>>(),
        );
        assert!(parse(&written(&many)).is_err());
    }

    #[test]
    fn attack_19_disks_of_impossible_size_are_refused() {
        for size in [0, SIZE_LIMIT + 1, u64::MAX] {
            assert!(check_meta(&DiskMeta { size, ..META }).is_err());
        }
        let qcow2 = DiskMeta {
            format: DiskFormat::Qcow2,
            ..META
        };
        assert!(check_length(&qcow2, 200_000).is_ok());
        assert!(check_length(&qcow2, u64::MAX).is_err());
        assert!(check_length(&META, 200_000).is_err());
    }

    #[test]
    fn the_largest_manifest_is_one_that_registries_take() {
        let offsets: Vec<u64> = (0..PIECES as u64).map(|n| n * PIECE).collect();
        let length = written(&disk(&offsets)).len() as u64;
        assert!(length < crate::oci::manifest::MANIFEST_LIMIT, "{length}");
    }
}
