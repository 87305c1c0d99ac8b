//! Fakes of both ends of the agent: an engine with the answers that a test sets, and the two ports
//! of `monitord`.
#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::read::ZlibDecoder;

/// How the engine behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Answers,
    /// Takes connections and says nothing, as one that is stopped.
    Hangs,
    /// Ends every connection.
    Closes,
    /// Answers with what is not JSON.
    Garbles,
}

#[derive(Debug)]
struct Inner {
    behaviour: Behaviour,
    vms: BTreeMap<u32, &'static str>,
    requests: Vec<String>,
    followers: Vec<UnixStream>,
    /// Connections that are held open without an answer.
    held: Vec<UnixStream>,
}

/// An engine on a socket of its own.
#[derive(Debug, Clone)]
pub(crate) struct FakeEngine {
    pub(crate) socket: PathBuf,
    inner: Arc<Mutex<Inner>>,
}

pub(crate) fn container(vm: u32) -> String {
    format!("{vm:064x}")
}

impl FakeEngine {
    pub(crate) fn start(dir: &Path) -> Self {
        let socket = dir.join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let inner = Arc::new(Mutex::new(Inner {
            behaviour: Behaviour::Answers,
            vms: BTreeMap::new(),
            requests: Vec::new(),
            followers: Vec::new(),
            held: Vec::new(),
        }));
        let shared = Arc::clone(&inner);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(stream.unwrap(), &shared));
            }
        });
        Self { socket, inner }
    }

    pub(crate) fn set(&self, vm: u32, state: &'static str) {
        self.inner.lock().unwrap().vms.insert(vm, state);
        self.event();
    }

    pub(crate) fn remove(&self, vm: u32) {
        self.inner.lock().unwrap().vms.remove(&vm);
        self.event();
    }

    fn event(&self) {
        let mut inner = self.inner.lock().unwrap();
        inner
            .followers
            .retain_mut(|f| f.write_all(b"3\r\n{}\n\r\n").is_ok());
    }

    pub(crate) fn behaviour(&self, behaviour: Behaviour) {
        let mut inner = self.inner.lock().unwrap();
        inner.behaviour = behaviour;
        inner.held.clear();
        if behaviour != Behaviour::Answers {
            inner.followers.clear();
        }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.inner.lock().unwrap().requests.clone()
    }
}

pub(crate) fn list_json(vms: &BTreeMap<u32, &'static str>) -> String {
    let entry = |(vm, state): (&u32, &&str)| {
        format!(
            r#"{{"Id":"{}","Names":["/one-{vm}"],"Image":"sha256:{}","Command":"sh","Created":1795258323,"Ports":[],"Labels":{{"org.opennebula.driver":"onedock","org.opennebula.vm":"{vm}"}},"State":"{state}","Status":"Up 3 seconds","HostConfig":{{"NetworkMode":"none"}},"NetworkSettings":{{"Networks":{{"none":{{"IPAMConfig":null,"Links":null,"Gateway":"","DriverOpts":null}}}}}},"Mounts":[]}}"#,
            container(*vm),
            "38".repeat(32),
        )
    };
    let entries: Vec<String> = vms.iter().map(entry).collect();
    format!("[{}]", entries.join(","))
}

fn serve(stream: UnixStream, shared: &Mutex<Inner>) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut request = String::new();
    if reader.read_line(&mut request).is_err() {
        return;
    }
    let path = request.split(' ').nth(1).unwrap_or("").to_owned();
    let mut inner = shared.lock().unwrap();
    inner.requests.push(path.clone());
    let mut stream = stream;
    let mut answer = |body: &str| {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        let _ = stream.write_all(head.as_bytes());
        let _ = stream.write_all(body.as_bytes());
    };
    match inner.behaviour {
        Behaviour::Hangs => inner.held.push(stream),
        Behaviour::Closes => {}
        Behaviour::Garbles => answer("<html>not an engine</html>"),
        Behaviour::Answers if path.starts_with("/containers/json?all=1&filters=") => {
            answer(&list_json(&inner.vms));
        }
        Behaviour::Answers if path.starts_with("/events") => {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            inner.followers.push(stream);
        }
        Behaviour::Answers if path.contains("/logs?") => {
            answer("\x02\0\0\0\0\0\0\x0bout of \"x\"\n")
        }
        Behaviour::Answers if path == "/info" => {
            answer(
                r#"{"ServerVersion":"20.10.24+dfsg1","Driver":"overlay2","CgroupDriver":"cgroupfs","LiveRestoreEnabled":true,"Runtimes":{"runc":{"path":"runc"}},"SecurityOptions":["name=seccomp,profile=default"]}"#,
            );
        }
        Behaviour::Answers => answer(
            r#"{"State":{"Pid":0,"ExitCode":3,"OOMKilled":false,"Error":""},"Config":{"Tty":false}}"#,
        ),
    }
}

