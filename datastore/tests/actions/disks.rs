//! Images that are disks.

use std::fs;
use std::io::Write as _;
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use onedock_common::state::disk_image::{DiskFormat, FileSystem};
use onedock_registry::Kind;

use crate::test_datastore::{MIB, TestDatastore, archive, noise, qemu_img};

#[test]
fn mkfs_as_both_releases_ask_for_it() {
    let store = TestDatastore::new();
    for (id, xml) in [
        (8, include_str!("../data/mkfs-7.4.0.xml")),
        (2, include_str!("../data/mkfs-6.10.xml")),
    ] {
        let image = store.recorded(xml);
        let line = store.call("mkfs", id, &image).line();
        let source = store.source(&line, None);
        let Kind::Disk(meta) = store.kind(&source) else {
            panic!("{line}");
        };
        assert_eq!(meta.size, 100 * MIB);
        assert_eq!(
            (meta.format, meta.fs),
            (DiskFormat::Raw, Some(FileSystem::Ext4))
        );
        assert!(meta.blank);
        // Once more, one effect.
        assert_eq!(store.call("mkfs", id, &image).line(), line);
        assert_eq!(store.tags(&source).len(), 2);
    }
    for (id, xml) in [
        (10, include_str!("../data/mkfs-save_as-7.4.0.xml")),
        (4, include_str!("../data/mkfs-save_as-6.10.xml")),
    ] {
        let line = store.call("mkfs", id, &store.recorded(xml)).line();
        let source = store.source(&line, None);
        assert_eq!(store.kind(&source), Kind::Reserved);
        // Deleted before anything was saved.
        let image = format!("<ID>{id}</ID><SOURCE>{source}</SOURCE>");
        for _ in 0..2 {
            assert!(store.call("rm", id, &image).succeeded());
        }
        assert!(store.tags(&source).is_empty());
    }
    let line = store
        .call(
            "mkfs",
            5,
            "<ID>5</ID><TYPE>2</TYPE><FORMAT>raw</FORMAT><FS>ntfs</FS><SIZE>9</SIZE>",
        )
        .refused();
    assert!(line.contains("IMAGE/FS") && line.contains("ntfs"), "{line}");
}

#[test]
fn files_of_disks_are_kept_as_what_they_are() {
    let store = TestDatastore::new();
    let content = noise(3_000_000);
    let raw = store.file("raw", &content);
    let mut cd = vec![0; 64 * 1024];
    cd[32769..32774].copy_from_slice(b"CD001");
    let cd = store.file("cd.iso", &cd);
    let qcow2 = store.dir.path().join("files/disk.qcow2");
    qemu_img(&[
        "convert",
        "-O",
        "qcow2",
        raw.to_str().unwrap(),
        qcow2.to_str().unwrap(),
    ]);
    let tiny = store.file("tiny", b"{\"version\": 2}");
    let sectors = 3_000_000_u64.next_multiple_of(512);
    for (path, kind, word, format, size) in [
        (&raw, 2, "raw", DiskFormat::Raw, sectors),
        (&cd, 1, "raw", DiskFormat::Iso, MIB),
        (&cd, 2, "raw", DiskFormat::Raw, MIB),
        (&qcow2, 2, "qcow2", DiskFormat::Qcow2, sectors),
        (&tiny, 2, "raw", DiskFormat::Raw, MIB),
    ] {
        let path = path.display();
        let megabytes = store
            .call("stat", 0, &format!("<PATH>{path}</PATH>"))
            .line();
        assert_eq!(megabytes, size.div_ceil(MIB).to_string());
        let image = format!("<ID>9</ID><TYPE>{kind}</TYPE><PATH>{path}</PATH>");
        let line = store.call("cp", 9, &image).line();
        let source = store.source(&line, Some(word));
        let Kind::Disk(meta) = store.kind(&source) else {
            panic!("{line}");
        };
        assert_eq!((meta.format, meta.size, meta.blank), (format, size, false));
        assert_eq!(store.state(&source).as_ref(), Some(source.digest()));
        let back = store.dir.path().join("back");
        store
            .runtime
            .block_on(store.client.get_disk(&source, &back))
            .unwrap();
        let (written, original) = (
            fs::read(&back).unwrap(),
            fs::read(path.to_string()).unwrap(),
        );
        assert!(written.starts_with(&original));
        assert!(written[original.len()..].iter().all(|b| *b == 0));
        if word == "raw" {
            assert_eq!(written.len() as u64, size);
        }
        fs::remove_file(&back).unwrap();
        // A container starts from a container image.
        let image = format!("<ID>8</ID><TYPE>0</TYPE><PATH>{path}</PATH>");
        let line = store.call("cp", 8, &image).refused();
        assert!(line.contains("TYPE=DATABLOCK"), "{line}");
    }
    // A container image stays one, whatever it is used for.
    let path = store.file("a.tar", &archive(1));
    let image = format!("<ID>7</ID><TYPE>1</TYPE><PATH>{}</PATH>", path.display());
    let line = store.call("cp", 7, &image).line();
    assert_eq!(store.kind(&store.source(&line, Some("raw"))), Kind::Image);
}

