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
    let (dir, path) = temporary();
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
    let (_dir, path) = temporary();
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
    let (_dir, path) = temporary();
    with_holes(&path);
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    let to = elsewhere.path().join("disk.1");
    block(copy(&path, &to)).unwrap();
    assert!(fs::read(&path).unwrap() == fs::read(&to).unwrap());
    assert!(fs::metadata(&to).unwrap().blocks() * 512 < MIB);
}

#[test]
fn a_disk_that_is_not_there_is_told_and_the_old_copy_stays() {
    let (dir, path) = temporary();
    let to = dir.path().join("disk.2");
    fs::write(&to, "old").unwrap();
    let error = block(copy(&path, &to)).unwrap_err();
    assert!(matches!(error, DiskFileError::Missing { .. }), "{error}");
    assert_eq!(fs::read(&to).unwrap(), b"old");
}

/// Where the test that runs in a mount namespace of its own has a file system that shares data.
const SHARING: &str = "ONEDOCK_TEST_SHARING";

#[test]
fn a_copy_shares_its_data_where_the_file_system_can() {
    if let Some(dir) = std::env::var_os(SHARING) {
        return on_a_file_system_that_shares(Path::new(&dir));
    }
    // Only root mounts; what is looked at here is the same for everybody.
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("disk_file::tests::content::a_copy_shares_its_data_where_the_file_system_can")
        .env(SHARING, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn on_a_file_system_that_shares(dir: &Path) {
    let image = dir.join("image");
    block(make(&image, Format::Raw, 300 * MIB)).unwrap();
    block(make_fs(&image, Fs::Xfs)).unwrap();
    let mounted = dir.join("mounted");
    fs::create_dir(&mounted).unwrap();
    // Its loop device goes with the mount, and that with this namespace.
    output_of("mount", &[&"-o", &"loop", &image, &mounted]);
    let disk = mounted.join("disk.1");
    block(make(&disk, Format::Raw, 200 * MIB)).unwrap();
    let file = File::options().write(true).open(&disk).unwrap();
    for at in 0..60 {
        file.write_all_at(&vec![at; 1 << 20], 2 * MIB * u64::from(at))
            .unwrap();
    }
    file.sync_all().unwrap();
    drop(file);
    let free = || {
        nix::sys::statvfs::statvfs(&mounted)
            .unwrap()
            .blocks_available()
    };
    let before = free();
    for number in 2..6 {
        // Together they would not fit otherwise.
        let to = mounted.join(format!("disk.{number}"));
        block(copy(&disk, &to)).unwrap();
        assert!(fs::read(&disk).unwrap() == fs::read(&to).unwrap());
    }
    assert!(before - free() < 1024, "{before} {}", free());
    output_of("umount", &[&mounted]);
}
