//! What lies on a disk, made and read from outside the drivers: through `/proc/<pid>/root` of
//! a process in the container, by the kernel alone.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::stat::{Mode, SFlag, major, makedev, minor, mknod};
use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};

/// The folder of the test on every disk.
pub const FOLDER: &str = "contents";

/// `cap_net_bind_service` in the inheritable and permitted sets, effective, as `setcap` writes it
/// (`struct vfs_cap_data`, revision 2).
const CAPABILITY: [u8; 20] = [1, 0, 0, 2, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// A file system's part, entry by entry.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tree(BTreeMap<PathBuf, Entry>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    kind: Kind,
    links: Vec<PathBuf>,
    xattrs: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Folder,
    File { size: u64, sum: String },
    Link(PathBuf),
    Device(u64, u64),
    Other,
}

/// A file of pseudo-random bytes, of which each disk gets a variant.
#[derive(Debug)]
pub struct Payload {
    path: PathBuf,
}

impl Payload {
    /// Makes the file.
    pub fn make(folder: &Path, mebibytes: u64) -> Result<Self> {
        let path = folder.join(format!("payload-{mebibytes}"));
        let mut file = File::create(&path)?;
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut block = vec![0_u8; 1 << 20];
        for _ in 0..mebibytes {
            for word in block.chunks_exact_mut(8) {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                word.copy_from_slice(&state.to_le_bytes());
            }
            file.write_all(&block)?;
        }
        Ok(Self { path })
    }

    /// Fills the disk that is mounted at `disk` with every kind of file; `seed` tells disks and
    /// times apart.
    pub fn fill(&self, disk: &Path, seed: u64) -> Result<Tree> {
        let folder = disk.join(FOLDER);
        let at = |name: &str| folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir(&folder)?;
        fs::copy(&self.path, at("big"))?;
        let mut big = File::options().write(true).open(at("big"))?;
        big.seek(SeekFrom::Start(4096))?;
        big.write_all(&seed.to_le_bytes())?;
        big.sync_all()?;
        let mut sparse = File::create(at("sparse"))?;
        sparse.set_len(8 << 20)?;
        sparse.seek(SeekFrom::Start(5 << 20))?;
        sparse.write_all(&seed.to_le_bytes())?;
        fs::create_dir(at("folder"))?;
        fs::write(at("folder/of a user"), format!("{seed}\n"))?;
        chown(at("folder/of a user"), Some(1234), Some(4321))?;
        fs::hard_link(at("folder/of a user"), at("the same"))?;
        symlink("folder/../big", at("link"))?;
        lchown(at("link"), Some(12), Some(34))?;
        mknod(
            &at("device"),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o640),
            makedev(1, 3),
        )?;
        mknod(
            &at("pipe"),
            SFlag::S_IFIFO,
            Mode::from_bits_truncate(0o600),
            0,
        )?;
        fs::write(at("setuid"), "#!/bin/true\n")?;
        fs::set_permissions(at("setuid"), fs::Permissions::from_mode(0o6751))?;
        fs::write(at("attributes"), "")?;
        for (name, value) in [
            ("user.onedock.test", b"kept \0 whole".as_slice()),
            ("security.capability", &CAPABILITY),
        ] {
            lsetxattr(at("attributes"), name, value, XattrFlags::empty())
                .with_context(|| format!("{name} cannot be set on {}", folder.display()))?;
        }
        fs::set_permissions(at("folder"), fs::Permissions::from_mode(0o1777))?;
        chown(&folder, Some(0), Some(7))?;
        let tree = Tree::read(&folder)?;
        ensure!(tree.0.len() == 11, "{tree:?}");
        Ok(tree)
    }
}

