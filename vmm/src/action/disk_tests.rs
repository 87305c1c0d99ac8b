//! The same for disks: what a start makes and takes back, cut off at every call of the engine.

use std::fs;

use onedock_common::disk_file::{self, Fs};
use onedock_common::engine::fake::Failure;
use onedock_common::state::boot::DiskSource;
use onedock_common::state::journal::tree;
use onedock_common::{DiskId, VmId};
use onedock_node::request::Request;

use super::fake_node::{FakeNode, RECORDED, image, supported, with_disk, without_disk};

const VM: VmId = VmId::new(5);
/// What the error must name, and what is done to the node for it.
type Broken = (&'static str, fn(&FakeNode));

impl FakeNode {
    /// The names of all containers.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.host.engine.containers();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        names.into_iter().map(|c| c.name).collect()
    }

    pub(super) fn assert_journal_is_empty(&self) {
        assert!(!self.host.paths.journal(VM).exists());
        for disk in 0..5 {
            assert_eq!(
                tree::on_its_way(&self.host.paths, VM, DiskId::new(disk)),
                None
            );
        }
    }
}

#[test]
fn a_deploy_shows_all_disks_and_formats_the_blank_one() {
    let node = FakeNode::full();
    node.deploy_with(RECORDED).unwrap();
    assert_eq!(node.names(), ["one-5", "one-5-disk-3"]);
    assert_eq!(node.booted_disks(), [1, 3, 4]);
    let spec = node.spec();
    assert_eq!(spec.disks[0].source, DiskSource::Raw(node.disk(1)));
    let tree = node.descriptor_of(3).container.unwrap();
    assert_eq!(spec.disks[1].source, DiskSource::Tree(tree.clone()));
    assert!(spec.disks[2].read_only);
    if let DiskSource::Folder(folder) = &spec.disks[2].source {
        assert_eq!(fs::read(folder.join("readme")).unwrap(), b"a CD");
    }
    let magic = fs::read(node.disk(1)).unwrap()[0x438..0x43a].to_vec();
    assert_eq!(magic, [0x53, 0xef], "ext4");
    let containers = node.host.engine.containers();
    let tree = containers.iter().find(|c| c.info.id == tree).unwrap();
    assert_eq!(tree.starts, 0);
    assert!(!tree.info.labels.contains_key("org.opennebula.vm"));
    let root = containers.iter().find(|c| c.name == "one-5").unwrap();
    assert_eq!(root.info.limits.swap, 32 << 20);
    assert_eq!(
        node.host.engine.calls(),
        [
            "named",
            "create",
            "container",
            "start",
            "create",
            "start",
            "watch"
        ]
    );
    node.assert_journal_is_empty();
}

#[test]
fn a_resume_keeps_what_is_on_the_disks_and_has_what_the_template_says_now() {
    let node = FakeNode::full();
    node.deploy_with(RECORDED).unwrap();
    let before = fs::read(node.disk(1)).unwrap();
    node.end("shutdown").unwrap();
    assert!(matches!(
        node.host.root.requests()[..],
        [Request::Settle { .. }]
    ));
    node.deploy_with(RECORDED).unwrap();
    assert_eq!(node.booted_disks(), [1, 3, 4]);
    assert_eq!(fs::read(node.disk(1)).unwrap(), before);
    node.end("shutdown").unwrap();
    let changed = with_disk(
        &without_disk(
            &RECORDED.replace("<SIZE><![CDATA[50]]>", "<SIZE><![CDATA[60]]>"),
            3,
        ),
        1,
        "<MOUNTPOINT><![CDATA[/data]]></MOUNTPOINT>",
    );
    node.deploy_with(&changed).unwrap();
    assert_eq!(node.booted_disks(), [1, 4]);
    assert_eq!(
        node.spec().disks[0].mount.as_ref().unwrap().as_str(),
        "/data"
    );
    assert_eq!(fs::metadata(node.disk(1)).unwrap().len(), 60 << 20);
    assert_eq!(node.names(), ["one-5", "one-5-disk-3"], "delete removes it");
}

