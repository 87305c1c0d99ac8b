//! Which images of an index in a registry are meant. As containerd's `images.Manifest`: indexes
//! within an index are looked into, an entry that says no platform is asked for its
//! configuration's, and what is about an image is none.

use std::collections::{BTreeSet, VecDeque};

use onedock_common::Digest;

use crate::error::{Error, one_line};
use crate::oci::config;
use crate::oci::manifest::{CONFIG_LIMIT, Descriptor, EntryPlatform, Index, Manifest};
use crate::oci::platform::Platform;
use crate::repository::remote::Remote;

/// How deep indexes lie in an index at most.
const DEPTH: usize = 3;
/// How many manifests are asked for at most to know an index.
const QUESTIONS: usize = 64;
/// How many platforms an error lists.
const LISTED: usize = 20;

impl Remote {
    /// The images of an index that run on one of `platforms`, each once and with its platform, in
    /// the index's order; all images when no platform is named. `image` is the name for errors,
    /// which say what is missing and what is there.
    pub(crate) async fn images_of(
        &self,
        image: &str,
        index: &Index,
        platforms: &[Platform],
    ) -> Result<Vec<Descriptor>, Error> {
        let entries = self.entries_of(index).await?;
        let (said, silent): (Vec<Descriptor>, Vec<Descriptor>) = entries
            .into_iter()
            .partition(|entry| entry.said_platform().is_some());
        let mut all = said;
        if platforms.is_empty() || !all.iter().any(|entry| runs(entry, platforms)) {
            for entry in silent.into_iter().take(QUESTIONS) {
                all.extend(self.with_platform(entry).await?);
            }
        }
        let has: BTreeSet<String> = all.iter().filter_map(platform_text).take(LISTED).collect();
        let found: Vec<Descriptor> = all
            .into_iter()
            .filter(|entry| runs(entry, platforms))
            .collect();
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
        let (mut seen, mut asked, mut found) = (BTreeSet::<Digest>::new(), 0, Vec::new());
        while let Some((entries, depth)) = queue.pop_front() {
            for entry in entries {
                if entry.is_attachment() || !seen.insert(entry.digest.clone()) {
                    continue;
                }
                match entry.is_index() {
                    Some(true) => {
                        asked += 1;
                        if depth >= DEPTH || asked > QUESTIONS {
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
                    Some(false) => found.push(entry),
                    None if entry.media_type.is_empty() => found.push(entry),
                    None => {}
                }
            }
        }
        Ok(found)
    }

    /// An entry with the platform that its configuration says; `None` when it is no image.
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
        let config = self.small_blob(&image.config, CONFIG_LIMIT).await?;
        let config = config::parse(&config).map_err(|reason| self.refuse(reason))?;
        Ok(Some(Descriptor {
            platform: config.platform(),
            media_type: found.media_type,
            ..entry
        }))
    }
}

/// Whether an entry runs on one of the platforms; on any when none is named. An image that does
/// not say its architecture is the business of whoever made it.
pub(crate) fn runs(entry: &Descriptor, platforms: &[Platform]) -> bool {
    let Some(p) = &entry.platform else {
        return true;
    };
    platforms.is_empty()
        || platforms
            .iter()
            .any(|wanted| wanted.runs(&p.os, &p.architecture, p.variant.as_deref()))
}

/// The entry that an engine takes: of several variants the one that every machine of the platform
/// can run.
pub(crate) fn best(entries: &[Descriptor]) -> Option<&Descriptor> {
    entries.iter().min_by_key(|entry| {
        let variant = entry.platform.as_ref().and_then(|p| p.variant.as_deref());
        !matches!(variant, None | Some("" | "v1" | "v8"))
    })
}

fn platform_text(entry: &Descriptor) -> Option<String> {
    entry.platform.as_ref().map(EntryPlatform::text)
}

impl EntryPlatform {
    /// `os/architecture[/variant]`, for messages.
    pub(crate) fn text(&self) -> String {
        let variant = self.variant.as_deref().filter(|v| !v.is_empty());
        let parts = [Some(self.os.as_str()), Some(&self.architecture), variant];
        one_line(&parts.into_iter().flatten().collect::<Vec<_>>().join("/"))
    }
}
