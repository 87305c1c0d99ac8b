//! Disks that move to another folder or host.

use super::*;

/// A disk of 64 MiB with two snapshots.
fn with_snapshots(disk: &Path) {
    block(make(disk, 64, Format::Raw)).unwrap();
    block(make_fs(disk, Fs::Ext4)).unwrap();
    for (number, text) in [(0, b"zeroA"), (3, b"threB")] {
        put(disk, text);
        block(snap_create(disk, id(number))).unwrap();
    }
    put(disk, b"now_C");
}

fn has_snapshots(disk: &Path) {
    assert_eq!(word(disk), b"now_C");
    for (number, text) in [(0, b"zeroA"), (3, b"threB")] {
        assert_eq!(word(&vm_folder::snapshot(disk, id(number))), text);
    }
    assert_eq!(vm_folder::snapshots(disk).unwrap().len(), 2);
}

#[test]
fn a_disk_arrives_with_its_snapshots_its_holes_and_its_format_and_again_when_repeated() {
    let (_from, disk) = new_disk();
    with_snapshots(&disk);
    let mut stream = Vec::new();
    send(&disk, &mut stream).unwrap();
    assert!((stream.len() as u64) < 40 * MIB);
    stream.extend_from_slice(b"{\"after\"");
    let (to, copy) = new_disk();
    for _ in 0..2 {
        let mut input = &stream[..];
        receive(&copy, &mut input).unwrap();
        assert_eq!(input, b"{\"after\"");
        has_snapshots(&copy);
        assert!(fs::read(&disk).unwrap() == fs::read(&copy).unwrap());
        assert!(allocated(&copy) < 20 * MIB);
        assert_eq!(names(to.path()), ["disk.1", "disk.1.snap"]);
        assert_eq!(names(&to.path().join("disk.1.snap")), ["0", "3"]);
    }
    // One without snapshots takes those of a former life away.
    let (_from, plain) = new_disk();
    block(make(&plain, 4, Format::Qcow2)).unwrap();
    let mut stream = Vec::new();
    send(&plain, &mut stream).unwrap();
    receive(&copy, &mut &stream[..]).unwrap();
    assert_eq!(names(to.path()), ["disk.1"]);
    assert_eq!(inspect(&copy).unwrap().format, Format::Qcow2);
}

#[test]
fn fault_a_transfer_that_breaks_off_anywhere_leaves_what_was_there() {
    let (_from, disk) = new_disk();
    block(make(&disk, 4, Format::Raw)).unwrap();
    put(&disk, b"first");
    block(snap_create(&disk, id(0))).unwrap();
    let mut stream = Vec::new();
    send(&disk, &mut stream).unwrap();
    let (to, copy) = new_disk();
    for old in [None, Some(b"old")] {
        if let Some(old) = old {
            fs::write(&copy, old).unwrap();
        }
        let before = names(to.path());
        let ends = (0..stream.len()).step_by(97).chain([stream.len() - 1]);
        for end in ends {
            let error = receive(&copy, &mut &stream[..end]).unwrap_err();
            let line = onedock_common::opennebula::answer::error_line(error.as_ref());
            assert!(line.contains("was not received"), "{line}");
            assert_eq!(names(to.path()), before);
        }
        for at in (0..stream.len()).step_by(331) {
            let mut other = stream.clone();
            other[at] ^= 0x10;
            receive(&copy, &mut &other[..]).unwrap_err();
            assert_eq!(names(to.path()), before);
        }
    }
    assert_eq!(fs::read(&copy).unwrap(), b"old");
    // What a receiver that was killed has left is in nobody's way.
    fs::write(to.path().join("disk.1.new.1"), "").unwrap();
    fs::create_dir(to.path().join("disk.1.snap.new")).unwrap();
    fs::write(to.path().join("disk.1.snap.new/9"), "").unwrap();
    receive(&copy, &mut &stream[..]).unwrap();
    assert_eq!(names(&to.path().join("disk.1.snap")), ["0"]);
    assert_eq!(names(to.path()), ["disk.1", "disk.1.snap"]);
}

#[test]
fn attack_a_stream_writes_nowhere_but_within_the_disk() {
    use std::io::Write as _;
    let (to, copy) = new_disk();
    let head =
        |length: u64| format!("{{\"snapshot\":null,\"format\":\"raw\",\"length\":{length}}}\n");
    let part = |offset: u64, length: u64| [offset.to_be_bytes(), length.to_be_bytes()].concat();
    for (head, part) in [
        (head(1 << 20), part(u64::MAX, 2)),
        (head(1 << 20), part(1 << 20, 1)),
        (head(u64::MAX), part(0, 0)),
        (
            "{\"snapshot\":\"../../x\",\"format\":\"raw\",\"length\":1}\n".into(),
            part(0, 0),
        ),
        ("x".repeat(4096), part(0, 0)),
    ] {
        let mut stream = Vec::new();
        let mut sender = crate::checksummed_stream::Sender::new(&mut stream);
        sender.write_all(head.as_bytes()).unwrap();
        sender.write_all(&part).unwrap();
        sender.write_all(b"xx").unwrap();
        sender.write_all(&[0; 16]).unwrap();
        sender.finish().unwrap();
        receive(&copy, &mut &stream[..]).unwrap_err();
        assert!(names(to.path()).is_empty());
    }
}

#[test]
fn a_disk_is_renamed_with_its_snapshots_on_one_file_system_and_between_two() {
    let (dir, disk) = new_disk();
    let elsewhere = tempfile::tempdir_in("/dev/shm").unwrap();
    for to in [dir.path().join("disk.2"), elsewhere.path().join("disk.1")] {
        with_snapshots(&disk);
        for _ in 0..2 {
            block(rename(&disk, &to)).unwrap();
            has_snapshots(&to);
            assert!(!disk.exists() && !vm_folder::snapshot_folder(&disk).exists());
        }
    }
    let nothing = dir.path().join("disk.9");
    assert!(block(rename(&disk, &nothing)).is_err());
}

#[test]
fn fault_a_rename_that_was_cut_off_between_the_snapshots_and_the_disk_is_finished() {
    let (dir, disk) = new_disk();
    with_snapshots(&disk);
    let to = dir.path().join("disk.2");
    fs::rename(
        vm_folder::snapshot_folder(&disk),
        vm_folder::snapshot_folder(&to),
    )
    .unwrap();
    block(rename(&disk, &to)).unwrap();
    has_snapshots(&to);
    assert_eq!(names(dir.path()), ["disk.2", "disk.2.snap"]);
}
