//! `onedock setup registry` in a folder of its own, with the real registry behind it.

#![allow(clippy::unwrap_used)] // a failed helper is a failed test

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

struct Running<'a>(&'a Path);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(pid) = pid(self.0) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            onedock_common::wait::until(Duration::from_secs(5), || {
                (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(())
            });
        }
    }
}

fn pid(root: &Path) -> Option<i32> {
    fs::read_to_string(root.join("run/onedock-registry.pid"))
        .ok()?
        .trim()
        .parse()
        .ok()
}

fn setup(root: &Path, port: &str, more: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_onedock"))
        .args([
            "setup",
            "registry",
            "--name",
            "localhost",
            "--listen",
            "127.0.0.1",
        ])
        .args(["--port", port, "--root"])
        .arg(root)
        .args(if more.contains(&"--oneadmin") {
            &[][..]
        } else {
            &["--oneadmin", "root"]
        })
        .args(more)
        .output()
        .unwrap()
}

fn output_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// The status code that curl gets, or 0 when it refuses the connection.
fn curl(url: &str, ca: Option<&Path>, account: Option<&str>) -> u16 {
    let mut curl = Command::new("curl");
    curl.args([
        "-s",
        "-o",
        "/dev/null",
        "-w",
        "%{http_code}",
        "--max-time",
        "10",
        "--noproxy",
        "*",
    ]);
    if let Some(ca) = ca {
        curl.arg("--cacert").arg(ca);
    }
    if let Some(account) = account {
        curl.args(["--user", account]);
    }
    let output = curl.arg(url).output().unwrap();
    String::from_utf8_lossy(&output.stdout).parse().unwrap()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn the_registry_answers_over_tls_with_a_password_and_a_second_run_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // The registry's own user has to come through.
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let root = dir.path();
    let _running = Running(root);
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let port = port.to_string();

    assert!(output_of(&setup(root, &port, &["--dry-run"])).contains("would do"));
    assert_eq!(
        fs::read_dir(root).unwrap().count(),
        0,
        "a dry run wrote something"
    );
    output_of(&setup(root, &port, &[]));

    let url = format!("https://localhost:{port}/v2/");
    let ca = root.join(format!("etc/docker/certs.d/localhost:{port}/ca.crt"));
    let auth = fs::read_to_string(root.join("etc/onedock/registry-auth.json")).unwrap();
    let auth: serde_json::Value = serde_json::from_str(&auth).unwrap();
    let auth = auth["auths"][format!("localhost:{port}")]["auth"]
        .as_str()
        .unwrap()
        .to_owned();
    let account = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, auth).unwrap();
    let account = String::from_utf8(account).unwrap();
    let join = fs::read_to_string(root.join("etc/onedock/join.json")).unwrap();
    let join: serde_json::Value = serde_json::from_str(&join).unwrap();
    let node = format!("onedock-node:{}", join["password"].as_str().unwrap());
    assert_eq!(curl(&url, Some(&ca), Some(&account)), 200);
    assert_eq!(curl(&url, Some(&ca), Some(&node)), 200);
    assert_eq!(curl(&url, Some(&ca), Some("onedock:wrong")), 401);
    assert_eq!(curl(&url, Some(&ca), None), 401);
    assert_eq!(
        curl(&url, None, Some(&account)),
        0,
        "its authority is nobody's by itself"
    );
    let other = url.replace("localhost", "localhost.localdomain");
    assert_ne!(curl(&other, Some(&ca), Some(&account)), 200);

    let folder = root.join("etc/onedock/registry");
    for (name, bits) in [
        ("tls.key", 0o600),
        ("ca.key", 0o600),
        ("passwords.json", 0o600),
    ] {
        assert_eq!(mode(&folder.join(name)), bits, "{name}");
    }
    assert_eq!(mode(&root.join("etc/onedock/join.json")), 0o600);
    assert_eq!(mode(&root.join("etc/onedock/registry-auth.json")), 0o640);
    let user = fs::read_to_string(format!("/proc/{}/status", pid(root).unwrap())).unwrap();
    let uid = user.lines().find(|l| l.starts_with("Uid:")).unwrap();
    assert!(!uid.contains("\t0\t"), "the registry runs as root: {uid}");

    let before = pid(root);
    let text = output_of(&setup(root, &port, &[]));
    assert!(text.contains("\n0 done, "), "{text}");
    assert_eq!(pid(root), before);

    // A changed account is taken by a restart; nothing else is touched.
    fs::remove_file(folder.join("htpasswd")).unwrap();
    let text = output_of(&setup(root, &port, &[]));
    assert!(
        text.contains("htpasswd: accounts onedock, onedock-node"),
        "{text}"
    );
    assert_eq!(curl(&url, Some(&ca), Some(&account)), 200);
}

#[test]
fn without_oneadmin_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let output = setup(
        dir.path(),
        "5999",
        &["--no-start", "--oneadmin", "onedock-nobody"],
    );
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(
        line.starts_with("onedock: there is no user onedock-nobody here; "),
        "{line}"
    );
    assert_eq!(
        (
            line.lines().count(),
            fs::read_dir(dir.path()).unwrap().count()
        ),
        (1, 0)
    );
}

#[test]
fn a_port_that_is_taken_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let output = setup(dir.path(), &port, &[]);
    let line = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert_eq!(
        line,
        format!("onedock: port {port} is taken by another program; choose another with --port\n")
    );
}
