//! Indexes and platforms.

use onedock_registry::{Error, Platform};
use serde_json::json;

use crate::amd64;
use crate::images::TestImage;

use super::*;

#[tokio::test]
async fn an_index_within_an_index_and_entries_without_a_platform_are_looked_into() {
    let (a, b) = two();
    // No platform is said: the configurations tell.
    let mut content = Content::default();
    let (first, second) = (content.image(&a), content.image(&b));
    let entries = [content.manifest(&first), content.manifest(&second)];
    content.index(&entries);
    let index = copied(content, &[amd64()]).await.unwrap();
    assert_eq!(platforms_of(&index), ["linux/amd64"]);
    assert_eq!(index["manifests"][0]["digest"], entries[0]["digest"]);
    // An index within; what the engine cannot walk into is laid open.
    let mut content = Content::default();
    let (first, second) = (content.image(&a), content.image(&b));
    let entries = [
        on(content.manifest(&first), "amd64"),
        on(content.manifest(&second), "arm64"),
    ];
    let inner = content.index(&entries);
    let mut attestation = describe(MANIFEST, b"not there");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    content.index(&[attestation, inner]);
    let arm: Platform = "linux/arm64".parse().unwrap();
    let index = copied(content, &[amd64(), arm]).await.unwrap();
    assert_eq!(platforms_of(&index), ["linux/amd64", "linux/arm64"]);
    assert_eq!(index["manifests"][0], entries[0]);
}

#[tokio::test]
async fn an_image_for_no_host_names_what_there_is_and_one_that_is_no_image_what_it_is() {
    let (a, b) = two();
    let mut content = Content::default();
    let (first, second) = (content.image(&a), content.image(&b));
    let arm = on(content.manifest(&second), "arm64");
    let silent = content.manifest(&first);
    content.index(&[arm, silent]);
    let hub = content.serve(true).await;
    let client = client_of(&hub);
    let riscv: Platform = "linux/riscv64".parse().unwrap();
    let error = client.unpacked_size(&source(), &riscv).await.unwrap_err();
    let Error::Platform { has, .. } = &error else {
        panic!("{error}");
    };
    assert_eq!(has, "linux/amd64, linux/arm64");
    assert!(client.unpacked_size(&source(), &amd64()).await.is_ok());
    let mut content = Content::default();
    let mut chart = content.image(&a);
    chart["config"]["mediaType"] = json!("application/vnd.cncf.helm.config.v1+json");
    content.manifest(&chart);
    let error = copied(content, &[amd64()]).await.unwrap_err();
    assert!(
        error.contains("no container image but application/vnd.cncf.helm"),
        "{error}"
    );
}

#[tokio::test]
async fn of_several_variants_the_one_for_every_machine_is_taken() {
    let (a, _) = two();
    let mut newer = TestImage::new(3).unwrap();
    newer.layers.truncate(1);
    let mut content = Content::default();
    let (old, new) = (content.image(&a), content.image(&newer));
    let mut third = on(content.manifest(&new), "amd64");
    third["platform"]["variant"] = json!("v3");
    let first = on(content.manifest(&old), "amd64");
    content.index(&[third, first]);
    let hub = content.serve(true).await;
    let size = client_of(&hub).unpacked_size(&source(), &amd64()).await;
    assert_eq!(size.unwrap().bytes, a.unpacked());
}
