//! A registry in this process that misbehaves as a test wants. It implements HTTP itself, so that it
//! can also break it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use onedock_common::Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::images::TestImage;

/// A request that was received.
#[derive(Debug, Clone, Default)]
pub(crate) struct Received {
    pub(crate) method: String,
    /// With the query.
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// How many requests of this method and path came before.
    pub(crate) before: usize,
}

/// An answer, right or wrong.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    Full(u16, Vec<(String, String)>, Vec<u8>),
    /// Says `length` and sends less.
    Short(u16, usize, Vec<u8>),
    /// Never answers.
    Silence,
    /// Answers 503 with `Retry-After: 0`, after this time.
    LateAndBusy(Duration),
    /// Sends this again and again, with pauses.
    Endless(Vec<u8>, Vec<u8>, Duration),
}

pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let own = |(k, v): &(&str, &str)| ((*k).to_owned(), (*v).to_owned());
    Reply::Full(status, headers.iter().map(own).collect(), body.to_vec())
}

type Hook = Box<dyn Fn(&Received) -> Option<Reply> + Send + Sync>;

#[derive(Default)]
struct Store {
    /// By digest.
    blobs: HashMap<String, Vec<u8>>,
    /// By the last part of their path.
    manifests: HashMap<String, Vec<u8>>,
    requests: Vec<Received>,
    /// What was sent into each session, by its path.
    uploads: HashMap<String, Vec<u8>>,
    sessions: usize,
}

/// The running server.
pub(crate) struct FakeRegistry {
    pub(crate) url: String,
    store: Arc<Mutex<Store>>,
    task: JoinHandle<()>,
}

impl FakeRegistry {
    /// Starts a registry that answers as it should, unless `hook` answers.
    pub(crate) async fn start(
        hook: impl Fn(&Received) -> Option<Reply> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let store = Arc::new(Mutex::new(Store::default()));
        let hook: Arc<Hook> = Arc::new(Box::new(hook));
        let shared = Arc::clone(&store);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (store, hook) = (Arc::clone(&shared), Arc::clone(&hook));
                tokio::spawn(async move {
                    let _ = serve(stream, &store, &hook).await;
                });
            }
        });
        Self { url, store, task }
    }

    /// Holds an image as `v1` in every repository.
    pub(crate) fn add_image(&self, image: &TestImage) -> Vec<Vec<u8>> {
        let (manifest, blobs) = image.oci();
        let mut store = self.store.lock().unwrap();
        for blob in &blobs {
            store
                .blobs
                .insert(Digest::of(blob).to_string(), blob.clone());
        }
        store
            .manifests
            .insert(Digest::of(&manifest).to_string(), manifest.clone());
        store.manifests.insert("v1".to_owned(), manifest);
        blobs
    }

    pub(crate) fn add_manifest(&self, manifest: &[u8]) {
        self.store
            .lock()
            .unwrap()
            .manifests
            .insert("v1".to_owned(), manifest.to_vec());
    }

    pub(crate) fn manifest(&self, name: &str) -> Option<Vec<u8>> {
        self.store.lock().unwrap().manifests.get(name).cloned()
    }

    pub(crate) fn requests(&self) -> Vec<Received> {
        self.store.lock().unwrap().requests.clone()
    }
}

impl Drop for FakeRegistry {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(stream: TcpStream, store: &Mutex<Store>, hook: &Hook) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let Some(mut request) = read(&mut stream).await? else {
        return Ok(());
    };
    let same = |s: &Received| s.method == request.method && s.path == request.path;
    let before = store
        .lock()
        .unwrap()
        .requests
        .iter()
        .filter(|s| same(s))
        .count();
    request.before = before;
    store.lock().unwrap().requests.push(request.clone());
    let answer = hook(&request).unwrap_or_else(|| honest(&request, &mut store.lock().unwrap()));
    match answer {
        Reply::Full(status, headers, body) => {
            let mut head = format!("HTTP/1.1 {status} x\r\nconnection: close\r\n");
            let said = headers.iter().any(|(k, _)| k == "content-length");
            for (k, v) in headers {
                head += &format!("{k}: {v}\r\n");
            }
            if !said {
                head += &format!("content-length: {}\r\n", body.len());
            }
            stream.write_all(format!("{head}\r\n").as_bytes()).await?;
            if request.method != "HEAD" {
                stream.write_all(&body).await?;
            }
        }
        Reply::Short(status, length, body) => {
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\n\r\n");
            stream.write_all(head.as_bytes()).await?;
            stream.write_all(&body).await?;
        }
        Reply::LateAndBusy(wait) => {
            tokio::time::sleep(wait).await;
            let head = b"HTTP/1.1 503 x\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n";
            stream.write_all(head).await?;
        }
        Reply::Silence => tokio::time::sleep(Duration::from_secs(600)).await,
        Reply::Endless(head, again, wait) => {
            stream.write_all(&head).await?;
            loop {
                stream.write_all(&again).await?;
                stream.flush().await?;
                tokio::time::sleep(wait).await;
            }
        }
    }
    stream.shutdown().await
}

