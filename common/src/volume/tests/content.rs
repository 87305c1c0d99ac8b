//! Copies: what is in them, and what they take.

use std::os::unix::fs::MetadataExt as _;

use super::*;

/// 64 MiB with data at the beginning, in the middle and at the end.
fn with_holes(path: &Path) {
    block(make(path, Format::Raw, 64 * MIB)).unwrap();
    let file = File::options().write(true).open(path).unwrap();
    for (offset, byte) in [(0, 1), (20 * MIB + 4096, 2), (64 * MIB - 4096, 3)] {
        file.write_all_at(&[byte; 4096], offset).unwrap();
    }
    file.sync_all().unwrap();
}

#[test]
fn a_copy_has_the_same_bytes_the_same_holes_the_same_mode_and_nothing_beside_it() {
    let (dir, path) = place();
    with_holes(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let to = dir.path().join("disk.2");
    fs::write(&to, "an earlier one").unwrap();
    fs::write(
        dir.path().join("disk.2.new.1"),
        "of a writer that was killed",
    )
    .unwrap();
    for _ in 0..2 {
        block(copy(&path, &to)).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&to).unwrap());
        assert!(fs::metadata(&to).unwrap().blocks() * 512 < MIB);
    }
    assert_eq!(names(dir.path()), ["disk.1", "disk.2"]);
    assert_eq!(inspect(&to).unwrap().format, Format::Raw);
}

#[test]
fn data_is_found_between_the_holes() {
    let (_dir, path) = place();
    with_holes(&path);
    let extents = data_extents(&File::open(&path).unwrap(), 64 * MIB).unwrap();
    let total: u64 = extents.iter().map(|e| e.length).sum();
    assert_eq!(extents.len(), 3);
    assert_eq!(extents[1].offset, 20 * MIB + 4096);
    assert!(total < MIB);
    block(make(&path, Format::Raw, MIB)).unwrap();
    assert!(
        data_extents(&File::open(&path).unwrap(), MIB)
            .unwrap()
            .is_empty()
    );
}

#[test]
fn a_copy_to_another_file_system_is_the_same() {
    let (_dir, path) = place();
    with_holes(&path);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let to = elsewhere.path().join("disk.1");
    block(copy(&path, &to)).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&to).unwrap());
    assert!(fs::metadata(&to).unwrap().blocks() * 512 < MIB);
}

#[test]
fn a_disk_that_is_not_there_is_told_and_the_old_copy_stays() {
    let (dir, path) = place();
    let to = dir.path().join("disk.2");
    fs::write(&to, "old").unwrap();
    let error = block(copy(&path, &to)).unwrap_err();
    assert!(matches!(error, VolumeError::Missing { .. }), "{error}");
    assert_eq!(fs::read(&to).unwrap(), b"old");
}
