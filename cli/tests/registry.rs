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
        for name in ["onedock-registry-proxy", "onedock-registry"] {
            let Some(pid) = pid(self.0, name) else {
                continue;
            };
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            onedock_common::wait::until(Duration::from_secs(5), || {
                (!Path::new(&format!("/proc/{pid}/exe")).exists()).then_some(())
            });
        }
    }
}

fn pid(root: &Path, name: &str) -> Option<i32> {
    fs::read_to_string(root.join(format!("run/{name}.pid")))
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
    request("GET", url, ca, account.as_slice())
}

/// The status of a request with these logins, each in a header of its own.
fn request(method: &str, url: &str, ca: Option<&Path>, accounts: &[&str]) -> u16 {
    let mut curl = Command::new("curl");
    curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}"]);
    curl.args(["--path-as-is", "--max-time", "10", "--noproxy", "*"]);
    if let Some(ca) = ca {
        curl.arg("--cacert").arg(ca);
    }
    match method {
        "HEAD" => curl.arg("--head"),
        "GET" | "DELETE" => curl.args(["-X", method]),
        _ => curl.args(["-X", method, "--data-binary", "{}"]),
    };
    for account in accounts {
        let login = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, account);
        curl.arg("-H").arg(format!("Authorization: Basic {login}"));
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
    let pids = || ["onedock-registry", "onedock-registry-proxy"].map(|name| pid(root, name));
    for pid in pids() {
        let user = fs::read_to_string(format!("/proc/{}/status", pid.unwrap())).unwrap();
        let uid = user.lines().find(|l| l.starts_with("Uid:")).unwrap();
        assert!(!uid.contains("\t0\t"), "the registry runs as root: {uid}");
    }
    assert_eq!(mode(&root.join("run/onedock-registry")), 0o750);
    accounts_have_their_rights(&url, Some(&ca), &account, &node);
    a_node_saves_the_disks_of_vms_and_no_images(root, &port, &node);

    let before = pids();
    let text = output_of(&setup(root, &port, &[]));
    assert!(text.contains("\n0 done, "), "{text}");
    assert_eq!(pids(), before);

    // A changed account is taken by a restart; nothing else is touched.
    fs::remove_file(folder.join("htpasswd")).unwrap();
    let text = output_of(&setup(root, &port, &[]));
    assert!(
        text.contains("htpasswd: accounts onedock, onedock-node"),
        "{text}"
    );
    assert_eq!(curl(&url, Some(&ca), Some(&account)), 200);
}

/// The registry answers 404 or 400 where it is asked; the proxy 403 where it is not.
fn accounts_have_their_rights(url: &str, ca: Option<&Path>, front_end: &str, node: &str) {
    let digest = format!("sha256:{}", "ab".repeat(32));
    let state = format!("state-{}", "ab".repeat(32));
    let image = "onedock/img-1";
    let of_image = |rest: &str| format!("{image}/{rest}");
    let tagged = |tag: &str| of_image(&format!("manifests/{tag}"));
    let both = [
        ("GET", tagged("latest"), 404),
        ("HEAD", tagged("latest"), 404),
        ("POST", of_image("blobs/uploads/"), 202),
        ("PUT", tagged("vm-7-disk-0"), 400),
        ("PUT", tagged("vm-7-disk-0-snap-2"), 400),
        ("PUT", tagged("saving-vm-7-disk-0"), 400),
        ("PUT", tagged("snap-3"), 400),
        ("PUT", tagged(&digest), 400),
    ];
    let front_ends = [
        ("PUT", tagged("latest"), 400),
        ("PUT", tagged(&state), 400),
        ("PUT", tagged("attributes"), 400),
        ("DELETE", tagged(&digest), 404),
        ("DELETE", of_image(&format!("blobs/{digest}")), 404),
        ("PUT", tagged("vm-7-disk-0x"), 400),
        ("PUT", tagged("snap-3/../latest"), 0),
        ("PUT", of_image("blobs/uploads/../../manifests/latest"), 0),
        ("PUT", tagged("vm-7-disk-%30"), 0),
        ("PUT", format!("x/../{}", tagged("vm-7-disk-0")), 0),
        ("POST", format!("x//{}", of_image("blobs/uploads/")), 0),
        ("PATCH", tagged("vm-7-disk-0"), 405),
    ];
    for (method, path, expected) in &both {
        for account in [front_end, node] {
            let code = request(method, &format!("{url}{path}"), ca, &[account]);
            assert_eq!(code, *expected, "{account} {method} {path}");
        }
    }
    for (method, path, expected) in &front_ends {
        let address = format!("{url}{path}");
        assert_eq!(
            request(method, &address, ca, &[node]),
            403,
            "{method} {path}"
        );
        let wrong = request(method, &address, ca, &["onedock:wrong"]);
        assert_eq!(wrong, 403, "{method} {path}");
        if *expected != 0 {
            let code = request(method, &address, ca, &[front_end]);
            assert_eq!(code, *expected, "{method} {path}");
            assert_eq!(request(method, &address, ca, &[]), 401, "{method} {path}");
        }
    }
    // Whoever reads two logins may take the other one of them.
    let address = format!("{url}{}", tagged("latest"));
    for accounts in [[node, front_end], [front_end, node]] {
        assert_eq!(request("PUT", &address, ca, &accounts), 400);
        assert_eq!(request("GET", &address, ca, &accounts), 400);
    }
}

/// The drivers' own client with the account of a node.
fn a_node_saves_the_disks_of_vms_and_no_images(root: &Path, port: &str, node: &str) {
    let registry = format!("localhost:{port}");
    let login = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, node);
    let auth = root.join("node-auth.json");
    let text = format!(r#"{{"auths":{{"{registry}":{{"auth":"{login}"}}}}}}"#);
    fs::write(&auth, text).unwrap();
    let archive = root.join("image.tar");
    fs::write(&archive, saved_image()).unwrap();
    let client = onedock_registry::Client::new(onedock_registry::Options {
        auth_file: Some(auth),
        certs_dir: root.join("etc/docker/certs.d"),
        ..onedock_registry::Options::default()
    })
    .unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let target = format!("{registry}/onedock/img-1").parse().unwrap();
    let push = |tag: &str| {
        let tag = tag.parse().unwrap();
        runtime.block_on(client.push_archive(&archive, &target, &tag, &[]))
    };
    push("vm-7-disk-0").unwrap();
    let error = push("latest").unwrap_err().to_string();
    assert!(
        error.contains("pulls images and pushes the disks"),
        "{error}"
    );
}

/// A `docker save` archive of one empty layer.
fn saved_image() -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    let layer = tar::Builder::new(Vec::new()).into_inner().unwrap();
    let diff_id = onedock_common::Digest::of(&layer);
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["{diff_id}"]}}}}"#
    );
    let manifest = r#"[{"Config":"config.json","Layers":["layer.tar"]}]"#;
    for (name, content) in [
        ("layer.tar", layer.as_slice()),
        ("config.json", config.as_bytes()),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, content).unwrap();
    }
    archive.into_inner().unwrap()
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
