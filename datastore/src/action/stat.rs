//! `stat`: the image's size in MB, before there is an image; the user's call waits for it. The
//! larger of `size=` and the unpacked layers, or the size of a disk, at least 1, found without a pull
//! (`docs/decisions/0003-image-size.md`).

use std::time::Duration;

use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::image::DatastoreAction;
use onedock_registry::archive_size;

use super::cp::with_choice;
use super::{image, path};
use crate::content::Content;
use crate::local_file::LocalFile;
use crate::path::ImagePath;
use crate::store::Store;
use crate::{hosts, store};

/// How long a registry may take to tell a size: `oned` waits 90 s for the answer, and meanwhile
/// whoever names a slow registry holds one of the driver's few threads.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

pub(crate) async fn run(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let (bytes, least) = match path(image(request)?)? {
        ImagePath::Registry {
            reference,
            size_mb,
            platform,
        } => {
            let reference = store.complete(&reference).await?;
            // The layers of one platform are what a VM has; the first host's speaks for all.
            let platforms = hosts::wanted(platform, &store.config).await?;
            let platform = platforms
                .first()
                .cloned()
                .unwrap_or_else(onedock_registry::Platform::here);
            (
                store
                    .client()
                    .unpacked_size(&reference, &platform)
                    .await
                    .map_err(with_choice)?
                    .bytes,
                size_mb,
            )
        }
        ImagePath::File { path, platform } => {
            let file = LocalFile::open(&path, &request.datastore)?;
            let bytes = match Content::of(&file)? {
                Content::Disk(meta) => meta.size,
                Content::Archive => {
                    let platforms = hosts::wanted(platform, &store.config).await?;
                    let options = store::options(&store.config)?;
                    let size = archive_size(&file.path(), &platforms, &options).await;
                    file.said(size)?.bytes
                }
            };
            (bytes, 0)
        }
    };
    Ok(Answer::line(megabytes(bytes, least).to_string()))
}

/// Whole MB, counted up.
fn megabytes(bytes: u64, least: u64) -> u64 {
    bytes.div_ceil(1 << 20).max(least).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_22_it_ends_before_oned_stops_to_wait_for_it() {
        assert!(hosts::LIMIT + LIMIT < Duration::from_secs(90));
    }

    #[test]
    fn the_size_is_counted_up_and_at_least_what_was_asked_and_one() {
        assert_eq!(megabytes(0, 0), 1);
        assert_eq!(megabytes(1 << 20, 0), 1);
        assert_eq!(megabytes((1 << 20) + 1, 0), 2);
        assert_eq!(megabytes(1, 256), 256);
    }
}
