//! Layers that are added to images.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use flate2::read::GzDecoder;
use onedock_common::Digest;
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_registry::{Client, Resolved};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::Value;
use tokio::io::{AsyncRead, ReadBuf};

use crate::images::{TestImage, noise, oci_layout, tar_of, write};
use crate::{at, blob, client, config_of, image_config, options};

mod broken;
mod tags;

fn tag(name: &str) -> Tag {
    name.parse().unwrap()
}

/// An image in a repository, in the engine's own form or in OCI's.
async fn base(client: &Client, target: &Repository, oci: bool) -> Source {
    let image = TestImage::new(1).unwrap();
    let members = if oci {
        oci_layout(&[&image])
    } else {
        image.saved()
    };
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.tar", &members);
    let digest = client
        .push_archive(&path, target, &Tag::latest(), &[])
        .await
        .unwrap();
    Source::new(target.clone(), digest)
}

/// A manifest and its configuration.
async fn read(
    server: &RegistryServer,
    client: &Client,
    source: &Source,
) -> (Resolved, Value, Value) {
    let resolved = client.resolve(&source.reference()).await.unwrap();
    let manifest: Value = serde_json::from_slice(&resolved.bytes).unwrap();
    let config = config_of(server, &manifest);
    (resolved, manifest, config)
}

/// Open uploads with bytes in them, which nobody would ever remove.
fn open_uploads(server: &RegistryServer, path: &str) -> usize {
    let uploads = server
        .storage()
        .join(format!("repositories/{path}/_uploads"));
    let sessions = std::fs::read_dir(uploads).into_iter().flatten().flatten();
    sessions.filter(|s| s.path().join("data").exists()).count()
}

#[tokio::test]
async fn a_layer_goes_upon_an_image_of_either_family_and_the_rest_stays_as_it_was() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    for (oci, family) in [(true, "vnd.oci.image"), (false, "vnd.docker.")] {
        let repository = at(
            &server,
            if oci {
                "onedock/img-1"
            } else {
                "onedock/img-2"
            },
        );
        let base = base(&client, &repository, oci).await;
        assert_eq!(client.depth(&base).await.unwrap(), 2);
        let layer = tar_of("home/changed", &noise(7, 700_000), 0o600);
        let made = client
            .append_layer(
                &base,
                &repository,
                &tag("vm-5-disk-0"),
                &layer[..],
                false,
                "VM 5",
            )
            .await
            .unwrap()
            .unwrap();
        assert_eq!(made.diff_id, Digest::of(&layer));
        let packed = blob(&server, &made.layer);
        assert_eq!(packed.len() as u64, made.bytes);
        let mut plain = Vec::new();
        io::Read::read_to_end(&mut GzDecoder::new(&packed[..]), &mut plain).unwrap();
        assert!(plain == layer);

        let (old, old_manifest, old_config) = read(&server, &client, &base).await;
        let new = Source::new(repository.clone(), made.digest.clone());
        let (resolved, manifest, config) = read(&server, &client, &new).await;
        assert_eq!(resolved.media_type, old.media_type);
        let layers = manifest["layers"].as_array().unwrap();
        assert_eq!(layers[..2], old_manifest["layers"].as_array().unwrap()[..]);
        assert_eq!(layers[2]["mediaType"], layers[1]["mediaType"]);
        assert!(layers[2]["mediaType"].as_str().unwrap().contains(family));
        assert_eq!(config["config"], old_config["config"]);
        assert_eq!(config["rootfs"]["diff_ids"][2], made.diff_id.as_str());
        assert_eq!(config["history"][0]["comment"], "VM 5");
        let tagged = repository.tagged(&tag("vm-5-disk-0"));
        assert_eq!(client.resolve(&tagged).await.unwrap().digest, made.digest);
        assert_eq!(client.depth(&new).await.unwrap(), 3);
        assert_eq!(
            image_config(&server, &client, &tagged, "linux/amd64").await,
            Some(config)
        );

        // The same once more is another image: two states are never taken for one.
        let again = client
            .append_layer(&base, &repository, &tag("other"), &layer[..], false, "VM 5")
            .await
            .unwrap()
            .unwrap();
        assert_eq!(again.layer, made.layer);
        assert_ne!(again.digest, made.digest);
        assert_eq!(open_uploads(&server, repository.path().as_str()), 0);
    }
}

