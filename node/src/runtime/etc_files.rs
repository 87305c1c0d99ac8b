//! `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf` of a VM. The engine mounts files of its
//! own folder there; ours is written into those same files, so that `docker cp` shows what the
//! VM sees, a change reaches a running VM, and nothing more has to be removed in the end.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use onedock_common::SearchDomain;
use onedock_common::state::boot::BootSpec;

/// What a file is to contain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    /// This text.
    Text(String),
    /// What the engine wrote into it, with these search domains in place of its own. A VM that
    /// brings domains and no name server has the servers of its host, as without any of them.
    Search(Vec<SearchDomain>),
}

/// The files that the engine mounts in every container.
pub(crate) const TARGETS: [&str; 3] = ["/etc/hosts", "/etc/hostname", "/etc/resolv.conf"];

/// The files that take content of this VM: where they are in the container, and what is in them.
pub(crate) fn contents(spec: &BootSpec) -> Vec<(&'static str, Content)> {
    let mut files = vec![
        ("/etc/hosts", Content::Text(hosts(spec))),
        (
            "/etc/hostname",
            Content::Text(format!("{}\n", spec.hostname)),
        ),
    ];
    if !spec.dns.is_empty() {
        files.push(("/etc/resolv.conf", Content::Text(resolv_conf(spec))));
    } else if !spec.search.is_empty() {
        files.push(("/etc/resolv.conf", Content::Search(spec.search.clone())));
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
        text.push_str(&search_line(&spec.search));
    }
    text
}

fn search_line(domains: &[SearchDomain]) -> String {
    let domains: Vec<&str> = domains.iter().map(SearchDomain::as_str).collect();
    format!("search {}\n", domains.join(" "))
}

/// A `resolv.conf` with these search domains in place of its own.
fn with_search(text: &str, domains: &[SearchDomain]) -> String {
    let is_search = |line: &&str| {
        let word = line.split_whitespace().next();
        matches!(word, Some("search" | "domain"))
    };
    let mut kept: String = text
        .lines()
        .filter(|line| !is_search(line))
        .fold(String::new(), |all, line| all + line + "\n");
    kept.push_str(&search_line(domains));
    kept
}

/// Whether `source` is the engine's file for `target`: `…/<container id>/<name of the target>`.
pub(crate) fn is_the_engines(source: &Path, target: &str, container: &str) -> bool {
    source.is_absolute()
        && source.file_name() == Path::new(target).file_name()
        && source.parent().and_then(Path::file_name) == Some(container.as_ref())
}

/// The longest file of the engine's that is read, in bytes.
const LIMIT: u64 = 64 * 1024;

/// Writes into the file that the engine mounts: the same file, because a mount holds on to it.
pub(crate) fn write(source: &Path, content: &Content) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_CLOEXEC)
        .open(source)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("is not a regular file"));
    }
    let text = match content {
        Content::Text(text) => text.clone(),
        Content::Search(domains) => {
            let mut bytes = Vec::new();
            io::Read::by_ref(&mut file)
                .take(LIMIT)
                .read_to_end(&mut bytes)?;
            with_search(&String::from_utf8_lossy(&bytes), domains)
        }
    };
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
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
    }

    #[test]
    fn name_servers_are_written_only_when_there_are_some() {
        let mut spec = spec();
        assert_eq!(contents(&spec).len(), 2);
        spec.dns = vec!["1.1.1.1".parse().unwrap(), "fd00::53".parse().unwrap()];
        spec.search = vec!["lan".parse().unwrap(), "example.com".parse().unwrap()];
        let text = "nameserver 1.1.1.1\nnameserver fd00::53\nsearch lan example.com\n";
        assert_eq!(contents(&spec)[2].1, Content::Text(text.to_owned()));
    }

    #[test]
    fn search_domains_count_without_name_servers_beside_those_of_the_engine() {
        let mut spec = spec();
        spec.search = vec!["lan".parse().unwrap(), "_x.example.com".parse().unwrap()];
        let (place, content) = &contents(&spec)[2];
        assert_eq!(*place, "/etc/resolv.conf");
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("resolv.conf");
        let engines =
            "# by the engine\nnameserver 10.0.0.2\nsearch host.example\ndomain x\noptions ndots:2";
        let expected =
            "# by the engine\nnameserver 10.0.0.2\noptions ndots:2\nsearch lan _x.example.com\n";
        std::fs::write(&file, engines).unwrap();
        for _ in 0..2 {
            write(&file, content).unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
        }
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
        let text = Content::Text("x".to_owned());
        assert!(write(&link, &text).is_err());
        write(&file, &text).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "x");
    }
}
