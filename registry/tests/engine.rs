//! What the client makes of layers, in the hands of a real engine: pulled by digest and run.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

#[path = "it/images.rs"]
#[allow(dead_code, reason = "the other tests use the rest of it")]
mod images;

use std::path::Path;

use onedock_common::Digest;
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_registry::{Client, Options};
use onedock_tests::engine_server::{self, PrivateEngine, uses_containerd};
use onedock_tests::registry_server::{RegistryServer, Setup};

use images::{TestImage, noise, oci_layout, write};

/// What a VM did: a file that is new, one that is gone, a folder that is another now, a device.
fn changes() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut add = |name: &str, kind: tar::EntryType, content: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(if kind.is_dir() { 0o755 } else { 0o640 });
        header.set_uid(1234);
        if kind == tar::EntryType::Char {
            header.set_device_major(1).unwrap();
            header.set_device_minor(3).unwrap();
        }
        header.set_cksum();
        builder.append_data(&mut header, name, content).unwrap();
    };
    add("home/", tar::EntryType::Directory, b"");
    add("home/changed", tar::EntryType::Regular, b"changed\n");
    add("home/null", tar::EntryType::Char, b"");
    add(".wh.noise", tar::EntryType::Regular, b"");
    add("big", tar::EntryType::Regular, &noise(3, 2_000_000));
    builder.into_inner().unwrap()
}

/// Images, each with the layers that it must have.
async fn made(registry: &RegistryServer, dir: &Path) -> Vec<(Source, usize)> {
    let client = Client::new(Options {
        certs_dir: "/nonexistent".into(),
        ..Options::default()
    })
    .unwrap();
    let image = TestImage::new(1).unwrap();
    let forms = [image.saved(), oci_layout(&[&image])];
    let mut made = Vec::new();
    for (n, form) in forms.into_iter().enumerate() {
        let path = write(dir, &format!("{n}.tar"), &form);
        let repository: Repository = registry.repository(&format!("onedock/img-{n}")).unwrap();
        let digest = client
            .push_archive(&path, &repository, &Tag::latest(), &[])
            .await
            .unwrap();
        let mut base = Source::new(repository.clone(), digest);
        // One layer upon another, in this repository and the next; then all in one.
        for other in [false, true] {
            let path = format!("onedock/img-{n}{}", if other { "-copy" } else { "" });
            let target = registry.repository(&path).unwrap();
            let layer = changes();
            let tag: Tag = "vm-5-disk-0".parse().unwrap();
            let new = client
                .append_layer(&base, &target, &tag, &layer[..], false, "VM 5")
                .await
                .unwrap()
                .unwrap();
            assert_eq!(new.diff_id, Digest::of(&layer));
            base = Source::new(target, new.digest);
            made.push((base.clone(), if other { 4 } else { 3 }));
        }
        let mut whole = image.layers[0].clone();
        whole.truncate(whole.len() - 1024);
        whole.extend(changes());
        let tag: Tag = "whole".parse().unwrap();
        let new = client
            .append_layer(&base, &repository, &tag, &whole[..], true, "all")
            .await
            .unwrap()
            .unwrap();
        made.push((Source::new(repository, new.digest), 1));
    }
    for (image, layers) in &made {
        assert_eq!(client.depth(image).await.unwrap(), *layers, "{image}");
    }
    made
}

#[test]
fn the_engine_pulls_what_was_made_and_runs_it() {
    let engine = PrivateEngine::start(engine_server::Options::default()).unwrap();
    let (registry, made) = engine
        .inside(|| {
            let registry = RegistryServer::start(&Setup::default())?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            let dir = tempfile::tempdir()?;
            let made = runtime.block_on(made(&registry, dir.path()));
            Ok((registry, made))
        })
        .unwrap();
    for (source, layers) in made {
        let name = source.reference().to_string();
        engine.docker(&["pull", "-q", &name]).unwrap();
        let busybox = |arguments: &[&str]| {
            let mut all = vec!["run", "--rm", "--network", "none", "--user", "0"];
            all.extend([name.as_str(), "/bin/busybox"]);
            all.extend(arguments);
            engine.docker(&all)
        };
        assert_eq!(busybox(&["cat", "/home/changed"]).unwrap(), "changed");
        let facts = busybox(&["stat", "-c", "%a %u %t %T", "/home/changed", "/home/null"]);
        assert_eq!(facts.unwrap(), "640 1234 0 0\n640 1234 1 3");
        assert!(busybox(&["ls", "/noise"]).is_err());
        assert_eq!(busybox(&["stat", "-c", "%s", "/big"]).unwrap(), "2000000");
        let count = ["image", "inspect", "-f", "{{len .RootFS.Layers}}", &name];
        match engine.docker(&count).unwrap().as_str() {
            // Of layers that it has in another form containerd's image store says nothing.
            "0" if uses_containerd() => {}
            counted => assert_eq!(counted, layers.to_string()),
        }
    }
    drop(registry);
}
