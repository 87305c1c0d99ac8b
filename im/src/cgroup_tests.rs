use super::*;
use std::fs;

fn id() -> ContainerId {
    "5f".repeat(32).parse().unwrap()
}

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn v1_mounts(root: &Path) -> Mounts {
    let at = root.display();
    Mounts::parse(&format!(
        "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
         33 31 0:30 / {at}/cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
         35 31 0:32 / {at}/memory rw,relatime - cgroup cgroup rw,memory\n\
         38 31 0:35 / {at}/blkio rw,relatime - cgroup cgroup rw,blkio\n\
         41 31 0:38 / {at}/unified rw,relatime - cgroup2 cgroup2 rw\n"
    ))
}

#[test]
fn v1_controllers_are_read_where_the_kernel_says_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let (root, id) = (dir.path(), id());
    let mounts = v1_mounts(root);
    assert_eq!(mounts.version(), Some(1));
    put(
        root,
        &format!("cpuacct/docker/{id}/cpuacct.usage"),
        "30562081\n",
    );
    put(
        root,
        &format!("memory/a/{id}/memory.usage_in_bytes"),
        "2097152\n",
    );
    put(
        root,
        &format!("memory/a/{id}/memory.stat"),
        "inactive_file 1\ntotal_inactive_file 1048576\n",
    );
    let bytes = "8:0 Read 100\n8:0 Write 7\n8:0 Sync 7\n8:16 Read 1\n8:0 Total 107\nTotal 108\n";
    put(
        root,
        &format!("blkio/docker/{id}/blkio.throttle.io_service_bytes_recursive"),
        bytes,
    );
    put(
        root,
        &format!("blkio/docker/{id}/blkio.throttle.io_serviced_recursive"),
        "8:0 Read 3\n8:0 Write 2\nTotal 5\n",
    );
    let cgroups = format!(
        "8:pids:/docker/{id}\n7:blkio:/docker/{id}\n4:memory:/a/{id}\n2:cpu,cpuacct:/docker/{id}\n0::/docker/{id}\n"
    );
    let usage = Files::find(&mounts, &cgroups, &id).read(&mut String::new());
    assert_eq!(
        usage,
        Some(Usage {
            cpu_ns: Some(30_562_081),
            memory: Some(1_048_576),
            io: Some(IoUsage {
                read_bytes: 101,
                write_bytes: 7,
                reads: 3,
                writes: 2
            }),
        })
    );
}

#[test]
fn v2_is_read_in_systemd_s_slices_and_above_what_the_container_made_itself() {
    let dir = tempfile::tempdir().unwrap();
    let (root, id) = (dir.path(), id());
    let mounts = Mounts::parse(&format!(
        "30 23 0:26 / {} rw - cgroup2 cgroup2 rw,nsdelegate\n",
        root.display()
    ));
    assert_eq!(mounts.version(), Some(2));
    let place = format!("system.slice/docker-{id}.scope");
    put(
        root,
        &format!("{place}/cpu.stat"),
        "usage_usec 1500\nuser_usec 1\n",
    );
    put(root, &format!("{place}/memory.current"), "4096\n");
    put(
        root,
        &format!("{place}/memory.stat"),
        "anon 1\ninactive_file 96\n",
    );
    put(
        root,
        &format!("{place}/io.stat"),
        "8:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:16 rbytes=5 wbytes=0 rios=1 wios=0\n",
    );
    let cgroups = format!("0::/{place}/init.scope\n");
    let usage = Files::find(&mounts, &cgroups, &id)
        .read(&mut String::new())
        .unwrap();
    assert_eq!(usage.cpu_ns, Some(1_500_000));
    assert_eq!(usage.memory, Some(4000));
    assert_eq!(
        usage.io,
        Some(IoUsage {
            read_bytes: 15,
            write_bytes: 20,
            reads: 2,
            writes: 2
        })
    );
}

#[test]
fn fault_69_a_controller_that_is_missing_gives_no_value_instead_of_zero() {
    let dir = tempfile::tempdir().unwrap();
    let (root, id) = (dir.path(), id());
    let mounts = Mounts::parse(&format!(
        "30 23 0:26 / {} rw - cgroup2 cgroup2 rw\n",
        root.display()
    ));
    put(root, &format!("docker/{id}/cpu.stat"), "usage_usec 7\n");
    let cgroups = format!("0::/docker/{id}\n");
    let usage = Files::find(&mounts, &cgroups, &id)
        .read(&mut String::new())
        .unwrap();
    assert_eq!(
        (usage.cpu_ns, usage.memory, usage.io),
        (Some(7000), None, None)
    );
    let nothing = Files::find(&Mounts::default(), &cgroups, &id);
    assert_eq!(nothing.read(&mut String::new()), None);
    assert_eq!(Mounts::default().version(), None);
}

#[test]
fn fault_69_nested_mounts_are_resolved_and_paths_of_other_namespaces_are_not_guessed() {
    let id = id();
    let mounts = Mounts::parse("30 23 0:26 /outer /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
    let at = |path: &str| mounts.folder("", path);
    assert_eq!(at("/outer/x"), Some("/sys/fs/cgroup/x".into()));
    assert_eq!(at("/outerx/x"), None);
    assert_eq!(at("/outer/../x"), None);
    let whole = Mounts::parse("30 23 0:26 / /sys/fs/cg\\040roup rw - cgroup2 cgroup2 rw\n");
    assert_eq!(whole.folder("", "/../docker/x"), None);
    assert_eq!(whole.folder("", "/x"), Some("/sys/fs/cg roup/x".into()));
    // A pid that now belongs to somebody else.
    assert_eq!(
        Files::find(&whole, "0::/user.slice\n", &id),
        Files::default()
    );
}
