//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a VM, made anew at every start. The engine
//! brings none to a container without its network, and where it does, it may write into them again
//! after `create` (from 28.0 on).
//!
//! They lie in a file system in memory that is mounted for this container alone in
//! `/run/onedock/etc/<container id>`: the VM may write to them, and what it writes is bounded and counts
//! as memory of its own, so that they are no way to fill the host's disk.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use onedock_common::state::boot::BootSpec;
use onedock_common::state::files;
use onedock_common::{ContainerId, SearchDomain};

use crate::state_folder::{self, RUN};

/// Where the files are in the container.
pub(crate) const TARGETS: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// The host's list of name servers, and the one behind it where systemd-resolved answers on a
/// loopback address, which is none of the container's.
const HOST_RESOLV_CONF: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// The longest list of name servers that is read, in bytes.
const LIMIT: u64 = 64 * 1024;

/// What the files of one VM may hold together.
const SIZE: &str = "mode=711,size=4m,nr_inodes=16";

/// The files of a VM: where they are in the container, and what is in them.
pub(crate) fn contents(spec: &BootSpec) -> [(&'static str, String); 3] {
    let [hosts_at, hostname_at, resolv_conf_at] = TARGETS;
    let mut resolv_conf = if spec.dns.is_empty() {
        of_the_host(&HOST_RESOLV_CONF.map(read), &spec.search)
    } else {
        resolv_conf(spec)
    };
    if !spec.dns_options.is_empty() {
        let options: Vec<String> = spec.dns_options.iter().map(ToString::to_string).collect();
        let _ = writeln!(resolv_conf, "options {}", options.join(" "));
    }
    [
        (hosts_at, hosts(spec)),
        (hostname_at, format!("{}\n", spec.hostname)),
        (resolv_conf_at, resolv_conf),
    ]
}

fn read(path: &str) -> String {
    let bytes = files::read_bounded(Path::new(path), LIMIT).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hosts(spec: &BootSpec) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let name = spec.hostname.as_str();
    let names = match (name.split_once('.'), &spec.domain) {
        (Some((short, _)), _) => format!("{name} {short}"),
        (None, Some(domain)) => format!("{name}.{} {name}", domain.as_str()),
        (None, None) => name.to_owned(),
    };
    let mut addresses = spec
        .nics
        .iter()
        .flat_map(|nic| nic.addresses.iter().map(|network| network.ip()))
        .peekable();
    if addresses.peek().is_none() {
        let _ = writeln!(text, "127.0.1.1\t{names}");
    }
    for address in addresses {
        let _ = writeln!(text, "{address}\t{names}");
    }
    for entry in &spec.hosts {
        let _ = writeln!(text, "{}\t{}", entry.address, entry.name.as_str());
    }
    text
}

fn resolv_conf(spec: &BootSpec) -> String {
    let mut text = String::new();
    for server in &spec.dns {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !spec.search.is_empty() {
        text.push_str(&search_line(&spec.search));
    }
    text
}

fn search_line(domains: &[SearchDomain]) -> String {
    let domains: Vec<&str> = domains.iter().map(SearchDomain::as_str).collect();
    format!("search {}\n", domains.join(" "))
}

/// The first list that names a server which a container can reach, without those that it cannot;
/// with these search domains, if any, in place of the host's.
fn of_the_host(lists: &[String], domains: &[SearchDomain]) -> String {
    let reachable = |list: &&String| list.lines().any(|line| server(line) == Some(true));
    let Some(list) = lists.iter().find(reachable).or(lists.first()) else {
        return String::new();
    };
    let mut text = String::new();
    for line in list.lines() {
        let word = line.split_whitespace().next();
        let replaced = !domains.is_empty() && matches!(word, Some("search" | "domain"));
        if !replaced && server(line) != Some(false) {
            text.push_str(line);
            text.push('\n');
        }
    }
    if !domains.is_empty() {
        text.push_str(&search_line(domains));
    }
    text
}

/// Whether the name server of this line answers in a container too; `None` for any other line.
fn server(line: &str) -> Option<bool> {
    let mut words = line.split_whitespace();
    if words.next() != Some("nameserver") {
        return None;
    }
    let address = words.next()?.parse::<std::net::IpAddr>().ok();
    Some(address.is_some_and(|address| !address.is_loopback()))
}

/// Whether `source` is the engine's file for `target`: `…/<container id>/<name of the target>`.
pub(crate) fn is_the_engines(source: &Path, target: &str, container: &str) -> bool {
    source.is_absolute()
        && source.file_name() == Path::new(target).file_name()
        && source.parent().and_then(Path::file_name) == Some(container.as_ref())
}

/// The folder with the files of a container, on the host.
pub(crate) fn folder(container: &ContainerId) -> PathBuf {
    Path::new(RUN).join("etc").join(container.as_str())
}

/// The file for `target`, on the host.
pub(crate) fn file(container: &ContainerId, target: &str) -> PathBuf {
    let name = Path::new(target).file_name().unwrap_or_default();
    folder(container).join(name)
}

/// Lays the files of a container, in place of those of an earlier start; `owner` are the host's ids of
/// the container's root user. Each is there whole or the call fails.
pub(crate) fn lay(
    container: &ContainerId,
    contents: &[(&str, String)],
    owner: (u32, u32),
) -> io::Result<()> {
    remove(container)?;
    let folder = folder(container);
    if let Some(parent) = folder.parent() {
        state_folder::make(parent)?;
        // A container in a user namespace has its mounts made by a user that is not the host's root.
        for path in [Path::new(RUN), parent] {
            fs::set_permissions(path, Permissions::from_mode(0o711))?;
        }
    }
    fs::create_dir(&folder)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("onedock"), &folder, Some("tmpfs"), flags, Some(SIZE))?;
    for (target, text) in contents {
        let mut new = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o644)
            .open(file(container, target))?;
        new.set_permissions(Permissions::from_mode(0o644))?;
        fchown(&new, Some(owner.0), Some(owner.1))?;
        new.write_all(text.as_bytes())?;
    }
    Ok(())
}

