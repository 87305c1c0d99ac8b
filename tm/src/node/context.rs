//! The context's files into the VM's folder. A running container sees the folder itself, so files
//! are replaced within it, each in one step, and those that are no longer there go.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use onedock_common::descriptor::prepare_system_dir;
use onedock_common::files;
use tar::EntryType;

use crate::location::Place;

/// The most that all context files may have, in bytes.
const LIMIT: u64 = 256 << 20;
/// The most files.
const COUNT: usize = 10_000;

pub(super) fn unpack(disk: &Place, archive: impl Read) -> Result<()> {
    ensure!(disk.disk().is_some(), "context files go into a disk");
    prepare_system_dir(disk.folder(), Some("onedock"))?;
    // Passwords are among them. The folder below is open, because the container's users may be
    // others on the host, but nobody on the host reaches it.
    fs::set_permissions(disk.folder(), fs::Permissions::from_mode(0o750))?;
    let folder = disk.path();
    // A disk.N of another kind may be left from another driver.
    if folder.symlink_metadata().is_ok_and(|m| !m.is_dir()) {
        fs::remove_file(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o755))?;
    let written = write(&folder, archive)
        .with_context(|| format!("the context cannot be written to {}", folder.display()))?;
    remove_others(&folder, &folder, &written).context("old context files cannot be removed")
}

fn write(folder: &Path, archive: impl Read) -> Result<BTreeSet<PathBuf>> {
    let mut written = BTreeSet::new();
    let mut left = LIMIT;
    for entry in tar::Archive::new(archive).entries()? {
        let entry = entry?;
        let name = entry.path()?.into_owned();
        ensure!(
            name.components().all(|c| matches!(c, Component::Normal(_))),
            "the file name \"{}\" leads out of the context",
            name.display()
        );
        ensure!(written.len() < COUNT, "more than {COUNT} files");
        let path = folder.join(&name);
        match entry.header().entry_type() {
            EntryType::Directory => {
                fs::create_dir_all(&path)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
            }
            EntryType::Regular => {
                let size = entry.size();
                ensure!(size <= left, "more than {} MiB", LIMIT >> 20);
                left -= size;
                let mode = if entry.header().mode()? & 0o111 == 0 {
                    0o644
                } else {
                    0o755
                };
                let mut bytes = Vec::new();
                entry.take(size).read_to_end(&mut bytes)?;
                if let Some(parent) = path.parent() {
                    fs::create_dir_all(parent)?;
                }
                files::replace(&path, &bytes, mode)?;
                fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
            }
            other => bail!(
                "\"{}\" is neither a file nor a folder (tar type {:?})",
                name.display(),
                char::from(other.as_byte())
            ),
        }
        written.extend(
            name.ancestors()
                .filter(|a| !a.as_os_str().is_empty())
                .map(Path::to_owned),
        );
    }
    Ok(written)
}

fn remove_others(root: &Path, folder: &Path, written: &BTreeSet<PathBuf>) -> Result<()> {
    let names: Vec<OsString> = fs::read_dir(folder)?
        .map(|e| e.map(|e| e.file_name()))
        .collect::<Result<_, _>>()?;
    for name in names {
        let path = folder.join(name);
        let known = path.strip_prefix(root).is_ok_and(|p| written.contains(p));
        let is_dir = path.symlink_metadata()?.is_dir();
        match (known, is_dir) {
            (true, true) => remove_others(root, &path, written)?,
            (true, false) => {}
            (false, true) => fs::remove_dir_all(&path)?,
            (false, false) => fs::remove_file(&path)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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

    fn disk(dir: &Path) -> Place {
        Place::try_from(dir.join("101/5/disk.5")).unwrap()
    }

    #[test]
    fn files_are_replaced_within_the_folder_that_a_running_container_sees() {
        use std::os::unix::fs::MetadataExt as _;
        let dir = tempfile::tempdir().unwrap();
        let disk = disk(dir.path());
        unpack(
            &disk,
            &archive(&[("context.sh", "A='1'"), ("old/x", "x")])[..],
        )
        .unwrap();
        let before = fs::metadata(disk.path()).unwrap().ino();
        unpack(
            &disk,
            &archive(&[("context.sh", "A='2'"), ("token.txt", "t")])[..],
        )
        .unwrap();
        assert_eq!(fs::metadata(disk.path()).unwrap().ino(), before);
        assert_eq!(
            fs::read_to_string(disk.path().join("context.sh")).unwrap(),
            "A='2'"
        );
        assert!(disk.path().join("token.txt").exists());
        assert!(!disk.path().join("old").exists());
        assert_eq!(fs::metadata(disk.folder()).unwrap().mode() & 0o777, 0o750);
    }

    #[test]
    fn attack_16_names_that_lead_out_of_the_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        for bad in ["../x", "/etc/x", "a/../../x"] {
            assert!(
                unpack(&disk(dir.path()), &archive(&[(bad, "x")])[..]).is_err(),
                "{bad}"
            );
        }
        assert!(!dir.path().join("101/5/x").exists());
    }
}
