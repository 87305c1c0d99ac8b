//! What the engine says of itself, over its socket.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;

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
    operating_system: String,
}

/// A part of the answer to `/version`.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Version {
    /// The newest version of the API that it speaks, such as `1.41`.
    api_version: String,
    components: Vec<Component>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Component {
    name: String,
    version: String,
}

/// The API of Docker Engine 20.10, the oldest that is supported.
const OLDEST_API: (u32, u32) = (1, 41);

impl Version {
    /// Why an engine of this kind cannot run VMs, if so.
    fn objection(&self) -> Option<String> {
        if let Some(podman) = self.components.iter().find(|c| c.name.contains("Podman")) {
            return Some(format!(
                "this socket is answered by Podman {}, which ignores the runtime that the drivers ask \
                 for; install the Docker Engine on this node and name its socket with --docker-socket",
                podman.version
            ));
        }
        // A version that cannot be read is none that is known to be too old.
        let api = self.api_version.split_once('.')?;
        let api: (u32, u32) = (api.0.parse().ok()?, api.1.parse().ok()?);
        let engine = self.components.iter().find(|c| c.name == "Engine");
        (api < OLDEST_API).then(|| {
            format!(
                "this is Docker Engine {}, and 20.10 is the oldest that is supported; update it",
                engine.map_or("(unknown version)", |engine| &engine.version)
            )
        })
    }
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

    fn has_option(&self, name: &str) -> bool {
        let options = self.security_options.iter();
        options.flat_map(|o| o.split(',')).any(|word| word == name)
    }

    /// What VMs lose on this engine.
    pub(super) fn loss(&self) -> Option<&'static str> {
        let is_containerd = self.driver == "overlayfs";
        (is_containerd && self.has_option("name=userns")).then_some(
            "WARNING: with user-namespace remapping and containerd's image store the engine takes \
             set-id bits and hard links from the files of every image (sudo and su do not work in a \
             VM); take the image store overlay2 (docs/engines.md).",
        )
    }

    /// Why this engine cannot run VMs, if so.
    fn objection(&self) -> Option<&'static str> {
        if self.has_option("name=rootless") {
            return Some(
                "this is a rootless Docker, which cannot plug NICs into the bridges of the \
                 host; install Docker's ordinary engine on this node",
            );
        }
        if self.docker_root_dir.starts_with("/var/snap/") {
            return Some(
                "this Docker is a snap, whose confinement lets the engine run no runtime of this \
                 host; remove it (snap remove docker) and install the distribution's package or \
                 Docker's own",
            );
        }
        if self.operating_system == "Docker Desktop" {
            return Some(
                "this is Docker Desktop, whose containers run in a virtual machine of its own, \
                 away from the bridges of this host; install Docker's ordinary engine on this node",
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
        self.answer("/info")
    }

    /// Refuses an engine that cannot run VMs, in one line.
    pub(super) fn check(&self) -> Result<()> {
        if let Some(why) = self.answer::<Version>("/version")?.objection() {
            return Err(Error::refused(why));
        }
        self.info()?
            .objection()
            .map_or(Ok(()), |why| Err(Error::refused(why)))
    }

    /// The answer to a request.
    pub(super) fn answer<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let failed = |what: String| Error::Program {
            program: format!("the Docker engine at {}", self.socket.display()),
            what,
        };
        let answer = self
            .get(path)
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
    fn docker_desktop_and_a_snap_are_refused_by_what_they_say_of_themselves() {
        let desktop = info("{\"OperatingSystem\":\"Docker Desktop\"}");
        assert!(
            desktop
                .objection()
                .unwrap()
                .contains("virtual machine of its own")
        );
        let snap = info("{\"DockerRootDir\":\"/var/snap/docker/common/var-lib-docker\"}");
        assert!(snap.objection().unwrap().contains("snap remove docker"));
        let moved = info("{\"DockerRootDir\":\"/srv/docker\",\"OperatingSystem\":\"Debian\"}");
        assert_eq!(moved.objection(), None);
    }

    /// The answer of Podman 4.3.1 to `/version`, shortened.
    #[test]
    fn a_socket_of_podman_is_refused_before_its_info_is_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("podman.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 500];
            let read = stream.read(&mut asked).unwrap();
            let body = "{\"Components\":[{\"Name\":\"Podman Engine\",\"Version\":\"4.3.1\"}],\
                        \"ApiVersion\":\"1.41\"}";
            stream
                .write_all(format!("HTTP/1.0 200 OK\r\n\r\n{body}").as_bytes())
                .unwrap();
            String::from_utf8_lossy(&asked[..read]).into_owned()
        });
        let line = Engine::at(socket).check().unwrap_err().line();
        assert!(
            line.contains("Podman 4.3.1, which ignores the runtime"),
            "{line}"
        );
        assert!(server.join().unwrap().starts_with("GET /version "));
    }

    #[test]
    fn what_remapping_loses_with_containerd_s_store_is_said() {
        let said = |driver: &str, options: &str| {
            let body = format!("{{\"Driver\":\"{driver}\",\"SecurityOptions\":[{options}]}}");
            info(&body).loss().is_some()
        };
        assert!(said(
            "overlayfs",
            "\"name=seccomp,profile=builtin\",\"name=userns\""
        ));
        assert!(!said("overlay2", "\"name=userns\""));
        assert!(!said("overlayfs", "\"name=seccomp,profile=builtin\""));
    }

    #[test]
    fn podman_and_an_engine_older_than_20_10_are_refused_by_their_versions() {
        let version = |body: &str| serde_json::from_str::<Version>(body).unwrap().objection();
        let docker = |api: &str, engine: &str| {
            version(&format!(
                "{{\"Platform\":{{\"Name\":\"\"}},\"ApiVersion\":\"{api}\",\"Components\":[\
                 {{\"Name\":\"Engine\",\"Version\":\"{engine}\"}},{{\"Name\":\"containerd\",\"Version\":\"1\"}}]}}"
            ))
        };
        assert_eq!(docker("1.41", "20.10.24"), None);
        assert_eq!(docker("1.51", "28.5.2"), None);
        assert_eq!(docker("2.0", "40"), None);
        let old = docker("1.40", "19.03.15").unwrap();
        assert!(old.contains("Docker Engine 19.03.15, and 20.10"), "{old}");
        let podman = version(
            "{\"ApiVersion\":\"1.41\",\"Components\":[{\"Name\":\"Podman Engine\",\"Version\":\"4.3.1\"}]}",
        );
        assert!(podman.unwrap().contains("answered by Podman 4.3.1"));
        assert_eq!(version("{}"), None);
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
