use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use onedock_common::state::descriptor::{self, Snapshot};
use onedock_common::types::reference::Source;

use super::*;
use crate::http::Socket;

fn source() -> Source {
    let hex = "ab".repeat(32);
    format!("docker://front:5000/onedock/img-6@sha256:{hex}")
        .parse()
        .unwrap()
}

fn container(folder: &Path, vm: u32, disk: u32, snapshots: &[(u32, u64)]) {
    let image = source();
    let snapshots = snapshots.iter().map(|(id, bytes)| Snapshot {
        id: SnapshotId::new(*id),
        image: source(),
        bytes: *bytes,
    });
    let disk = DiskId::new(disk);
    let descriptor = Descriptor {
        version: descriptor::VERSION,
        vm: VmId::new(vm),
        disk,
        source: image.clone(),
        image,
        persistent: false,
        dockerrun: None,
        container: None,
        snapshots: snapshots.collect(),
    };
    descriptor.write(&disk_path(folder, disk)).unwrap();
}

fn taken(vm: u32, disk: u32, bytes: u64) -> Taken {
    Taken {
        vm: VmId::new(vm),
        disk: DiskId::new(disk),
        bytes,
    }
}

fn plain(record: &str) -> String {
    let b64 = record.split("MONITOR=\"").nth(1).unwrap();
    let b64 = b64.split('"').next().unwrap();
    String::from_utf8(BASE64_STANDARD.decode(b64).unwrap()).unwrap()
}

#[test]
fn layers_files_and_snapshots_of_a_vm_are_one_record_in_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("101/5");
    fs::create_dir_all(folder.join("disk.2")).unwrap();
    container(&folder, 5, 0, &[(0, 1), (3, 5 << 20)]);
    // A disk in a file: 2 MiB written of 64.
    let file = fs::File::create(folder.join("disk.1")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![1; 2 << 20], 1 << 20).unwrap();
    fs::create_dir(folder.join("disk.1.snap")).unwrap();
    fs::write(folder.join("disk.1.snap/12"), vec![1; 1 << 20]).unwrap();
    fs::write(folder.join("disk.1.snap/.12.part"), "x").unwrap();
    // A tree.
    container(&folder, 5, 4, &[]);
    // VMs of others on this host, and what is no VM.
    fs::create_dir_all(dir.path().join("101/9")).unwrap();
    fs::write(dir.path().join("101/9/disk.0"), "kvm").unwrap();
    fs::create_dir_all(dir.path().join("x/5")).unwrap();
    fs::write(dir.path().join("x/5/disk.7"), "x").unwrap();

    let records = measure(&[taken(5, 0, 3 << 20), taken(5, 4, 0)], dir.path());
    assert_eq!(records.len(), 1);
    assert!(records[0].starts_with("VM = [ ID=\"5\", DEPLOY_ID=\"one-5\""));
    assert_eq!(
        plain(&records[0]),
        "DISK_SIZE = [ ID=\"0\", SIZE=\"3\" ]\n\
         DISK_SIZE = [ ID=\"1\", SIZE=\"2\" ]\n\
         DISK_SIZE = [ ID=\"4\", SIZE=\"0\" ]\n\
         SNAPSHOT_SIZE = [ ID=\"0\", DISK_ID=\"0\", SIZE=\"1\" ]\n\
         SNAPSHOT_SIZE = [ ID=\"3\", DISK_ID=\"0\", SIZE=\"5\" ]\n\
         SNAPSHOT_SIZE = [ ID=\"12\", DISK_ID=\"1\", SIZE=\"1\" ]\n"
    );
}

#[test]
fn a_damaged_descriptor_or_a_link_to_nowhere_hides_no_other_disk() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("0/5");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("disk.0"), "{\"version\":").unwrap();
    std::os::unix::fs::symlink("/nowhere/image", folder.join("disk.1")).unwrap();
    fs::write(folder.join("disk.2"), vec![1; 4096]).unwrap();
    let records = measure(&[taken(5, 0, 1)], dir.path());
    assert_eq!(
        plain(&records[0]),
        "DISK_SIZE = [ ID=\"0\", SIZE=\"1\" ]\nDISK_SIZE = [ ID=\"2\", SIZE=\"1\" ]\n"
    );
}

#[test]
fn fault_38_an_engine_that_does_not_answer_holds_nobody_and_tells_no_sizes() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::at(Socket::at(dir.path().join("none")));
    let mut sizer = Sizer::new(engine, dir.path().to_owned());
    let until = Instant::now() + Duration::from_secs(10);
    assert!(sizer.poll(Instant::now()).is_empty());
    while sizer.pending.is_some() && Instant::now() < until {
        assert!(sizer.poll(Instant::now()).is_empty());
        thread::yield_now();
    }
    assert!(
        sizer.due > Instant::now() + EVERY / 2,
        "not asked again at once"
    );
    sizer.hurry();
    sizer.poll(Instant::now());
    assert!(sizer.pending.is_some());
}
