//! The mounts that the engine lays in every container (moby's `oci/defaults.go`). It leaves out its
//! own where the image has a VOLUME; as a VM's volumes are dropped, the engine's have to be back.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Destination, type, source and options, parents first.
const DEFAULTS: [(&str, &str, &str, &[&str]); 7] = [
    ("/proc", "proc", "proc", &["nosuid", "noexec", "nodev"]),
    (
        "/dev",
        "tmpfs",
        "tmpfs",
        &["nosuid", "strictatime", "mode=755", "size=65536k"],
    ),
    (
        "/dev/pts",
        "devpts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ),
    (
        "/sys",
        "sysfs",
        "sysfs",
        &["nosuid", "noexec", "nodev", "ro"],
    ),
    (
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["ro", "nosuid", "noexec", "nodev"],
    ),
    (
        "/dev/mqueue",
        "mqueue",
        "mqueue",
        &["nosuid", "noexec", "nodev"],
    ),
    (
        "/dev/shm",
        "tmpfs",
        "shm",
        &["nosuid", "noexec", "nodev", "mode=1777", "size=67108864"],
    ),
];

/// Whether `path` is a place of one of these mounts, or beneath one, so that a folder of the root
/// file system there would never be seen.
pub(super) fn covers(path: &Path) -> bool {
    DEFAULTS.iter().any(|(place, ..)| path.starts_with(place))
}

/// Puts back what the engine has left out because of the volumes at the places `dropped`. Only what
/// is missing is added; these mounts come first and in their order, as the engine lays them.
pub(super) fn restore(mounts: &mut Vec<Value>, dropped: &[PathBuf]) {
    let left_out = |place: &str| {
        let place = Path::new(place);
        // With a volume at /dev the engine leaves out all that is beneath it.
        let above = |path: &PathBuf| path == Path::new("/dev") && place.starts_with(path);
        dropped.iter().any(|path| path == place || above(path))
    };
    if !DEFAULTS.iter().any(|(place, ..)| left_out(place)) {
        return;
    }
    let mut ordered = Vec::with_capacity(mounts.len() + DEFAULTS.len());
    for (place, kind, source, options) in DEFAULTS {
        let is_there = |mount: &Value| mount.get("destination") == Some(&json!(place));
        if let Some(at) = mounts.iter().position(is_there) {
            ordered.push(mounts.remove(at));
        } else if left_out(place) {
            ordered.push(json!({
                "destination": place, "type": kind, "source": source, "options": options,
            }));
        }
    }
    ordered.append(mounts);
    *mounts = ordered;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(mounts: &[Value]) -> Vec<&str> {
        mounts
            .iter()
            .filter_map(|mount| mount["destination"].as_str())
            .collect()
    }

    fn mounts(places: &[&str]) -> Vec<Value> {
        let mount = |place: &&str| json!({"destination": place, "type": "engine"});
        places.iter().map(mount).collect()
    }

    #[test]
    fn what_a_volume_kept_the_engine_from_mounting_is_back_in_its_place() {
        let all = [
            "/proc",
            "/dev",
            "/dev/pts",
            "/sys",
            "/sys/fs/cgroup",
            "/dev/mqueue",
            "/dev/shm",
            "/etc/hosts",
        ];
        for dropped in ["/proc", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/shm"] {
            let left: Vec<&str> = all.into_iter().filter(|p| *p != dropped).collect();
            let mut list = mounts(&left);
            restore(&mut list, &[dropped.into()]);
            assert_eq!(places(&list), all, "{dropped}");
            let kinds = list.iter().filter(|mount| mount["type"] != "engine");
            assert_eq!(kinds.count(), 1, "only what was missing is new");
        }
        let mut list = mounts(&["/proc", "/sys", "/sys/fs/cgroup", "/etc/hosts"]);
        restore(&mut list, &["/dev".into()]);
        assert_eq!(places(&list), all);
    }

    #[test]
    fn a_mount_that_somebody_asked_for_and_other_volumes_change_nothing() {
        let mut list = mounts(&["/proc", "/data", "/dev/shm"]);
        let before = list.clone();
        restore(&mut list, &["/srv".into(), "/device".into()]);
        assert_eq!(list, before);
        restore(&mut list, &["/dev/shm".into()]);
        assert_eq!(places(&list), ["/proc", "/dev/shm", "/data"]);
        assert!(list.iter().all(|mount| mount["type"] == "engine"));
    }

    #[test]
    fn a_folder_beneath_a_mount_of_the_engine_is_not_seen() {
        for path in ["/proc", "/dev/shm/x", "/sys/fs/cgroup"] {
            assert!(covers(Path::new(path)), "{path}");
        }
        for path in ["/device", "/srv", "/", "/etc/hosts"] {
            assert!(!covers(Path::new(path)), "{path}");
        }
    }

    #[test]
    fn a_volume_at_dev_brings_back_nothing_that_is_not_beneath_it() {
        let mut list = mounts(&["/dev/pts"]);
        restore(&mut list, &["/dev".into()]);
        assert!(places(&list).contains(&"/dev/shm"));
        assert!(!places(&list).contains(&"/proc"), "{list:?}");
        let mut list = mounts(&["/sys"]);
        restore(&mut list, &["/proc".into()]);
        assert_eq!(places(&list), ["/proc", "/sys"]);
    }
}
