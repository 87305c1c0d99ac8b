use super::*;

use onedock_common::VmId;
use onedock_common::state::boot::VERSION;

/// Written by Docker 20.10.24 for `create --network none -v named:/v2 -v /srv/bound:/bound` of
/// an image with `VOLUME /data /v2`, and for `create --network host`.
const NONE: &[u8] = include_bytes!("../../tests/fixtures/docker-20.10-none.json");
const HOST: &[u8] = include_bytes!("../../tests/fixtures/docker-20.10-host.json");
const ID: &str = "9062ea4711ff801f4168d124444218c7a546223d55178272b429b2b2dbd1fe87";

fn bundle(bytes: &[u8]) -> (tempfile::TempDir, Bundle) {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.json"), bytes).unwrap();
    let bundle = Bundle::read(dir.path()).unwrap();
    (dir, bundle)
}

fn value(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn spec() -> BootSpec {
    BootSpec {
        version: VERSION,
        vm: VmId::new(5),
        boot_id: "b".into(),
        hostname: "web01".parse().unwrap(),
        args: vec!["/bin/httpd".into(), "-f; $(x)".into()],
        first: FirstProcess::Command,
        give_way: false,
        nics: vec![],
        dns: vec!["1.1.1.1".parse().unwrap()],
        search: vec![],
        dns_options: Vec::new(),
        hosts: Vec::new(),
        domain: None,
        cpus: "0-1".parse().ok(),
        memory_nodes: "0".parse().ok(),
        drop_capabilities: vec!["MKNOD".parse().unwrap()],
        environment: vec!["PATH=/srv/bin".parse().unwrap(), "B=x=y z".parse().unwrap()],
        context: None,
        volumes: vec![
            "/data".into(),
            "/v2".into(),
            "/bound".into(),
            "/none".into(),
        ],
        disks: Vec::new(),
    }
}

fn id() -> ContainerId {
    ID.parse().unwrap()
}

fn extra() -> Extra<'static> {
    Extra {
        context: Some((Path::new("/ds/0/5/disk.1"), vec!["/context", "/mnt"])),
        init: Some(Path::new("/usr/lib/onedock/onedock-init")),
        zones: Some(Path::new("/usr/share/zoneinfo")),
        folders_in_place_of_files: Vec::new(),
    }
}

/// The whole file as it must be, made from the engine's by hand.
fn expected() -> Value {
    let mut all = value(NONE);
    seccomp::restrict(&mut all);
    let masked = all["linux"]["maskedPaths"].as_array_mut().unwrap();
    for path in ["devices/virtual/block", "fs/btrfs", "fs/ext4", "fs/xfs"] {
        masked.push(json!(format!("/sys/{path}")));
    }
    all["hostname"] = json!("web01");
    for set in ["bounding", "effective", "permitted"] {
        let set = all["process"]["capabilities"][set].as_array_mut().unwrap();
        set.retain(|name| name != "CAP_MKNOD");
    }
    all["linux"]["resources"]["cpu"]["cpus"] = json!("0-1");
    all["linux"]["resources"]["cpu"]["mems"] = json!("0");
    all["process"]["args"] = json!(["/bin/httpd", "-f; $(x)"]);
    rlimits::add(all["process"].as_object_mut().unwrap());
    let env = all["process"]["env"].as_array_mut().unwrap();
    env[0] = json!("PATH=/srv/bin");
    env[1] = json!("HOSTNAME=web01");
    env.push(json!("B=x=y z"));
    let mounts = all["mounts"].as_array_mut().unwrap();
    assert_eq!(mounts.remove(7)["destination"], "/data");
    for engines in ["/etc/resolv.conf", "/etc/hostname", "/etc/hosts"] {
        assert_eq!(mounts.remove(9)["destination"], engines);
    }
    let etc = |name: &str| format!("/run/onedock/etc/{ID}/{name}");
    for (source, target) in [
        (etc("hosts"), "/etc/hosts"),
        (etc("hostname"), "/etc/hostname"),
        (etc("resolv.conf"), "/etc/resolv.conf"),
    ] {
        mounts.push(
            json!({"destination": target, "type": "bind", "source": source,
            "options": ["bind", "rw", "nosuid", "nodev", "noexec", "rprivate"]}),
        );
    }
    for (source, target) in [
        ("/ds/0/5/disk.1", "/context"),
        ("/ds/0/5/disk.1", "/mnt"),
        ("/usr/lib/onedock/onedock-init", "/dev/onedock-context"),
        ("/usr/lib/onedock/onedock-init", "/dev/onedock-init"),
        ("/usr/share/zoneinfo", "/dev/onedock-zoneinfo"),
    ] {
        mounts.push(
            json!({"destination": target, "type": "bind", "source": source,
            "options": ["bind", "ro", "nosuid", "nodev", "rprivate"]}),
        );
    }
    all
}

