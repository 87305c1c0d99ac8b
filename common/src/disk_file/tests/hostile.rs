//! Disks that a tenant has prepared, and a host without space.

use std::os::unix::fs::symlink;

use super::*;

fn is_refused(path: &Path, word: &str) {
    let errors = [
        inspect(path).map(drop),
        block(is_blank(path)).map(drop),
        block(grow(path, 200 * MIB)),
        block(new_fsid(path)),
        block(make_fs(path, Fs::Ext4)),
        block(copy(path, &path.with_extension("copy"))),
    ];
    for error in errors {
        let error = error.unwrap_err().to_string();
        assert!(error.contains(word) && error.contains("disk.1"), "{error}");
    }
}

#[test]
fn attack_a_qcow2_with_a_backing_file_or_a_data_file_of_the_host_is_refused() {
    let (dir, path) = temporary();
    output_of(
        "qemu-img",
        &[
            &"create",
            &"-q",
            &"-u",
            &"-f",
            &"qcow2",
            &"-b",
            &"/etc/passwd",
            &"-F",
            &"raw",
            &path,
            &"100M",
        ],
    );
    is_refused(&path, "backing file");
    let other = dir.path().join("other");
    let option = format!("data_file={},data_file_raw=on", other.display());
    output_of(
        "qemu-img",
        &[
            &"create", &"-q", &"-f", &"qcow2", &"-o", &option, &path, &"100M",
        ],
    );
    is_refused(&path, "another file");
    assert_eq!(names(dir.path()), ["disk.1", "other"]);
}

#[test]
fn attack_a_raw_disk_into_which_a_guest_wrote_a_qcow2_image_stays_raw() {
    let (dir, path) = temporary();
    let image = dir.path().join("image");
    output_of(
        "qemu-img",
        &[&"create", &"-q", &"-f", &"qcow2", &image, &"512T"],
    );
    block(make(&path, Format::Raw, 4 * MIB)).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    file.write_all_at(&fs::read(&image).unwrap()[..512], 0)
        .unwrap();
    file.sync_all().unwrap();
    let is_raw = |path: &Path| {
        let volume = inspect(path).unwrap();
        assert_eq!((volume.format, volume.size), (Format::Raw, 4 * MIB));
    };
    is_raw(&path);
    let to = dir.path().join("disk.2");
    block(copy(&path, &to)).unwrap();
    is_raw(&to);
    block(grow(&path, 8 * MIB)).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().len(), 8 * MIB);
    // Without the mark (a disk of another driver) who knows the format says so.
    let bare = dir.path().join("disk.3");
    fs::write(&bare, fs::read(&to).unwrap()).unwrap();
    assert_eq!(inspect_as(&bare, Format::Raw).unwrap().size, 4 * MIB);
    // From then on it is known.
    block(grow(&bare, 8 * MIB)).unwrap();
    assert_eq!(fs::metadata(&bare).unwrap().len(), 8 * MIB);
    assert!(inspect_as(&bare, Format::Qcow2).is_err());
}

#[test]
fn attack_sizes_beyond_any_disk_are_refused_before_anything_is_made() {
    let (dir, path) = temporary();
    for size in [0, LIMIT + 1, u64::MAX] {
        for format in [Format::Raw, Format::Qcow2] {
            assert!(block(make(&path, format, size)).is_err());
        }
        assert!(block(grow(&path, size)).is_err());
    }
    // ext4 has no file of 1 PiB; other file systems do.
    if let Err(error) = block(make(&path, Format::Raw, LIMIT)) {
        assert!(matches!(error, DiskFileError::Size { .. }), "{error}");
        assert!(names(dir.path()).is_empty());
    }
    let mut header = [0; 512];
    header[..8].copy_from_slice(b"QFI\xfb\0\0\0\x02");
    header[23] = 16;
    header[24..32].copy_from_slice(&u64::MAX.to_be_bytes());
    fs::write(&path, header).unwrap();
    let error = inspect(&path).unwrap_err();
    assert!(matches!(error, DiskFileError::Size { .. }), "{error}");
}

