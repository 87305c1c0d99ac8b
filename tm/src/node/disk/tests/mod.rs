//! Disks on a host, with the real programs.

mod registry;
mod transfer;

use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use onedock_common::SnapshotId;
use onedock_common::disk_file::{DiskFileError, Format, Fs, inspect, is_blank, make_fs};
use onedock_common::state::vm_folder;

use super::spool::spool;
use super::*;

const MIB: u64 = 1 << 20;

fn block<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

/// A VM's folder with a disk that is not there yet.
fn new_disk() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let disk = dir.path().join("disk.1");
    (dir, disk)
}

/// Bytes that a file takes, holes not counted.
fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

fn id(number: u32) -> SnapshotId {
    SnapshotId::new(number)
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// Writes a word into a disk, far inside.
fn put(disk: &Path, word: &[u8]) {
    let file = File::options().write(true).open(disk).unwrap();
    file.write_all_at(word, 3 * MIB + 5).unwrap();
    file.sync_all().unwrap();
}

fn word(disk: &Path) -> Vec<u8> {
    let mut bytes = vec![0; 5];
    File::open(disk)
        .unwrap()
        .read_exact_at(&mut bytes, 3 * MIB + 5)
        .unwrap();
    bytes
}

#[test]
fn a_repeated_mkimage_keeps_a_blank_disk_and_replaces_one_of_a_former_life() {
    let (dir, disk) = new_disk();
    for format in [Format::Raw, Format::Qcow2] {
        block(make(&disk, 64, format)).unwrap();
        let inode = fs::metadata(&disk).unwrap().ino();
        block(make(&disk, 64, format)).unwrap();
        assert_eq!(fs::metadata(&disk).unwrap().ino(), inode);
        block(make_fs(&disk, Fs::Ext4)).unwrap();
        block(snap_create(&disk, id(0))).unwrap();
        block(make(&disk, 64, format)).unwrap();
        assert!(block(is_blank(&disk)).unwrap());
        block(make(&disk, 65, format)).unwrap();
        assert_eq!(inspect(&disk).unwrap().size, 65 * MIB);
        assert_eq!(names(dir.path()), ["disk.1"]);
    }
    assert!(block(make(&disk, u64::MAX, Format::Raw)).is_err());
    assert!(block(make(&disk, 1 << 40, Format::Raw)).is_err());
    assert_eq!(inspect(&disk).unwrap().size, 65 * MIB);
}

#[test]
fn a_swap_disk_is_made_twice_as_once() {
    let (dir, disk) = new_disk();
    for _ in 0..2 {
        block(make_swap(&disk, 16)).unwrap();
        let mut magic = [0; 10];
        let file = File::open(&disk).unwrap();
        file.read_exact_at(&mut magic, 4086).unwrap();
        assert_eq!(&magic, b"SWAPSPACE2");
        assert_eq!(names(dir.path()), ["disk.1"]);
    }
}

#[test]
fn a_disk_goes_back_to_a_snapshot_as_often_as_wanted() {
    let (dir, disk) = new_disk();
    block(make(&disk, 8, Format::Raw)).unwrap();
    for (number, text) in [(0, b"zeroA"), (1, b"one_B")] {
        put(&disk, text);
        for _ in 0..2 {
            block(snap_create(&disk, id(number))).unwrap();
        }
    }
    put(&disk, b"now_C");
    assert_eq!(vm_folder::snapshots(&disk).unwrap(), [id(0), id(1)]);
    assert!((1..MIB).contains(&allocated(&disk)));
    assert!(allocated(&vm_folder::snapshot(&disk, id(1))) > 0);
    for (number, text) in [(0, b"zeroA"), (1, b"one_B"), (1, b"one_B"), (0, b"zeroA")] {
        block(snap_revert(&disk, id(number))).unwrap();
        assert_eq!(word(&disk), text);
    }
    let error = block(snap_revert(&disk, id(7))).unwrap_err().to_string();
    assert!(error.contains("no snapshot 7 (it has 0, 1)"), "{error}");
    for _ in 0..2 {
        block(snap_delete(&disk, id(0))).unwrap();
    }
    assert_eq!(names(&dir.path().join("disk.1.snap")), ["1"]);
    block(snap_delete(&disk, id(1))).unwrap();
    assert_eq!(names(dir.path()), ["disk.1"]);
    let error = block(snap_revert(&disk, id(1))).unwrap_err().to_string();
    assert!(error.contains("it has none"), "{error}");
    assert_eq!(word(&disk), b"zeroA");
}

#[test]
fn a_snapshot_of_a_disk_that_is_gone_leaves_nothing() {
    let (dir, disk) = new_disk();
    let error = block(snap_create(&disk, id(0))).unwrap_err();
    let error = error.downcast::<DiskFileError>().unwrap();
    assert!(matches!(error, DiskFileError::Missing { .. }), "{error}");
    assert!(names(dir.path()).is_empty());
}

#[test]
fn a_spool_has_the_disk_as_it_was_and_goes_with_its_use() {
    let (dir, disk) = new_disk();
    block(make(&disk, 8, Format::Raw)).unwrap();
    put(&disk, b"first");
    fs::write(dir.path().join("disk.1.spool.1"), "of a killed call").unwrap();
    let spool = block(spool(&disk)).unwrap();
    put(&disk, b"other");
    assert_eq!(word(spool.path()), b"first");
    assert_eq!(names(dir.path()).len(), 2);
    drop(spool);
    assert_eq!(names(dir.path()), ["disk.1"]);
}

#[test]
fn a_spool_of_a_running_vm_becomes_a_snapshot_after_the_vm_goes_on() {
    let (dir, disk) = new_disk();
    block(make(&disk, 8, Format::Raw)).unwrap();
    put(&disk, b"first");
    let copy = block(spool(&disk)).unwrap();
    put(&disk, b"other");
    snap_from_spool(&disk, id(2), &copy).unwrap();
    assert!(snap_from_spool(&disk, id(3), &copy).is_err());
    drop(copy);
    assert_eq!(names(dir.path()), ["disk.1", "disk.1.snap"]);
    block(snap_revert(&disk, id(2))).unwrap();
    assert_eq!(word(&disk), b"first");
    assert_eq!(inspect(&disk).unwrap().format, Format::Raw);
    let copy = block(spool(&disk)).unwrap();
    block(snap_delete(&disk, id(2))).unwrap();
    fs::remove_file(copy.path()).unwrap();
    assert!(snap_from_spool(&disk, id(3), &copy).is_err());
    assert_eq!(names(dir.path()), ["disk.1"]);
}

#[test]
fn a_disk_grows_and_one_without_end_is_refused() {
    let (_dir, disk) = new_disk();
    block(make(&disk, 8, Format::Qcow2)).unwrap();
    block(grow(&disk, 16)).unwrap();
    block(grow(&disk, 16)).unwrap();
    assert_eq!(inspect(&disk).unwrap().size, 16 * MIB);
    for size in [8, 1 << 40, u64::MAX] {
        assert!(block(grow(&disk, size)).is_err());
    }
    assert_eq!(inspect(&disk).unwrap().size, 16 * MIB);
}

#[test]
fn a_removed_disk_takes_all_that_belongs_to_it_and_nothing_of_its_neighbours() {
    let (dir, disk) = new_disk();
    let neighbour = dir.path().join("disk.10");
    for disk in [&disk, &neighbour] {
        block(make(disk, 8, Format::Raw)).unwrap();
        block(snap_create(disk, id(0))).unwrap();
    }
    for name in ["disk.1.new.7", "disk.1.new.7.raw", "disk.1.spool.7"] {
        fs::write(dir.path().join(name), "").unwrap();
    }
    fs::create_dir(dir.path().join("disk.1.snap.new")).unwrap();
    for _ in 0..2 {
        remove(&disk).unwrap();
        assert_eq!(names(dir.path()), ["disk.10", "disk.10.snap"]);
    }
}