/// One message as `monitord` reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) transport: &'static str,
    pub(crate) kind: String,
    pub(crate) host: u32,
    pub(crate) data: String,
    pub(crate) at: Instant,
}

/// `monitord`'s two ports.
#[derive(Debug)]
pub(crate) struct Monitord {
    pub(crate) port: u16,
    messages: Receiver<Message>,
}

impl Monitord {
    pub(crate) fn start() -> Self {
        Self::on(0)
    }

    pub(crate) fn on(port: u16) -> Self {
        let (give, messages) = channel();
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind(("127.0.0.1", port)).unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (tcp, udp);
            }
        };
        let port = tcp.local_addr().unwrap().port();
        let by_tcp = give.clone();
        thread::spawn(move || {
            for stream in tcp.incoming() {
                let mut text = String::new();
                if stream.unwrap().read_to_string(&mut text).is_ok() {
                    deliver(&by_tcp, "tcp", &text);
                }
            }
        });
        thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while let Ok(n) = udp.recv(&mut buffer) {
                deliver(&give, "udp", std::str::from_utf8(&buffer[..n]).unwrap());
            }
        });
        Self { port, messages }
    }

    /// The next message that `wanted` takes; others are passed over.
    pub(crate) fn expect(&self, within: Duration, wanted: impl Fn(&Message) -> bool) -> Message {
        let until = Instant::now() + within;
        let mut others = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.messages.recv_timeout(left) {
                Ok(message) if wanted(&message) => return message,
                Ok(message) => others.push(message),
                Err(_) => panic!("not sent within {within:?}; sent were {others:#?}"),
            }
        }
    }

    /// Messages that come by different ways (TCP, UDP), and so in any order.
    pub(crate) fn expect_both(
        &self,
        within: Duration,
        first: impl Fn(&Message) -> bool,
        second: impl Fn(&Message) -> bool,
    ) -> (Message, Message) {
        let found = self.expect(within, |m| first(m) || second(m));
        if first(&found) {
            let other = self.expect(within, second);
            (found, other)
        } else {
            let other = self.expect(within, first);
            (other, found)
        }
    }

    pub(crate) fn state(&self, within: Duration, text: &str) -> Message {
        self.expect(within, |m| m.kind == "STATE_VM" && m.data.contains(text))
    }

    /// Everything that comes within a time.
    pub(crate) fn all(&self, within: Duration) -> Vec<Message> {
        let until = Instant::now() + within;
        let mut all = Vec::new();
        while let Ok(one) = self
            .messages
            .recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            all.push(one);
        }
        all
    }
}

fn deliver(to: &Sender<Message>, transport: &'static str, wire: &str) {
    let fields: Vec<&str> = wire.split(' ').collect();
    assert_eq!((fields.len(), fields[1]), (5, "SUCCESS"), "{wire}");
    let packed = BASE64_STANDARD.decode(fields[4]).unwrap();
    let mut data = String::new();
    ZlibDecoder::new(&packed[..])
        .read_to_string(&mut data)
        .unwrap();
    let _ = to.send(Message {
        transport,
        kind: fields[0].to_owned(),
        host: fields[2].parse().unwrap(),
        data,
        at: Instant::now(),
    });
}

/// A node: folders, engine, monitord, and the agent, which is ended with it.
#[derive(Debug)]
pub(crate) struct FakeNode {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) engine: FakeEngine,
    pub(crate) monitord: Monitord,
    socket: PathBuf,
}

