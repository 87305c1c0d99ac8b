//! Layers that break off or do not end.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use onedock_common::types::reference::Tag;
use onedock_registry::Error;
use onedock_tests::registry_server::{RegistryServer, Setup};
use tokio::io::{AsyncRead, AsyncReadExt as _, ReadBuf};

use crate::images::{noise, tar_of};
use crate::{at, client, options, with_causes};

use super::*;

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
            with_causes(&error)
        );
    }
    let failing = Failing(io::Cursor::new(layer[..2 << 20].to_vec()));
    let error = client
        .append_layer(&base, &repository, &tag("t"), failing, false, "")
        .await
        .unwrap_err();
    assert!(
        with_causes(&error).ends_with("onedock-node was killed"),
        "{}",
        with_causes(&error)
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
    assert!(error.is_transient(), "{}", with_causes(&error));
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