/// Writes the files whose content is to be another than before, in the place of what the running container
/// has in them. What its users wrote into the others stays.
pub(crate) fn renew(container: &ContainerId, before: &BootSpec, spec: &BootSpec) -> io::Result<()> {
    for ((target, new), (_, old)) in contents(spec).into_iter().zip(contents(before)) {
        if new != old {
            let mut file = OpenOptions::new()
                .write(true)
                .truncate(true)
                .open(file(container, target))?;
            file.write_all(new.as_bytes())?;
        }
    }
    Ok(())
}

/// Removes the files of a container, if there are any. One that runs has them until it ends.
pub(crate) fn remove(container: &ContainerId) -> io::Result<()> {
    let folder = folder(container);
    loop {
        match umount2(&folder, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::ENOENT) => return Ok(()),
            // Nothing is mounted there (any more).
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    fs::remove_dir(&folder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::VmId;
    use onedock_common::state::boot::{FirstProcess, VERSION};

    fn spec() -> BootSpec {
        serde_json::from_value(serde_json::json!({
            "version": VERSION, "vm": VmId::new(5), "boot_id": "b", "hostname": "web.lan",
            "args": ["x"], "first": FirstProcess::Command, "dns": [], "search": [],
            "context": null, "volumes": [], "disks": [],
            "nics": [{"id": 0, "host": "one-5-0", "bridge": "br0", "mac": "02:00:0a:4d:00:2a",
                "mtu": null, "addresses": ["10.77.0.42/24", "fd00::2/64"], "gateway": null,
                "gateway6": null, "metric": null}]
        }))
        .unwrap()
    }

    #[test]
    fn the_vm_finds_itself_under_its_name_on_every_address() {
        let hosts = hosts(&spec());
        assert!(hosts.starts_with("127.0.0.1\tlocalhost\n"));
        assert!(hosts.ends_with("10.77.0.42\tweb.lan web\nfd00::2\tweb.lan web\n"));
        let mut alone = spec();
        alone.nics.clear();
        alone.hostname = "web".parse().unwrap();
        assert!(super::hosts(&alone).ends_with("127.0.1.1\tweb\n"));
        alone.domain = "example.com".parse().ok();
        alone.hosts = vec!["db:10.0.0.7".parse().unwrap()];
        let text = "127.0.1.1\tweb.example.com web\n10.0.0.7\tdb\n";
        assert!(super::hosts(&alone).ends_with(text));
    }

    #[test]
    fn the_name_servers_of_a_vm_stand_before_its_search_domains() {
        let mut spec = spec();
        spec.dns = vec!["1.1.1.1".parse().unwrap(), "fd00::53".parse().unwrap()];
        spec.search = vec!["lan".parse().unwrap(), "example.com".parse().unwrap()];
        spec.dns_options = vec!["ndots:2".parse().unwrap(), "rotate".parse().unwrap()];
        let text = "nameserver 1.1.1.1\nnameserver fd00::53\nsearch lan example.com\noptions ndots:2 rotate\n";
        let [hosts, hostname, resolv_conf] = contents(&spec);
        assert_eq!(resolv_conf, ("/etc/resolv.conf", text.to_owned()));
        assert_eq!(hostname, ("/etc/hostname", "web.lan\n".to_owned()));
        assert_eq!(hosts.0, "/etc/hosts");
    }

    #[test]
    fn search_domains_count_without_name_servers_beside_those_of_the_host() {
        let domains = ["lan".parse().unwrap(), "_x.example.com".parse().unwrap()];
        let host = "# by DHCP\nnameserver 10.0.0.2\nsearch host.example\ndomain x\noptions ndots:2";
        assert_eq!(
            of_the_host(&[host.to_owned()], &domains),
            "# by DHCP\nnameserver 10.0.0.2\noptions ndots:2\nsearch lan _x.example.com\n"
        );
        assert_eq!(of_the_host(&[host.to_owned()], &[]), format!("{host}\n"));
    }

    #[test]
    fn a_name_server_on_the_hosts_loopback_is_none_of_the_vms() {
        let stub = "nameserver 127.0.0.53\noptions edns0\n".to_owned();
        let behind = "nameserver 10.0.0.2\nnameserver ::1\nnameserver fe80::1%eth0\n".to_owned();
        let both = [stub.clone(), behind];
        assert_eq!(of_the_host(&both, &[]), "nameserver 10.0.0.2\n");
        assert_eq!(of_the_host(&[stub, String::new()], &[]), "options edns0\n");
        let own = ["nameserver 9.9.9.9\n", "nameserver 10.0.0.2\n"].map(str::to_owned);
        assert_eq!(of_the_host(&own, &[]), "nameserver 9.9.9.9\n");
        assert_eq!(of_the_host(&[], &[]), "");
    }

    #[test]
    fn only_a_file_in_the_containers_own_folder_is_the_engines() {
        let is = |source: &str| is_the_engines(Path::new(source), "/etc/hosts", "ab");
        assert!(is("/d/containers/ab/hosts"));
        for other in ["/etc/hosts", "/d/ab/hostname", "d/ab/hosts"] {
            assert!(!is(other), "{other}");
        }
    }
}
