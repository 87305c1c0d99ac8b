//! Requests of the front-end half to the node half: one line of JSON on standard input, behind which
//! some requests send content in the form of [`crate::checksummed_stream`]; one line of JSON comes
//! back, or content. Each request is a type in the module of its script.

use std::fmt;
use std::io::BufRead;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use onedock_common::engine::Engine;
use onedock_common::opennebula::answer::Answer;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::location::VmPath;
use crate::node::NodeContext;

/// The longest first line, in bytes.
pub(crate) const LIMIT: u64 = 256 * 1024;

/// The deadline of what moves layers or disks.
pub(crate) const TRANSFER: Duration = Duration::from_secs(3 * 60 * 60);
/// The deadline of everything else: the wait for another action on the VM, then some calls of the
/// engine.
const WORK: Duration = Duration::from_secs(600);

/// Two builds of one version may differ.
const UNREADABLE: &str =
    "the request cannot be read; run 'onehost sync -f' on the front-end if its build differs";

/// A request to a host.
pub(crate) trait Request: Serialize + DeserializeOwned {
    /// Its name in the line.
    const NAME: &'static str;
    /// How long the host may take to answer.
    const DEADLINE: Duration = WORK;
    /// What the host answers.
    type Reply: Serialize + DeserializeOwned;

    /// The disk or folder that it is about.
    fn vm_path(&self) -> &VmPath;

    /// Does it, on the host. `content` is what follows the request on standard input.
    async fn perform<E: Engine>(
        self,
        node: &NodeContext<'_, E>,
        content: &mut dyn BufRead,
    ) -> Result<Self::Reply>;

    /// What the node half writes to standard output when it is done.
    fn answer(reply: &Self::Reply) -> Result<Answer> {
        Ok(Answer::line(serde_json::to_string(reply)?))
    }
}

/// Whether what was to come to a host had to.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Arrival {
    /// It is there now.
    Done,
    /// The folder is the one that it comes from, by another name of this host.
    SameFolder,
}

/// The line of a request.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Call<B = Value> {
    /// The sender's version: both halves must be one build.
    version: String,
    /// [`Request::NAME`].
    pub(crate) request: String,
    pub(crate) body: B,
}

/// Without the body, which may hold the registry's password.
impl<B> fmt::Debug for Call<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// The line of `request`.
pub(crate) fn line<R: Request>(request: &R) -> Result<Vec<u8>> {
    let mut line = serde_json::to_vec(&Call {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        request: R::NAME.to_owned(),
        body: request,
    })?;
    line.push(b'\n');
    Ok(line)
}

impl Call {
    /// Reads the line; one of another version is refused before anything else in it is read.
    pub(crate) fn parse(line: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            version: String,
        }
        let here = env!("CARGO_PKG_VERSION");
        let Version { version } = serde_json::from_slice(line)
            .context("the request is not from onedock's front-end half")?;
        ensure!(
            version == here,
            "the front-end has onedock {version} and this host has {here}; run 'onehost sync -f' on the front-end"
        );
        serde_json::from_slice(line).context(UNREADABLE)
    }

    /// The request itself.
    pub(crate) fn body<R: Request>(self) -> Result<R> {
        serde_json::from_value(self.body).context(UNREADABLE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::Resize;

    fn resize() -> Resize {
        Resize {
            disk: VmPath::try_from(std::path::PathBuf::from("/ds/101/5/disk.1")).unwrap(),
            size_mib: 7,
        }
    }

    #[test]
    fn a_request_arrives_as_it_was_sent() {
        let line = line(&resize()).unwrap();
        assert_eq!(line.iter().position(|b| *b == b'\n'), Some(line.len() - 1));
        let call = Call::parse(&line).unwrap();
        assert_eq!(call.request, Resize::NAME);
        let read: Resize = call.body().unwrap();
        assert_eq!((read.vm_path(), read.size_mib), (resize().vm_path(), 7));
        assert_eq!(Resize::answer(&()).unwrap(), Answer::line("null"));
    }

    #[test]
    fn a_line_is_bounded_and_what_moves_layers_may_take_hours() {
        assert_eq!(LIMIT, 262_144);
        assert_eq!(TRANSFER.as_secs(), 10_800);
    }

    #[test]
    fn the_password_in_a_request_is_not_printed() {
        let line = line(&resize()).unwrap();
        let printed = format!("{:?}", Call::parse(&line).unwrap());
        assert!(
            printed.contains("resize") && !printed.contains("size_mib"),
            "{printed}"
        );
    }

    #[test]
    fn a_request_of_another_version_is_refused_with_what_to_do_whatever_else_is_in_it() {
        for other in [
            r#"{"version":"0.0.0","task":{"look":{"place":"/x"}}}"#,
            r#"{"version":"99.1.0","request":"resize","body":{},"more":1}"#,
        ] {
            let error = Call::parse(other.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("run 'onehost sync -f'"), "{error}");
        }
        // A newer version may send the very same request and mean something else.
        let here = env!("CARGO_PKG_VERSION");
        let same = String::from_utf8(line(&resize()).unwrap()).unwrap();
        let other = same.replacen(&format!("\"{here}\""), "\"99.1.0\"", 1);
        let error = Call::parse(other.as_bytes()).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "the front-end has onedock 99.1.0 and this host has {here}; run 'onehost sync -f' on the front-end"
            )
        );
        let error = Call::parse(b"{}").unwrap_err().to_string();
        assert!(error.contains("front-end half"), "{error}");
    }

    #[test]
    fn a_field_that_this_version_does_not_know_is_refused() {
        let line = String::from_utf8(line(&resize()).unwrap()).unwrap();
        let more = line.replace("\"size_mib\"", "\"other\":1,\"size_mib\"");
        let call = Call::parse(more.as_bytes()).unwrap();
        assert!(call.body::<Resize>().is_err());
        let more = line.replace("\"body\"", "\"other\":1,\"body\"");
        assert!(Call::parse(more.as_bytes()).is_err());
    }
}
