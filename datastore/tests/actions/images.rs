//! Versions and snapshots of images, and what is left of one that is removed.

use std::fs;

use onedock_common::Digest;
use onedock_common::types::reference::{Source, Tag};
use onedock_registry::{ImageStore, Kind};

use crate::test_datastore::{TestDatastore, archive, client};

#[test]
fn clone_as_both_releases_ask_for_it_takes_the_present_state_and_stands_alone() {
    let store = TestDatastore::new();
    for (id, original, xml) in [
        (11, 6, include_str!("../data/clone-7.4.0.xml")),
        (5, 0, include_str!("../data/clone-6.10.xml")),
    ] {
        let first = store.register(original, 1);
        let changed = store.register(90, 2);
        // A VM has changed the image meanwhile, and there is a snapshot of it.
        let tag: Tag = format!("state-{}", first.digest().hex()).parse().unwrap();
        let snapshot: Tag = "snap-0".parse().unwrap();
        store.runtime.block_on(async {
            store
                .client
                .tag(first.repository(), first.digest(), &snapshot)
                .await
                .unwrap();
            store
                .client
                .duplicate(&changed, first.repository(), &tag)
                .await
                .unwrap();
        });
        let recorded = format!("docker://{}/onedock/img-{original}", store.server.address());
        let image = store.recorded(xml).replace(&recorded, &first.to_string());
        let line = store.call("clone", id, &image).line();
        let clone = store.source(&line, Some("raw"));
        assert_eq!(clone.digest(), changed.digest());
        assert!(
            clone
                .repository()
                .path()
                .as_str()
                .ends_with(&format!("img-{id}"))
        );
        assert_eq!(store.state(&clone).as_ref(), Some(changed.digest()));
        assert_eq!(store.at(&clone, "snap-0"), None);
        assert!(store.at(&clone, "attributes").is_some());
        assert_eq!(store.call("clone", id, &image).line(), line);
        // The original goes, the copy stays.
        let gone = format!("<ID>{original}</ID><SOURCE>{first}</SOURCE>");
        assert!(store.call("rm", original, &gone).succeeded());
        assert_eq!(store.kind(&clone), Kind::Image);
        let line = store
            .call("clone", 7, &image.replace(&format!("<ID>{id}<"), "<ID>7<"))
            .refused();
        assert!(line.contains("is not in registry"), "{line}");
    }
    let digest = "ab".repeat(32);
    for bad in [
        format!(
            "docker://{}/team/web@sha256:{digest}",
            store.server.address()
        ),
        "/var/lib/one/datastores/1/x".to_owned(),
    ] {
        let image =
            format!("<ID>12</ID><TYPE>0</TYPE><PATH>{bad}</PATH><CLONING_ID>6</CLONING_ID>");
        assert!(
            store
                .call("clone", 12, &image)
                .refused()
                .contains("IMAGE/PATH")
        );
    }
}

#[test]
fn snapshots_are_deleted_reverted_to_and_flattened_and_nothing_else_is_touched() {
    let store = TestDatastore::new();
    let image = store.register(6, 1);
    let others: Vec<Source> = (2..5).map(|n| store.register(90, n)).collect();
    store.runtime.block_on(async {
        for (n, other) in others.iter().enumerate() {
            let tag: Tag = format!("snap-{n}").parse().unwrap();
            store
                .client
                .duplicate(other, image.repository(), &tag)
                .await
                .unwrap();
        }
        let tag: Tag = "vm-5-disk-0-snap-1".parse().unwrap();
        store
            .client
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
        assert!(store.call("snap_revert", 6, &xml("1")).succeeded());
        assert_eq!(store.state(&image).as_ref(), Some(others[1].digest()));
    }
    for _ in 0..2 {
        assert!(store.call("snap_delete", 6, &xml("1")).succeeded());
        assert_eq!(store.at(&image, "snap-1"), None);
        assert_eq!(store.state(&image).as_ref(), Some(others[1].digest()));
    }
    let before = store.tags(&image);
    for action in ["snap_revert", "snap_flatten"] {
        let line = store.call(action, 6, &xml("1")).refused();
        assert!(line.contains("snapshot 1"), "{line}");
        let line = store.call(action, 6, &xml("-1")).refused();
        assert!(line.contains("TARGET_SNAPSHOT"), "{line}");
    }
    assert_eq!(store.tags(&image), before);
    for _ in 0..2 {
        assert!(store.call("snap_flatten", 6, &xml("2")).succeeded());
        assert_eq!(store.state(&image).as_ref(), Some(others[2].digest()));
        let left = store.tags(&image);
        assert!(!left.iter().any(|tag| tag.starts_with("snap-")), "{left:?}");
        assert!(left.contains(&"vm-5-disk-0-snap-1".to_owned()));
    }
    let foreign = format!(
        "<ID>6</ID><SOURCE>docker://other:5000/onedock/img-6@sha256:{}</SOURCE><TARGET_SNAPSHOT>0</TARGET_SNAPSHOT>",
        "ab".repeat(32)
    );
    let line = store.call("snap_delete", 6, &foreign).refused();
    assert!(line.contains("nothing was changed"), "{line}");
}

#[test]
fn a_cp_that_fails_behind_its_push_leaves_nothing_of_the_image() {
    let store = TestDatastore::new();
    // The same content has the same digest everywhere.
    let good = store.register(5, 1);
    let repository = store.server.repository("onedock/img-6").unwrap();
    // The registry cannot make the folder of the attributes' content.
    let attributes = Digest::of(br#"{"dockerrun":"serve"}"#);
    let (two, all) = (&attributes.hex()[..2], attributes.hex());
    let folder = store.server.storage().join("blobs/sha256").join(two);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(all), "").unwrap();
    let path = store.file("again.tar", &archive(1));
    let image = format!(
        "<ID>6</ID><TYPE>0</TYPE><PATH>{}</PATH><TEMPLATE><DOCKERRUN>serve</DOCKERRUN></TEMPLATE>",
        path.display()
    );
    let line = store.call("cp", 6, &image).refused();
    assert!(line.contains("attributes (DOCKERRUN)"), "{line}");
    let pushed = Source::new(repository, good.digest().clone());
    assert_eq!(store.at(&pushed, "latest"), None);
    assert!(!store.holds(&pushed) && store.holds(&good));
}

#[test]
fn a_removed_image_leaves_no_version_of_itself_with_or_without_a_tag() {
    let store = TestDatastore::new();
    let first = store.register(6, 1);
    // As a persistent image that a VM was saved to: its first version has no tag any more.
    let other = store.register(7, 2);
    let images = ImageStore::new(client());
    let moved = store.runtime.block_on(async {
        let repository = first.repository();
        let tag = "saved".parse().unwrap();
        let digest = store
            .client
            .duplicate(&other, repository, &tag)
            .await
            .unwrap();
        images.set_current(&first, &digest).await.unwrap();
        store.client.untag(repository, &tag).await.unwrap();
        Source::new(repository.clone(), digest)
    });
    for tag in [store.state(&first), store.at(&first, "latest")] {
        assert_eq!(tag.as_ref(), Some(moved.digest()));
    }
    let xml = format!("<ID>6</ID><TYPE>0</TYPE><SOURCE>{first}</SOURCE>");
    for _ in 0..2 {
        assert!(store.call("rm", 6, &xml).succeeded());
        for version in [&first, &moved] {
            assert!(!store.holds(version), "{version}");
        }
    }
    assert!(store.holds(&other));
}
