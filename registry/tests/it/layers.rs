//! What a VM changed, as a further layer of its image.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use flate2::read::GzDecoder;
use onedock_common::Digest;
use onedock_common::types::reference::{Repository, Source, Tag};
use onedock_registry::{Client, Deleted, Error, Resolved};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::images::{TestImage, noise, oci_layout, tar_of, write};
use crate::{amd64, at, client, options, told};

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
    let digest: Digest = manifest["config"]["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let config = serde_json::from_slice(&blob(server, &digest)).unwrap();
    (resolved, manifest, config)
}

fn blob(server: &RegistryServer, digest: &Digest) -> Vec<u8> {
    let hex = digest.hex();
    let folder = format!("blobs/sha256/{}/{hex}/data", &hex[..2]);
    std::fs::read(server.storage().join(folder)).unwrap()
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
        assert!(client.image_config(&tagged, &amd64()).await.is_ok());

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

#[tokio::test]
async fn fault_24_a_layer_that_breaks_off_leaves_no_tag_and_no_open_upload() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let base = base(&client, &repository, true).await;
    // The second half of its bytes is zeros: only its headers tell that there is more to come.
    let mut content = noise(9, 3 << 20);
    content.resize(6 << 20, 0);
    let layer = tar_of("big", &content, 0o600);
    for cut in [100, 512, 1 << 20, 5 << 20, layer.len() - 1024] {
        let error = client
            .append_layer(&base, &repository, &tag("t"), &layer[..cut], false, "")
            .await
            .unwrap_err();
        assert!(
            matches!(error, Error::Layer { .. }),
            "{cut}: {}",
            told(&error)
        );
    }
    let failing = Failing(io::Cursor::new(layer[..2 << 20].to_vec()));
    let error = client
        .append_layer(&base, &repository, &tag("t"), failing, false, "")
        .await
        .unwrap_err();
    assert!(
        told(&error).ends_with("onedock-node was killed"),
        "{}",
        told(&error)
    );
    assert_eq!(client.tags(&repository).await.unwrap(), [Tag::latest()]);
    assert_eq!(open_uploads(&server, "onedock/img-1"), 0);
    let made = client
        .append_layer(&base, &repository, &tag("t"), &layer[..], false, "")
        .await
        .unwrap();
    assert!(made.is_some());
}

#[tokio::test]
async fn fault_23_a_registry_that_dies_meanwhile_is_an_error_and_the_next_call_works() {
    let mut server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let base = base(&client, &repository, true).await;
    let layer = tar_of("big", &noise(9, 24 << 20), 0o600);
    let error = {
        // The second half comes when the registry is gone.
        let (first, second) = layer.split_at(layer.len() / 2);
        let (mut pipe, other) = tokio::io::duplex(64 * 1024);
        let feed = async {
            tokio::io::AsyncWriteExt::write_all(&mut pipe, first)
                .await
                .unwrap();
            server.stop();
            let _ = tokio::io::AsyncWriteExt::write_all(&mut pipe, second).await;
            drop(pipe);
        };
        let tag = tag("t");
        let push = client.append_layer(&base, &repository, &tag, other, false, "");
        futures_util::future::join(push, feed).await.0.unwrap_err()
    };
    assert!(error.is_transient(), "{}", told(&error));
    server.resume().unwrap();
    assert_eq!(client.tags(&repository).await.unwrap(), [Tag::latest()]);
    let made = client
        .append_layer(&base, &repository, &tag("t"), &layer[..], false, "")
        .await
        .unwrap();
    assert!(made.is_some());
}

#[tokio::test]
async fn attack_19_an_endless_layer_ends_at_the_limit_of_images() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let free = client(options());
    let repository = at(&server, "onedock/img-1");
    let base = base(&free, &repository, true).await;
    let bounded = client(onedock_registry::Options {
        image_limit: 4 << 20,
        ..options()
    });
    let mut header = tar::Header::new_gnu();
    header.set_path("endless").unwrap();
    header.set_size(1 << 40);
    header.set_cksum();
    let noise = noise(5, 1 << 20);
    let endless = header.as_bytes().chain(futures_reader(noise));
    let error = bounded
        .append_layer(&base, &repository, &tag("t"), endless, false, "")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("4194304"), "{error}");
    assert_eq!(open_uploads(&server, "onedock/img-1"), 0);
}

/// The same bytes for ever.
fn futures_reader(bytes: Vec<u8>) -> impl AsyncRead + Send {
    struct Again(Vec<u8>, usize);
    impl AsyncRead for Again {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            let from = self.1 % self.0.len();
            let length = buffer.remaining().min(self.0.len() - from);
            buffer.put_slice(&self.0[from..from + length]);
            self.1 += length;
            Poll::Ready(Ok(()))
        }
    }
    Again(bytes, 0)
}

#[tokio::test]
async fn a_tag_is_taken_away_without_its_siblings_as_often_as_one_likes() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let base = base(&client, &repository, true).await;
    for name in ["a", "b"] {
        client
            .tag(&repository, base.digest(), &tag(name))
            .await
            .unwrap();
    }
    assert_eq!(
        client.untag(&repository, &tag("a")).await.unwrap(),
        Deleted::Now
    );
    assert_eq!(
        client.untag(&repository, &tag("a")).await.unwrap(),
        Deleted::Before
    );
    assert_eq!(
        client.tags(&repository).await.unwrap(),
        [tag("b"), Tag::latest()]
    );
    assert!(client.resolve(&base.reference()).await.is_ok());
    // Cut off between its two requests.
    let mark = "application/vnd.opennebula.onedock.mark.v1+json";
    let (cut, whole) = (tag("c"), tag("b"));
    client
        .put_artifact(&repository, &cut, mark, b"{}")
        .await
        .unwrap();
    assert!(client.is_half_untagged(&repository, &cut).await.unwrap());
    assert!(!client.is_half_untagged(&repository, &whole).await.unwrap());
    client.untag(&repository, &cut).await.unwrap();
    let gone = client.is_half_untagged(&repository, &cut).await;
    assert!(gone.unwrap_err().is_not_found());
    let nowhere = at(&server, "onedock/img-9");
    assert_eq!(
        client.untag(&nowhere, &tag("a")).await.unwrap(),
        Deleted::Before
    );
    client.untag(&repository, &tag("b")).await.unwrap();
    assert_eq!(client.tags(&repository).await.unwrap(), [Tag::latest()]);
}

#[tokio::test]
async fn an_image_that_lacks_a_part_is_not_taken_for_whole() {
    let server = RegistryServer::start(&Setup::default()).unwrap();
    let client = client(options());
    let repository = at(&server, "onedock/img-1");
    let image = base(&client, &repository, true).await;
    client.complete(&image).await.unwrap();
    let manifest = read(&server, &client, &image).await.1;
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let hex = layer.strip_prefix("sha256:").unwrap();
    let link = format!("repositories/onedock/img-1/_layers/sha256/{hex}/link");
    std::fs::remove_file(server.storage().join(link)).unwrap();
    let refused = told(&client.complete(&image).await.unwrap_err());
    assert!(refused.contains(layer), "{refused}");
}
