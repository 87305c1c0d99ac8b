//! What lies beside an image in its repository, which two drivers must name alike.

use serde::{Deserialize, Serialize};

use crate::reference::{BadReference, Source, Tag};

/// The tag that holds an image's present state. SOURCE pins the digest that `cp` made, and
/// `oned` never changes it; a persistent image changes with every VM that used it. Only `mvds`
/// moves this tag, and no other tag is ever followed (`docs/decisions/0006-saved-images.md`).
pub fn state_tag(source: &Source) -> Result<Tag, BadReference> {
    format!("state-{}", source.digest().hex()).parse()
}

/// Attributes of an image that no layer holds, kept as a small document under a tag of its own,
/// so that they are there where `oned` does not hand them to the disk (INHERIT_IMAGE_ATTR).
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// DOCKERRUN.
    pub dockerrun: Option<String>,
}

impl Attributes {
    /// The document's media type.
    pub const MEDIA_TYPE: &str = "application/vnd.opennebula.onedock.image.v1+json";

    /// The document's tag.
    pub fn tag() -> Result<Tag, BadReference> {
        "attributes".parse()
    }
}
