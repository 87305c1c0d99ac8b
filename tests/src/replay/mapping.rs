//! The one table of what is replaced in recorded calls. Paths are not: each machine has its own
//! mount namespace, in which the recorded paths are the test's; nor are the hosts' names, which ssh
//! leads to the test's machines.
//!
//! | recorded | here |
//! | --- | --- |
//! | the private registry `localhost:5000` | the test's registry, `127.0.0.1:<port>` |
//! | a SOURCE that the recorder's `cp`, `mkfs` or `clone` answered | the SOURCE that ours answered |
//! | the SOURCE of a deleted image, where further images are deleted | that image's SOURCE |
//! | the size of a disk, of 20 to 200 MiB | 300 MiB more: room for contents of 100 MiB and for xfs |
//! | the CD's PATH `/etc/hostname` | `/var/tmp/cd.iso`, an ISO 9660 file |
//! | FS `ext4` of volatile disks, where root lacks CAP_SYS_RESOURCE | `xfs`, which grows while it is mounted without that |
//! | `node1` in `resume-undeploy` | `node2`, because the live migration after it is not replayed |
//! | the PATH `docker://nginx:1.27-alpine?…`, in one further pass | `/var/tmp/web.tar`, an archive below a SAFE_DIR |
//! | Docker Hub, in `onedock.conf` (`ONEDOCK_REGISTRY_MIRRORS`) | a second registry of the test's |

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::recording::Call;

/// The private registry of the recording.
const REGISTRY: &str = "localhost:5000";

/// What is added to the size of a disk, in MiB.
const LARGER: u64 = 300;

/// An argument that is longer is a document in base64.
const DOCUMENT: usize = 1000;

/// The replacements, as they are known so far.
#[derive(Debug, Clone)]
pub struct Mapping {
    registry: String,
    sources: Vec<(String, String)>,
    xfs: bool,
}

impl Mapping {
    /// With the address of the test's private registry.
    pub fn new(registry: String) -> Self {
        Self {
            registry,
            sources: Vec::new(),
            xfs: !has_resource(),
        }
    }

    /// From now on `recorded` is `here`.
    pub fn source(&mut self, recorded: &str, here: &str) {
        self.sources.retain(|(known, _)| known != recorded);
        self.sources.push((recorded.to_owned(), here.to_owned()));
    }

    /// What a recorded SOURCE is here.
    pub fn of_source(&self, recorded: &str) -> Option<&str> {
        let found = self.sources.iter().find(|(known, _)| known == recorded);
        found.map(|(_, here)| here.as_str())
    }

    /// The call as it is made here.
    pub fn apply(&self, call: &Call) -> Result<Call> {
        let mut mapped = call.clone();
        let moved = call.operation == "resume-undeploy";
        let on_host = |text: String| {
            if moved {
                text.replace("node1", "node2")
            } else {
                text
            }
        };
        let size = size_argument(call);
        mapped.args = call
            .args
            .iter()
            .enumerate()
            .map(|(at, argument)| {
                if Some(at) == size {
                    return Ok(larger(argument));
                }
                if argument.len() > DOCUMENT {
                    let document = String::from_utf8(STANDARD.decode(argument)?)?;
                    return Ok(STANDARD.encode(on_host(self.document(&document))));
                }
                Ok(on_host(self.text(argument)))
            })
            .collect::<Result<_>>()
            .with_context(|| call.title())?;
        let document = self.document(&call.document()?);
        Ok(mapped.with_document(on_host(document)))
    }

    fn document(&self, document: &str) -> String {
        let mut text = self.text(document);
        for (open, close) in [
            ("<SIZE><![CDATA[", "]]></SIZE>"),
            ("<ORIGINAL_SIZE><![CDATA[", "]]></ORIGINAL_SIZE>"),
            ("<SIZE>", "</SIZE>"),
        ] {
            text = replace_between(&text, open, close, larger);
        }
        if self.xfs {
            let (ext4, xfs) = ("<FS><![CDATA[ext4]]></FS>", "<FS><![CDATA[xfs]]></FS>");
            text = text.replace(ext4, xfs);
        }
        text.replace("/etc/hostname", "/var/tmp/cd.iso")
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (recorded, here) in &self.sources {
            text = replace_whole(&text, recorded, here);
        }
        text.replace(REGISTRY, &self.registry)
    }
}

/// Whether this process may grow a mounted ext4 (CAP_SYS_RESOURCE, bit 24).
fn has_resource() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let bits = line.and_then(|text| u64::from_str_radix(text.trim(), 16).ok());
    bits.is_some_and(|bits| bits & 1 << 24 != 0)
}

/// Which argument is the size of a disk.
fn size_argument(call: &Call) -> Option<usize> {
    match (call.driver.as_str(), call.action.as_str()) {
        ("tm", "mkimage" | "mkswap") => Some(0),
        ("tm", "resize" | "resize.ssh") => Some(1),
        ("vmm", "resize_disk") => Some(2),
        _ => None,
    }
}

fn larger(size: &str) -> String {
    match size.parse::<u64>() {
        Ok(size) => (size + LARGER).to_string(),
        Err(_) => size.to_owned(),
    }
}

fn replace_between(text: &str, open: &str, close: &str, how: impl Fn(&str) -> String) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(open) {
        made.push_str(before);
        made.push_str(open);
        let end = after.find(close).unwrap_or(0);
        made.push_str(&how(&after[..end]));
        rest = &after[end..];
    }
    made + rest
}

/// Replaces `from` where it does not go on with a digit: `img-1` is no part of `img-11`.
fn replace_whole(text: &str, from: &str, to: &str) -> String {
    let mut made = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(from) {
        let (before, found) = rest.split_at(at);
        let after = &found[from.len()..];
        let whole = !after.starts_with(|c: char| c.is_ascii_digit() || c == '@');
        made.push_str(before);
        made.push_str(if whole { to } else { from });
        rest = after;
    }
    made + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_replaced_where_it_stands_whole() {
        let mut mapping = Mapping::new("127.0.0.1:6000".into());
        mapping.source(
            "docker://localhost:5000/onedock/img-1",
            "docker://127.0.0.1:6000/onedock/img-1@sha256:ab",
        );
        assert_eq!(
            mapping.text(
                "[docker://localhost:5000/onedock/img-1] docker://localhost:5000/onedock/img-11"
            ),
            "[docker://127.0.0.1:6000/onedock/img-1@sha256:ab] docker://127.0.0.1:6000/onedock/img-11"
        );
    }

    #[test]
    fn disks_become_larger_everywhere_alike() {
        let mapping = Mapping::new("r".into());
        assert_eq!(
            mapping
                .document("<DISK><SIZE><![CDATA[50]]></SIZE></DISK><SIZE>64</SIZE><SIZE></SIZE>"),
            "<DISK><SIZE><![CDATA[350]]></SIZE></DISK><SIZE>364</SIZE><SIZE></SIZE>"
        );
    }
}
