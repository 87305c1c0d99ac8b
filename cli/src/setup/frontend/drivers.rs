//! The driver binaries: found beside this program or where the administrator says, and sorted
//! by the processor they are built for.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// The drivers that travel with the remotes.
const NAMES: [&str; 4] = [
    "onedock-datastore",
    "onedock-im",
    "onedock-tm",
    "onedock-vmm",
];

/// One binary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Binary {
    pub(super) name: &'static str,
    /// The processor, as `uname -m` says it.
    pub(super) arch: &'static str,
    /// Where it is taken from.
    pub(super) source: PathBuf,
}

/// Every driver in `from`, and in folders of it that are named like a processor.
pub(super) fn find(from: &Path) -> Result<Vec<Binary>> {
    let mut found = Vec::new();
    for folder in [
        from.to_path_buf(),
        from.join("x86_64"),
        from.join("aarch64"),
    ] {
        let here: Vec<_> = NAMES.iter().filter(|n| folder.join(n).is_file()).collect();
        if here.is_empty() {
            continue;
        }
        if let Some(missing) = NAMES.iter().find(|n| !here.contains(n)) {
            return Err(Error::refused(format!(
                "{missing} is missing in {}; all drivers are installed together: {}",
                folder.display(),
                NAMES.join(", ")
            )));
        }
        for name in NAMES {
            let source = folder.join(name);
            found.push(Binary {
                name,
                arch: processor(&source)?,
                source,
            });
        }
    }
    if found.is_empty() {
        return Err(Error::refused(format!(
            "there are no drivers ({}) in {}; name their folder with --from",
            NAMES.join(", "),
            from.display()
        )));
    }
    Ok(found)
}

/// The bytes of a binary.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(Error::file("read", path))
}

/// The processor from the ELF header (`e_machine`, bytes 18 and 19, System V ABI).
fn processor(path: &Path) -> Result<&'static str> {
    let mut header = [0; 20];
    File::open(path)
        .and_then(|mut f| f.read_exact(&mut header))
        .map_err(Error::file("read", path))?;
    match header {
        [0x7f, b'E', b'L', b'F', .., 0x3e, 0] => Ok("x86_64"),
        [0x7f, b'E', b'L', b'F', .., 0xb7, 0] => Ok("aarch64"),
        _ => Err(Error::refused(format!(
            "{} is no program for x86_64 or aarch64",
            path.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_sorted_by_their_processor_and_must_be_complete() {
        let dir = tempfile::tempdir().unwrap();
        assert!(find(dir.path()).unwrap_err().line().contains("--from"));
        let mut elf = vec![0; 64];
        elf[..4].copy_from_slice(b"\x7fELF");
        elf[18] = 0xb7;
        fs::create_dir(dir.path().join("aarch64")).unwrap();
        for name in NAMES {
            fs::copy("/proc/self/exe", dir.path().join(name)).unwrap();
            fs::write(dir.path().join("aarch64").join(name), &elf).unwrap();
        }
        let found = find(dir.path()).unwrap();
        let arches: Vec<_> = found.iter().map(|b| b.arch).collect();
        assert_eq!(arches[..4], [std::env::consts::ARCH; 4]);
        assert_eq!(arches[4..], ["aarch64"; 4]);
        fs::remove_file(dir.path().join("onedock-tm")).unwrap();
        assert!(
            find(dir.path())
                .unwrap_err()
                .line()
                .contains("onedock-tm is missing")
        );
    }
}