#[test]
fn attack_45_a_link_is_followed_once_and_only_to_a_file() {
    let (dir, path) = temporary();
    let image = dir.path().join("image");
    block(make(&image, Format::Raw, MIB)).unwrap();
    symlink("image", &path).unwrap();
    assert_eq!(inspect(&path).unwrap().size, MIB);
    block(grow(&path, 2 * MIB)).unwrap();
    assert_eq!(inspect(&image).unwrap().size, 2 * MIB);
    assert!(fs::symlink_metadata(&path).unwrap().is_symlink());
    let link = dir.path().join("disk.2");
    symlink(&path, &link).unwrap();
    let device = dir.path().join("disk.3");
    symlink("/dev/null", &device).unwrap();
    let folder = dir.path().join("disk.4");
    fs::create_dir(&folder).unwrap();
    for bad in [&link, &device, &folder] {
        let error = inspect(bad).unwrap_err();
        assert!(matches!(error, DiskFileError::NotAFile { .. }), "{error}");
    }
    let nothing = dir.path().join("disk.5");
    assert!(matches!(
        inspect(&nothing),
        Err(DiskFileError::Missing { .. })
    ));
}

#[test]
fn an_iso_is_known_by_its_descriptor_and_neither_made_nor_grown() {
    let (_dir, path) = temporary();
    let mut bytes = vec![0; 64 << 10];
    bytes[32769..32774].copy_from_slice(b"CD001");
    fs::write(&path, bytes).unwrap();
    assert_eq!(inspect(&path).unwrap().format, Format::Iso);
    assert!(!block(is_blank(&path)).unwrap());
    for error in [
        block(grow(&path, MIB)),
        block(make_fs(&path, Fs::Ext2)),
        block(make(&path.with_extension("iso"), Format::Iso, MIB)),
    ] {
        error.unwrap_err();
    }
    assert_eq!(names(path.parent().unwrap()), ["disk.1"]);
}

/// Where the test that runs in a mount namespace of its own has its small file system.
const SMALL: &str = "ONEDOCK_TEST_SMALL";

#[test]
fn fault_no_space_is_told_with_the_path_and_the_bytes_and_the_old_disk_stays() {
    if let Some(dir) = std::env::var_os(SMALL) {
        return on_a_small_file_system(Path::new(&dir));
    }
    let dir = tempfile::tempdir().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "--"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture"])
        .arg("disk_file::tests::hostile::fault_no_space_is_told_with_the_path_and_the_bytes_and_the_old_disk_stays")
        .env(SMALL, dir.path())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

fn on_a_small_file_system(dir: &Path) {
    use nix::mount::{MsFlags, mount};
    mount(
        Some("tmpfs"),
        dir,
        Some("tmpfs"),
        MsFlags::empty(),
        Some("size=2m"),
    )
    .unwrap();
    let outside = tempfile::tempdir().unwrap();
    let large = outside.path().join("disk.1");
    fs::write(&large, vec![7; 8 << 20]).unwrap();
    let path = dir.join("disk.1");
    fs::write(&path, "old").unwrap();
    let error = block(copy(&large, &path)).unwrap_err().to_string();
    assert!(
        error.contains("no space left") && error.contains("8388608"),
        "{error}"
    );
    assert_eq!(fs::read(&path).unwrap(), b"old");
    block(make(&path, Format::Raw, 64 << 30)).unwrap();
    // Their tables alone take more than there is.
    for fs in [Fs::Ext4, Fs::Xfs, Fs::Btrfs] {
        let error = block(make_fs(&path, fs)).unwrap_err().to_string();
        assert!(error.contains(dir.to_str().unwrap()), "{error}");
        assert!(block(is_blank(&path)).unwrap());
    }
    assert_eq!(names(dir), ["disk.1"]);
}
