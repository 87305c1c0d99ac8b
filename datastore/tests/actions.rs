//! Every action as `one_datastore` runs it: the program itself, the recorded XML of both releases
//! on its standard input, and a real registry.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use onedock_common::Digest;
use onedock_common::state::disk_image::{DiskFormat, FileSystem};
use onedock_common::types::reference::{Source, Tag};
use onedock_registry::{Client, ImageStore, Kind, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::json;
use tempfile::TempDir;

const MIB: u64 = 1 << 20;

struct Bed {
    server: RegistryServer,
    client: Client,
    runtime: tokio::runtime::Runtime,
    dir: TempDir,
}

/// What `oned` would see.
#[derive(Debug)]
struct Answer {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl Answer {
    fn success(&self) -> bool {
        self.code == Some(0)
    }

    fn line(self) -> String {
        assert!(self.success(), "{}", self.stderr);
        let line = self
            .stdout
            .strip_suffix('\n')
            .unwrap_or_default()
            .to_owned();
        assert!(!line.contains('\n'), "{line}");
        line
    }

    fn refused(self) -> String {
        assert!(self.code == Some(1) && self.stdout.is_empty(), "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}", self.stderr);
        self.stderr
    }
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            code: output.status.code(),
        }
    }
}

fn client() -> Client {
    Client::new(Options {
        certs_dir: "/nonexistent".into(),
        ..Options::default()
    })
    .unwrap()
}

impl Bed {
    fn new() -> Self {
        Self::with(RegistryServer::start(&Setup::default()).unwrap())
    }

    fn with(server: RegistryServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        fs::create_dir(dir.path().join("base")).unwrap();
        let config = format!(
            "LOCAL_SERVER={}\nONEDOCK_PLATFORMS=\"linux/amd64\"\n",
            server.address()
        );
        fs::write(dir.path().join("onedock.conf"), config).unwrap();
        Self {
            server,
            client: client(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            dir,
        }
    }

    fn command(&self, action: &str, id: u32) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onedock-datastore"));
        command
            .arg(action)
            .arg(id.to_string())
            .env("ONEDOCK_CONF", self.dir.path().join("onedock.conf"))
            .env("HOME", "/nonexistent")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn call(&self, action: &str, id: u32, image: &str) -> Answer {
        let mut child = self.command(action, id).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // An action that it does not serve does not read it.
        let _ = stdin.write_all(self.xml(image).as_bytes());
        drop(stdin);
        child.wait_with_output().unwrap().into()
    }

    fn xml(&self, image: &str) -> String {
        let datastore = format!(
            "<DATASTORE><ID>100</ID><BASE_PATH>{base}</BASE_PATH><TEMPLATE><SAFE_DIRS>{files}</SAFE_DIRS><RESTRICTED_DIRS>/</RESTRICTED_DIRS></TEMPLATE></DATASTORE>",
            base = self.dir.path().join("base").display(),
            files = self.dir.path().join("files").display(),
        );
        STANDARD.encode(format!(
            "<DS_DRIVER_ACTION_DATA><IMAGE>{image}</IMAGE>{datastore}</DS_DRIVER_ACTION_DATA>"
        ))
    }

    /// A recorded IMAGE, with what names a place of the recording put right.
    fn recorded(&self, xml: &str) -> String {
        let begin = xml.find("<IMAGE>").unwrap() + "<IMAGE>".len();
        let end = xml.find("</IMAGE>").unwrap();
        xml[begin..end].replace("localhost:5000", &self.server.address())
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join("files").join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn source(&self, line: &str, word: Option<&str>) -> Source {
        let source = match word {
            None => line,
            Some(word) => line.strip_suffix(&format!(" {word}")).unwrap(),
        };
        source.parse().unwrap()
    }

    fn kind(&self, source: &Source) -> Kind {
        self.runtime.block_on(self.client.kind(source)).unwrap()
    }

    /// The digest of what the tag points at.
    fn at(&self, source: &Source, tag: &str) -> Option<Digest> {
        let reference = source.repository().tagged(&tag.parse().unwrap());
        match self.runtime.block_on(self.client.resolve(&reference)) {
            Err(e) if e.is_not_found() => None,
            found => Some(found.unwrap().digest),
        }
    }

    /// Whether the registry has this very version.
    fn holds(&self, source: &Source) -> bool {
        let found = self
            .runtime
            .block_on(self.client.resolve(&source.reference()));
        match found {
            Err(e) if e.is_not_found() => false,
            found => found.is_ok(),
        }
    }

    fn state(&self, source: &Source) -> Option<Digest> {
        self.at(source, &format!("state-{}", source.digest().hex()))
    }

    fn tags(&self, source: &Source) -> Vec<String> {
        let tags = self.runtime.block_on(self.client.tags(source.repository()));
        tags.unwrap().iter().map(ToString::to_string).collect()
    }

    /// Registers a container image; each `n` is another one.
    fn register(&self, id: u32, n: u8) -> Source {
        let path = self.file(&format!("{id}-{n}.tar"), &archive(n));
        let image = format!("<ID>{id}</ID><TYPE>0</TYPE><PATH>{}</PATH>", path.display());
        let line = self.call("cp", id, &image).line();
        self.source(&line, Some("raw"))
    }
}

fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// A `docker save` archive.
fn archive(n: u8) -> Vec<u8> {
    let layer = tar(&[("file".to_owned(), vec![n; 100_000])]);
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}});
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["l/layer.tar"]}]);
    tar(&[
        ("c.json".to_owned(), config.to_string().into_bytes()),
        ("l/layer.tar".to_owned(), layer),
        (
            "manifest.json".to_owned(),
            manifest.to_string().into_bytes(),
        ),
    ])
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