#[test]
fn attack_6_disks_that_lead_elsewhere_or_lie_where_they_must_not_are_refused() {
    let store = TestDatastore::new();
    let files = store.dir.path().join("files");
    let at = |name: &str| files.join(name).to_str().unwrap().to_owned();
    let outside = store.dir.path().join("secret");
    fs::write(&outside, vec![1; 4096]).unwrap();
    std::os::unix::fs::symlink(&outside, files.join("link")).unwrap();
    qemu_img(&[
        "create",
        "-f",
        "qcow2",
        "-b",
        "/etc/passwd",
        "-F",
        "raw",
        &at("backing"),
        "1M",
    ]);
    let data_file = format!("data_file={},data_file_raw=on", at("data"));
    qemu_img(&[
        "create",
        "-f",
        "qcow2",
        "-o",
        &data_file,
        &at("external"),
        "1M",
    ]);
    store.file("vm.vmdk", b"KDMV....");
    store.file("broken.gz", &{
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(b"no image").unwrap();
        packed.finish().unwrap()
    });
    for (name, word) in [
        ("link", "SAFE_DIRS"),
        ("backing", "backing file"),
        ("external", "another file"),
        ("vm.vmdk", "qemu-img convert"),
        ("broken.gz", "archive"),
        ("missing", "cannot be read"),
    ] {
        let image = format!("<ID>9</ID><TYPE>2</TYPE><PATH>{}</PATH>", at(name));
        for action in ["cp", "stat"] {
            let line = store.call(action, 9, &image).refused();
            assert!(line.contains(word), "{name}: {line}");
        }
    }
    let repository = store.server.repository("onedock/img-9").unwrap();
    assert!(
        store
            .runtime
            .block_on(store.client.tags(&repository))
            .unwrap()
            .is_empty()
    );
}

#[test]
fn fault_37_a_cp_that_is_killed_leaves_no_tag_and_the_next_one_works() {
    let store = TestDatastore::new();
    let disk = store.file("disk", &noise(24 << 20));
    let image = format!("<ID>9</ID><TYPE>2</TYPE><PATH>{}</PATH>", disk.display());
    let repository = store.server.repository("onedock/img-9").unwrap();
    for pause in [30, 120, 300] {
        let killed = store.command("cp", 9).input(store.request(&image));
        let _ = killed.within(Duration::from_millis(pause)).run();
    }
    // Two at once.
    let lines = thread::scope(|scope| {
        let call = || store.call("cp", 9, &image).line();
        [scope.spawn(call), scope.spawn(call)].map(|thread| thread.join().unwrap())
    });
    assert_eq!(lines[0], lines[1]);
    let source = store.source(&lines[0], Some("raw"));
    assert_eq!(source.repository(), &repository);
    assert_eq!(store.tags(&source).len(), 2);
    let back = store.dir.path().join("back");
    store
        .runtime
        .block_on(store.client.get_disk(&source, &back))
        .unwrap();
    assert!(fs::read(back).unwrap() == fs::read(disk).unwrap());
}