async fn read(stream: &mut BufReader<TcpStream>) -> std::io::Result<Option<Received>> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => return Ok(None),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut first = lines
        .next()
        .unwrap_or_default()
        .split(' ')
        .map(str::to_owned);
    let mut request = Received {
        method: first.next().unwrap_or_default(),
        path: first.next().unwrap_or_default(),
        ..Received::default()
    };
    for line in lines {
        if let Some((k, v)) = line.split_once(": ") {
            request.headers.insert(k.to_ascii_lowercase(), v.to_owned());
        }
    }
    if let Some(length) = request.headers.get("content-length") {
        let mut body = vec![0; length.parse().unwrap()];
        stream.read_exact(&mut body).await?;
        request.body = body;
    } else if request.headers.contains_key("transfer-encoding") {
        loop {
            let mut line = Vec::new();
            while !line.ends_with(b"\r\n") {
                line.push(stream.read_u8().await?);
            }
            let size = String::from_utf8_lossy(&line).trim().to_owned();
            let mut piece = vec![0; usize::from_str_radix(&size, 16).unwrap() + 2];
            stream.read_exact(&mut piece).await?;
            piece.truncate(piece.len() - 2);
            if piece.is_empty() {
                break;
            }
            request.body.extend(piece);
        }
    }
    Ok(Some(request))
}

/// What a good registry answers.
fn honest(request: &Received, store: &mut Store) -> Reply {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let last = path.rsplit('/').next().unwrap_or_default().to_owned();
    let get = matches!(request.method.as_str(), "GET" | "HEAD");
    if path.contains("/blobs/uploads/") {
        return match request.method.as_str() {
            "POST" => {
                store.sessions += 1;
                reply(
                    202,
                    &[("location", &format!("{path}s{}?state=x", store.sessions))],
                    b"",
                )
            }
            "PATCH" => {
                store.uploads.insert(path.to_owned(), request.body.clone());
                reply(202, &[("location", path)], b"")
            }
            "PUT" => {
                let mut bytes = store.uploads.remove(path).unwrap_or_default();
                bytes.extend_from_slice(&request.body);
                let digest = Digest::of(&bytes).to_string();
                if query.replace("%3A", ":").contains(&digest) {
                    store.blobs.insert(digest, bytes);
                    reply(201, &[], b"")
                } else {
                    reply(400, &[], b"")
                }
            }
            _ => reply(204, &[], b""),
        };
    }
    if path.contains("/manifests/") && request.method == "PUT" {
        let digest = Digest::of(&request.body).to_string();
        store.manifests.insert(digest.clone(), request.body.clone());
        store.manifests.insert(last, request.body.clone());
        return reply(201, &[("docker-content-digest", &digest)], b"");
    }
    if path.contains("/manifests/") && get {
        let kind = ("content-type", "application/vnd.oci.image.manifest.v1+json");
        return match store.manifests.get(&last) {
            Some(bytes) => reply(200, &[kind], bytes),
            None => reply(404, &[], b""),
        };
    }
    match store.blobs.get(&last).filter(|_| get) {
        Some(bytes) => ranged(request, bytes),
        None if path == "/v2/" => reply(200, &[], b"{}"),
        None => reply(404, &[], b""),
    }
}

/// A blob, or the part of it that is asked for.
pub(crate) fn ranged(request: &Received, bytes: &[u8]) -> Reply {
    let Some(range) = request.headers.get("range") else {
        return reply(200, &[], bytes);
    };
    let (start, end) = range.trim_start_matches("bytes=").split_once('-').unwrap();
    let start: usize = start.parse().unwrap();
    let end = end.parse().unwrap_or(bytes.len() - 1);
    let said = format!("bytes {start}-{end}/{}", bytes.len());
    reply(206, &[("content-range", &said)], &bytes[start..=end])
}
