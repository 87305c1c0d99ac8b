//! What the bridges of a node let VMs do to the node itself.

use std::fs;
use std::path::Path;

/// Remarks about bridges on which a VM could become the host's router.
pub(super) fn notes() -> Vec<String> {
    of(
        Path::new("/sys/class/net"),
        Path::new("/proc/sys/net/ipv6/conf"),
    )
}

fn of(links: &Path, settings: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(links)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|link| link.path().join("bridge").is_dir())
        .filter_map(|link| link.file_name().into_string().ok())
        .filter(|name| takes_routers(&settings.join(name)))
        .collect();
    names.sort();
    names.into_iter().map(|name| describe(&name)).collect()
}

/// Whether the host takes router advertisements that come to an interface (`accept_ra` in the kernel's
/// `Documentation/networking/ip-sysctl.rst`).
fn takes_routers(settings: &Path) -> bool {
    let read = |name: &str| {
        let text = fs::read_to_string(settings.join(name)).unwrap_or_default();
        text.trim().parse::<i32>().unwrap_or_default()
    };
    read("disable_ipv6") == 0
        && match read("accept_ra") {
            0 => false,
            2 => true,
            _ => read("forwarding") == 0,
        }
}

fn describe(bridge: &str) -> String {
    format!(
        "WARNING: this host takes router advertisements on the bridge {bridge}: a VM there can become its default route. \
         Set net/ipv6/conf/{bridge}/accept_ra to 0 in /etc/sysctl.d, unless the host's own router is on that bridge; \
         FILTER_MAC_SPOOFING and FILTER_IP_SPOOFING of a virtual network (VN_MAD fw or with security groups) stop a VM from \
         sending with other addresses than its own."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bridges_on_which_the_host_takes_router_advertisements_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let (links, settings) = (dir.path().join("links"), dir.path().join("conf"));
        for (name, bridge, accept, forwarding, disabled) in [
            ("br0", true, "1", "0", "0"),
            ("br1", true, "1", "1", "0"),
            ("br2", true, "2", "1", "0"),
            ("br3", true, "0", "0", "0"),
            ("br4", true, "1", "0", "1"),
            ("eth0", false, "1", "0", "0"),
        ] {
            fs::create_dir_all(links.join(name)).unwrap();
            if bridge {
                fs::create_dir(links.join(name).join("bridge")).unwrap();
            }
            fs::create_dir_all(settings.join(name)).unwrap();
            for (setting, value) in [
                ("accept_ra", accept),
                ("forwarding", forwarding),
                ("disable_ipv6", disabled),
            ] {
                fs::write(settings.join(name).join(setting), format!("{value}\n")).unwrap();
            }
        }
        let notes = of(&links, &settings);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("bridge br0") && notes[1].contains("bridge br2"));
    }
}
