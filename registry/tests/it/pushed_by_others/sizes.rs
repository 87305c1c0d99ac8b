//! Unpacked sizes.

use std::collections::BTreeMap;
use std::time::Duration;

use onedock_registry::{Options, Size};

use crate::fake_registry::{FakeRegistry, Received, Reply};
use crate::images::{TestImage, gzip, noise};
use crate::{amd64, client, options};

use super::*;

#[tokio::test]
async fn every_member_of_a_large_gzip_layer_counts() {
    // The last member alone would do for the whole layer by its length.
    let small_first: Pack = |bytes| {
        let (a, b) = bytes.split_at(512);
        [gzip(a), gzip(b)].concat()
    };
    let small_last: Pack = |bytes| {
        let (a, b) = bytes.split_at(200 << 10);
        [gzip(a), gzip(b)].concat()
    };
    for (pack, content) in [
        (small_first, noise(1, 256 << 10)),
        (
            small_last,
            [noise(2, 200 << 10), vec![0; 300 << 10]].concat(),
        ),
    ] {
        let mut image = TestImage::new(1).unwrap();
        let whole = Size {
            bytes: content.len() as u64,
            exact: true,
        };
        image.layers = vec![content];
        let mut content = Content::default();
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let manifest = content.packed(&image, kind, pack);
        assert!(manifest["layers"][0]["size"].as_u64() > Some(64 << 10));
        content.manifest(&manifest);
        let hub = content.serve(true).await;
        let size = client_of(&hub).unpacked_size(&source(), &amd64()).await;
        assert_eq!(size.unwrap(), whole);
    }
}

#[tokio::test]
async fn a_large_gzip_layer_of_several_members_that_is_damaged_is_estimated() {
    let mut image = TestImage::new(1).unwrap();
    image.layers = vec![noise(1, 256 << 10)];
    let damaged: Pack = |bytes| {
        let (a, b) = bytes.split_at(512);
        [gzip(a), gzip(b), vec![b'x'; 512]].concat()
    };
    let mut content = Content::default();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = content.packed(&image, kind, damaged);
    content.manifest(&manifest);
    let hub = content.serve(true).await;
    let size = client_of(&hub).unpacked_size(&source(), &amd64()).await;
    let size = size.unwrap();
    assert!(!size.exact && size.bytes >= 3 * (256 << 10), "{size:?}");
}

#[tokio::test]
async fn layers_that_cannot_be_counted_in_time_are_estimated_together() {
    let mut image = TestImage::new(2).unwrap();
    image.layers = vec![noise(1, 256 << 10), noise(2, 256 << 10)];
    let mut content = Content::default();
    let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
    let manifest = content.packed(&image, kind, |bytes| {
        let (a, b) = bytes.split_at(512);
        [gzip(a), gzip(b)].concat()
    });
    content.manifest(&manifest);
    let blobs: Vec<String> = manifest["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| layer["digest"].as_str().unwrap().to_owned())
        .collect();
    let answers = content.answers(true);
    // Ranges are answered, a whole layer never is.
    let hub = FakeRegistry::start(move |request: &Received| {
        let whole = !request.headers.contains_key("range");
        if whole && blobs.iter().any(|blob| request.path.ends_with(blob)) {
            return Some(Reply::Silence);
        }
        answers(request)
    })
    .await;
    let client = client(Options {
        endpoints: BTreeMap::from([("hub.test".parse().unwrap(), hub.url.clone())]),
        idle_timeout: Duration::from_secs(60),
        request_timeout: Duration::from_secs(60),
        total_timeout: Duration::from_secs(6),
        ..options()
    });
    let size = client.unpacked_size(&source(), &amd64()).await.unwrap();
    assert!(!size.exact && size.bytes >= 6 * (256 << 10), "{size:?}");
}

#[tokio::test]
async fn every_member_of_a_small_gzip_layer_counts() {
    let mut image = TestImage::new(1).unwrap();
    image.layers = vec![vec![0; 2 << 20]];
    let mut content = Content::default();
    let members: Pack = |bytes| {
        let (a, b) = bytes.split_at(1 << 20);
        [gzip(a), gzip(b)].concat()
    };
    let manifest = content.packed(
        &image,
        "application/vnd.oci.image.layer.v1.tar+gzip",
        members,
    );
    content.manifest(&manifest);
    let hub = content.serve(true).await;
    let size = client_of(&hub).unpacked_size(&source(), &amd64()).await;
    let whole = Size {
        bytes: 2 << 20,
        exact: true,
    };
    assert_eq!(size.unwrap(), whole);
}

#[tokio::test]
async fn attack_17_an_image_that_unpacks_to_more_than_its_size_is_refused() {
    // The end of the last member says 512 bytes, whatever the first one holds.
    let pack: Pack = |bytes| {
        let (many, few) = bytes.split_at(bytes.len() - 512);
        [gzip(many), gzip(few)].concat()
    };
    let zstd = recompression::zstd;
    for (kind, pack) in [("gzip", pack), ("zstd", zstd)] {
        let mut image = TestImage::new(1).unwrap();
        image.layers = vec![vec![0; 3 << 20], vec![1; 2 << 20]];
        let unpacked = 5 << 20;
        let mut content = Content::default();
        let kind = format!("application/vnd.oci.image.layer.v1.tar+{kind}");
        let manifest = content.packed(&image, &kind, pack);
        content.manifest(&manifest);
        let hub = content.serve(true).await;
        let own = RegistryServer::start(&Setup::default()).unwrap();
        let target = at(&own, "onedock/img-1");
        let copy = async |unpacked_limit: u64| {
            let client = client(Options {
                endpoints: BTreeMap::from([("hub.test".parse().unwrap(), hub.url.clone())]),
                unpacked_limit,
                ..options()
            });
            let tag = "v1".parse().unwrap();
            let copied = client.copy(&source(), &target, &tag, &[amd64()]).await;
            (copied, client.tags(&target).await.unwrap().len())
        };
        let (refused, tags) = copy(unpacked - 1).await;
        let error = with_causes(&refused.unwrap_err());
        assert!(
            error.contains("unpacks to more than 5242879 bytes"),
            "{error}"
        );
        assert_eq!(tags, 0);
        copy(unpacked).await.0.unwrap();
    }
}