#[test]
fn faults_1_to_6_a_deploy_with_a_tree_cut_off_at_any_call_is_finished_by_the_next() {
    for call in 1..=7 {
        for failure in [Failure::Before(call), Failure::After(call)] {
            let node = FakeNode::full();
            node.host.engine.fail(failure);
            let deployed = node.deploy_with(RECORDED);
            if failure == Failure::After(4) {
                // The start of the tree, which fails in any case: its layers are recorded.
                deployed.unwrap();
                continue;
            }
            deployed.expect_err(&format!("{failure:?}"));
            let tree = node.descriptor_of(3).container;
            assert_eq!(tree, None, "{failure:?}");
            // What is there without a descriptor is noted.
            for (name, noted) in [
                (
                    "one-5-disk-3",
                    tree::on_its_way(&node.host.paths, VM, DiskId::new(3)).is_some(),
                ),
                ("one-5", node.host.paths.journal(VM).exists()),
            ] {
                let there = node.names().iter().any(|n| n == name);
                assert!(!there || noted, "{failure:?} {name}");
            }
            node.host.engine.heal();
            node.deploy_with(RECORDED).unwrap();
            assert_eq!(node.names(), ["one-5", "one-5-disk-3"], "{failure:?}");
            assert_eq!(node.booted_disks(), [1, 3, 4]);
            node.assert_journal_is_empty();
        }
    }
}

#[test]
fn fault_2_a_note_that_a_killed_deploy_left_behind_a_made_tree_goes_with_the_next() {
    let node = FakeNode::full();
    node.deploy_with(RECORDED).unwrap();
    node.end("cancel").unwrap();
    tree::creating(&node.host.paths, VM, DiskId::new(3)).unwrap();
    node.deploy_with(RECORDED).unwrap();
    node.assert_journal_is_empty();
}

#[test]
fn fault_1_a_deploy_that_fails_takes_back_the_trees_that_it_made_and_no_others() {
    let node = FakeNode::full();
    node.host.engine.die_with(Some(3));
    node.deploy_with(RECORDED).unwrap_err();
    node.assert_nothing_left();
    assert_eq!(node.descriptor_of(3).container, None);
    node.host.engine.die_with(None);
    node.deploy_with(RECORDED).unwrap();
    node.end("cancel").unwrap();
    node.host.engine.die_with(Some(3));
    node.deploy_with(RECORDED).unwrap_err();
    assert_eq!(node.names(), ["one-5", "one-5-disk-3"]);
    assert!(node.descriptor_of(3).container.is_some());
}

#[test]
fn a_tree_of_another_image_under_the_name_is_replaced_and_a_foreign_container_refused() {
    let node = FakeNode::full();
    let labels = |source: String| {
        [
            ("org.opennebula.driver", "onedock".to_owned()),
            ("org.opennebula.tree", "5".to_owned()),
            ("org.opennebula.disk", "3".to_owned()),
            ("org.opennebula.source", source),
        ]
        .map(|(k, v)| (k.to_owned(), v))
        .into()
    };
    node.host
        .engine
        .add("one-5-disk-3", labels(image(9).to_string()));
    node.deploy_with(RECORDED).unwrap();
    let tree = node.descriptor_of(3).container.unwrap();
    let containers = node.host.engine.containers();
    let tree = containers.iter().find(|c| c.info.id == tree).unwrap();
    assert_eq!(
        tree.info.labels["org.opennebula.source"],
        image(8).to_string()
    );

    let node = FakeNode::full();
    node.host.engine.add("one-5-disk-3", [].into());
    let error = node.deploy_with(RECORDED).unwrap_err().to_string();
    assert!(error.contains("one-5-disk-3 is taken"), "{error}");
    assert_eq!(node.names(), ["one-5-disk-3"]);
}

