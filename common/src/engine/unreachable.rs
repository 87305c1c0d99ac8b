//! Why no Docker Engine answers on its socket, and what to do about it: one text for the drivers
//! and the monitor.

use std::io::{Error, ErrorKind};
use std::path::Path;

/// The reason, as connecting to the socket shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// There is no socket: the engine was stopped, or never installed.
    NoSocket,
    /// The socket is left of an engine that has died.
    NobodyListens,
    /// This user may not use the socket.
    Forbidden,
    /// Anything else, in the system's words.
    Other(String),
}

impl NoAnswer {
    /// What the error of a connection to `socket` means.
    pub fn of(socket: &Path, error: &Error) -> Self {
        match error.kind() {
            _ if is_absent(socket) => Self::NoSocket,
            ErrorKind::NotFound => Self::NoSocket,
            ErrorKind::ConnectionRefused => Self::NobodyListens,
            ErrorKind::PermissionDenied => Self::Forbidden,
            _ => Self::Other(error.to_string()),
        }
    }

    /// The reason and what to do, for the user.
    pub fn explain(&self, socket: &Path) -> String {
        const START: &str =
            "start it on this host (systemctl start docker, or service docker start)";
        let socket = socket.display();
        match self {
            Self::NoSocket => {
                format!("the Docker Engine does not run: there is no socket {socket}; {START}")
            }
            Self::NobodyListens => {
                format!("the Docker Engine does not run: nothing listens on {socket}; {START}")
            }
            Self::Forbidden => format!(
                "this user may not use {socket}; add it to group docker, then restart what it \
                 started before (on a front-end the opennebula service) and end its lingering \
                 ssh connections, so that it counts"
            ),
            Self::Other(problem) => format!(
                "the Docker Engine does not answer on {socket} ({problem}); look at dockerd's log"
            ),
        }
    }
}

/// Whether there is surely nothing at this path.
fn is_absent(socket: &Path) -> bool {
    std::fs::metadata(socket).is_err_and(|e| e.kind() == ErrorKind::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::{UnixListener, UnixStream};

    #[test]
    fn a_socket_that_is_gone_dead_or_forbidden_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("docker.sock");
        let reason = || NoAnswer::of(&socket, &UnixStream::connect(&socket).unwrap_err());
        assert_eq!(reason(), NoAnswer::NoSocket);
        drop(UnixListener::bind(&socket).unwrap());
        assert_eq!(reason(), NoAnswer::NobodyListens);
        let denied = Error::from(ErrorKind::PermissionDenied);
        assert_eq!(NoAnswer::of(&socket, &denied), NoAnswer::Forbidden);
        std::fs::remove_file(&socket).unwrap();
        // What a client that connected elsewhere in its place says of that other path.
        assert_eq!(NoAnswer::of(&socket, &denied), NoAnswer::NoSocket);
    }

    #[test]
    fn the_text_names_the_socket_and_what_to_do() {
        let socket = Path::new("/var/run/docker.sock");
        for (reason, action) in [
            (NoAnswer::NoSocket, "systemctl start docker"),
            (NoAnswer::NobodyListens, "systemctl start docker"),
            (NoAnswer::Forbidden, "add it to group docker"),
            (NoAnswer::Other("x".into()), "look at dockerd's log"),
        ] {
            let text = reason.explain(socket);
            assert!(text.contains("/var/run/docker.sock"), "{text}");
            assert!(text.contains(action), "{text}");
        }
        assert!(!NoAnswer::NoSocket.explain(socket).contains("group"));
    }
}