fn qemu_img(arguments: &[&str]) {
    let output = Command::new("qemu-img").args(arguments).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn mkfs_as_both_releases_ask_for_it() {
    let bed = Bed::new();
    for (id, xml) in [
        (8, include_str!("data/mkfs-7.4.0.xml")),
        (2, include_str!("data/mkfs-6.10.xml")),
    ] {
        let image = bed.recorded(xml);
        let line = bed.call("mkfs", id, &image).line();
        let source = bed.source(&line, None);
        let Kind::Disk(meta) = bed.kind(&source) else {
            panic!("{line}");
        };
        assert_eq!(meta.size, 100 * MIB);
        assert_eq!(
            (meta.format, meta.fs),
            (DiskFormat::Raw, Some(FileSystem::Ext4))
        );
        assert!(meta.blank);
        // Once more, one effect.
        assert_eq!(bed.call("mkfs", id, &image).line(), line);
        assert_eq!(bed.tags(&source).len(), 2);
    }
    for (id, xml) in [
        (10, include_str!("data/mkfs-save_as-7.4.0.xml")),
        (4, include_str!("data/mkfs-save_as-6.10.xml")),
    ] {
        let line = bed.call("mkfs", id, &bed.recorded(xml)).line();
        let source = bed.source(&line, None);
        assert_eq!(bed.kind(&source), Kind::Reserved);
        // Deleted before anything was saved.
        let image = format!("<ID>{id}</ID><SOURCE>{source}</SOURCE>");
        for _ in 0..2 {
            assert!(bed.call("rm", id, &image).success());
        }
        assert!(bed.tags(&source).is_empty());
    }
    let line = bed
        .call(
            "mkfs",
            5,
            "<ID>5</ID><TYPE>2</TYPE><FORMAT>raw</FORMAT><FS>ntfs</FS><SIZE>9</SIZE>",
        )
        .refused();
    assert!(line.contains("IMAGE/FS") && line.contains("ntfs"), "{line}");
}

#[test]
fn clone_as_both_releases_ask_for_it_takes_the_present_state_and_stands_alone() {
    let bed = Bed::new();
    for (id, original, xml) in [
        (11, 6, include_str!("data/clone-7.4.0.xml")),
        (5, 0, include_str!("data/clone-6.10.xml")),
    ] {
        let first = bed.register(original, 1);
        let changed = bed.register(90, 2);
        // A VM has changed the image meanwhile, and there is a snapshot of it.
        let tag: Tag = format!("state-{}", first.digest().hex()).parse().unwrap();
        let snapshot: Tag = "snap-0".parse().unwrap();
        bed.runtime.block_on(async {
            bed.client
                .tag(first.repository(), first.digest(), &snapshot)
                .await
                .unwrap();
            bed.client
                .duplicate(&changed, first.repository(), &tag)
                .await
                .unwrap();
        });
        let recorded = format!("docker://{}/onedock/img-{original}", bed.server.address());
        let image = bed.recorded(xml).replace(&recorded, &first.to_string());
        let line = bed.call("clone", id, &image).line();
        let clone = bed.source(&line, Some("raw"));
        assert_eq!(clone.digest(), changed.digest());
        assert!(
            clone
                .repository()
                .path()
                .as_str()
                .ends_with(&format!("img-{id}"))
        );
        assert_eq!(bed.state(&clone).as_ref(), Some(changed.digest()));
        assert_eq!(bed.at(&clone, "snap-0"), None);
        assert!(bed.at(&clone, "attributes").is_some());
        assert_eq!(bed.call("clone", id, &image).line(), line);
        // The original goes, the copy stays.
        let gone = format!("<ID>{original}</ID><SOURCE>{first}</SOURCE>");
        assert!(bed.call("rm", original, &gone).success());
        assert_eq!(bed.kind(&clone), Kind::Image);
        let line = bed
            .call("clone", 7, &image.replace(&format!("<ID>{id}<"), "<ID>7<"))
            .refused();
        assert!(line.contains("is not in registry"), "{line}");
    }
    let digest = "ab".repeat(32);
    for bad in [
        format!("docker://{}/team/web@sha256:{digest}", bed.server.address()),
        "/var/lib/one/datastores/1/x".to_owned(),
    ] {
        let image =
            format!("<ID>12</ID><TYPE>0</TYPE><PATH>{bad}</PATH><CLONING_ID>6</CLONING_ID>");
        assert!(
            bed.call("clone", 12, &image)
                .refused()
                .contains("IMAGE/PATH")
        );
    }
}

#[test]
fn snapshots_are_deleted_reverted_to_and_flattened_and_nothing_else_is_touched() {
    let bed = Bed::new();
    let image = bed.register(6, 1);
    let others: Vec<Source> = (2..5).map(|n| bed.register(90, n)).collect();
    bed.runtime.block_on(async {
        for (n, other) in others.iter().enumerate() {
            let tag: Tag = format!("snap-{n}").parse().unwrap();
            bed.client
                .duplicate(other, image.repository(), &tag)
                .await
                .unwrap();
        }
        let tag: Tag = "vm-5-disk-0-snap-1".parse().unwrap();
        bed.client
            .tag(image.repository(), image.digest(), &tag)
            .await
            .unwrap();
    });
    let xml = |snapshot: &str| {
        format!(
            "<ID>6</ID><TYPE>0</TYPE><SOURCE>{image}</SOURCE><TARGET_SNAPSHOT>{snapshot}</TARGET_SNAPSHOT>"
        )
    };
    for _ in 0..2 {
        assert!(bed.call("snap_revert", 6, &xml("1")).success());
        assert_eq!(bed.state(&image).as_ref(), Some(others[1].digest()));
    }
    for _ in 0..2 {
        assert!(bed.call("snap_delete", 6, &xml("1")).success());
        assert_eq!(bed.at(&image, "snap-1"), None);
        assert_eq!(bed.state(&image).as_ref(), Some(others[1].digest()));
    }
    let before = bed.tags(&image);
    for action in ["snap_revert", "snap_flatten"] {
        let line = bed.call(action, 6, &xml("1")).refused();
        assert!(line.contains("snapshot 1"), "{line}");
        let line = bed.call(action, 6, &xml("-1")).refused();
        assert!(line.contains("TARGET_SNAPSHOT"), "{line}");
    }
    assert_eq!(bed.tags(&image), before);
    for _ in 0..2 {
        assert!(bed.call("snap_flatten", 6, &xml("2")).success());
        assert_eq!(bed.state(&image).as_ref(), Some(others[2].digest()));
        let left = bed.tags(&image);
        assert!(!left.iter().any(|tag| tag.starts_with("snap-")), "{left:?}");
        assert!(left.contains(&"vm-5-disk-0-snap-1".to_owned()));
    }
    let foreign = format!(
        "<ID>6</ID><SOURCE>docker://other:5000/onedock/img-6@sha256:{}</SOURCE><TARGET_SNAPSHOT>0</TARGET_SNAPSHOT>",
        "ab".repeat(32)
    );
    let line = bed.call("snap_delete", 6, &foreign).refused();
    assert!(line.contains("nothing was changed"), "{line}");
}

#[test]
fn files_of_disks_are_kept_as_what_they_are() {
    let bed = Bed::new();
    let content = noise(3_000_000);
    let raw = bed.file("raw", &content);
    let mut cd = vec![0; 64 * 1024];
    cd[32769..32774].copy_from_slice(b"CD001");
    let cd = bed.file("cd.iso", &cd);
    let qcow2 = bed.dir.path().join("files/disk.qcow2");
    qemu_img(&[
        "convert",
        "-O",
        "qcow2",
        raw.to_str().unwrap(),
        qcow2.to_str().unwrap(),
    ]);
    let tiny = bed.file("tiny", b"{\"version\": 2}");
    let sectors = 3_000_000_u64.next_multiple_of(512);
    for (path, kind, word, format, size) in [
        (&raw, 2, "raw", DiskFormat::Raw, sectors),
        (&cd, 1, "raw", DiskFormat::Iso, MIB),
        (&cd, 2, "raw", DiskFormat::Raw, MIB),
        (&qcow2, 2, "qcow2", DiskFormat::Qcow2, sectors),
        (&tiny, 2, "raw", DiskFormat::Raw, MIB),
    ] {
        let path = path.display();
        let megabytes = bed.call("stat", 0, &format!("<PATH>{path}</PATH>")).line();
        assert_eq!(megabytes, size.div_ceil(MIB).to_string());
        let image = format!("<ID>9</ID><TYPE>{kind}</TYPE><PATH>{path}</PATH>");
        let line = bed.call("cp", 9, &image).line();
        let source = bed.source(&line, Some(word));
        let Kind::Disk(meta) = bed.kind(&source) else {
            panic!("{line}");
        };
        assert_eq!((meta.format, meta.size, meta.blank), (format, size, false));
        assert_eq!(bed.state(&source).as_ref(), Some(source.digest()));
        let back = bed.dir.path().join("back");
        bed.runtime
            .block_on(bed.client.get_disk(&source, &back))
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
        let line = bed.call("cp", 8, &image).refused();
        assert!(line.contains("TYPE=DATABLOCK"), "{line}");
    }
    // A container image stays one, whatever it is used for.
    let path = bed.file("a.tar", &archive(1));
    let image = format!("<ID>7</ID><TYPE>1</TYPE><PATH>{}</PATH>", path.display());
    let line = bed.call("cp", 7, &image).line();
    assert_eq!(bed.kind(&bed.source(&line, Some("raw"))), Kind::Image);
}

#[test]
fn attack_6_disks_that_lead_elsewhere_or_lie_where_they_must_not_are_refused() {
    let bed = Bed::new();
    let files = bed.dir.path().join("files");
    let at = |name: &str| files.join(name).to_str().unwrap().to_owned();
    let outside = bed.dir.path().join("secret");
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
    bed.file("vm.vmdk", b"KDMV....");
    bed.file("broken.gz", &{
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
            let line = bed.call(action, 9, &image).refused();
            assert!(line.contains(word), "{name}: {line}");
        }
    }
    let repository = bed.server.repository("onedock/img-9").unwrap();
    assert!(
        bed.runtime
            .block_on(bed.client.tags(&repository))
            .unwrap()
            .is_empty()
    );
}

/// The value of an element of IMPORT_INFO.
fn value<'a>(xml: &'a str, name: &str) -> &'a str {
    let (_, rest) = xml.split_once(&format!("<{name}>")).unwrap();
    let (value, _) = rest.split_once(&format!("</{name}>")).unwrap();
    value
        .strip_prefix("<![CDATA[")
        .and_then(|v| v.strip_suffix("]]>"))
        .unwrap_or(value)
}

