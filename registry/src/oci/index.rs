//! Indexes: the images of several platforms under one name (image-index.md).

use onedock_common::Digest;
use serde_json::Value;

use super::descriptor::Descriptor;

/// The most entries of an index.
pub(super) const ENTRY_LIMIT: usize = 1000;

/// The images of several platforms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) entries: Vec<Descriptor>,
}

impl Index {
    /// The error is the reason in words.
    pub(super) fn new(entries: Vec<Descriptor>) -> Result<Self, String> {
        match entries.len() {
            0..=ENTRY_LIMIT => Ok(Self { entries }),
            more => Err(format!("its index has {more} entries")),
        }
    }

    /// The index with these entries only, each after the digest of the entry that it replaces.
    /// Everything else in the index stays; the bytes stay the same when nothing changes.
    pub(crate) fn rewritten(
        &self,
        bytes: &[u8],
        media_type: &str,
        new: &[(Digest, Descriptor)],
    ) -> Result<Vec<u8>, String> {
        let same = |(own, (digest, entry)): (&Descriptor, &(Digest, Descriptor))| {
            own == entry && own.digest == *digest
        };
        if new.len() == self.entries.len() && self.entries.iter().zip(new).all(same) {
            return Ok(bytes.to_vec());
        }
        let damaged = |e: serde_json::Error| format!("its index is damaged ({e})");
        let mut value: Value = serde_json::from_slice(bytes).map_err(damaged)?;
        let old = value["manifests"].as_array().cloned().unwrap_or_default();
        let mut entries = Vec::new();
        for (digest, entry) in new {
            let old = old.iter().find(|old| old["digest"] == digest.as_str());
            let mut entry = serde_json::to_value(entry).map_err(damaged)?;
            if let (Some(old), Some(entry)) =
                (old.and_then(Value::as_object), entry.as_object_mut())
            {
                for (key, value) in old {
                    entry.entry(key.as_str()).or_insert_with(|| value.clone());
                }
                // The fields of the platform that are not read here.
                let read = |key: &str| matches!(key, "os" | "architecture" | "variant");
                let more = old.get("platform").and_then(|p| p.as_object());
                for (key, value) in more.into_iter().flatten().filter(|(key, _)| !read(key)) {
                    entry["platform"][key.as_str()] = value.clone();
                }
            }
            entries.push(entry);
        }
        value["manifests"] = entries.into();
        value["mediaType"] = media_type.into();
        serde_json::to_vec_pretty(&value).map_err(damaged)
    }
}
