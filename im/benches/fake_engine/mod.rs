//! An engine that lists running containers and names their processes.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::thread;

pub(crate) fn container(vm: u32) -> String {
    format!("{vm:064x}")
}

/// Starts it for this process's life; process `vm + 1` is VM `vm`'s.
pub(crate) fn start(dir: &Path, vms: u32) -> PathBuf {
    let socket = dir.join("docker.sock");
    let listener = UnixListener::bind(&socket).expect("a socket");
    // The recorded entry of one container, with the fields of Docker 20.10.
    let recorded = include_str!("../../tests/data/list-20.10.json").trim();
    let entries: Vec<serde_json::Value> = serde_json::from_str(recorded).expect("a list");
    let list: Vec<serde_json::Value> = (0..vms)
        .map(|vm| {
            let mut entry = entries[0].clone();
            entry["Id"] = container(vm).into();
            entry["Names"] = serde_json::json!([format!("/one-{vm}")]);
            entry["Labels"]["org.opennebula.vm"] = vm.to_string().into();
            entry["State"] = "running".into();
            entry
        })
        .collect();
    let list = serde_json::Value::from(list).to_string();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut request = String::new();
            let _ = reader.read_line(&mut request);
            let path = request.split(' ').nth(1).unwrap_or("").to_owned();
            let id = path
                .strip_prefix("/containers/")
                .and_then(|p| p.strip_suffix("/json"));
            let body = match id.and_then(|id| u32::from_str_radix(id, 16).ok()) {
                Some(vm) => format!(r#"{{"State":{{"Pid":{}}}}}"#, vm + 1),
                None => list.clone(),
            };
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
            let _ = reader.get_mut().write_all((head + &body).as_bytes());
        }
    });
    socket
}
