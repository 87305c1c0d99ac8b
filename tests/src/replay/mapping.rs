//! The one table of what is replaced in recorded calls. Paths are not: each bed has its own mount
//! namespace, in which the recorded paths are the test's.
//!
//! | recorded | here |
//! | --- | --- |
//! | hosts `node1`, `node2`, as an argument or in front of a path | `localhost`, this node, which the transfer manager calls without ssh |
//! | the private registry `localhost:5000` | the test's registry, `127.0.0.1:<port>` |
//! | a SOURCE that the recorder's `cp` answered | the SOURCE that our `cp` answered |
//! | the SOURCE of `image-delete`, an image that was a clone | the SOURCE of each root image in turn |
//! | the PATH `docker://nginx:1.27-alpine?…`, in one further pass | `/var/tmp/web.tar`, an archive below a SAFE_DIR |
//! | Docker Hub, in `onedock.conf` (`ONEDOCK_REGISTRY_MIRRORS`) | a second registry of the test's |

use anyhow::Result;

use super::recording::Call;

/// The hosts of the recording, and what they are called here.
const HOSTS: [(&str, &str); 2] = [("node1", "localhost"), ("node2", "localhost")];

/// The private registry of the recording.
const REGISTRY: &str = "localhost:5000";

/// The replacements, as they are known so far.
#[derive(Debug, Clone)]
pub struct Mapping {
    registry: String,
    sources: Vec<(String, String)>,
}

impl Mapping {
    /// With the address of the test's private registry.
    pub fn new(registry: String) -> Self {
        Self {
            registry,
            sources: Vec::new(),
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
        mapped.args = call.args.iter().map(|a| self.argument(a)).collect();
        Ok(mapped.with_document(self.text(&call.document()?)))
    }

    fn argument(&self, argument: &str) -> String {
        for (recorded, here) in HOSTS {
            match argument.strip_prefix(recorded) {
                Some("") => return here.to_owned(),
                Some(rest) if rest.starts_with(":/") => return format!("{here}{rest}"),
                _ => {}
            }
        }
        self.text(argument)
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (recorded, here) in &self.sources {
            text = replace_whole(&text, recorded, here);
        }
        text.replace(REGISTRY, &self.registry)
    }
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
        assert_eq!(
            mapping.argument("node2:/var/lib/one//datastores/101/6"),
            "localhost:/var/lib/one//datastores/101/6"
        );
        assert_eq!(mapping.argument("node1"), "localhost");
        assert_eq!(mapping.argument("node10"), "node10");
    }
}