fn md5(path: &str) -> String {
    let output = Command::new("md5sum").arg("--").arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_whitespace().next().unwrap().to_owned()
}

#[test]
fn an_exported_image_is_a_file_that_can_be_registered_again_and_disposed_of() {
    let bed = Bed::new();
    let image = bed.register(6, 1);
    let raw = bed.file("raw", &noise(2_000_000));
    let xml = format!("<ID>7</ID><TYPE>2</TYPE><PATH>{}</PATH>", raw.display());
    let disk = bed.source(&bed.call("cp", 7, &xml).line(), Some("raw"));
    let xml = "<ID>8</ID><TYPE>2</TYPE><FORMAT>qcow2</FORMAT><FS>ext4</FS><SIZE>20</SIZE>";
    let blank = bed.source(&bed.call("mkfs", 8, xml).line(), None);
    for (source, kind, format) in [(&image, 0, "raw"), (&disk, 2, "raw"), (&blank, 2, "qcow2")] {
        let xml = format!("<ID>6</ID><TYPE>{kind}</TYPE><SOURCE>{source}</SOURCE><SIZE>20</SIZE>");
        let info = bed.call("export", 6, &xml).line();
        assert!(info.starts_with("<IMPORT_INFO>") && info.ends_with("</IMPORT_INFO>"));
        let path = value(&info, "IMPORT_SOURCE");
        assert!(path.starts_with(bed.dir.path().join("base").to_str().unwrap()));
        assert_eq!(value(&info, "MD5"), md5(path));
        assert_eq!(
            (value(&info, "SIZE"), value(&info, "FORMAT")),
            ("20", format)
        );
        assert_eq!(value(&info, "DISPOSE"), "YES");
        // Registered again it is the same.
        let again = bed.dir.path().join("files/again");
        fs::copy(path, &again).unwrap();
        let xml = format!(
            "<ID>20</ID><TYPE>{kind}</TYPE><PATH>{}</PATH>",
            again.display()
        );
        let line = bed.call("cp", 20, &xml).line();
        let copy = bed.source(&line, Some(format));
        match source {
            s if *s == image => assert_eq!(bed.kind(&copy), Kind::Image),
            s if *s == disk => assert_eq!(copy.digest(), disk.digest()),
            _ => assert!(matches!(bed.kind(&copy), Kind::Disk(meta) if meta.size == 20 * MIB)),
        }
        if *source == image {
            assert_eq!(copy.digest(), image.digest());
        }
        // As the marketplace's driver does it.
        let words: Vec<&str> = value(&info, "DISPOSE_CMD").split_whitespace().collect();
        assert!(
            Command::new(words[0])
                .args(&words[1..])
                .status()
                .unwrap()
                .success()
        );
        assert!(!Path::new(path).exists());
    }
    let folder = bed.dir.path().join("base/.onedock-export");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    // Images of all users pass through it.
    assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
    let reserved = bed.call(
        "mkfs",
        9,
        "<ID>9</ID><TYPE>0</TYPE><FORMAT>save_as</FORMAT><SIZE>1</SIZE>",
    );
    let reserved = bed.source(&reserved.line(), None);
    for action in ["export", "clone"] {
        let xml = format!("<ID>12</ID><SOURCE>{reserved}</SOURCE><PATH>{reserved}</PATH>");
        assert!(
            bed.call(action, 12, &xml)
                .refused()
                .contains("no content yet")
        );
    }
}

