//! What stops an archive.

use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use thiserror::Error;

/// Why there is no archive of a layer.
#[derive(Debug, Error)]
pub enum PackError {
    /// The path in the request.
    #[error("{path:?} is not the folder of a container's layer (…/overlay2/<64 digits>)")]
    NotALayer {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The folder, or one above it.
    #[error("the layer {path} cannot be opened: {errno}")]
    Open {
        path: PathBuf,
        /// What the kernel answered; ELOOP or ENOTDIR where a link stands in a folder's place.
        errno: Errno,
    },
    /// A folder that somebody else than the engine can change.
    #[error("{path} does not belong to the engine alone: it is owned or writable by others")]
    NotTheEngines { path: PathBuf },
    /// The list of the layers below.
    #[error("the layers below {path} cannot be read: {reason}")]
    Below {
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The private mount.
    #[error("the layers of {path} cannot be laid over each other: {errno}")]
    Mount {
        path: PathBuf,
        /// What the kernel answered.
        errno: Errno,
    },
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
