//! The engine's `auth.json`: `{"auths": {"host:port": {"auth": "base64(user:password)"}}}`.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock_common::state::files;
use onedock_common::types::reference::RegistryName;
use onedock_common::types::secret::Credential;
use reqwest::header::HeaderValue;
use serde::Deserialize;

use crate::error::Error;

/// The largest file of credentials that is read, in bytes.
const LIMIT: u64 = 1024 * 1024;
/// Docker Hub's entry, as `docker login` writes it.
const HUB_KEY: &str = "index.docker.io/v1";

/// User and password of one registry; never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login(String);

impl Login {
    /// The Authorization header of this login.
    pub(crate) fn basic(&self) -> Option<HeaderValue> {
        let text = format!("Basic {}", STANDARD.encode(&self.0));
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(…)")
    }
}

/// All logins of the file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Credentials(BTreeMap<String, Login>);

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
struct Entry {
    auth: Option<String>,
}

impl Credentials {
    /// Reads the file; one that is not there holds none.
    pub(crate) fn read(path: &Path) -> Result<Self, Error> {
        match files::read_bounded(path, LIMIT) {
            Ok(bytes) => Self::parse(&bytes).ok_or_else(|| Error::Settings {
                path: path.to_owned(),
                expected: "a file of registry credentials ({\"auths\": {…}})",
            }),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(Error::File {
                path: path.to_owned(),
                source,
            }),
        }
    }

    // The parser's own error could show a part of a password, so it is dropped.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        // A list would be read as the fields in their order.
        if bytes.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let file: File = serde_json::from_slice(bytes).ok()?;
        let mut logins = BTreeMap::new();
        for (key, entry) in file.auths {
            let Some(auth) = entry.auth.filter(|a| !a.is_empty()) else {
                continue;
            };
            let text = String::from_utf8(STANDARD.decode(auth.trim()).ok()?).ok()?;
            let (user, _) = text.split_once(':')?;
            if user.is_empty() || text.contains(['\0', '\n', '\r']) {
                return None;
            }
            logins.insert(bare(&key).to_owned(), Login(text));
        }
        Some(Self(logins))
    }

    /// The login for a registry, else for the host and port of the endpoint that the administrator has
    /// given it. Another name of a registry has no login, wherever it leads (attack 22).
    pub(crate) fn of(&self, registry: &RegistryName, endpoint: Option<&str>) -> Option<&Login> {
        let hub = registry.is_docker_hub().then(|| self.0.get(HUB_KEY));
        let named = self.0.get(registry.as_str());
        named.or(hub.flatten()).or_else(|| self.0.get(endpoint?))
    }
}

/// The user and password for `registry` in a file of credentials, for an engine that pulls or
/// pushes itself; `None` when the file has none.
pub fn credential(path: &Path, registry: &RegistryName) -> Result<Option<Credential>, Error> {
    let credentials = Credentials::read(path)?;
    let login = credentials.of(registry, None);
    Ok(login
        .and_then(|login| login.0.split_once(':'))
        .map(|(user, password)| Credential {
            user: user.to_owned(),
            password: password.to_owned(),
        }))
}

fn bare(key: &str) -> &str {
    key.trim_start_matches("https://")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .trim_end_matches("/v2")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(text: &str) -> String {
        STANDARD.encode(text)
    }

    #[test]
    fn a_login_is_found_under_the_registry_docker_hubs_old_key_or_the_endpoint() {
        let json = format!(
            r#"{{"auths":{{"reg.local:5000":{{"auth":"{}"}},"https://index.docker.io/v1/":{{"auth":"{}"}},"e.local":{{}}}},"credsStore":"x"}}"#,
            encoded("puller:a:b"),
            encoded("hub:p"),
        );
        let credentials = Credentials::parse(json.as_bytes()).unwrap();
        let local: RegistryName = "reg.local:5000".parse().unwrap();
        let other: RegistryName = "e.local".parse().unwrap();
        assert_eq!(
            credentials.of(&local, Some("x")),
            Some(&Login("puller:a:b".into()))
        );
        assert_eq!(
            credentials.of(&RegistryName::docker_hub(), Some("m")),
            Some(&Login("hub:p".into()))
        );
        assert_eq!(credentials.of(&other, None), None);
        assert_eq!(
            credentials.of(&other, Some("reg.local:5000")),
            Some(&Login("puller:a:b".into()))
        );
    }

    #[test]
    fn attack_42_a_login_is_never_shown() {
        let login = Login("puller:hunter2".into());
        let shown = format!("{login:?} {:?}", login.basic());
        assert!(!shown.contains("hunter2") && !shown.contains(&encoded("puller:hunter2")));
        let json = format!(
            r#"{{"auths":{{"r":{{"auth":"{}"}}}}}}"#,
            encoded("puller:hunter2")
        );
        let all = Credentials::parse(json.as_bytes()).unwrap();
        assert!(!format!("{all:?}").contains("hunter2"));
    }

    #[test]
    fn a_damaged_file_is_refused_and_a_missing_one_holds_none() {
        for bad in [
            "",
            "[]",
            r#"{"auths":{"r":{"auth":"!"}}}"#,
            r#"{"auths":{"r":{"auth":"YQ=="}}}"#,
        ] {
            assert!(Credentials::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        for bad in [":password", "user:a\nb", "user:a\rb", "user:a\0b"] {
            let json = format!(r#"{{"auths":{{"r":{{"auth":"{}"}}}}}}"#, encoded(bad));
            assert!(Credentials::parse(json.as_bytes()).is_none(), "{bad:?}");
        }
        assert!(
            Credentials::read(Path::new("/nonexistent/auth.json"))
                .unwrap()
                .0
                .is_empty()
        );
    }
}
