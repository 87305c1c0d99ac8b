//! Disks that go to a real registry and come back.

use std::time::Duration;

use onedock_common::disk_file::{copy, make as make_bytes};
use onedock_common::state::disk_image::DiskMeta;
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_registry::{Client, Kind, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};

use super::*;

struct RegistryFixture {
    _server: RegistryServer,
    client: Client,
    repository: Repository,
    tag: Tag,
}

fn fixture() -> RegistryFixture {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let options = Options {
        certs_dir: "/nonexistent".into(),
        total_timeout: Duration::from_secs(60),
        ..Options::default()
    };
    RegistryFixture {
        repository: server.repository("onedock/img-7").unwrap(),
        client: Client::new(options).unwrap(),
        tag: "vm-5-disk-1".parse().unwrap(),
        _server: server,
    }
}

impl RegistryFixture {
    async fn put(&self, disk: &Path, snapshot: Option<SnapshotId>) -> (Source, DiskMeta) {
        let digest = save(&self.client, disk, snapshot, &self.repository, &self.tag)
            .await
            .unwrap();
        let source = Source::new(self.repository.clone(), digest);
        let Kind::Disk(meta) = self.client.kind(&source).await.unwrap() else {
            panic!("{source} is no disk");
        };
        (source, meta)
    }
}

#[tokio::test]
async fn a_disk_and_its_snapshots_come_back_from_the_registry_as_they_were() {
    let fixture = fixture();
    for format in [Format::Raw, Format::Qcow2] {
        let (dir, disk) = new_disk();
        make(&disk, 8, format).await.unwrap();
        make_fs(&disk, Fs::Ext4).await.unwrap();
        snap_create(&disk, id(4)).await.unwrap();
        grow(&disk, 12).await.unwrap();
        let (source, meta) = fixture.put(&disk, None).await;
        let (state, state_meta) = fixture.put(&disk, Some(id(4))).await;
        assert_eq!((meta.format, meta.size), (format, 12 * MIB));
        let lost = save(
            &fixture.client,
            &disk,
            Some(id(5)),
            &fixture.repository,
            &fixture.tag,
        )
        .await;
        let lost = lost.unwrap_err().to_string();
        assert!(lost.contains("no snapshot 5 (it has 4)"), "{lost}");
        let to = dir.path().join("disk.2");
        for how in [How::Link, How::Clone] {
            fetch(&fixture.client, &source, &meta, &to, how)
                .await
                .unwrap();
            assert!(fs::read(&disk).unwrap() == fs::read(&to).unwrap());
            fetch_snapshot(&fixture.client, &state, &state_meta, &to, id(4))
                .await
                .unwrap();
        }
        snap_revert(&to, id(4)).await.unwrap();
        assert_eq!(inspect(&to).unwrap().size, 8 * MIB);
        let expected = ["disk.1", "disk.1.snap", "disk.2", "disk.2.snap"];
        assert_eq!(names(dir.path()), expected);
    }
}

#[tokio::test]
async fn a_clone_of_a_btrfs_is_another_file_system_and_a_persistent_one_is_the_same() {
    const FSID: u64 = 65_536 + 32;
    let fsid = |disk: &Path| {
        let mut bytes = [0; 16];
        let file = File::open(disk).unwrap();
        file.read_exact_at(&mut bytes, FSID).unwrap();
        bytes
    };
    let fixture = fixture();
    let (dir, disk) = new_disk();
    make(&disk, 120, Format::Raw).await.unwrap();
    make_fs(&disk, Fs::Btrfs).await.unwrap();
    let (source, meta) = fixture.put(&disk, None).await;
    let to = dir.path().join("disk.2");
    fetch(&fixture.client, &source, &meta, &to, How::Link)
        .await
        .unwrap();
    assert_eq!(fsid(&to), fsid(&disk));
    fetch(&fixture.client, &source, &meta, &to, How::Clone)
        .await
        .unwrap();
    assert_ne!(fsid(&to), fsid(&disk));
}

#[tokio::test]
async fn a_blank_image_is_made_on_the_host_with_its_file_system() {
    let fixture = fixture();
    let (dir, disk) = new_disk();
    for (format, fs) in [(Format::Qcow2, Some(Fs::Ext3)), (Format::Raw, None)] {
        let meta = DiskMeta {
            format,
            size: 32 * MIB,
            fs,
            blank: true,
        };
        let digest = fixture
            .client
            .put_blank_disk(&fixture.repository, &fixture.tag, &meta)
            .await
            .unwrap();
        let source = Source::new(fixture.repository.clone(), digest);
        for _ in 0..2 {
            fetch(&fixture.client, &source, &meta, &disk, How::Clone)
                .await
                .unwrap();
            let volume = inspect(&disk).unwrap();
            assert_eq!((volume.format, volume.size), (format, 32 * MIB));
            assert_eq!(is_blank(&disk).await.unwrap(), fs.is_none());
        }
    }
    assert_eq!(names(dir.path()), ["disk.1"]);
}

#[tokio::test]
async fn attack_an_image_in_the_registry_that_leads_to_other_files_or_lies_is_not_taken() {
    let fixture = fixture();
    let (dir, disk) = new_disk();
    let evil = dir.path().join("evil");
    make_bytes(&evil, Format::Qcow2, 8 * MIB).await.unwrap();
    let file = File::options().write(true).open(&evil).unwrap();
    file.write_all_at(b"/etc/passwd", 4096).unwrap();
    file.write_all_at(&4096_u64.to_be_bytes(), 8).unwrap();
    file.write_all_at(&11_u32.to_be_bytes(), 16).unwrap();
    assert!(
        save_file(&fixture.client, &evil, &fixture.repository, &fixture.tag)
            .await
            .is_err()
    );
    let good = dir.path().join("good");
    make_bytes(&good, Format::Qcow2, 8 * MIB).await.unwrap();
    for (file, size, word) in [
        (&evil, 8 * MIB, "backing file"),
        (&good, MIB, "and says 1048576"),
    ] {
        // As somebody puts it who does not use these drivers.
        let meta = DiskMeta {
            format: Format::Qcow2,
            size,
            fs: None,
            blank: false,
        };
        let put = fixture
            .client
            .put_disk(file, &fixture.repository, &fixture.tag, &meta);
        let source = Source::new(fixture.repository.clone(), put.await.unwrap());
        let error = fetch(&fixture.client, &source, &meta, &disk, How::Clone).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(word), "{error}");
        assert_eq!(names(dir.path()), ["evil", "good"]);
    }
}

#[tokio::test]
async fn a_saved_spool_is_the_disk_as_it_was() {
    let fixture = fixture();
    let (dir, disk) = new_disk();
    make(&disk, 8, Format::Raw).await.unwrap();
    put(&disk, b"first");
    let spool = spool(&disk).await.unwrap();
    put(&disk, b"other");
    let digest = save_file(
        &fixture.client,
        spool.path(),
        &fixture.repository,
        &fixture.tag,
    )
    .await;
    let source = Source::new(fixture.repository.clone(), digest.unwrap());
    let Kind::Disk(meta) = fixture.client.kind(&source).await.unwrap() else {
        panic!("no disk");
    };
    fetch(&fixture.client, &source, &meta, &disk, How::Link)
        .await
        .unwrap();
    assert_eq!(word(&disk), b"first");
    let absent = dir.path().join("disk.8");
    assert!(copy(&absent, &disk).await.is_err());
    assert_eq!(word(&disk), b"first");
}
