//! An image without a manifest of its own: a configuration, and layers that are members of the
//! archive.

use std::collections::HashMap;

use bytes::Bytes;
use onedock_common::Digest;
use onedock_common::types::reference::Tag;
use serde_json::{Map, Value, json};

use super::member::Member;
use super::upload::Archive;
use crate::error::Error;
use crate::layer::packer::PackedLayer;
use crate::oci::descriptor::Descriptor;
use crate::oci::manifest::manifest_of;
use crate::oci::media_type::{DOCKER_CONFIG, DOCKER_MANIFEST};
use crate::repository::remote::RemoteRepository;

/// An image whose layers are members of the archive, base first.
#[derive(Debug, PartialEq)]
pub(super) struct PlainImage {
    pub(super) config: PlainConfig,
    pub(super) layers: Vec<(String, Member)>,
}

/// The configuration of a [`PlainImage`].
#[derive(Debug, PartialEq)]
pub(super) enum PlainConfig {
    /// As it is in the archive, with the digests that its layers must have.
    Stored(Bytes, Vec<Digest>),
    /// To be made when the layers' digests are known.
    FromHistory(History),
}

/// The layers' old configurations, base first.
#[derive(Debug, PartialEq)]
pub(super) struct History(pub(super) Vec<Map<String, Value>>);

impl PlainImage {
    /// Pushes the image under `tag`.
    pub(super) async fn push(
        &self,
        archive: &Archive,
        target: &RemoteRepository,
        tag: &Tag,
    ) -> Result<Digest, Error> {
        let expected = match &self.config {
            PlainConfig::Stored(_, diff_ids) => Some(diff_ids),
            PlainConfig::FromHistory(_) => None,
        };
        // In the archive's order: a packed archive is then read once. An archive may name one
        // member as several layers.
        let mut order: Vec<usize> = (0..self.layers.len()).collect();
        order.sort_by_key(|at| self.layers.get(*at).map(|(_, member)| member.offset()));
        let unpacked = archive.unpacked();
        let mut pushed: HashMap<&str, PackedLayer> = HashMap::new();
        for at in order {
            let Some((name, member)) = self.layers.get(at) else {
                continue;
            };
            if !pushed.contains_key(name.as_str()) {
                let same = self.layers.iter().filter(|(other, _)| other == name);
                let counted = (same.count() as u64, &unpacked);
                let packed = archive.push_layer(name, member, counted, target).await?;
                pushed.insert(name, packed);
            }
            if let Some(packed) = pushed.get(name.as_str()) {
                archive.check_diff_id(
                    name,
                    packed,
                    expected.and_then(|diff_ids| diff_ids.get(at)),
                )?;
            }
        }
        let packed: Vec<&PackedLayer> = self
            .layers
            .iter()
            .filter_map(|(name, _)| pushed.get(name.as_str()))
            .collect();
        let config = match &self.config {
            PlainConfig::Stored(bytes, _) => bytes.clone(),
            PlainConfig::FromHistory(history) => {
                let diff_ids: Vec<&Digest> = packed.iter().map(|p| &p.diff_id).collect();
                history.config(&diff_ids)
            }
        };
        let config = target.put_small(DOCKER_CONFIG, config).await?;
        let layers: Vec<&Descriptor> = packed.iter().map(|p| &p.blob).collect();
        let bytes = manifest_of(DOCKER_MANIFEST, &config, &layers);
        target.put_manifest(Some(tag), DOCKER_MANIFEST, bytes).await
    }
}

impl History {
    /// A configuration for layers of these digests, from that of the top layer, as the engine
    /// does when it migrates.
    fn config(&self, diff_ids: &[&Digest]) -> Bytes {
        let mut config = self.0.last().cloned().unwrap_or_default();
        for gone in ["id", "parent", "parent_id", "layer_id", "Size", "throwaway"] {
            config.remove(gone);
        }
        let history: Vec<Value> = self
            .0
            .iter()
            .map(|old| json!({"created": old.get("created")}))
            .collect();
        config.insert("history".to_owned(), Value::Array(history));
        config.insert(
            "rootfs".to_owned(),
            json!({"type": "layers", "diff_ids": diff_ids}),
        );
        Bytes::from(Value::Object(config).to_string())
    }
}
