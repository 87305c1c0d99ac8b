//! A container's writable layer as an uncompressed layer archive (OCI image specification,
//! "Image Layer Filesystem Changeset"), read from the folder in the engine's storage.
//!
//! The engine's own `commit` carries of the extended attributes only capabilities and knows
//! nothing of our mount points; its archive has to be pushed by it too. This one is a stream that
//! the caller compresses, counts and sends.
//!
//! Whoever runs in the container has made all that is read here. Nothing is opened by path: each
//! step is one name beneath an open folder, links are read and never followed, devices and pipes
//! are examined and never opened.
//!
//! An archive without entries (two blocks of zeros) means that the container has changed nothing.

use std::io::{BufWriter, Write};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use onedock_common::ContainerId;
use onedock_common::state::paths::Paths;

use crate::layers::entry::END;
use crate::layers::error::PackError;
use crate::layers::layer::Layer;
use crate::layers::merged;
use crate::layers::walk::{PIECE, Walk};

/// Writes the archive of the layer of `container`: its changes, or, with `whole`, the
/// complete tree of the container without what the engine itself has laid into it.
///
/// What the container changes meanwhile is there in one of its states; a file that shrinks is
/// filled up with zeros, so that the archive stays one.
///
/// # Errors
///
/// [`PackError`]; the archive is then incomplete and has no end.
pub fn pack(
    paths: &Paths,
    container: &ContainerId,
    whole: bool,
    out: impl Write + Send,
) -> Result<(), PackError> {
    allow_depth();
    let mut out = BufWriter::with_capacity(PIECE, out);
    if whole {
        merged::within(paths, container, |layer, root| {
            Walk::new(&mut out, layer.ids(), whole).run(root, None)
        })?;
    } else {
        let layer = Layer::of(paths, container)?;
        let (root, below) = (layer.upper_again()?, layer.root_below()?);
        Walk::new(&mut out, layer.ids(), whole).run(root, below)?;
    }
    out.write_all(&END)
        .and_then(|()| out.flush())
        .map_err(PackError::Output)
}

/// A folder on the way is open, and paths go down two thousand folders: more than the usual limit
/// of open files, which may be raised.
pub(super) fn allow_depth() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(8192).max(soft), hard);
    }
}
