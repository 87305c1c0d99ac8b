//! `onedock-im`: the monitor agent of a node. See `onedock_im`.

use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use onedock_common::HostId;
use onedock_im::standby::Failures;
use onedock_im::{oneshot, start};

const USAGE: &str = "usage:
  onedock-im start <im_mad> <host id> <host name>   replace this host's agent; MONITOR_CONFIGURATION on stdin
  onedock-im stop <im_mad> <host id> <host name>    end it
  onedock-im probe host|system|vm|state [host id]   print one probe's records
  onedock-im --version
";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args_os()
        .skip(1)
        .map(|a| a.to_string_lossy().into_owned())
        .collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match run(&args).and_then(|text| Ok(io::stdout().write_all(text.as_bytes())?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: `run_monitord_client` makes it the host's error text.
            let text = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &[&str]) -> Result<String> {
    match *args {
        // A host name may be absent or more than a word; nothing depends on it.
        ["start", mad, host, ref name @ ..] => {
            let document = start::start(mad, id(host)?, &name.join(" "), &mut io::stdin())?;
            Ok(document + "\n")
        }
        ["stop", _, host, ..] => start::stop(id(host)?)
            .map(|()| String::new())
            .map_err(Into::into),
        // The agent's own processes, which nobody else starts.
        ["agent", _, host, token, ..] => {
            start::agent(id(host)?, token.parse()?)?;
            Ok(String::new())
        }
        ["standby", host, token, failures] => {
            start::standby(id(host)?, &token.parse()?, count(failures)?)?;
            Ok(String::new())
        }
        ["resume", host, token, failures] => {
            start::resume(id(host)?, token.parse()?, count(failures)?)?;
            Ok(String::new())
        }
        ["probe", probe, ..] => match probe.parse() {
            Ok(probe) => Ok(oneshot::run(probe)?),
            Err(problem) => bail!("{problem}"),
        },
        ["--help" | "-h"] => Ok(USAGE.to_owned()),
        ["--version" | "-V"] => Ok(format!("onedock-im {}\n", env!("CARGO_PKG_VERSION"))),
        _ => bail!("{}", USAGE.trim_end()),
    }
}

fn id(text: &str) -> Result<HostId> {
    text.parse()
        .with_context(|| "the host id is wrong".to_owned())
}

fn count(text: &str) -> Result<Failures> {
    text.parse()
        .map_err(|problem: String| anyhow::anyhow!(problem))
}
