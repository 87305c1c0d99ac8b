//! One more layer upon an image: what a VM changed travels as a layer, without the engine's
//! commit and push.

use onedock_common::Digest;
use onedock_common::reference::{Repository, Source, Tag};
use tokio::io::AsyncRead;

use crate::client::Client;
use crate::error::Error;

/// An image that [`Client::append_layer`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// The new image's manifest.
    pub digest: Digest,
    /// The new layer's packed blob in the target repository.
    pub layer: Digest,
    /// How many bytes the packed layer takes in the registry.
    pub bytes: u64,
    /// The digest of the layer's tar archive.
    pub diff_id: Digest,
}

impl Client {
    /// Puts an uncompressed tar archive as a further layer upon `base` and the new image under
    /// `tag` of `target`. `None`: the archive has no entry, nothing was pushed and no tag moved.
    ///
    /// The configuration is that of `base` (of a base for several platforms, that of this
    /// machine), with `comment` and the present time in its history; manifest and layer have the
    /// media types of the base's family. `whole`: the image has this layer alone, because it
    /// holds the whole tree. The layers of `base` are mounted where `target` is another
    /// repository of its registry, and copied where they cannot be.
    ///
    /// Reading, packing (gzip, level 1) and sending overlap; nothing is kept on disk. A stream
    /// cannot be read twice, so an upload that breaks is not begun again: the call fails with
    /// the registry's error, no tag has moved, and the caller may call again with a new stream.
    /// An error while reading `layer` is [`Error::Layer`]: an archive that was cut short must
    /// give such an error and not just end, but one that ends within an entry or without the two
    /// zero blocks is refused as well.
    pub async fn append_layer(
        &self,
        base: &Source,
        target: &Repository,
        tag: &Tag,
        layer: impl AsyncRead + Send,
        whole: bool,
        comment: &str,
    ) -> Result<Option<Appended>, Error> {
        let _ = (base, target, tag, layer, whole, comment);
        Err(Error::Stopped)
    }

    /// How many layers an image has; of one for several platforms, that of this machine.
    pub async fn depth(&self, image: &Source) -> Result<usize, Error> {
        let _ = image;
        Err(Error::Stopped)
    }
}