impl Tree {
    /// Looks at all that is beneath a folder.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut found = BTreeMap::new();
        let mut inodes: BTreeMap<u64, Vec<PathBuf>> = BTreeMap::new();
        let mut todo = vec![PathBuf::new()];
        let mut files = Vec::new();
        while let Some(name) = todo.pop() {
            let path = folder.join(&name);
            let meta = path
                .symlink_metadata()
                .with_context(|| path.display().to_string())?;
            let kind = if meta.is_dir() {
                for entry in fs::read_dir(&path)? {
                    todo.push(name.join(entry?.file_name()));
                }
                Kind::Folder
            } else if meta.is_symlink() {
                Kind::Link(fs::read_link(&path)?)
            } else if meta.is_file() {
                files.push(name.clone());
                if meta.nlink() > 1 {
                    inodes.entry(meta.ino()).or_default().push(name.clone());
                }
                Kind::File {
                    size: meta.len(),
                    sum: String::new(),
                }
            } else if meta.rdev() != 0 {
                Kind::Device(major(meta.rdev()), minor(meta.rdev()))
            } else {
                Kind::Other
            };
            found.insert(
                name,
                Entry {
                    mode: meta.mode(),
                    owner: (meta.uid(), meta.gid()),
                    kind,
                    links: Vec::new(),
                    xattrs: xattrs(&path)?,
                },
            );
        }
        for mut names in inodes.into_values() {
            names.sort();
            for name in &names {
                if let Some(entry) = found.get_mut(name) {
                    entry.links.clone_from(&names);
                }
            }
        }
        for (name, text) in sums(folder, &files)? {
            if let Some(Entry {
                kind: Kind::File { sum, .. },
                ..
            }) = found.get_mut(&name)
            {
                *sum = text;
            }
        }
        Ok(Self(found))
    }

    /// Fails unless the plain files are the same, whoever's they are.
    pub fn check_files(&self, wanted: &Self) -> Result<()> {
        for (name, entry) in &wanted.0 {
            if let Kind::File { .. } = entry.kind {
                let there = self.0.get(name).map(|found| &found.kind);
                ensure!(
                    there == Some(&entry.kind),
                    "{}: {there:?}, not {:?}",
                    name.display(),
                    entry.kind
                );
            }
        }
        Ok(())
    }

    /// Fails with the differences.
    pub fn check(&self, wanted: &Self) -> Result<()> {
        let mut wrong = Vec::new();
        for (name, entry) in &wanted.0 {
            match self.0.get(name) {
                None => wrong.push(format!("{} is gone", name.display())),
                Some(there) if there != entry => {
                    wrong.push(format!("{}: {there:?}, not {entry:?}", name.display()));
                }
                Some(_) => {}
            }
        }
        for name in self.0.keys().filter(|name| !wanted.0.contains_key(*name)) {
            wrong.push(format!("{} has come", name.display()));
        }
        if wrong.is_empty() {
            return Ok(());
        }
        bail!("{}", wrong.join("; "))
    }
}

/// The extended attributes that belong to the content. A label of a security module does not.
fn xattrs(path: &Path) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut names = vec![0_u8; 4096];
    let length = llistxattr(path, &mut names)?;
    let mut found = BTreeMap::new();
    for name in names[..length].split(|b| *b == 0) {
        let name = std::str::from_utf8(name)?;
        if name.starts_with("user.") || name == "security.capability" {
            let mut value = vec![0_u8; 4096];
            let length = lgetxattr(path, name, &mut value)?;
            value.truncate(length);
            found.insert(name.to_owned(), value);
        }
    }
    Ok(found)
}

/// By the program, which is not built without optimisation.
fn sums(folder: &Path, files: &[PathBuf]) -> Result<Vec<(PathBuf, String)>> {
    let mut found = Vec::new();
    for part in files.chunks(500) {
        let mut command = Command::new("sha256sum");
        command.arg("--zero").arg("--");
        command.args(part.iter().map(|name| folder.join(name)));
        let output = command.output().context("sha256sum cannot be run")?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout)?;
        for (name, line) in part.iter().zip(text.split('\0')) {
            found.push((name.clone(), line.chars().take(64).collect()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_of_the_contents_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let payload = Payload::make(folder.path(), 1).unwrap();
        let disk = folder.path().join("disk");
        fs::create_dir(&disk).unwrap();
        let tree = payload.fill(&disk, 7).unwrap();
        let folder = disk.join(FOLDER);
        Tree::read(&folder).unwrap().check(&tree).unwrap();
        assert_ne!(payload.fill(&disk, 8).unwrap(), tree);
        let tree = payload.fill(&disk, 9).unwrap();
        fs::remove_file(folder.join("the same")).unwrap();
        fs::write(folder.join("new"), "").unwrap();
        let wrong = Tree::read(&folder).unwrap().check(&tree).unwrap_err();
        let text = wrong.to_string();
        assert!(text.contains("the same is gone"), "{text}");
        assert!(text.contains("new has come"), "{text}");
        assert!(text.contains("folder/of a user"), "{text}");
    }
}