#[test]
fn a_disk_that_is_gone_damaged_or_of_another_vm_is_named_with_its_path() {
    let break_it: [Broken; 5] = [
        ("disk.1", |node| fs::remove_file(node.disk(1)).unwrap()),
        ("disk.1", |node| {
            fs::write(node.disk(1), "{\"version\":").unwrap()
        }),
        ("disk.3", |node| fs::write(node.disk(3), "").unwrap()),
        ("disk.3", |node| {
            let mut descriptor = node.descriptor_of(3);
            descriptor.vm = VmId::new(6);
            descriptor.write(&node.disk(3)).unwrap();
        }),
        ("disk.1", |node| {
            fs::remove_file(node.disk(1)).unwrap();
            fs::create_dir(node.disk(1)).unwrap();
        }),
    ];
    for (file, break_it) in break_it {
        let node = FakeNode::full();
        break_it(&node);
        let error = format!("{:#}", node.deploy_with(RECORDED).unwrap_err());
        assert!(error.contains(file) && !error.contains('\n'), "{error}");
        node.assert_nothing_left();
    }
}

#[test]
fn without_quotas_a_root_disk_is_made_without_a_bound_and_the_log_says_so() {
    let larger = supported().replacen("<SIZE><![CDATA[64]]>", "<SIZE><![CDATA[90]]>", 1);
    for engine_refuses in [true, false] {
        let node = FakeNode::full();
        if engine_refuses {
            node.host.engine.bound_nothing();
        }
        node.host.root.unbounded();
        let notes = node.deploy_with(&larger).unwrap().notes;
        let said = notes
            .iter()
            .filter(|note| note.contains("DISK 0 has no bound of 90 MiB, because the storage"));
        assert_eq!(said.count(), 1, "{notes:?}");
    }
    let node = FakeNode::full();
    let notes = node.deploy_with(&larger).unwrap().notes;
    assert!(
        !notes.iter().any(|note| note.contains("bound")),
        "{notes:?}"
    );
}

/// An engine whose storage is no overlay: the runtime refuses the tree and records nothing.
#[test]
fn a_further_image_is_refused_where_no_layers_are_recorded() {
    let node = FakeNode::full();
    node.host.engine.record_no_layers();
    let error = format!("{:#}", node.deploy_with(RECORDED).unwrap_err());
    assert!(
        error.contains("DISK 3 is an image of a container, which can be a further disk only where"),
        "{error}"
    );
    node.assert_nothing_left();
}

#[test]
fn a_volatile_disk_has_the_file_system_that_it_asks_for_and_a_device_has_none() {
    let node = FakeNode::full();
    let text = RECORDED.replace("<FS><![CDATA[ext4]]></FS>", "<FS><![CDATA[ext2]]></FS>");
    node.deploy_with(&text).unwrap();
    // ext2 has no journal (feature bit 2 of the superblock's compatible ones).
    let ext = fs::read(node.disk(1)).unwrap();
    assert_eq!(ext[0x45c] & 4, 0);
    let node = FakeNode::full();
    let text = RECORDED.replace(
        "<FS><![CDATA[ext4]]></FS>",
        "<DEVICE><![CDATA[YES]]></DEVICE>",
    );
    node.deploy_with(&text).unwrap();
    assert_eq!(node.spec().disks[0].mount, None);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    assert!(
        runtime
            .block_on(disk_file::is_blank(&node.disk(1)))
            .unwrap()
    );
    assert_eq!("ext2".parse::<Fs>().unwrap(), Fs::Ext2);
}

#[test]
fn owners_of_a_cd_that_cannot_be_shown_are_said_where_the_driver_unpacks_it() {
    let node = FakeNode::full();
    let files = node.dir.path().join("cd");
    node.iso_with(4, &files, &["-R", "-uid", "7", "-gid", "7"]);
    let notes = node.deploy_with(&supported()).unwrap().notes;
    match &node.spec().disks[2].source {
        DiskSource::Folder(_) => {
            assert!(
                notes[0].starts_with("DISK 4: 2 files of the CD have owners other than root"),
                "{notes:?}"
            );
        }
        // This kernel mounts the CD itself.
        _ => assert!(notes.is_empty(), "{notes:?}"),
    }
}
