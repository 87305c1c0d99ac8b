//! A real registry (CNCF Distribution) on a free port of this machine, with a storage folder of
//! its own; it ends with its value.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock_common::types::reference::{RegistryName, Repository};
use tempfile::TempDir;

/// How long the registry may take to listen.
const READY: Duration = Duration::from_secs(20);

/// What the registry is like.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Whether it speaks TLS, with a certificate of its own CA.
    pub tls: bool,
    /// Whether it asks for a login (bcrypt, as `setup registry` makes it).
    pub login: Option<(String, String)>,
    /// Whether it deletes.
    pub delete: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            tls: false,
            login: None,
            delete: true,
        }
    }
}

impl Setup {
    /// TLS and a login, as on a front-end.
    pub fn closed() -> Self {
        Self {
            tls: true,
            login: Some(("onedock".to_owned(), "hunter2".to_owned())),
            delete: true,
        }
    }
}

/// A running registry.
#[derive(Debug)]
pub struct RegistryServer {
    child: Option<Child>,
    dir: TempDir,
    port: u16,
    login: Option<(String, String)>,
}

impl RegistryServer {
    /// Starts a registry and waits until it listens. An error says what has to be installed.
    pub fn start(setup: &Setup) -> anyhow::Result<Self> {
        // Another process may take the free port before the registry does.
        let mut failed = None;
        for _ in 0..3 {
            match Self::start_once(setup) {
                Ok(server) => return Ok(server),
                Err(e) => failed = Some(e),
            }
        }
        Err(failed.unwrap_or_else(|| anyhow!("the registry was not started")))
    }

    fn start_once(setup: &Setup) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("onedock-registry-")
            .tempdir()?;
        if setup.tls {
            make_certificate(dir.path())?;
        }
        if let Some((user, password)) = &setup.login {
            let arguments = ["-nbB", "-C", "4", user, password];
            let output = run("htpasswd", "apache2-utils", &arguments, dir.path())?;
            fs::write(dir.path().join("htpasswd"), output.stdout)?;
        }
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
            .local_addr()?
            .port();
        let mut server = Self {
            child: None,
            dir,
            port,
            login: setup.login.clone(),
        };
        fs::write(server.config_file(), server.config(setup))?;
        if setup.tls {
            let certs = server.certs_dir().join(server.address());
            fs::create_dir_all(&certs)?;
            fs::copy(server.dir.path().join("ca.crt"), certs.join("ca.crt"))?;
        }
        server.resume()?;
        Ok(server)
    }

    /// Starts it again after [`RegistryServer::stop`], on the same port with the same content.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let log = fs::File::create(self.dir.path().join("log"))?;
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(self.config_file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("docker-registry cannot be started; install the package docker-registry")?;
        self.child = Some(child);
        let until = Instant::now() + READY;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
            let ended = self
                .child
                .as_mut()
                .map(Child::try_wait)
                .transpose()?
                .flatten();
            if ended.is_some() || Instant::now() > until {
                let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
                bail!("docker-registry does not listen: {log}");
            }
            onedock_common::wait::pause(Duration::from_millis(5));
        }
        // The port may be another process's: only ours has this process alive.
        let ended = self
            .child
            .as_mut()
            .map(Child::try_wait)
            .transpose()?
            .flatten();
        ensure!(
            ended.is_none(),
            "docker-registry lost its port to another process"
        );
        Ok(())
    }

    /// Ends the registry; its content stays.
    pub fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// The process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// `127.0.0.1:<port>`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Its name in image references.
    pub fn name(&self) -> RegistryName {
        match self.address().parse() {
            Ok(name) => name,
            Err(e) => unreachable!("an address and port are a registry's name: {e}"),
        }
    }

    /// One of its repositories.
    pub fn repository(&self, path: &str) -> anyhow::Result<Repository> {
        Ok(Repository::new(self.name(), path.parse()?))
    }

    /// A folder like `/etc/docker/certs.d`, with this registry's CA when it speaks TLS.
    pub fn certs_dir(&self) -> PathBuf {
        self.dir.path().join("certs.d")
    }

    /// Writes an `auth.json` with its login and returns the file.
    pub fn auth_file(&self) -> anyhow::Result<PathBuf> {
        let (user, password) = self
            .login
            .as_ref()
            .context("this registry asks for no login")?;
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let json = serde_json::json!({"auths": {self.address(): {"auth": auth}}});
        let path = self.dir.path().join("auth.json");
        fs::write(&path, json.to_string())?;
        Ok(path)
    }

    /// The folder of one of its repositories in its storage.
    pub fn storage(&self) -> PathBuf {
        self.dir.path().join("storage/docker/registry/v2")
    }

    /// How many bytes of blobs it holds.
    pub fn blob_bytes(&self) -> u64 {
        bytes_beneath(&self.storage().join("blobs"))
    }

    /// Runs the registry's own garbage collection. The registry keeps what it knows in memory:
    /// stop it before and resume it after.
    pub fn collect_garbage(&self) -> anyhow::Result<()> {
        let config = self.config_file();
        let config = config
            .to_str()
            .context("the folder of the test is no text")?;
        let arguments = ["garbage-collect", config];
        run(
            "docker-registry",
            "docker-registry",
            &arguments,
            self.dir.path(),
        )
        .map(drop)
    }

    fn config_file(&self) -> PathBuf {
        self.dir.path().join("config.yml")
    }

    fn config(&self, setup: &Setup) -> String {
        let dir = self.dir.path().display();
        let mut text = format!(
            "version: 0.1\n\
             log:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n  filesystem:\n    rootdirectory: {dir}/storage\n  delete:\n    enabled: {}\n\
             http:\n  addr: {}\n  secret: of-a-test\n",
            setup.delete,
            self.address()
        );
        if setup.tls {
            text +=
                &format!("  tls:\n    certificate: {dir}/server.crt\n    key: {dir}/server.key\n");
        }
        if setup.login.is_some() {
            text += &format!("auth:\n  htpasswd:\n    realm: test\n    path: {dir}/htpasswd\n");
        }
        text
    }
}

impl Drop for RegistryServer {
    fn drop(&mut self) {
        self.stop();
    }
}

fn bytes_beneath(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => bytes_beneath(&entry.path()),
            Ok(meta) => meta.len(),
            Err(_) => 0,
        })
        .sum()
}

/// A CA (`ca.crt`) and a certificate for 127.0.0.1 and localhost (`server.crt`, `server.key`).
fn make_certificate(dir: &Path) -> anyhow::Result<()> {
    let ssl = |line: &str| {
        let arguments: Vec<&str> = line.split(' ').collect();
        run("openssl", "openssl", &arguments, dir)
    };
    fs::write(
        dir.join("names"),
        "subjectAltName=IP:127.0.0.1,DNS:localhost\nextendedKeyUsage=serverAuth\n",
    )?;
    ssl("ecparam -genkey -name prime256v1 -noout -out ca.key")?;
    ssl("req -x509 -new -key ca.key -subj /CN=onedock-test-ca -days 2 -out ca.crt")?;
    ssl("ecparam -genkey -name prime256v1 -noout -out server.key")?;
    ssl("req -new -key server.key -subj /CN=127.0.0.1 -out server.csr")?;
    ssl(
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    )?;
    Ok(())
}

fn run(program: &str, package: &str, arguments: &[&str], dir: &Path) -> anyhow::Result<Output> {
    let output = Command::new(program)
        .args(arguments)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{program} cannot be started; install the package {package}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(output)
}