#[test]
fn what_only_backup_datastores_are_asked_is_refused_in_one_line() {
    let bed = Bed::new();
    for action in [
        "backup",
        "backup_cancel",
        "restore",
        "ls",
        "increment_flatten",
    ] {
        let line = bed.call(action, 0, "").refused();
        assert!(line.contains("BACKUP_DS"), "{line}");
    }
}

#[test]
fn fault_37_a_cp_that_is_killed_leaves_no_tag_and_the_next_one_works() {
    let bed = Bed::new();
    let disk = bed.file("disk", &noise(24 << 20));
    let image = format!("<ID>9</ID><TYPE>2</TYPE><PATH>{}</PATH>", disk.display());
    let repository = bed.server.repository("onedock/img-9").unwrap();
    for pause in [30, 120, 300] {
        let mut child = bed.command("cp", 9).spawn().unwrap();
        child
            .stdin
            .take()
            .unwrap()
            .write_all(bed.xml(&image).as_bytes())
            .unwrap();
        onedock_common::wait::pause(std::time::Duration::from_millis(pause));
        let _ = child.kill();
        let _ = child.wait();
    }
    // Two at once.
    let both: Vec<_> = (0..2)
        .map(|_| {
            let mut child = bed.command("cp", 9).spawn().unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(bed.xml(&image).as_bytes())
                .unwrap();
            child
        })
        .collect();
    let lines: Vec<String> = both
        .into_iter()
        .map(|child| Answer::from(child.wait_with_output().unwrap()).line())
        .collect();
    assert_eq!(lines[0], lines[1]);
    let source = bed.source(&lines[0], Some("raw"));
    assert_eq!(source.repository(), &repository);
    assert_eq!(bed.tags(&source).len(), 2);
    let back = bed.dir.path().join("back");
    bed.runtime
        .block_on(bed.client.get_disk(&source, &back))
        .unwrap();
    assert!(fs::read(back).unwrap() == fs::read(disk).unwrap());
}

