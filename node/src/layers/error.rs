//! What stops an archive.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

/// Why there is no archive of a layer.
#[derive(Debug, Error)]
pub enum PackError {
    /// No record: the engine's storage is no overlay, or the container was never started.
    #[error(
        "it is not known where the layers of container {container} are; start the VM, which records it"
    )]
    Unknown {
        /// The first digits.
        container: String,
    },
    #[error("the record of the layers of container {container} cannot be read: {source}")]
    Record {
        /// The first digits.
        container: String,
        /// What the system answered.
        source: io::Error,
    },
    /// The engine's storage was moved, or made anew.
    #[error(
        "{path} is not the folder any more that container {container} had at its last start; start the VM, which records where its layers are"
    )]
    Replaced {
        /// The first digits.
        container: String,
        path: PathBuf,
    },
    /// The folder, or one above it.
    #[error("the layer {path} cannot be opened: {errno}")]
    Open {
        path: PathBuf,
        /// What the kernel answered; ELOOP or ENOTDIR where a link stands in a folder's place.
        errno: Errno,
    },
    /// The private mount.
    #[error("the layers of {path} cannot be laid over each other: {errno}")]
    Mount {
        path: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
    #[error("there is no mount namespace for the layer's tree: {0}")]
    Namespace(Errno),
    #[error("no thread for the layer's mount")]
    Thread(#[source] io::Error),
    /// Overlay features that leave no complete files and folders in the layer.
    #[error(
        "/{path} in the container was renamed in a way that no image can carry; set redirect_dir=N and metacopy=N in the host's overlay module, then copy and delete it in the container"
    )]
    Redirected {
        /// The place, as seen in the container.
        path: String,
    },
    /// A name that means a deletion in an image.
    #[error(
        "/{path} in the container cannot be in an image, where names that begin with .wh. mean deleted files; rename it"
    )]
    Reserved {
        /// The place, as seen in the container.
        path: String,
    },
    /// A path longer than the kernel takes in one piece.
    #[error(
        "/{path}… in the container has a path of more than 4095 bytes, which no image can carry"
    )]
    TooLong {
        /// The beginning of the path.
        path: String,
    },
    /// Extended attributes beyond what readers of archives accept.
    #[error("/{path} in the container has more extended attributes than an image can carry (1 MB)")]
    Attributes {
        /// The place, as seen in the container.
        path: String,
    },
    /// Anything in the tree.
    #[error("/{path} in the container cannot be read: {errno}")]
    Read {
        /// The place, as seen in the container.
        path: String,
        /// What the kernel answered.
        errno: Errno,
    },
    /// The other end of the pipe.
    #[error("the layer's archive cannot be written")]
    Output(#[source] io::Error),
}

/// A path in the container in an error's text: at most 200 characters, and none that would move
/// the cursor of whoever reads it.
pub(super) fn shown(path: &[u8]) -> String {
    let text = String::from_utf8_lossy(path);
    text.escape_debug().take(200).collect()
}