#[test]
fn the_engines_configuration_becomes_the_vms_and_nothing_else_changes() {
    let (dir, mut bundle) = bundle(NONE);
    assert!(bundle.root().unwrap().ends_with("merged"));
    assert_eq!(bundle.ids().unwrap().root(), (0, 0));
    let folders = bundle.drop_volumes(&spec().volumes).unwrap();
    assert_eq!(folders, [PathBuf::from("/data")]);
    bundle.complete(&spec(), &id(), &extra()).unwrap();
    assert_eq!(bundle.config, expected());

    bundle.write().unwrap();
    assert_eq!(
        value(&fs::read(dir.path().join("config.json")).unwrap()),
        expected()
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// As engines write it for a container that was created with `NetworkDisabled`.
#[test]
fn where_the_engine_mounts_no_files_of_its_own_the_vm_has_them_all_the_same() {
    let mut without = value(NONE);
    without["mounts"]
        .as_array_mut()
        .unwrap()
        .retain(|mount| !etc_files::TARGETS.contains(&mount["destination"].as_str().unwrap()));
    let (_dir, mut bundle) = bundle(&serde_json::to_vec(&without).unwrap());
    bundle.drop_volumes(&spec().volumes).unwrap();
    bundle.complete(&spec(), &id(), &extra()).unwrap();
    assert_eq!(bundle.config, expected());
}

/// What Docker writes for a VOLUME at this path: a volume of its own, and nothing else there.
fn with_volume(at: &str) -> Value {
    let mut all = value(NONE);
    let mounts = all["mounts"].as_array_mut().unwrap();
    let mut volume = mounts[7].clone();
    volume["destination"] = json!(at);
    mounts.retain(|mount| mount["destination"] != at);
    mounts.push(volume);
    all
}

#[test]
fn a_volume_over_a_mount_of_the_engine_gives_way_to_it() {
    for at in ["/proc", "/sys", "/sys/fs/cgroup", "/dev/shm", "/dev/pts"] {
        let all = with_volume(at);
        let (_dir, mut bundle) = bundle(&serde_json::to_vec(&all).unwrap());
        let folders = bundle.drop_volumes(&[at.into()]).unwrap();
        assert!(folders.is_empty(), "{at}: {folders:?}");
        let mounts = bundle.config["mounts"].as_array().unwrap();
        let there: Vec<_> = mounts.iter().filter(|m| m["destination"] == at).collect();
        assert_eq!(there.len(), 1, "{at}");
        let engines = value(NONE)["mounts"].clone();
        let same = |m: &&Value| m["destination"] == at;
        let engines = engines
            .as_array()
            .unwrap()
            .iter()
            .find(same)
            .unwrap()
            .clone();
        assert_eq!(*there[0], engines, "{at} is as the engine mounts it");
    }
}

#[test]
fn a_volume_over_a_file_of_the_engine_gives_way_to_it_and_another_tmpfs_stays() {
    let mut all = value(NONE);
    let mounts = all["mounts"].as_array_mut().unwrap();
    let tmpfs = |at: &str| json!({"destination": at, "type": "tmpfs", "source": "tmpfs"});
    mounts.extend(["/etc/hosts", "/etc/other"].map(tmpfs));
    let count = mounts.len();
    let (_dir, mut bundle) = bundle(&serde_json::to_vec(&all).unwrap());
    bundle.drop_volumes(&[]).unwrap();
    assert_eq!(bundle.config["mounts"].as_array().unwrap().len(), count);
    bundle
        .drop_volumes(&["/etc/hosts".into(), "/etc/other".into()])
        .unwrap();
    assert_eq!(bundle.config["mounts"].as_array().unwrap().len(), count - 1);
    bundle.complete(&spec(), &id(), &Extra::default()).unwrap();
    let mounts = bundle.config["mounts"].as_array().unwrap();
    let at: Vec<_> = mounts
        .iter()
        .filter(|m| m["destination"] == "/etc/hosts")
        .map(|m| m["type"].as_str())
        .collect();
    assert_eq!(at, [Some("bind")]);
}

#[test]
fn a_folder_in_place_of_a_file_of_the_engine_is_left_to_the_image() {
    let (_dir, mut bundle) = bundle(NONE);
    let extra = Extra {
        folders_in_place_of_files: vec!["/etc/hosts"],
        ..Extra::default()
    };
    bundle.complete(&spec(), &id(), &extra).unwrap();
    let mounts = bundle.config["mounts"].as_array().unwrap();
    let at = |place: &str| mounts.iter().filter(|m| m["destination"] == place).count();
    assert_eq!((at("/etc/hosts"), at("/etc/hostname")), (0, 1));
}

#[test]
fn hooks_and_what_this_version_does_not_know_survive() {
    let mut newer = value(NONE);
    newer["hooks"]["prestart"]
        .as_array_mut()
        .unwrap()
        .push(json!({"path": "/bin/nvidia"}));
    newer["hooks"]["poststop"] = json!([{"path": "/bin/x", "timeout": 3}]);
    newer["domainname"] = json!("example");
    newer["linux"]["memoryPolicy"] = json!({"limit": 18_446_744_073_709_551_615_u64, "x": -1});
    let (_dir, mut bundle) = bundle(&serde_json::to_vec(&newer).unwrap());
    bundle.complete(&spec(), &id(), &Extra::default()).unwrap();
    assert_eq!(bundle.config["hooks"], newer["hooks"]);
    assert_eq!(bundle.config["domainname"], "example");
    assert_eq!(
        bundle.config["linux"]["memoryPolicy"],
        newer["linux"]["memoryPolicy"]
    );
}

#[test]
fn a_quota_that_was_lifted_does_not_hinder_the_next_start() {
    for (quota, stays) in [(-1, false), (0, false), (50_000, true)] {
        let mut lifted = value(NONE);
        lifted["linux"]["resources"]["cpu"] = json!({"shares": 512, "quota": quota});
        let (_dir, mut bundle) = bundle(&serde_json::to_vec(&lifted).unwrap());
        bundle.complete(&spec(), &id(), &Extra::default()).unwrap();
        let cpu = &bundle.config["linux"]["resources"]["cpu"];
        assert_eq!(cpu.get("quota").is_some(), stays, "{quota}");
        assert_eq!(cpu["shares"], 512);
    }
}

#[test]
fn a_vm_that_is_kept_alive_or_has_a_context_to_apply_runs_init() {
    let (_dir, mut bundle) = bundle(NONE);
    let mut spec = spec();
    spec.first = FirstProcess::KeepAlive;
    spec.args.clear();
    bundle.complete(&spec, &id(), &extra()).unwrap();
    assert_eq!(
        bundle.config["process"]["args"],
        json!(["/dev/onedock-init", "run", "--home", "--keep-alive", "--"])
    );
    spec.first = FirstProcess::Init;
    assert!(matches!(
        bundle.complete(&spec, &id(), &extra()),
        Err(BundleError::NoCommand)
    ));
    spec.args = vec!["httpd".into()];
    bundle.complete(&spec, &id(), &extra()).unwrap();
    assert_eq!(
        bundle.config["process"]["args"],
        json!(["/dev/onedock-init", "run", "--home", "--", "httpd"])
    );
    spec.args.clear();
    spec.first = FirstProcess::Command;
    assert!(matches!(
        bundle.complete(&spec, &id(), &extra()),
        Err(BundleError::NoCommand)
    ));
}

#[test]
fn attack_3_a_container_in_the_hosts_network_gets_no_nics() {
    let (_dir, mut bundle) = bundle(HOST);
    let refused = bundle.complete(&spec(), &id(), &extra());
    assert!(matches!(refused, Err(BundleError::SharedNetwork)));
}

#[test]
fn a_bind_that_is_not_the_engines_own_file_stays_beneath_the_vms() {
    let (_dir, mut bundle) = bundle(NONE);
    let other: ContainerId = "ab".repeat(32).parse().unwrap();
    bundle.complete(&spec(), &other, &extra()).unwrap();
    let mounts = bundle.config["mounts"].as_array().unwrap();
    let at_hosts: Vec<_> = mounts
        .iter()
        .filter(|m| m["destination"] == "/etc/hosts")
        .map(|m| m["source"].as_str().unwrap())
        .collect();
    assert_eq!(
        at_hosts,
        [
            format!("/var/lib/docker/containers/{ID}/hosts"),
            format!("/run/onedock/etc/{other}/hosts")
        ]
    );
}

#[test]
fn only_an_anonymous_volume_is_one() {
    let hex = "ab".repeat(32);
    assert!(is_anonymous_volume(Path::new(&format!(
        "/var/lib/docker/volumes/{hex}/_data"
    ))));
    for other in [
        "/var/lib/docker/volumes/named/_data".to_owned(),
        format!("/var/lib/docker/volumes/{hex}/_data/x"),
        format!("/var/lib/docker/volumes/{hex}"),
        format!("/srv/{hex}/_data"),
        format!("/var/lib/docker/volumes/{}/_data", hex.to_uppercase()),
    ] {
        assert!(!is_anonymous_volume(Path::new(&other)), "{other}");
    }
}

#[test]
fn under_a_user_namespace_what_is_made_belongs_to_its_root() {
    let mut mapped = value(NONE);
    mapped["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 165_536, "size": 65_536}]);
    mapped["linux"]["gidMappings"] = json!([{"containerID": 1, "hostID": 7, "size": 1},
        {"containerID": 0, "hostID": 231_072, "size": 1}]);
    let (_dir, bundle) = bundle(&serde_json::to_vec(&mapped).unwrap());
    assert_eq!(bundle.ids().unwrap().root(), (165_536, 231_072));
}

#[test]
fn a_damaged_configuration_is_refused() {
    for bad in [
        &b"{}"[..],
        b"[]",
        b"{\"mounts\":[]}",
        b"{\"linux\":{\"namespaces\":[]}}",
    ] {
        let (_dir, mut bundle) = bundle(bad);
        assert!(bundle.root().is_err());
        assert!(bundle.complete(&spec(), &id(), &extra()).is_err());
    }
    let dir = tempfile::tempdir().unwrap();
    assert!(Bundle::read(dir.path()).is_err());
    fs::write(dir.path().join("config.json"), "{").unwrap();
    assert!(Bundle::read(dir.path()).is_err());
}

#[test]
fn the_loop_devices_of_a_container_are_added_to_what_the_engine_allows() {
    let (_dir, mut bundle) = bundle(NONE);
    let before = value(NONE)["linux"]["resources"]["devices"].clone();
    bundle.allow_loops(&[7, 8]).unwrap();
    let devices = bundle.config["linux"]["resources"]["devices"]
        .as_array()
        .unwrap();
    let added = devices.len() - before.as_array().unwrap().len();
    assert_eq!(added, 2);
    assert_eq!(
        devices.last().unwrap(),
        &json!({"allow": true, "type": "b", "major": 7, "minor": 8, "access": "rw"})
    );
    assert_eq!(&devices[..devices.len() - 2], before.as_array().unwrap());
}

#[test]
fn what_is_mounted_somewhere_is_found_by_its_place() {
    let (_dir, bundle) = bundle(NONE);
    assert!(bundle.mounts_at(Path::new("/bound")));
    assert!(!bundle.mounts_at(Path::new("/boun")));
}

#[test]
fn the_configuration_keeps_the_mode_that_the_engine_gave_it() {
    let (dir, bundle) = bundle(NONE);
    let path = dir.path().join("config.json");
    for mode in [0o600, 0o640] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Bundle::read(dir.path()).unwrap().write().unwrap();
        let written = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(written & 0o7777, mode);
    }
    drop(bundle);
}

#[test]
fn a_configuration_of_several_megabytes_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let mut large = value(NONE);
    large["annotations"] = json!({"x": "y".repeat(3 << 20)});
    fs::write(dir.path().join("config.json"), large.to_string()).unwrap();
    assert!(Bundle::read(dir.path()).is_ok());
}

#[test]
fn only_a_tmpfs_at_a_file_of_the_engine_and_a_volume_stands_for_nothing() {
    let mount = |at: &str, kind: &str| json!({"destination": at, "type": kind});
    let volumes = [PathBuf::from("/etc/hosts"), PathBuf::from("/data")];
    assert!(is_placeholder(&mount("/etc/hosts", "tmpfs"), &volumes));
    assert!(!is_placeholder(&mount("/etc/hosts", "bind"), &volumes));
    assert!(!is_placeholder(&mount("/etc/hostname", "tmpfs"), &volumes));
    assert!(!is_placeholder(&mount("/data", "tmpfs"), &volumes));
}