/// Needs root, for a file system of 64 MiB.
#[test]
fn the_room_of_the_registry_is_told_in_mib() {
    let bed = Bed::new();
    let storage = bed.dir.path().join("storage");
    fs::create_dir(&storage).unwrap();
    let config = format!("DATASTORE_DATA_PATH={}\n", storage.display());
    fs::write(bed.dir.path().join("onedock.conf"), config).unwrap();
    let call = bed.command("monitor", 0);
    let mount = "mount -t tmpfs -o size=64m tmpfs \"$1\" && head -c 16M /dev/zero > \"$1/x\" && shift && exec \"$@\"";
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--", "sh", "-c", mount, "sh"])
        .arg(&storage)
        .arg(call.get_program())
        .args(call.get_args())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    for (name, value) in call.get_envs() {
        command.env(name, value.unwrap());
    }
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(bed.xml("").as_bytes()).unwrap();
    drop(stdin);
    let answer = Answer::from(child.wait_with_output().unwrap());
    assert_eq!(
        answer.stdout, "USED_MB=16\nTOTAL_MB=64\nFREE_MB=48\n",
        "{answer:?}"
    );
}

#[test]
fn a_cp_that_fails_behind_its_push_leaves_nothing_of_the_image() {
    let bed = Bed::new();
    // The same content has the same digest everywhere.
    let good = bed.register(5, 1);
    let repository = bed.server.repository("onedock/img-6").unwrap();
    // The registry cannot make the folder of the attributes' content.
    let attributes = Digest::of(br#"{"dockerrun":"serve"}"#);
    let (two, all) = (&attributes.hex()[..2], attributes.hex());
    let folder = bed.server.storage().join("blobs/sha256").join(two);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(all), "").unwrap();
    let path = bed.file("again.tar", &archive(1));
    let image = format!(
        "<ID>6</ID><TYPE>0</TYPE><PATH>{}</PATH><TEMPLATE><DOCKERRUN>serve</DOCKERRUN></TEMPLATE>",
        path.display()
    );
    let line = bed.call("cp", 6, &image).refused();
    assert!(line.contains("attributes (DOCKERRUN)"), "{line}");
    let pushed = Source::new(repository, good.digest().clone());
    assert_eq!(bed.at(&pushed, "latest"), None);
    assert!(!bed.holds(&pushed) && bed.holds(&good));
}

#[test]
fn a_removed_image_leaves_no_version_of_itself_with_or_without_a_tag() {
    let bed = Bed::new();
    let first = bed.register(6, 1);
    // As a persistent image that a VM was saved to: its first version has no tag any more.
    let other = bed.register(7, 2);
    let images = ImageStore::new(client());
    let moved = bed.runtime.block_on(async {
        let repository = first.repository();
        let tag = "saved".parse().unwrap();
        let digest = bed
            .client
            .duplicate(&other, repository, &tag)
            .await
            .unwrap();
        images.set_current(&first, &digest).await.unwrap();
        bed.client.untag(repository, &tag).await.unwrap();
        Source::new(repository.clone(), digest)
    });
    assert_eq!(bed.state(&first).as_ref(), Some(moved.digest()));
    let xml = format!("<ID>6</ID><TYPE>0</TYPE><SOURCE>{first}</SOURCE>");
    for _ in 0..2 {
        assert!(bed.call("rm", 6, &xml).success());
        for version in [&first, &moved] {
            assert!(!bed.holds(version), "{version}");
        }
    }
    assert!(bed.holds(&other));
}
