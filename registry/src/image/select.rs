//! The images of an index for some platforms. As containerd's `images.Manifest`: indexes within an
//! index are read, an entry without a platform has that of its configuration, and attachments are
//! no images.

use std::collections::{BTreeSet, VecDeque};

use onedock_common::Digest;

use crate::error::Error;
use crate::oci::descriptor::Descriptor;
use crate::oci::index::Index;
use crate::oci::manifest::Manifest;
use crate::oci::media_type::ManifestKind;
use crate::oci::platform::{EntryPlatform, Platform, runs};
use crate::repository::remote::RemoteRepository;

/// How deep indexes lie in an index at most.
const DEPTH: usize = 3;
/// How many manifests are requested at most for one index.
const REQUESTS: usize = 64;
/// How many platforms an error lists.
const LISTED: usize = 20;

impl RemoteRepository {
    /// The images of an index that run on one of `platforms`, each once and with its platform, in
    /// the index's order; all images when no platform is named. `image` is the name for errors,
    /// which say what is missing and what is there.
    pub(crate) async fn images_of(
        &self,
        image: &str,
        index: &Index,
        platforms: &[Platform],
    ) -> Result<Vec<Descriptor>, Error> {
        let fits = |entry: &Descriptor| runs(entry.platform.as_ref(), platforms);
        let entries = self.entries_of(index).await?;
        let (known, unknown): (Vec<Descriptor>, Vec<Descriptor>) = entries
            .into_iter()
            .partition(|entry| entry.known_platform().is_some());
        let mut all = known;
        if platforms.is_empty() || !all.iter().any(fits) {
            for entry in unknown.into_iter().take(REQUESTS) {
                all.extend(self.with_platform(entry).await?);
            }
        }
        let has: BTreeSet<String> = all
            .iter()
            .filter_map(|entry| entry.platform.as_ref().map(EntryPlatform::text))
            .take(LISTED)
            .collect();
        let found: Vec<Descriptor> = all.into_iter().filter(fits).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let or = |list: Vec<String>, nothing: &str| match list.is_empty() {
            true => nothing.to_owned(),
            false => list.join(", "),
        };
        let wanted = platforms.iter().map(ToString::to_string).collect();
        Err(Error::Platform {
            image: image.to_owned(),
            wanted: or(wanted, "any platform"),
            has: or(has.into_iter().collect(), "no image"),
        })
    }

    /// Every entry of an index that may be an image, with those of the indexes within.
    async fn entries_of(&self, index: &Index) -> Result<Vec<Descriptor>, Error> {
        let mut queue = VecDeque::from([(index.entries.clone(), 0)]);
        let (mut known, mut requests, mut found) = (BTreeSet::<Digest>::new(), 0, Vec::new());
        while let Some((entries, depth)) = queue.pop_front() {
            for entry in entries {
                if entry.is_attachment() || !known.insert(entry.digest.clone()) {
                    continue;
                }
                match entry.kind() {
                    Some(ManifestKind::Index) => {
                        requests += 1;
                        if depth >= DEPTH || requests > REQUESTS {
                            let reason = "it has too many indexes within its index".to_owned();
                            return Err(self.refuse(reason));
                        }
                        let inner = match self.manifest_of(&entry.digest).await {
                            // What a mirror has not copied.
                            Err(e) if e.is_not_found() => continue,
                            inner => self.parse(&inner?)?,
                        };
                        if let Manifest::Index(inner) = inner {
                            queue.push_back((inner.entries, depth + 1));
                        }
                    }
                    Some(ManifestKind::Image) => found.push(entry),
                    None if entry.media_type.is_empty() => found.push(entry),
                    None => {}
                }
            }
        }
        Ok(found)
    }

    /// An entry with the platform of its configuration; `None` when it is no image.
    async fn with_platform(&self, entry: Descriptor) -> Result<Option<Descriptor>, Error> {
        let found = match self.manifest_of(&entry.digest).await {
            Err(e) if e.is_not_found() => return Ok(None),
            found => found?,
        };
        let Manifest::Image(image) = self.parse(&found)? else {
            return Ok(None);
        };
        if image.other_kind().is_some() {
            return Ok(None);
        }
        let (_, config) = self.config(&image).await?;
        Ok(Some(Descriptor {
            platform: config.built_for,
            media_type: found.media_type,
            ..entry
        }))
    }
}

/// The entry that an engine chooses: of several variants the one that every machine of the platform
/// can run.
pub(crate) fn best(entries: &[Descriptor]) -> Option<&Descriptor> {
    entries.iter().min_by_key(|entry| {
        let variant = entry.platform.as_ref().and_then(|p| p.variant.as_deref());
        !matches!(variant, None | Some("" | "v1" | "v8"))
    })
}
