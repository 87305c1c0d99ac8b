//! `export`: an image as a file, for a private marketplace (`one_market`). Answers IMPORT_INFO
//! (`src/market_mad/one_market.rb`); the marketplace's driver reads the file and then runs
//! DISPOSE_CMD, splitting it at blanks.

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail, ensure};
use md5::{Digest as _, Md5};
use onedock_common::disk_file;
use onedock_common::opennebula::answer::Answer;
use onedock_common::opennebula::image::{Datastore, DatastoreAction};
use onedock_common::state::disk_image::DiskMeta;
use onedock_registry::Kind;

use super::{answer_word, image, own_source};
use crate::store::Store;

/// What is exported lies here, beneath the datastore's folder.
const FOLDER: &str = ".onedock-export";
/// A file that nobody took for so long was left by a marketplace that failed.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);

pub(crate) async fn run(store: &Store, request: &DatastoreAction) -> anyhow::Result<Answer> {
    let image = image(request)?;
    let source = own_source(store, image)?;
    let present = store.images.current(&source).await?;
    let kind = store.client().kind(&present).await?;
    let folder = folder(&request.datastore)?;
    sweep(&folder);
    let (id, process) = (present.digest().hex().get(..12), std::process::id());
    let name = format!("{}-{process}", id.unwrap_or_default());
    let file = Unfinished(folder.join(name));
    match kind {
        Kind::Reserved => bail!("image {source} has no content yet"),
        Kind::Image => store.client().save_archive(&present, &file.0).await?,
        Kind::Disk(meta) if meta.blank => make_blank(&file.0, &meta).await?,
        Kind::Disk(_) => store.client().get_disk(&present, &file.0).await.map(drop)?,
    }
    let path = file.0.clone();
    let sum = tokio::task::spawn_blocking(move || md5_of(&path)).await;
    let sum = sum
        .unwrap_or_else(|e| Err(io::Error::other(e)))
        .with_context(|| format!("{} cannot be read", file.0.display()))?;
    let size = image.size_mb.unwrap_or(1);
    let path = file.keep();
    let path = path.to_str().context("the datastore's folder is no text")?;
    Ok(Answer::line(format!(
        "<IMPORT_INFO><IMPORT_SOURCE><![CDATA[{path}]]></IMPORT_SOURCE><MD5><![CDATA[{sum}]]></MD5><SIZE><![CDATA[{size}]]></SIZE><FORMAT><![CDATA[{}]]></FORMAT><DISPOSE>YES</DISPOSE><DISPOSE_CMD><![CDATA[rm -f {path}]]></DISPOSE_CMD></IMPORT_INFO>",
        answer_word(&kind)
    )))
}

/// The file of a disk that has no content in the registry.
async fn make_blank(path: &Path, meta: &DiskMeta) -> anyhow::Result<()> {
    disk_file::make(path, meta.format, meta.size).await?;
    if let Some(fs) = meta.fs {
        disk_file::make_fs(path, fs).await?;
    }
    Ok(())
}

/// Where exported files lie: in the datastore's folder where there is one, else in TMPDIR.
fn folder(datastore: &Datastore) -> anyhow::Result<PathBuf> {
    let base = datastore.base_path.as_deref().map(Path::new);
    let base = base.filter(|base| base.is_absolute() && base.is_dir());
    let folder = base
        .map_or_else(std::env::temp_dir, Path::to_owned)
        .join(FOLDER);
    // DISPOSE_CMD is split at blanks, and a shell's other signs would be read as such.
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    ensure!(
        folder.to_str().is_some_and(|text| text.chars().all(plain)),
        "{} cannot be handed to a marketplace; its name may have letters, digits, . _ - and / only",
        folder.display()
    );
    use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
    match fs::DirBuilder::new().mode(0o700).create(&folder) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            return Err(e).with_context(|| format!("{} cannot be made", folder.display()));
        }
        _ => {}
    }
    // In TMPDIR anybody may have made it before.
    let found = fs::symlink_metadata(&folder)?;
    ensure!(
        found.is_dir() && found.uid() == nix::unistd::geteuid().as_raw(),
        "{} is not a folder of ours; remove it",
        folder.display()
    );
    Ok(folder)
}

/// Removes what was left long ago.
fn sweep(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let modified = entry.metadata().and_then(|meta| meta.modified());
        let age = modified.map(|at| SystemTime::now().duration_since(at).unwrap_or_default());
        if age.is_ok_and(|age| age > KEPT)
            && let Err(error) = fs::remove_file(entry.path())
        {
            tracing::warn!(%error, file = %entry.path().display(), "an old export stays");
        }
    }
}

/// An exported file that is removed unless the export succeeds.
struct Unfinished(PathBuf);

impl Unfinished {
    fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.0.as_os_str().is_empty() {
            let _ = fs::remove_file(&self.0);
        }
    }
}

fn md5_of(path: &Path) -> io::Result<String> {
    let mut file = fs::File::open(path)?;
    let (mut hasher, mut buffer) = (Md5::new(), vec![0; 1 << 20]);
    loop {
        match file.read(&mut buffer)? {
            0 => break,
            read => hasher.update(buffer.get(..read).unwrap_or_default()),
        }
    }
    Ok(base16ct::lower::encode_string(&hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_that_of_md5sum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        fs::write(&path, "abc").unwrap();
        assert_eq!(md5_of(&path).unwrap(), "900150983cd24fb0d6963f7d28e17f72");
    }

    #[test]
    fn attack_13_a_folder_whose_name_a_shell_would_read_is_not_handed_on() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| {
            let base = dir.path().join(name);
            fs::create_dir(&base).unwrap();
            folder(&Datastore {
                id: None,
                registry: None,
                default_registry: None,
                safe_dirs: Vec::new(),
                restricted_dirs: Vec::new(),
                limit_mb: None,
                base_path: base.to_str().map(str::to_owned),
            })
        };
        assert!(at("a b").is_err());
        assert!(at("a;id").is_err());
        let good = at("100").unwrap();
        assert!(good.is_dir());
        // A link that somebody else has laid is not followed.
        fs::remove_dir(&good).unwrap();
        std::os::unix::fs::symlink("/etc", &good).unwrap();
        assert!(sweep_and_find(&dir.path().join("100")).is_err());
    }

    fn sweep_and_find(base: &Path) -> anyhow::Result<PathBuf> {
        folder(&Datastore {
            id: None,
            registry: None,
            default_registry: None,
            safe_dirs: Vec::new(),
            restricted_dirs: Vec::new(),
            limit_mb: None,
            base_path: base.to_str().map(str::to_owned),
        })
    }
}
