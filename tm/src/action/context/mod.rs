//! `context context.sh [files…] host:…/disk.N vm datastore`: the context's files on the host, as a
//! folder that the container sees read-only. No ISO image: there is nothing to mount.

pub(super) mod unpack;

use std::fs::File;
use std::io::Seek as _;
use std::path::{Component, Path};

use anyhow::{Context as _, bail, ensure};
use onedock_common::opennebula::answer::Answer;

use self::unpack::ReplaceContext;
use super::target;
use crate::checksummed_stream::Sender;
use crate::remote::{self, Payload};

pub(crate) async fn run(arguments: &[String]) -> anyhow::Result<Answer> {
    let [files @ .., disk, vm, _] = arguments else {
        bail!(
            "context needs <context.sh> [files] <host:disk> <vm> <datastore>, got {} arguments",
            arguments.len()
        );
    };
    ensure!(!files.is_empty(), "context needs a file, got none");
    let target = target(disk, vm)?;
    ensure!(
        target.path.disk().is_some(),
        "context needs a disk to put the files into, got {disk}"
    );
    let archive = pack(files)?;
    let request = ReplaceContext { disk: target.path };
    remote::call(&target.host, &request, Payload::File(archive)).await?;
    Ok(Answer::done())
}

/// A file to send, and its name in the context.
#[derive(Debug, PartialEq, Eq)]
struct Item<'a> {
    path: &'a Path,
    name: &'a str,
}

/// `path` or `path:'name'` (`CONTEXT/FILES` and FILES_DS, `src/vm/VirtualMachineContext.cc`).
fn item(text: &str) -> anyhow::Result<Item<'_>> {
    ensure!(
        !text.contains("://"),
        "the context file {text} is a URL, which this version of the driver does not fetch; use an image of a file datastore (FILES_DS)"
    );
    let (path, name) = match text.split_once(':') {
        Some((path, name)) => (Path::new(path), name.trim_matches('\'')),
        None => {
            let path = Path::new(text);
            (
                path,
                path.file_name()
                    .and_then(|n| n.to_str())
                    .unwrap_or_default(),
            )
        }
    };
    let mut parts = Path::new(name).components();
    let single = matches!(
        (parts.next(), parts.next()),
        (Some(Component::Normal(_)), None)
    );
    ensure!(
        single,
        "the context file {text} would be called \"{name}\", which is not a file name"
    );
    Ok(Item { path, name })
}

/// All files as they are sent, in a file without a name, so that nothing of it outlives this
/// process.
fn pack(files: &[String]) -> anyhow::Result<File> {
    let mut file = tempfile::tempfile().context("the context's archive cannot be made")?;
    let mut archive = tar::Builder::new(Sender::new(&mut file));
    archive.mode(tar::HeaderMode::Deterministic);
    // Whole, whatever holes a file has: the node half reads plain files only.
    archive.sparse(false);
    for text in files {
        let Item { path, name } = item(text)?;
        let read = || format!("the context file {} cannot be read", path.display());
        if path.is_dir() {
            archive.append_dir_all(name, path).with_context(read)?;
        } else {
            archive
                .append_file(name, &mut File::open(path).with_context(read)?)
                .with_context(read)?;
        }
    }
    archive
        .into_inner()
        .and_then(Sender::finish)
        .and_then(|()| file.rewind())
        .context("the context's archive cannot be written")?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_holes_is_sent_as_a_plain_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("holes");
        let file = File::create(&path).unwrap();
        file.set_len(1 << 20).unwrap();
        std::os::unix::fs::FileExt::write_at(&file, b"end", 1 << 20).unwrap();
        let packed = pack(&[path.display().to_string()]).unwrap();
        let mut archive = tar::Archive::new(crate::checksummed_stream::Receiver::new(packed));
        let entry = archive.entries().unwrap().next().unwrap().unwrap();
        assert!(entry.header().entry_type().is_file());
        assert_eq!(entry.size(), (1 << 20) + 3);
    }

    #[test]
    fn attack_11_context_files_have_one_plain_name_each() {
        let name = |text| item(text).map(|i| i.name.to_owned());
        assert_eq!(name("/var/lib/one/vms/5/context.sh").unwrap(), "context.sh");
        assert_eq!(
            name("/var/lib/one/datastores/2/abc:'init.sh'").unwrap(),
            "init.sh"
        );
        for bad in [
            "http://host/x",
            "/a:'../../etc/x'",
            "/a:'/etc/x'",
            "/",
            "/a:''",
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }
}