#[tokio::test]
async fn a_whole_tree_is_the_only_layer_of_its_image() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let base = base(&client, &repository, true).await;
    let layer = tar_of("everything", b"x", 0o600);
    let made = client
        .append_layer(
            &base,
            &repository,
            &tag("flat"),
            &layer[..],
            true,
            "flattened",
        )
        .await
        .unwrap()
        .unwrap();
    let source = Source::new(repository, made.digest);
    assert_eq!(client.depth(&source).await.unwrap(), 1);
    let (_, _, config) = read(&server, &client, &source).await;
    assert_eq!(config["history"].as_array().unwrap().len(), 1);
    assert_eq!(config["config"]["StopSignal"], "SIGINT");
}

#[tokio::test]
async fn into_another_repository_the_base_is_mounted_and_into_another_registry_copied() {
    let (server, other) = (
        RegistryServer::start(&Setup::closed()).unwrap(),
        RegistryServer::start(&Setup::default()).unwrap(),
    );
    let client = client(onedock_registry::Options {
        certs_dir: server.certs_dir(),
        auth_file: Some(server.auth_file().unwrap()),
        ..options()
    });
    let base = base(&client, &at(&server, "onedock/img-1"), false).await;
    let before = server.blob_bytes();
    let layer = tar_of("a", &noise(3, 10_000), 0o600);
    let target = at(&server, "onedock/img-2");
    client
        .append_layer(&base, &target, &tag("t"), &layer[..], false, "")
        .await
        .unwrap()
        .unwrap();
    assert!(server.blob_bytes() - before < 20_000);
    let target = at(&other, "onedock/img-3");
    let made = client
        .append_layer(&base, &target, &tag("t"), &layer[..], false, "")
        .await
        .unwrap()
        .unwrap();
    let copied = Source::new(target, made.digest);
    let (_, manifest, _) = read(&other, &client, &copied).await;
    for layer in manifest["layers"].as_array().unwrap() {
        let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
        assert_eq!(Digest::of(&blob(&other, &digest)), digest);
    }
}

#[tokio::test]
async fn upon_an_image_for_several_platforms_this_machines_is_the_base() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let (a, b) = (
        TestImage::new(1).unwrap().on("s390x"),
        TestImage::new(2).unwrap(),
    );
    let dir = tempfile::tempdir().unwrap();
    let path = write(dir.path(), "a.tar", &oci_layout(&[&a, &b]));
    let digest = client
        .push_archive(&path, &repository, &Tag::latest(), &[])
        .await
        .unwrap();
    let base = Source::new(repository.clone(), digest);
    let layer = tar_of("a", b"x", 0o600);
    let made = client
        .append_layer(&base, &repository, &tag("t"), &layer[..], false, "")
        .await
        .unwrap()
        .unwrap();
    let (_, _, config) = read(&server, &client, &Source::new(repository, made.digest)).await;
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(
        config["rootfs"]["diff_ids"][1],
        Digest::of(&b.layers[1]).as_str()
    );
}

#[tokio::test]
async fn where_nothing_changed_nothing_is_pushed_and_no_tag_moves() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let base = base(&client, &repository, true).await;
    let before = server.blob_bytes();
    for empty in [&[][..], &[0; 1024], &[0; 1 << 20]] {
        let made = client
            .append_layer(&base, &repository, &tag("t"), empty, false, "")
            .await
            .unwrap();
        assert_eq!(made, None);
    }
    assert_eq!(server.blob_bytes(), before);
    assert_eq!(client.tags(&repository).await.unwrap(), [Tag::latest()]);
}

/// Gives its bytes and then an error, as a pipe whose other end has failed.
struct Failing(io::Cursor<Vec<u8>>);

impl AsyncRead for Failing {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        std::task::ready!(Pin::new(&mut self.0).poll_read(context, buffer))?;
        if buffer.filled().len() == before {
            return Poll::Ready(Err(io::Error::other("onedock-node was killed")));
        }
        Poll::Ready(Ok(()))
    }
}
