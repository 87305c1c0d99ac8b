//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a VM. The engine mounts files of its
//! own folder there; ours is written into those same files, so that `docker cp` shows what the
//! VM sees, a change reaches a running VM, and nothing more has to be removed in the end.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use onedock_common::boot::BootSpec;

/// The files that take content of this VM: where they are in the container, and what is in them.
pub fn contents(spec: &BootSpec) -> Vec<(&'static str, String)> {
    let mut files = vec![
        ("/etc/hosts", hosts(spec)),
        ("/etc/hostname", format!("{}\n", spec.hostname)),
    ];
    if !spec.dns.is_empty() {
        files.push(("/etc/resolv.conf", resolv_conf(spec)));
    }
    files
}

fn hosts(spec: &BootSpec) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nff00::0\tip6-mcastprefix\n\
         ff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n",
    );
    let name = spec.hostname.as_str();
    let names = match name.split_once('.') {
        Some((short, _)) => format!("{name} {short}"),
        None => name.to_owned(),
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
    text
}

fn resolv_conf(spec: &BootSpec) -> String {
    let mut text = String::new();
    for server in &spec.dns {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !spec.search.is_empty() {
        let domains: Vec<&str> = spec.search.iter().map(|domain| domain.as_str()).collect();
        let _ = writeln!(text, "search {}", domains.join(" "));
    }
    text
}

/// Whether `source` is the engine's file for `target`: `…/<container id>/<name of the target>`.
pub fn is_the_engines(source: &Path, target: &str, container: &str) -> bool {
    source.is_absolute()
        && source.file_name() == Path::new(target).file_name()
        && source.parent().and_then(Path::file_name) == Some(container.as_ref())
}

/// Writes into the file that the engine mounts: the same file, because a mount holds on to it.
pub fn write(source: &Path, content: &str) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .truncate(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(source)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    file.write_all(content.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use onedock_common::VmId;
    use onedock_common::boot::{FirstProcess, VERSION};

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
    }

    #[test]
    fn name_servers_are_written_only_when_there_are_some() {
        let mut spec = spec();
        assert_eq!(contents(&spec).len(), 2);
        spec.dns = vec!["1.1.1.1".parse().unwrap(), "fd00::53".parse().unwrap()];
        spec.search = vec!["lan".parse().unwrap(), "example.com".parse().unwrap()];
        assert_eq!(
            contents(&spec)[2].1,
            "nameserver 1.1.1.1\nnameserver fd00::53\nsearch lan example.com\n"
        );
    }

    #[test]
    fn only_the_engines_own_file_is_written_and_no_link() {
        assert!(is_the_engines(
            Path::new("/d/containers/ab/hosts"),
            "/etc/hosts",
            "ab"
        ));
        assert!(!is_the_engines(Path::new("/etc/hosts"), "/etc/hosts", "ab"));
        assert!(!is_the_engines(
            Path::new("/d/ab/hostname"),
            "/etc/hosts",
            "ab"
        ));
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("f"), dir.path().join("l"));
        std::fs::write(&file, "a longer text than the new one").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert!(write(&link, "x").is_err());
        write(&file, "x").unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
    }
}
