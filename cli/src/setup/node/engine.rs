//! What the engine says of itself, over its socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use crate::error::{Error, Result};

/// An engine that takes longer hangs.
const DEADLINE: Duration = Duration::from_secs(10);

/// An engine by its socket.
#[derive(Debug, Clone)]
pub struct Engine {
    socket: PathBuf,
}

/// A part of the answer to `/info`; what is absent counts as empty.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Info {
    /// The runtimes by name.
    runtimes: BTreeMap<String, Runtime>,
    /// Whether containers outlive the engine.
    pub(super) live_restore_enabled: bool,
    security_options: Vec<String>,
    cgroup_driver: String,
    swarm: Swarm,
    /// The storage driver.
    pub(super) driver: String,
    /// Where it keeps its layers.
    pub(super) docker_root_dir: String,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default)]
struct Runtime {
    path: String,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Swarm {
    local_node_state: String,
}

impl Info {
    /// Where a runtime lies.
    pub(super) fn runtime(&self, name: &str) -> Option<&str> {
        self.runtimes.get(name).map(|runtime| runtime.path.as_str())
    }

    /// Whether the engine makes cgroups through systemd.
    pub(super) fn uses_systemd(&self) -> bool {
        self.cgroup_driver == "systemd"
    }

    /// Why this engine cannot run VMs, if so.
    pub(super) fn objection(&self) -> Option<&'static str> {
        if self
            .security_options
            .iter()
            .any(|o| o.split(',').any(|w| w == "name=rootless"))
        {
            return Some(
                "this is a rootless Docker, which cannot plug NICs into the bridges of the \
                 host; install Docker's ordinary engine on this node",
            );
        }
        if self.swarm.local_node_state == "active" {
            return Some(
                "this engine is part of a swarm, and a swarm does not allow live-restore; \
                 leave the swarm (docker swarm leave) or take another host",
            );
        }
        None
    }
}

impl Engine {
    /// The engine behind this socket.
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// What it says of itself.
    pub(super) fn info(&self) -> Result<Info> {
        let failed = |what: String| Error::Program {
            program: format!("the Docker engine at {}", self.socket.display()),
            what,
        };
        let answer = self
            .get("/info")
            .map_err(|e| failed(format!("does not answer: {e}")))?;
        let (head, body) = answer
            .split_once("\r\n\r\n")
            .ok_or_else(|| failed("gave no HTTP answer".into()))?;
        if head.split_whitespace().nth(1) != Some("200") {
            return Err(failed(format!(
                "answered {}",
                head.lines().next().unwrap_or_default()
            )));
        }
        serde_json::from_str(body).map_err(|e| failed(format!("gave an unknown answer: {e}")))
    }

    /// HTTP/1.0, so that the answer comes whole and ends with the connection.
    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        stream.set_write_timeout(Some(DEADLINE))?;
        stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: docker\r\n\r\n").as_bytes())?;
        let mut bytes = Vec::new();
        stream.take(1 << 24).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn info(body: &str) -> Info {
        serde_json::from_str(body).unwrap()
    }

    #[test]
    fn rootless_and_swarm_are_refused_and_an_ordinary_engine_is_not() {
        let ordinary = info(
            "{\"Runtimes\":{\"runc\":{\"path\":\"runc\"},\"onedock\":{\"path\":\"/x\"}},\
             \"LiveRestoreEnabled\":true,\"SecurityOptions\":[\"name=seccomp,profile=default\"],\
             \"Swarm\":{\"LocalNodeState\":\"inactive\"},\"CgroupDriver\":\"systemd\"}",
        );
        assert_eq!(ordinary.objection(), None);
        assert_eq!(ordinary.runtime("onedock"), Some("/x"));
        assert!(ordinary.live_restore_enabled && ordinary.uses_systemd());
        let rootless = info("{\"SecurityOptions\":[\"name=seccomp\",\"name=rootless\"]}");
        assert!(rootless.objection().unwrap().contains("rootless"));
        let swarm = info("{\"Swarm\":{\"LocalNodeState\":\"active\"}}");
        assert!(swarm.objection().unwrap().contains("swarm"));
    }

    #[test]
    fn an_engine_that_answers_nonsense_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 500]);
            stream.write_all(b"HTTP/1.0 500 Broken\r\n\r\nx").unwrap();
        });
        let line = Engine::at(socket).info().unwrap_err().line();
        server.join().unwrap();
        assert!(line.ends_with("answered HTTP/1.0 500 Broken"), "{line}");
        let none = Engine::at(dir.path().join("none"))
            .info()
            .unwrap_err()
            .line();
        assert!(none.contains("does not answer"), "{none}");
    }
}
