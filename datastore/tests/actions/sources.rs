//! Registries that users name as the source of an image.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::net::TcpListener;

use onedock_common::types::reference::Tag;
use onedock_registry::Kind;
use onedock_tests::registry_server::{RegistryServer, Setup};

use crate::test_datastore::{TestDatastore, archive};

fn image(path: &str) -> String {
    format!("<ID>8</ID><TYPE>0</TYPE><SIZE>1</SIZE><PATH>{path}</PATH>")
}

#[test]
fn attack_20_and_22_a_path_leads_neither_to_the_front_end_nor_to_images_of_others() {
    let store = TestDatastore::new();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    listener.set_nonblocking(true).unwrap();
    let service = listener.local_addr().unwrap();
    let victim = store.register(6, 1);
    let port = store.server.address().split_once(':').unwrap().1.to_owned();
    for (path, reason) in [
        (format!("docker://{service}/x"), "is not allowed"),
        (
            format!("docker://localhost:{}/x", service.port()),
            "is not allowed",
        ),
        (
            format!("docker://2130706433:{port}/onedock/img-6"),
            "usual form",
        ),
        (format!("docker://127.1:{port}/onedock/img-6"), "usual form"),
        (
            format!("docker://localhost:{port}/onedock/img-6"),
            "images of all users",
        ),
        (
            format!("docker://127.0.0.2:{port}/onedock/img-6"),
            "images of all users",
        ),
        (victim.reference().to_url(), "images of all users"),
    ] {
        for action in ["stat", "cp"] {
            let line = store.call(action, 8, &image(&path)).refused();
            assert!(line.contains(reason), "{action} {path}: {line}");
        }
    }
    let connected = listener.accept().map_err(|e| e.kind());
    assert_eq!(connected.unwrap_err(), io::ErrorKind::WouldBlock);
}

#[test]
fn a_registry_on_the_front_end_is_a_source_where_the_administrator_names_it() {
    let store = TestDatastore::new();
    let other = RegistryServer::start(&Setup::default()).unwrap();
    let repository = other.repository("team/web").unwrap();
    let file = store.file("web.tar", &archive(3));
    store.runtime.block_on(async {
        let latest = Tag::latest();
        let pushed = store.client.push_archive(&file, &repository, &latest, &[]);
        pushed.await.unwrap()
    });
    let path = format!("docker://{}/team/web", other.address());
    let line = store.call("cp", 8, &image(&path)).refused();
    assert!(line.contains("ONEDOCK_USER_REGISTRIES"), "{line}");
    let mut config = OpenOptions::new()
        .append(true)
        .open(store.config())
        .unwrap();
    writeln!(
        config,
        "ONEDOCK_USER_REGISTRIES=\"docker.io {}\"",
        other.address()
    )
    .unwrap();
    let line = store.call("cp", 8, &image(&path)).line();
    let source = store.source(&line, Some("raw"));
    assert_eq!(store.kind(&source), Kind::Image);
    let line = store
        .call("cp", 8, &image("docker://quay.io/team/web"))
        .refused();
    assert!(
        line.contains("not among those that users may name"),
        "{line}"
    );
}

#[test]
fn an_import_waits_for_others_of_its_datastore_and_is_refused() {
    let store = TestDatastore::new();
    let mut config = OpenOptions::new()
        .append(true)
        .open(store.config())
        .unwrap();
    writeln!(config, "ONEDOCK_IMPORTS=1").unwrap();
    let slot = store.dir.path().join(".base-import-0");
    let held = std::fs::File::create(slot).unwrap();
    held.lock().unwrap();
    let line = store
        .call("cp", 8, &image("docker://quay.invalid/team/web"))
        .refused();
    assert!(line.contains("imports 1 at a time"), "{line}");
}