impl FakeNode {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = FakeEngine::start(dir.path());
        Self {
            socket: engine.socket.clone(),
            engine,
            monitord: Monitord::start(),
            dir,
        }
    }

    /// A node whose agent is given another engine than the fake one.
    pub(crate) fn with_engine(socket: &Path) -> Self {
        let mut node = Self::new();
        node.socket = socket.to_owned();
        node
    }

    pub(crate) fn config(&self) -> String {
        let at = self.dir.path().join("datastores");
        format!(
            "<MONITOR_CONFIGURATION><DATASTORE_LOCATION><![CDATA[{}]]></DATASTORE_LOCATION><NETWORK><ADDRESS>::</ADDRESS><MONITOR_ADDRESS>auto</MONITOR_ADDRESS><PORT>{}</PORT><PRIKEY/><PUBKEY/></NETWORK><PROBES_PERIOD><BEACON_HOST>1</BEACON_HOST><MONITOR_HOST>2</MONITOR_HOST><MONITOR_VM>2</MONITOR_VM><STATE_VM>5</STATE_VM><SYNC_STATE_VM>6</SYNC_STATE_VM><SYSTEM_HOST>600</SYSTEM_HOST></PROBES_PERIOD><HOST_ID>3</HOST_ID></MONITOR_CONFIGURATION>",
            at.display(),
            self.monitord.port
        )
    }

    pub(crate) fn paths(&self) -> onedock_common::state::paths::Paths {
        onedock_common::state::paths::Paths::at(self.dir.path().join("state"))
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_onedock-im"));
        command
            .args(args)
            .env("DOCKER_HOST", format!("unix://{}", self.socket.display()))
            .env("ONEDOCK_ONE_DB", self.dir.path().join("one_db"))
            .env("ONEDOCK_STATE", self.dir.path().join("state"))
            .env("SSH_CLIENT", "127.0.0.1 40000 22")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn run(&self, args: &[&str], input: &str) -> Output {
        let mut child = self.command(args).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().unwrap()
    }

    /// Starts the agent and gives its first messages, decoded.
    pub(crate) fn start(&self) -> BTreeMap<String, String> {
        self.start_with(&self.config())
    }

    /// The same with another configuration of `monitord`.
    pub(crate) fn start_with(&self, config: &str) -> BTreeMap<String, String> {
        let out = self.run(&["start", "onedock", "3", "host01"], config);
        assert!(out.status.success() && out.stderr.is_empty(), "{out:?}");
        first(&String::from_utf8(out.stdout).unwrap())
    }

    pub(crate) fn pid(&self) -> i32 {
        let plain = self.dir.path().join("one_db/.monitor_client.pid");
        fs::read_to_string(plain).unwrap().parse().unwrap()
    }
}

/// A process of the agent, by the file that notes it.
pub(crate) fn noted(node: &FakeNode, ending: &str) -> Option<i32> {
    let path = node
        .dir
        .path()
        .join(format!("one_db/onedock-im-3.{ending}"));
    let text = fs::read_to_string(path).ok()?;
    let pid = text.split_once("\"pid\":")?.1;
    pid.split(',').next()?.parse().ok()
}

/// Waits until a condition holds.
pub(crate) fn eventually(within: Duration, what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + within;
    while !holds() {
        assert!(Instant::now() < until, "not within {within:?}: {what}");
        onedock_common::wait::pause(Duration::from_millis(20));
    }
}

impl Drop for FakeNode {
    fn drop(&mut self) {
        let out = self.run(&["stop", "onedock", "3", "host01"], "");
        if !thread::panicking() {
            assert!(out.status.success(), "{out:?}");
        }
    }
}

/// The parts of the first answer; the first of each name counts, as for `monitord`.
pub(crate) fn first(document: &str) -> BTreeMap<String, String> {
    let mut parts = BTreeMap::new();
    let body = document
        .trim_end()
        .strip_prefix("<MONITOR_MESSAGES>")
        .unwrap();
    let body = body.strip_suffix("</MONITOR_MESSAGES>").unwrap();
    for element in body.split('\n') {
        let (name, rest) = element[1..].split_once('>').unwrap();
        let value = rest.strip_suffix(&format!("</{name}>")).unwrap();
        let value = if name == "TIMESTAMP" {
            value.to_owned()
        } else {
            String::from_utf8(BASE64_STANDARD.decode(value).unwrap()).unwrap()
        };
        parts.entry(name.to_owned()).or_insert(value);
    }
    parts
}

pub(crate) fn lives(pid: i32) -> bool {
    // A zombie has no command line.
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| !c.is_empty())
}
