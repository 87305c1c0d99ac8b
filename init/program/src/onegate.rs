//! REPORT_READY: `PUT /vm` with `READY=YES` at OneGate, as the context packages report it (net-99): three
//! tries, 10 s apart.
//!
//! Plain HTTP is spoken here. An endpoint behind TLS is left to `curl` or `wget` of the image.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::command::resolved;
use crate::context_file::{self, ContextFile};
use crate::scripts::{self, Script};

const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(10);
/// The longest that one exchange may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where OneGate listens.
#[derive(Debug, PartialEq, Eq)]
struct Endpoint<'a> {
    is_tls: bool,
    host: &'a str,
    port: u16,
    path: &'a str,
}

/// Reports it, once READY_SCRIPT or READY_SCRIPT_PATH has succeeded.
///
/// # Errors
///
/// A line that says why it could not be reported.
pub(crate) fn report_ready(context: &ContextFile, folder: &Path) -> Result<(), String> {
    let missing = |what: &str| format!("READY is not reported: {what}");
    let url = context
        .get("ONEGATE_ENDPOINT")
        .ok_or_else(|| missing("the context has no ONEGATE_ENDPOINT"))?;
    let token = context_file::token(folder)
        .ok_or_else(|| missing("the context has no token; add TOKEN=YES to CONTEXT"))?;
    let vm = context.get("VMID").unwrap_or_default();
    let endpoint = Endpoint::parse(url)
        .ok_or_else(|| missing("ONEGATE_ENDPOINT is not http:// or https:// with a host"))?;
    let mut last = String::new();
    for attempt in 0..TRIES {
        if attempt > 0 {
            pause();
        }
        let done = is_ready(context).and_then(|()| endpoint.put(url, &token, vm));
        match done {
            Ok(()) => return Ok(()),
            Err(problem) => last = problem,
        }
    }
    Err(missing(&last))
}

/// Nothing else is to be waited for.
#[expect(
    clippy::disallowed_methods,
    reason = "OneGate says by nothing when it can be asked again"
)]
fn pause() {
    thread::sleep(PAUSE);
}

/// Runs what says whether the VM is ready.
fn is_ready(context: &ContextFile) -> Result<(), String> {
    let (name, content) = if let Some(path) = context.get("READY_SCRIPT_PATH") {
        let content = format!("#!/bin/sh\nexec \"{}\"\n", path.trim().replace('"', "\\\""));
        ("READY_SCRIPT_PATH", content.into_bytes())
    } else if let Some(text) = context.get("READY_SCRIPT") {
        let decoded = context_file::decode(text).filter(|bytes| std::str::from_utf8(bytes).is_ok());
        ("READY_SCRIPT", decoded.unwrap_or_else(|| text.into()))
    } else {
        return Ok(());
    };
    let script = Script {
        name: name.to_owned(),
        content,
    };
    scripts::run(&script, context)
}

impl<'a> Endpoint<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let url = url.trim();
        let (is_tls, rest) = match url.strip_prefix("http://") {
            Some(rest) => (false, rest),
            None => (true, url.strip_prefix("https://")?),
        };
        let (authority, path) = match rest.find('/') {
            Some(at) => (&rest[..at], rest[at..].trim_end_matches('/')),
            None => (rest, ""),
        };
        let (host, port) = match authority.strip_prefix('[') {
            Some(six) => {
                let (host, after) = six.split_once(']')?;
                (host, after.strip_prefix(':'))
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None if is_tls => 443,
            None => 80,
        };
        let is_plain = |c: char| c.is_ascii_graphic() && c != '@';
        (!host.is_empty() && host.chars().all(is_plain) && path.chars().all(is_plain)).then_some(
            Self {
                is_tls,
                host,
                port,
                path,
            },
        )
    }

    fn put(&self, url: &str, token: &str, vm: &str) -> Result<(), String> {
        if self.is_tls {
            return by_program(url, token, vm);
        }
        let address = address(self.host)
            .ok_or_else(|| format!("the address of {} is not known in the VM", self.host))?;
        self.exchange(address, token, vm)
            .map_err(|e| format!("OneGate at {}:{}: {e}", self.host, self.port))
    }

    fn exchange(&self, address: IpAddr, token: &str, vm: &str) -> io::Result<()> {
        let to = SocketAddr::new(address, self.port);
        let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(self.request(token, vm).as_bytes())?;
        let mut head = [0; 64];
        let read = stream.read(&mut head)?;
        status(&head[..read])
    }

    fn request(&self, token: &str, vm: &str) -> String {
        let body = "READY=YES";
        let plain = |text: &str| {
            text.chars()
                .filter(char::is_ascii_graphic)
                .collect::<String>()
        };
        format!(
            "PUT {}/vm HTTP/1.0\r\nHost: {}:{}\r\nX-ONEGATE-TOKEN: {}\r\nX-ONEGATE-VMID: {}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            self.path,
            self.host,
            self.port,
            plain(token),
            plain(vm),
            body.len()
        )
    }
}

/// Whether an answer's first line says that it was done.
fn status(head: &[u8]) -> io::Result<()> {
    let line = String::from_utf8_lossy(head);
    let line = line.lines().next().unwrap_or_default();
    let code = line.split(' ').nth(1).unwrap_or_default();
    if line.starts_with("HTTP/") && code.len() == 3 && code.starts_with('2') {
        Ok(())
    } else {
        Err(io::Error::other(format!("it answered \"{line}\"")))
    }
}

