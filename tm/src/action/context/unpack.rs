//! The context's files into the VM's folder. A running container sees the folder itself, so files
//! are replaced within it, each in one step, and those that are no longer there go: both when the
//! whole archive has arrived. One that was cut off changes nothing.

use std::fs;
use std::io::{BufRead, Read};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use onedock_common::engine::Engine;
use onedock_common::state::files;
use onedock_common::types::system_datastore::SystemDatastore;
use onedock_common::unpack::{Links, Modes, Rule};
use serde::{Deserialize, Serialize};

use crate::checksummed_stream::Receiver;
use crate::location::VmPath;
use crate::node::staging::Staging;
use crate::node::{NodeContext, archive, prepare};
use crate::request::Request;

const RULE: Rule = Rule {
    bytes: 256 << 20,
    entries: 10_000,
    links: Links::Refuse,
    modes: Modes::Open,
};

/// Replace the context's files with those that follow.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplaceContext {
    pub(crate) disk: VmPath,
}

impl Request for ReplaceContext {
    const NAME: &'static str = "context";
    type Reply = ();

    fn vm_path(&self) -> &VmPath {
        &self.disk
    }

    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        content: &mut dyn BufRead,
    ) -> anyhow::Result<()> {
        let _lock = node.begin(self.disk.vm()).await?;
        receive(&self.disk, content)
    }
}

/// Reads the archive from `input` and puts its files in place of those that are there.
fn receive(disk: &VmPath, input: impl Read) -> Result<()> {
    ensure!(disk.disk().is_some(), "context files go into a disk");
    prepare(disk, SystemDatastore::Onedock)?;
    let folder = disk.to_path_buf();
    let staging = Staging::beside(&folder)?;
    unpack(staging.folder(), input).with_context(|| {
        format!(
            "the context did not arrive whole; {} stays as it was",
            folder.display()
        )
    })?;
    // A disk.N of another kind may be left from another driver.
    if folder.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
        fs::remove_file(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    // Open, because the container's users may be others on the host; the VM's folder is not, so
    // that nobody on the host reaches it.
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    staging
        .replace_content(&folder)
        .with_context(|| format!("the context cannot be written to {}", folder.display()))
}

fn unpack(folder: &Path, input: impl Read) -> Result<()> {
    let mut receiver = Receiver::new(input);
    archive::unpack(&mut receiver, folder, RULE)?;
    receiver.finish()?;
    ensure!(
        !files::entries(folder)?.is_empty(),
        "there are no files in it"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::checksummed_stream::Sender;

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(text.len() as u64);
            header.set_mode(0o600);
            header.set_cksum();
            builder.append(&header, text.as_bytes()).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn framed(bytes: &[u8]) -> Vec<u8> {
        let mut stream = Vec::new();
        let mut sender = Sender::new(&mut stream);
        sender.write_all(bytes).unwrap();
        sender.finish().unwrap();
        stream
    }

    fn stream(files: &[(&str, &str)]) -> Vec<u8> {
        framed(&archive(files))
    }

    fn disk(dir: &Path) -> VmPath {
        VmPath::try_from(dir.join("101/5/disk.5")).unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names = files::names(folder).unwrap();
        names.sort();
        names
    }

    #[test]
    fn files_are_replaced_within_the_folder_that_a_running_container_sees() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path());
        receive(
            &disk,
            &stream(&[("context.sh", "A='1'"), ("old/x", "x")])[..],
        )
        .unwrap();
        let before = fs::metadata(disk.to_path_buf()).unwrap().ino();
        receive(
            &disk,
            &stream(&[("context.sh", "A='2'"), ("token.txt", "t")])[..],
        )
        .unwrap();
        assert_eq!(fs::metadata(disk.to_path_buf()).unwrap().ino(), before);
        assert_eq!(
            fs::read_to_string(disk.to_path_buf().join("context.sh")).unwrap(),
            "A='2'"
        );
        assert_eq!(names(&disk.to_path_buf()), ["context.sh", "token.txt"]);
        assert_eq!(fs::metadata(disk.folder()).unwrap().mode() & 0o777, 0o750);
        assert_eq!(
            fs::metadata(disk.to_path_buf()).unwrap().mode() & 0o777,
            0o755
        );
    }

    #[test]
    fn an_archive_that_was_cut_off_or_changed_anywhere_leaves_the_old_context_whole() {
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path());
        let old = [("context.sh", "A='1'"), ("token.txt", "old")];
        receive(&disk, &stream(&old)[..]).unwrap();
        let new = stream(&[("context.sh", "A='2'"), ("other.txt", "new")]);
        let unchanged = || {
            assert_eq!(names(&disk.to_path_buf()), ["context.sh", "token.txt"]);
            let text = fs::read_to_string(disk.to_path_buf().join("context.sh")).unwrap();
            assert_eq!(text, "A='1'");
            assert!(names(disk.folder()).iter().all(|n| !n.contains(".new.")));
        };
        for end in (0..new.len()).step_by(61).chain([new.len() - 1]) {
            let error = receive(&disk, &new[..end]).unwrap_err().to_string();
            assert!(error.contains("did not arrive whole"), "{end}: {error}");
            unchanged();
        }
        for at in (0..new.len()).step_by(211) {
            let mut changed = new.clone();
            changed[at] ^= 0x10;
            assert!(receive(&disk, &changed[..]).is_err(), "{at}");
            unchanged();
        }
        // Whole streams of nothing, and the bare archive of an earlier version.
        let bare = archive(&[("context.sh", "A='2'")]);
        for stream in [framed(b""), framed(&archive(&[])), bare] {
            assert!(receive(&disk, &stream[..]).is_err());
            unchanged();
        }
        receive(&disk, &new[..]).unwrap();
        assert_eq!(names(&disk.to_path_buf()), ["context.sh", "other.txt"]);
    }

    #[test]
    fn attack_16_names_that_lead_out_of_the_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "/etc/x", "a/../../x"] {
            assert!(
                receive(&disk(dir.path()), &stream(&[(bad, "x")])[..]).is_err(),
                "{bad}"
            );
        }
        assert!(!dir.path().join("101/5/x").exists());
    }
}
