//! What the front-end's half says to the host's half: one line of JSON on standard input, after
//! which a `context` call sends its files as a tar archive; one line of JSON comes back.

use onedock_common::Digest;
use onedock_common::reference::{Repository, Source, Tag};
use onedock_common::secret::Credential;
use serde::{Deserialize, Serialize};

use crate::location::Place;

/// The longest first line, in bytes.
pub(crate) const LIMIT: u64 = 256 * 1024;

/// A request to a host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call {
    /// The sender's version: both halves must be one build.
    pub(crate) version: String,
    pub(crate) task: Task,
}

impl Call {
    pub(crate) fn of(task: Task) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            task,
        }
    }
}

/// What is to be done on the host.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Task {
    /// Have the image here and write the disk's descriptor.
    Stage {
        disk: Place,
        image: Source,
        source: Source,
        persistent: bool,
        dockerrun: Option<String>,
    },
    /// Put the context files that follow into the disk's folder.
    Context { disk: Place },
    /// Remove a disk or a VM's folder, and the containers behind it.
    Delete { place: Place },
    /// Rename within this host.
    Move { from: Place, to: Place },
    /// Push the container's layer under a temporary tag.
    Push {
        disk: Place,
        repository: Repository,
        tag: Tag,
        credential: Option<Credential>,
    },
}

/// What the host answers.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Outcome {
    /// It is so now.
    Done,
    /// The layer is in the registry under the temporary tag.
    Pushed(Digest),
    /// There was no container, so there is nothing to save.
    NothingToSave,
}
