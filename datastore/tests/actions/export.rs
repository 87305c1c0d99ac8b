//! Exports, the room of the registry, and what is asked of other datastores.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use onedock_common::process::Command;
use onedock_registry::Kind;

use crate::test_datastore::{MIB, PROGRAM, TestDatastore, noise};

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
    let output = Command::new("md5sum").args([path]).checked().unwrap();
    output.stdout.split(' ').next().unwrap().to_owned()
}

#[test]
fn an_exported_image_is_a_file_that_can_be_registered_again_and_disposed_of() {
    let store = TestDatastore::new();
    let image = store.register(6, 1);
    let raw = store.file("raw", &noise(2_000_000));
    let xml = format!("<ID>7</ID><TYPE>2</TYPE><PATH>{}</PATH>", raw.display());
    let disk = store.source(&store.call("cp", 7, &xml).line(), Some("raw"));
    let xml = "<ID>8</ID><TYPE>2</TYPE><FORMAT>qcow2</FORMAT><FS>ext4</FS><SIZE>20</SIZE>";
    let blank = store.source(&store.call("mkfs", 8, xml).line(), None);
    for (source, kind, format) in [(&image, 0, "raw"), (&disk, 2, "raw"), (&blank, 2, "qcow2")] {
        let xml = format!("<ID>6</ID><TYPE>{kind}</TYPE><SOURCE>{source}</SOURCE><SIZE>20</SIZE>");
        let info = store.call("export", 6, &xml).line();
        assert!(info.starts_with("<IMPORT_INFO>") && info.ends_with("</IMPORT_INFO>"));
        let path = value(&info, "IMPORT_SOURCE");
        assert!(path.starts_with(store.dir.path().join("base").to_str().unwrap()));
        assert_eq!(value(&info, "MD5"), md5(path));
        assert_eq!(
            (value(&info, "SIZE"), value(&info, "FORMAT")),
            ("20", format)
        );
        assert_eq!(value(&info, "DISPOSE"), "YES");
        // Registered again it is the same.
        let again = store.dir.path().join("files/again");
        fs::copy(path, &again).unwrap();
        let xml = format!(
            "<ID>20</ID><TYPE>{kind}</TYPE><PATH>{}</PATH>",
            again.display()
        );
        let line = store.call("cp", 20, &xml).line();
        let copy = store.source(&line, Some(format));
        match source {
            s if *s == image => assert_eq!(store.kind(&copy), Kind::Image),
            s if *s == disk => assert_eq!(copy.digest(), disk.digest()),
            _ => assert!(matches!(store.kind(&copy), Kind::Disk(meta) if meta.size == 20 * MIB)),
        }
        if *source == image {
            assert_eq!(copy.digest(), image.digest());
        }
        // As the marketplace's driver does it.
        let words: Vec<&str> = value(&info, "DISPOSE_CMD").split_whitespace().collect();
        assert!(
            Command::new(words[0])
                .args(&words[1..])
                .run()
                .unwrap()
                .succeeded()
        );
        assert!(!Path::new(path).exists());
    }
    let folder = store.dir.path().join("base/.onedock-export");
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
    // Images of all users pass through it.
    assert_eq!(fs::metadata(folder).unwrap().mode() & 0o777, 0o700);
    let reserved = store.call(
        "mkfs",
        9,
        "<ID>9</ID><TYPE>0</TYPE><FORMAT>save_as</FORMAT><SIZE>1</SIZE>",
    );
    let reserved = store.source(&reserved.line(), None);
    for action in ["export", "clone"] {
        let xml = format!("<ID>12</ID><SOURCE>{reserved}</SOURCE><PATH>{reserved}</PATH>");
        assert!(
            store
                .call(action, 12, &xml)
                .refused()
                .contains("no content yet")
        );
    }
}

#[test]
fn what_only_backup_datastores_are_asked_is_refused_in_one_line() {
    let store = TestDatastore::new();
    for action in [
        "backup",
        "backup_cancel",
        "restore",
        "ls",
        "increment_flatten",
    ] {
        let line = store.call(action, 0, "").refused();
        assert!(line.contains("BACKUP_DS"), "{line}");
    }
}

/// Needs root, for a file system of 64 MiB.
#[test]
fn the_room_of_the_registry_is_answered_in_mib() {
    let store = TestDatastore::new();
    let storage = store.dir.path().join("storage");
    fs::create_dir(&storage).unwrap();
    let config = format!("DATASTORE_DATA_PATH={}\n", storage.display());
    fs::write(store.config(), config).unwrap();
    let mount = "mount -t tmpfs -o size=64m tmpfs \"$1\" && head -c 16M /dev/zero > \"$1/x\" && shift && exec \"$@\"";
    let call = Command::local("unshare")
        .args(["--mount", "--", "sh", "-c", mount, "sh"])
        .args([storage.to_str().unwrap(), PROGRAM, "monitor", "0"])
        .env("ONEDOCK_CONF", store.config())
        .input(store.request(""));
    let answer = call.run().unwrap();
    assert_eq!(
        answer.stdout, "USED_MB=16\nTOTAL_MB=64\nFREE_MB=48\n",
        "{answer:?}"
    );
}
