//! Removal of tags, and completeness.

use onedock_common::types::reference::Tag;
use onedock_registry::Deleted;
use onedock_tests::registry_server::{RegistryServer, Setup};

use crate::{at, client, options, with_causes};

use super::*;

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
    client.check_complete(&image).await.unwrap();
    let manifest = read(&server, &client, &image).await.1;
    let layer = manifest["layers"][0]["digest"].as_str().unwrap();
    let hex = layer.strip_prefix("sha256:").unwrap();
    let link = format!("repositories/onedock/img-1/_layers/sha256/{hex}/link");
    std::fs::remove_file(server.storage().join(link)).unwrap();
    let refused = with_causes(&client.check_complete(&image).await.unwrap_err());
    assert!(refused.contains(layer), "{refused}");
}
