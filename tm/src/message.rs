//! What the front-end's half says to the host's half: one line of JSON on standard input, after
//! which a `context` call sends its files as a tar archive and a received disk its content; one
//! line of JSON comes back, or the content of a sent disk. Archives and disks travel in the form of
//! [`crate::frames`], whose end is marked.

use onedock_common::descriptor::Descriptor;
use onedock_common::disk_image::{DiskFormat, DiskMeta};
use onedock_common::reference::{Repository, Source, Tag};
use onedock_common::secret::Credential;
use onedock_common::{ContainerId, Digest, DiskId, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::location::Place;
use crate::system::System;

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
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Task {
    /// Have the image here and write the disk's descriptor.
    Stage {
        disk: Place,
        system: System,
        image: Source,
        source: Source,
        persistent: bool,
        dockerrun: Option<String>,
        snapshots: Vec<onedock_common::descriptor::Snapshot>,
    },
    /// Make the disk's file of an image that is a disk.
    Fetch {
        disk: Place,
        system: System,
        image: Source,
        meta: DiskMeta,
        persistent: bool,
        snapshots: Vec<Kept>,
    },
    /// An empty disk in a file.
    Make {
        disk: Place,
        size_mib: u64,
        format: DiskFormat,
    },
    /// A swap disk in a file.
    MakeSwap { disk: Place, size_mib: u64 },
    /// Put the context files that follow into the disk's folder.
    Context { disk: Place },
    /// What lies there.
    Look {
        place: Place,
        /// Left there, where something is, to find out whether another path leads to it.
        token: Option<String>,
    },
    /// Remove a disk or a VM's folder, and the containers behind it.
    Delete {
        place: Place,
        system: System,
        /// What the disk was saved as: its state from now on, should the call be cut off.
        saved: Option<Source>,
        /// The registry keeps nothing of the VM's own any more. Otherwise, where it may keep
        /// something, nothing is removed and the answer says where.
        registry_is_clean: bool,
    },
    /// Rename within this host.
    Move { from: Place, to: Place },
    /// Push the present state of a container disk under a tag.
    Pack(Pack),
    /// Have the state here that another host has pushed.
    Arrive {
        disk: Place,
        system: System,
        descriptor: Box<Descriptor>,
        /// What the other host has left in its folder: found here, it is the same folder.
        token: String,
    },
    /// The state was pushed and has arrived: let go of the container.
    Depart {
        disk: Place,
        system: System,
        state: Source,
        container: Option<ContainerId>,
    },
    /// Write a disk in a file, or what is left of a folder, to standard output.
    Send { place: Place },
    /// Read it from standard input.
    Receive { place: Place, token: String },
    /// Remove a disk in a file, or what is left of a folder, after it was received elsewhere.
    Discard { place: Place },
    /// Keep a disk in a file in the registry.
    Save {
        disk: Place,
        snapshot: Option<SnapshotId>,
        repository: Repository,
        tag: Tag,
        credential: Option<Credential>,
        from: Running,
    },
    /// Keep the disk's present state; a running VM is frozen for a moment.
    SnapCreate {
        disk: Place,
        id: SnapshotId,
        credential: Option<Credential>,
    },
    /// The disk's state is the snapshot's from now on.
    SnapRevert { disk: Place, id: SnapshotId },
    /// Forget a snapshot.
    SnapDelete { disk: Place, id: SnapshotId },
    /// Make a disk in a file larger.
    Resize { disk: Place, size_mib: u64 },
}

impl Task {
    /// The disk or folder that it is about.
    pub(crate) fn place(&self) -> &Place {
        match self {
            Self::Stage { disk, .. }
            | Self::Fetch { disk, .. }
            | Self::Make { disk, .. }
            | Self::MakeSwap { disk, .. }
            | Self::Context { disk }
            | Self::Arrive { disk, .. }
            | Self::Depart { disk, .. }
            | Self::Save { disk, .. }
            | Self::SnapCreate { disk, .. }
            | Self::SnapRevert { disk, .. }
            | Self::SnapDelete { disk, .. }
            | Self::Resize { disk, .. }
            | Self::Pack(Pack { disk, .. }) => disk,
            Self::Look { place, .. }
            | Self::Delete { place, .. }
            | Self::Send { place }
            | Self::Receive { place, .. }
            | Self::Discard { place }
            | Self::Move { from: place, .. } => place,
        }
    }
}

/// How a container disk is pushed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pack {
    pub(crate) disk: Place,
    /// Where to; `None`: the image's own repository.
    pub(crate) repository: Option<Repository>,
    pub(crate) tag: Tag,
    /// For the image's history.
    pub(crate) comment: String,
    pub(crate) credential: Option<Credential>,
    pub(crate) from: Running,
}

/// What is done with a VM that runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Running {
    /// It is an error; one that is suspended is ended.
    Refused,
    /// It is frozen while its layer is copied.
    Frozen,
}

/// A snapshot of an image that is a disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Kept {
    pub(crate) id: SnapshotId,
    pub(crate) image: Source,
    pub(crate) meta: DiskMeta,
}

/// What the host answers.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Outcome {
    /// It is so now.
    Done,
    /// What lies there.
    Seen(Vec<Seen>),
    /// Nothing was removed, because the registry may keep something of these disks.
    Held(Vec<Held>),
    /// The state of a container disk.
    State(Box<State>),
    /// There is no such disk.
    Absent,
    /// The folder is the one that the disk comes from.
    Same,
    /// A disk in a file is in the registry.
    Saved { digest: Digest },
}

/// A disk.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Seen {
    pub(crate) disk: DiskId,
    pub(crate) what: What,
}

/// What a disk is.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum What {
    Container(Box<Descriptor>),
    File {
        snapshots: Vec<SnapshotId>,
    },
    Folder,
    /// A descriptor that cannot be read, and why.
    Damaged(String),
}

/// Where the registry may keep something of a disk.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct Held {
    pub(crate) disk: DiskId,
    pub(crate) repository: Repository,
}

/// The state of a container disk as the registry has it.
#[derive(Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    /// The disk as it was found.
    pub(crate) descriptor: Descriptor,
    /// The present state.
    pub(crate) image: Source,
    /// Whether it was pushed now; otherwise it is the image that the disk stands on.
    pub(crate) pushed: bool,
    /// What was pushed, in bytes.
    pub(crate) bytes: u64,
}
