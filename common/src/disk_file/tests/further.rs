//! Disks whose content leads to other devices.

use std::ffi::OsStr;

use super::*;
use crate::disk_file::{FurtherDevice, further_device, is_part_of_an_array};

/// A disk with this file system, made by its own program.
fn made(mkfs: &str, mib: u64, arguments: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let (dir, path) = temporary();
    File::create(&path).unwrap().set_len(mib * MIB).unwrap();
    let words: Vec<&dyn AsRef<OsStr>> = arguments.iter().map(|word| word as _).collect();
    output_of(mkfs, &[&words[..], &[&path]].concat());
    (dir, path)
}

fn write(path: &Path, at: u64, bytes: &[u8]) {
    let file = File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, at).unwrap();
}

fn found(path: &Path) -> Option<FurtherDevice> {
    further_device(&File::open(path).unwrap()).unwrap()
}

#[test]
fn what_stands_alone_leads_nowhere() {
    for (mkfs, mib, arguments) in [
        ("mkfs.ext2", 8, &["-q"][..]),
        ("mkfs.ext3", 16, &["-q"]),
        ("mkfs.ext4", 16, &["-q", "-b", "1024"]),
        ("mkfs.ext4", 300, &["-q"]),
        ("mkfs.btrfs", 128, &["-q"]),
        ("mkfs.xfs", 300, &["-q"]),
    ] {
        let (_dir, path) = made(mkfs, mib, arguments);
        assert_eq!(found(&path), None, "{mkfs}");
        assert!(
            !is_part_of_an_array(&File::open(&path).unwrap()).unwrap(),
            "{mkfs}"
        );
    }
    let (_dir, path) = temporary();
    fs::write(&path, b"short").unwrap();
    assert_eq!(found(&path), None);
    assert!(!is_part_of_an_array(&File::open(&path).unwrap()).unwrap());
}

#[test]
fn attack_40_an_ext_journal_on_another_device_is_seen_however_it_is_named() {
    const JOURNAL: Option<FurtherDevice> = Some(FurtherDevice::Journal);
    let ext4 = || made("mkfs.ext4", 64, &["-q", "-b", "1024"]);
    for (at, bytes) in [
        (0xe4, &[1, 8, 0, 0][..]),
        (0xd0, b"0123456789abcdef"),
        (0xe0, &[0; 4]),
        (0x200, b"journal_dev=0x801"),
        (0x200, b"noatime,journal_path=/dev/sda"),
    ] {
        let (_dir, path) = ext4();
        write(&path, 1024 + at, bytes);
        assert_eq!(found(&path), JOURNAL, "{at:#x}");
        // In the copy that e2fsck takes in place of a damaged superblock.
        let (_dir, path) = ext4();
        write(&path, 8193 * 1024 + at, bytes);
        assert_eq!(found(&path), JOURNAL, "copy, {at:#x}");
    }
    let (_dir, path) = ext4();
    write(&path, 1024 + 0x200, b"journal_checksum");
    assert_eq!(found(&path), None);
    let (_dir, path) = made("mke2fs", 16, &["-q", "-O", "journal_dev"]);
    assert_eq!(found(&path), Some(FurtherDevice::JournalOfAnother));
}

#[test]
fn attack_40_a_btrfs_or_xfs_of_several_devices_is_seen() {
    let (dir, first) = temporary();
    let second = dir.path().join("second");
    for path in [&first, &second] {
        File::create(path).unwrap().set_len(300 * MIB).unwrap();
    }
    output_of("mkfs.btrfs", &[&"-q", &"-f", &first, &second]);
    for path in [&first, &second] {
        assert_eq!(found(path), Some(FurtherDevice::Btrfs(2)));
    }
    // Only the copy says it.
    let (_dir, path) = made("mkfs.btrfs", 128, &["-q"]);
    write(&path, (64 << 20) + 0x88, &[2]);
    assert_eq!(found(&path), Some(FurtherDevice::Btrfs(2)));
    let (_dir, path) = made("mkfs.btrfs", 128, &["-q"]);
    output_of("btrfstune", &[&"-f", &"-S", &"1", &path]);
    assert_eq!(found(&path), Some(FurtherDevice::BtrfsSeed));

    let (_dir, path) = made("mkfs.xfs", 300, &["-q"]);
    let mut start = [0; 8];
    File::open(&path)
        .unwrap()
        .read_exact_at(&mut start, 48)
        .unwrap();
    assert_ne!(start, [0; 8], "sb_logstart");
    write(&path, 48, &[0; 8]);
    assert_eq!(found(&path), Some(FurtherDevice::XfsLog));
    let (_dir, path) = made("mkfs.xfs", 300, &["-q"]);
    write(&path, 16, &[0, 0, 0, 0, 0, 0, 1, 0]);
    assert_eq!(found(&path), Some(FurtherDevice::XfsRealtime));
}

#[test]
fn parts_of_arrays_are_seen_at_each_of_their_places() {
    const SIZE: u64 = 64 << 20;
    let md = 0xa92b_4efc_u32;
    let zfs = 0x00ba_b10c_u64;
    let places: [(u64, Vec<u8>); 13] = [
        (0, b"LABELONE".to_vec()),
        (3 * 512, b"LABELONE".to_vec()),
        (0, md.to_le_bytes().to_vec()),
        (4096, md.to_le_bytes().to_vec()),
        (SIZE - 8192, md.to_le_bytes().to_vec()),
        (SIZE - 65536, md.to_be_bytes().to_vec()),
        (4096 + 24, vec![0xc6, 0x85, 0x73, 0xf6]),
        (128 << 10, zfs.to_le_bytes().to_vec()),
        ((255 << 10), zfs.to_be_bytes().to_vec()),
        ((256 + 130) << 10, zfs.to_le_bytes().to_vec()),
        (SIZE - (512 << 10) + (128 << 10), zfs.to_le_bytes().to_vec()),
        (SIZE - (256 << 10) + (129 << 10), zfs.to_le_bytes().to_vec()),
        (SIZE - (256 << 10) + (200 << 10), zfs.to_be_bytes().to_vec()),
    ];
    for (at, bytes) in places {
        let (_dir, path) = temporary();
        File::create(&path).unwrap().set_len(SIZE).unwrap();
        write(&path, at, &bytes);
        assert!(
            is_part_of_an_array(&File::open(&path).unwrap()).unwrap(),
            "{at}"
        );
    }
    let (_dir, path) = temporary();
    File::create(&path).unwrap().set_len(SIZE).unwrap();
    write(&path, 4 * 512, b"LABELONE");
    write(&path, (128 << 10) + 8, &zfs.to_le_bytes());
    assert!(!is_part_of_an_array(&File::open(&path).unwrap()).unwrap());
}

#[test]
fn attack_40_no_program_is_given_a_disk_that_leads_to_another_device() {
    let (_dir, path) = made("mkfs.ext4", 16, &["-q", "-O", "^metadata_csum"]);
    write(&path, 1024 + 0xe4, &[1, 8, 0, 0]);
    let before = fs::read(&path).unwrap();
    block(grow(&path, 32 * MIB)).unwrap();
    let after = fs::read(&path).unwrap();
    assert!(after.len() as u64 == 32 * MIB && after.starts_with(&before));
    let (dir, first) = temporary();
    let second = dir.path().join("second");
    for path in [&first, &second] {
        File::create(path).unwrap().set_len(128 * MIB).unwrap();
    }
    output_of("mkfs.btrfs", &[&"-q", &"-f", &first, &second]);
    let before = tag(&first, "UUID");
    block(new_fsid(&first)).unwrap();
    assert_eq!(tag(&first, "UUID"), before);
}
