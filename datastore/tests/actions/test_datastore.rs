//! A datastore with a registry of its own, and its driver.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use onedock_common::opennebula::oned::Reply;
use onedock_common::opennebula::oned::datastore::Datastore;
use onedock_common::process::Command;
use onedock_common::types::reference::Source;
use onedock_common::{DatastoreId, Digest};
use onedock_registry::{Client, Kind, Options};
use onedock_tests::registry_server::{RegistryServer, Setup};
use serde_json::json;
use tempfile::TempDir;

/// The program that is tested.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_onedock-datastore");

pub(crate) const MIB: u64 = 1 << 20;

pub(crate) struct TestDatastore {
    pub(crate) server: RegistryServer,
    pub(crate) client: Client,
    pub(crate) runtime: tokio::runtime::Runtime,
    pub(crate) dir: TempDir,
}

/// What `oned` reads.
#[derive(Debug)]
pub(crate) struct Answer(Reply);

impl Deref for Answer {
    type Target = Reply;
    fn deref(&self) -> &Reply {
        &self.0
    }
}

impl Answer {
    /// The one line of a call that succeeded.
    pub(crate) fn line(self) -> String {
        assert!(self.succeeded(), "{}", self.stderr);
        let line = self.stdout.strip_suffix('\n').unwrap_or_default();
        assert!(!line.contains('\n'), "{line}");
        line.to_owned()
    }

    /// The one line of the error of a call that failed.
    pub(crate) fn refused(self) -> String {
        assert!(self.code == Some(1) && self.stdout.is_empty(), "{self:?}");
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "{}", self.stderr);
        self.stderr.clone()
    }
}

pub(crate) fn client() -> Client {
    Client::new(Options {
        certs_dir: "/nonexistent".into(),
        ..Options::default()
    })
    .unwrap()
}

impl TestDatastore {
    pub(crate) fn new() -> Self {
        Self::with(RegistryServer::start(&Setup::default()).unwrap())
    }

    pub(crate) fn with(server: RegistryServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("files")).unwrap();
        fs::create_dir(dir.path().join("base")).unwrap();
        let config = format!(
            "LOCAL_SERVER={}\nONEDOCK_PLATFORMS=\"linux/amd64\"\n",
            server.address()
        );
        fs::write(dir.path().join("onedock.conf"), config).unwrap();
        Self {
            server,
            client: client(),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
            dir,
        }
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("onedock.conf")
    }

    pub(crate) fn command(&self, action: &str, id: u32) -> Command {
        Command::local(PROGRAM)
            .args([action, &id.to_string()])
            .env("ONEDOCK_CONF", self.config())
            .env("HOME", "/nonexistent")
            .keeping(1 << 20)
            .within(Duration::from_secs(120))
    }

    pub(crate) fn call(&self, action: &str, id: u32, image: &str) -> Answer {
        let call = self.command(action, id).input(self.request(image));
        Answer(call.run().unwrap().into())
    }

    /// The request of an action about an image, in base64.
    pub(crate) fn request(&self, image: &str) -> String {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        let datastore = Datastore {
            id: DatastoreId::new(100),
            name: "images",
            base_path: Some(&path("base")),
            safe_dirs: &path("files"),
        };
        datastore.request(image)
    }

    /// A recorded IMAGE, with what names a place of the recording put right.
    pub(crate) fn recorded(&self, xml: &str) -> String {
        let begin = xml.find("<IMAGE>").unwrap() + "<IMAGE>".len();
        let end = xml.find("</IMAGE>").unwrap();
        xml[begin..end].replace("localhost:5000", &self.server.address())
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.dir.path().join("files").join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn source(&self, line: &str, word: Option<&str>) -> Source {
        let source = match word {
            None => line,
            Some(word) => line.strip_suffix(&format!(" {word}")).unwrap(),
        };
        source.parse().unwrap()
    }

    pub(crate) fn kind(&self, source: &Source) -> Kind {
        self.runtime.block_on(self.client.kind(source)).unwrap()
    }

    /// The digest of what the tag points at.
    pub(crate) fn at(&self, source: &Source, tag: &str) -> Option<Digest> {
        let reference = source.repository().tagged(&tag.parse().unwrap());
        match self.runtime.block_on(self.client.resolve(&reference)) {
            Err(e) if e.is_not_found() => None,
            found => Some(found.unwrap().digest),
        }
    }

    /// Whether the registry has this very version.
    pub(crate) fn holds(&self, source: &Source) -> bool {
        let found = self
            .runtime
            .block_on(self.client.resolve(&source.reference()));
        match found {
            Err(e) if e.is_not_found() => false,
            found => found.is_ok(),
        }
    }

    pub(crate) fn state(&self, source: &Source) -> Option<Digest> {
        self.at(source, &format!("state-{}", source.digest().hex()))
    }

    pub(crate) fn tags(&self, source: &Source) -> Vec<String> {
        let tags = self.runtime.block_on(self.client.tags(source.repository()));
        tags.unwrap().iter().map(ToString::to_string).collect()
    }

    /// Registers a container image; each `n` is another one.
    pub(crate) fn register(&self, id: u32, n: u8) -> Source {
        let path = self.file(&format!("{id}-{n}.tar"), &archive(n));
        let image = format!("<ID>{id}</ID><TYPE>0</TYPE><PATH>{}</PATH>", path.display());
        let line = self.call("cp", id, &image).line();
        self.source(&line, Some("raw"))
    }
}

pub(crate) fn tar(members: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder
            .append_data(&mut header, name, &content[..])
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// A `docker save` archive.
pub(crate) fn archive(n: u8) -> Vec<u8> {
    let layer = tar(&[("file".to_owned(), vec![n; 100_000])]);
    let config = json!({"os": "linux", "architecture": "amd64", "config": {"Cmd": ["/x"]},
        "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}});
    let manifest = json!([{"Config": "c.json", "RepoTags": null, "Layers": ["l/layer.tar"]}]);
    tar(&[
        ("c.json".to_owned(), config.to_string().into_bytes()),
        ("l/layer.tar".to_owned(), layer),
        (
            "manifest.json".to_owned(),
            manifest.to_string().into_bytes(),
        ),
    ])
}

pub(crate) fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let step = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    };
    std::iter::repeat_with(step).take(length).collect()
}

pub(crate) fn qemu_img(arguments: &[&str]) {
    Command::new("qemu-img").args(arguments).checked().unwrap();
}