/// The address of a host: a number, a line of `/etc/hosts`, or what `getent` of the image says. The
/// program itself has no name service (a static C library's would load the image's modules).
fn address(host: &str) -> Option<IpAddr> {
    if let Ok(address) = host.parse() {
        return Some(address);
    }
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    if let Some(address) = in_hosts(&hosts, host) {
        return Some(address);
    }
    let getent = resolved("getent".as_ref())?;
    let answer = Command::new(getent)
        .args(["ahosts", host])
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let answer = String::from_utf8_lossy(&answer.stdout).into_owned();
    answer.split_whitespace().next()?.parse().ok()
}

fn in_hosts(hosts: &str, host: &str) -> Option<IpAddr> {
    hosts.lines().find_map(|line| {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    })
}

/// By `curl` or `wget`; the token goes by standard input or a file, never as an argument.
fn by_program(url: &str, token: &str, vm: &str) -> Result<(), String> {
    let Some(curl) = resolved("curl".as_ref()) else {
        return Err("ONEGATE_ENDPOINT is behind TLS, and the image has no curl".into());
    };
    let plain = |text: &str| {
        let is_plain = |c: &char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        text.chars().filter(is_plain).collect::<String>()
    };
    let options = format!(
        "url = \"{}/vm\"\nheader = \"X-ONEGATE-TOKEN: {}\"\nheader = \"X-ONEGATE-VMID: {}\"\n",
        plain(url.trim().trim_end_matches('/')),
        plain(token),
        plain(vm)
    );
    let mut child = Command::new(curl)
        .args(["--fail", "--silent", "--show-error", "--max-time", "20"])
        .args(["--request", "PUT", "--data", "READY=YES", "--config", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|e| format!("curl: {e}"))?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all(options.as_bytes())
            .map_err(|e| format!("curl: {e}"))?;
    }
    match child.wait() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("curl ended with {status}")),
        Err(e) => Err(format!("curl: {e}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn an_endpoint_is_a_url_with_a_host_and_perhaps_a_port_and_a_path() {
        let parsed = Endpoint::parse;
        let endpoint = |is_tls, host, port, path| {
            Some(Endpoint {
                is_tls,
                host,
                port,
                path,
            })
        };
        assert_eq!(
            parsed("http://169.254.16.9:5030"),
            endpoint(false, "169.254.16.9", 5030, "")
        );
        assert_eq!(parsed("http://gate/"), endpoint(false, "gate", 80, ""));
        assert_eq!(
            parsed("https://gate/one/"),
            endpoint(true, "gate", 443, "/one")
        );
        assert_eq!(
            parsed("http://[fd00::1]:5030"),
            endpoint(false, "fd00::1", 5030, "")
        );
        for bad in [
            "gate:5030",
            "ftp://gate",
            "http://",
            "http://a:x",
            "http://u@gate",
            "http://a b",
            "http://[::1",
        ] {
            assert_eq!(parsed(bad), None, "{bad}");
        }
    }

    #[test]
    fn names_of_etc_hosts_are_found() {
        let hosts = "127.0.0.1 localhost\n10.0.0.1\tgate gate.lan # no one\n";
        assert_eq!(in_hosts(hosts, "GATE.lan"), "10.0.0.1".parse().ok());
        assert_eq!(in_hosts(hosts, "one"), None);
        assert_eq!(address("10.9.8.7"), "10.9.8.7".parse().ok());
    }

    #[test]
    fn only_an_answer_of_success_counts() {
        assert!(status(b"HTTP/1.1 200 OK\r\n").is_ok());
        assert!(status(b"HTTP/1.0 204 No Content\r\n").is_ok());
        for bad in [
            &b"HTTP/1.1 500 x\r\n"[..],
            b"200 OK",
            b"",
            b"HTTP/1.1 2000 x",
        ] {
            assert!(status(bad).is_err());
        }
    }

    #[test]
    fn the_vm_is_reported_with_its_token_and_number() {
        let gate = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = gate.local_addr().unwrap().port();
        let asked = thread::spawn(move || {
            let (mut stream, _) = gate.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            String::from_utf8_lossy(&request[..read]).into_owned()
        });
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token.txt"), "secret==\n").unwrap();
        let text = format!("ONEGATE_ENDPOINT='http://127.0.0.1:{port}'\nVMID='7'");
        report_ready(&ContextFile::parse(&text).unwrap(), dir.path()).unwrap();
        let request = asked.join().unwrap();
        assert!(request.starts_with("PUT /vm HTTP/1.0\r\n"), "{request}");
        for line in ["X-ONEGATE-TOKEN: secret==\r\n", "X-ONEGATE-VMID: 7\r\n"] {
            assert!(request.contains(line), "{request}");
        }
        assert!(request.ends_with("\r\n\r\nREADY=YES"), "{request}");
    }

    #[test]
    fn what_is_missing_is_said_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let asked =
            |text: &str| report_ready(&ContextFile::parse(text).unwrap(), dir.path()).unwrap_err();
        assert!(asked("").contains("no ONEGATE_ENDPOINT"));
        let endpoint = "ONEGATE_ENDPOINT='http://127.0.0.1:1'";
        assert!(asked(endpoint).contains("TOKEN=YES"));
        fs::write(dir.path().join("token.txt"), "t").unwrap();
        assert!(asked("ONEGATE_ENDPOINT='127.0.0.1'").contains("is not http://"));
    }
}
