//! The real programs on real files, as root and as the ordinary user.

mod content;
mod further;
mod hostile;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

const MIB: u64 = 1 << 20;

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

fn temporary() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disk.1");
    (dir, path)
}

/// A program's standard output; it must succeed.
fn output_of(program: &str, arguments: &[&dyn AsRef<std::ffi::OsStr>]) -> String {
    let output = Command::new(program)
        .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
        .args(arguments.iter().map(|a| a.as_ref()))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{program}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

/// TYPE or UUID of what is on a raw disk.
fn tag(path: &Path, tag: &str) -> String {
    output_of("blkid", &[&"-p", &"-o", &"value", &"-s", &tag, &path])
        .trim()
        .to_owned()
}

/// A qcow2 as raw, beside it.
fn unpacked(path: &Path) -> PathBuf {
    let raw = path.with_extension("raw");
    output_of(
        "qemu-img",
        &[&"convert", &"-f", &"qcow2", &"-O", &"raw", &path, &raw],
    );
    raw
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_new_disk_has_its_size_takes_no_space_and_is_blank_until_it_is_written() {
    let (dir, path) = temporary();
    for format in [Format::Raw, Format::Qcow2] {
        block(make(&path, format, 100 * MIB)).unwrap();
        let volume = inspect(&path).unwrap();
        assert_eq!((volume.format, volume.size), (format, 100 * MIB));
        assert!(volume.allocated < MIB, "{volume:?}");
        assert!(block(is_blank(&path)).unwrap());
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        block(make_fs(&path, Fs::Ext4)).unwrap();
        assert!(!block(is_blank(&path)).unwrap());
        assert_eq!(inspect(&path).unwrap().size, 100 * MIB);
        assert_eq!(names(dir.path()), ["disk.1"]);
    }
}

#[test]
fn zeros_that_were_written_leave_a_disk_blank_and_one_byte_at_its_end_does_not() {
    let (_dir, path) = temporary();
    block(make(&path, Format::Raw, 4 * MIB)).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&vec![0; 2 << 20], MIB).unwrap();
    assert!(block(is_blank(&path)).unwrap());
    file.write_all_at(b"x", 4 * MIB - 1).unwrap();
    assert!(!block(is_blank(&path)).unwrap());
}

#[test]
fn every_file_system_is_made_in_both_formats_with_a_root_folder_of_root() {
    for fs in Fs::ALL {
        let size = smallest(fs).max(32 * MIB);
        for format in [Format::Raw, Format::Qcow2] {
            let (dir, path) = temporary();
            block(make(&path, format, size)).unwrap();
            block(make_fs(&path, fs)).unwrap();
            assert_eq!(names(dir.path()), ["disk.1"]);
            assert_eq!(inspect(&path).unwrap().format, format);
            let raw = match format {
                Format::Qcow2 => unpacked(&path),
                _ => path,
            };
            assert_eq!(tag(&raw, "TYPE"), fs.as_str());
            if matches!(fs, Fs::Ext2 | Fs::Ext3 | Fs::Ext4) {
                let stat = output_of("debugfs", &[&"-R", &"stat /", &raw]);
                let owner: Vec<_> = stat.split_whitespace().collect();
                let user = owner.iter().position(|w| *w == "User:").unwrap();
                assert_eq!(owner[user + 1..user + 4], ["0", "Group:", "0"], "{stat}");
            }
        }
    }
}

#[test]
fn a_disk_too_small_for_its_file_system_is_told_with_the_least_size() {
    let (dir, path) = temporary();
    for fs in Fs::ALL {
        block(make(&path, Format::Raw, smallest(fs))).unwrap();
        block(make_fs(&path, fs)).unwrap();
        block(make(&path, Format::Raw, smallest(fs) - 4096)).unwrap();
        let error = block(make_fs(&path, fs)).unwrap_err().to_string();
        let needs = format!("needs {} MiB at least", smallest(fs) >> 20);
        assert!(error.contains(&needs), "{error}");
        assert!(block(is_blank(&path)).unwrap());
    }
    assert_eq!(names(dir.path()), ["disk.1"]);
}

#[test]
fn a_swap_disk_is_known_as_one() {
    let (dir, path) = temporary();
    block(make(&path, Format::Raw, 16 * MIB)).unwrap();
    block(make_swap(&path)).unwrap();
    assert_eq!(tag(&path, "TYPE"), "swap");
    assert_eq!(inspect(&path).unwrap().size, 16 * MIB);
    assert_eq!(names(dir.path()), ["disk.1"]);
}

#[test]
fn a_disk_grows_with_its_file_system_again_and_again_and_never_shrinks() {
    let (_dir, path) = temporary();
    for fs in [Fs::Ext2, Fs::Ext3, Fs::Ext4] {
        block(make(&path, Format::Raw, 20 * MIB)).unwrap();
        block(make_fs(&path, fs)).unwrap();
        let blocks = || {
            let text = output_of("dumpe2fs", &[&"-h", &path]);
            let value = |key: &str| -> u64 {
                let line = text.lines().find(|l| l.starts_with(key)).unwrap();
                line.rsplit(' ').next().unwrap().parse().unwrap()
            };
            value("Block count:") * value("Block size:")
        };
        // A call that was cut off after the file had become longer.
        block(grow_file(&path, 40 * MIB)).unwrap();
        assert_eq!(blocks(), 20 * MIB);
        for _ in 0..2 {
            block(grow(&path, 40 * MIB)).unwrap();
            assert_eq!(blocks(), 40 * MIB);
        }
        let error = block(grow(&path, 30 * MIB)).unwrap_err();
        assert!(matches!(error, DiskFileError::Shrink { .. }), "{error}");
        assert_eq!(inspect(&path).unwrap().size, 40 * MIB);
        output_of("e2fsck", &[&"-f", &"-n", &path]);
    }
    block(make(&path, Format::Qcow2, 20 * MIB)).unwrap();
    for _ in 0..2 {
        block(grow(&path, 40 * MIB)).unwrap();
        assert_eq!(inspect(&path).unwrap().size, 40 * MIB);
    }
    assert!(block(grow(&path, 20 * MIB)).is_err());
    assert!(block(grow_file(&path, 60 * MIB)).is_err());
}

#[test]
fn a_damaged_file_system_leaves_the_disk_as_it_was() {
    let (_dir, path) = temporary();
    block(make(&path, Format::Raw, 20 * MIB)).unwrap();
    block(make_fs(&path, Fs::Ext4)).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    // The root folder and the group descriptors, the superblock stays.
    file.write_all_at(&vec![0xff; 512 << 10], 4096).unwrap();
    let error = block(grow(&path, 40 * MIB)).unwrap_err().to_string();
    assert!(error.starts_with("e2fsck failed on"), "{error}");
    assert!(!error.contains('\n'), "{error}");
    assert_eq!(inspect(&path).unwrap().size, 20 * MIB);
}

#[test]
fn a_copy_of_a_btrfs_gets_another_identity_and_other_disks_stay_as_they_are() {
    let (dir, path) = temporary();
    for format in [Format::Raw, Format::Qcow2] {
        block(make(&path, format, 120 * MIB)).unwrap();
        let bytes = fs::read(&path).unwrap();
        block(new_fsid(&path)).unwrap();
        assert!(fs::read(&path).unwrap() == bytes);
        block(make_fs(&path, Fs::Btrfs)).unwrap();
        let uuid = || match format {
            Format::Qcow2 => {
                let raw = unpacked(&path);
                let uuid = tag(&raw, "UUID");
                fs::remove_file(raw).unwrap();
                uuid
            }
            _ => tag(&path, "UUID"),
        };
        let before = uuid();
        block(new_fsid(&path)).unwrap();
        let after = uuid();
        assert!(before.len() == 36 && after.len() == 36 && before != after);
        assert_eq!(inspect(&path).unwrap().format, format);
        assert_eq!(names(dir.path()), ["disk.1"]);
    }
}

#[test]
fn a_btrfs_with_a_log_to_be_replayed_keeps_its_identity_because_the_log_has_it_too() {
    let (_dir, path) = temporary();
    block(make(&path, Format::Raw, 120 * MIB)).unwrap();
    block(make_fs(&path, Fs::Btrfs)).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&30_752_768_u64.to_le_bytes(), 65_536 + 0x60)
        .unwrap();
    let before = fs::read(&path).unwrap();
    block(new_fsid(&path)).unwrap();
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn the_ordinary_user_can_do_all_of_it() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    // /tmp, where the tests' folders are, is everybody's.
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["disk_file::tests::", "--test-threads=2"])
        .env("HOME", "/")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}");
    assert!(!text.contains("running 0 tests"), "{text}");
}
