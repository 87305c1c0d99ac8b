//! `onedock-roots ROOT MEMORY PROGRAMS`: the static programs in a root of another system, with users
//! and hosts that exist only there. `tests/roots/run.sh` gives it namespaces of its own.
//!
//! A static program that asks the C library for a user or a host dies in these roots: of the name
//! service's modules, which belong to another glibc. Each look-up that the programs do is done
//! here once, by every way that a name can be known.

#![allow(clippy::print_stdout, reason = "each case is reported in a line")]

use std::ffi::OsStr;
use std::fs;
use std::io::Write as _;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::mount::{MsFlags, mount};
use onedock_tests::dns_server::{DnsServer, Manner};
use onedock_tests::registry_server::{RegistryServer, Setup};

/// Every program that is built; all of them must at least start.
const PROGRAMS: [&str; 7] = [
    "onedock",
    "onedock-datastore",
    "onedock-tm",
    "onedock-vmm",
    "onedock-im",
    "onedock-runtime",
    "onedock-node",
];

/// Where the programs lie in the root.
const FOLDER: &str = "/opt/onedock";

/// Known only to `/etc/hosts` of the root.
const HOSTS_NAME: &str = "front.only-here";
/// Known only to the DNS server, by its whole name and by the search domain.
const DNS_NAME: &str = "registry.cloud.test";
const SHORT_NAME: &str = "registry";
/// Known to nobody.
const UNKNOWN_NAME: &str = "nobody.cloud.test";
/// The machine's own, which only nss-myhostname knows.
const OWN_NAME: &str = "node-only-here";

/// Where `monitord` listens.
const MONITORD_PORT: u16 = 4124;

fn main() -> ExitCode {
    let arguments: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let [root, memory, programs] = arguments.as_slice() else {
        println!("usage: onedock-roots ROOT MEMORY PROGRAMS (tests/roots/run.sh calls it)");
        return ExitCode::FAILURE;
    };
    match run(root, memory, programs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            println!("  failed   {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(root: &Path, memory: &Path, programs: &Path) -> anyhow::Result<()> {
    let place = Root::enter(root, memory, programs)?;
    let dns = DnsServer::start(
        "127.0.0.1:53".parse()?,
        Manner::Answers,
        &[(DNS_NAME, "127.0.0.1")],
    )?;
    let _silent = DnsServer::start("127.0.0.2:53".parse()?, Manner::Silent, &[])?;
    let registry = RegistryServer::start(&Setup::default())?;
    let (_, port) = registry.address().split_once(':').map_or_else(
        || bail!("the registry has no port"),
        |(host, port)| Ok((host.to_owned(), port.to_owned())),
    )?;
    type Case<'a> = (&'a str, Box<dyn Fn() -> anyhow::Result<()> + 'a>);
    let cases: Vec<Case<'_>> = vec![
        ("every program starts", Box::new(|| starts(&place))),
        ("a user that is not there", Box::new(|| absent_user(&place))),
        ("a user of the file", Box::new(|| user_of_the_file(&place))),
        (
            "a user that only systemd's module knows",
            Box::new(|| user_of_systemd(&place)),
        ),
        (
            "datastore and transfer manager by a name of /etc/hosts",
            Box::new(|| images(&place, &port, HOSTS_NAME, 1)),
        ),
        (
            "datastore and transfer manager by a name of the DNS server",
            Box::new(|| images(&place, &port, DNS_NAME, 2)),
        ),
        (
            "datastore and transfer manager by a search domain",
            Box::new(|| images(&place, &port, SHORT_NAME, 3)),
        ),
        (
            "datastore and transfer manager by this machine's own name",
            Box::new(|| images(&place, &port, OWN_NAME, 4)),
        ),
        (
            "a second DNS server for a silent first",
            Box::new(|| second_server(&place, &port)),
        ),
        (
            "a registry's name that nobody knows",
            Box::new(|| unknown_registry(&place, &port)),
        ),
        (
            "monitord by a name of /etc/hosts",
            Box::new(|| monitoring(&place, HOSTS_NAME)),
        ),
        (
            "monitord by a name of the DNS server",
            Box::new(|| monitoring(&place, DNS_NAME)),
        ),
        (
            "monitord's name that nobody knows",
            Box::new(|| unknown_monitord(&place)),
        ),
    ];
    let mut failed = 0;
    for (name, case) in cases {
        let begin = Instant::now();
        match case() {
            Ok(()) => println!("  ok       {name} ({:.1} s)", begin.elapsed().as_secs_f32()),
            Err(e) => {
                failed += 1;
                println!("  failed   {name}: {e:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of the cases");
    let asked = dns.asked();
    for name in [DNS_NAME, UNKNOWN_NAME] {
        ensure!(
            asked.iter().any(|a| a == name),
            "the DNS server was not asked for {name}, only for {asked:?}"
        );
    }
    ensure!(
        !asked
            .iter()
            .any(|a| a.contains("only-here") && a.starts_with("front")),
        "the DNS server was asked for a name of /etc/hosts: {asked:?}"
    );
    Ok(())
}

/// The root, with a layer of memory over it.
struct Root {
    path: PathBuf,
}

impl Root {
    /// Mounts what the programs need. The caller has given this process namespaces of its own.
    fn enter(root: &Path, memory: &Path, programs: &Path) -> anyhow::Result<Self> {
        ensure!(
            has_own_namespaces(),
            "onedock-roots mounts and names things: call tests/roots/run.sh, which gives it \
             namespaces of its own"
        );
        nix::unistd::sethostname(OWN_NAME)?;
        command("ip", ["link", "set", "lo", "up"])?;
        let none = None::<&str>;
        mount(Some("tmpfs"), memory, Some("tmpfs"), MsFlags::empty(), none)?;
        let at = |name: &str| memory.join(name);
        for name in ["upper", "work", "root", "tmp"] {
            fs::create_dir(at(name))?;
        }
        let layers = format!(
            "lowerdir={},upperdir={},workdir={}",
            root.display(),
            at("upper").display(),
            at("work").display()
        );
        let path = at("root");
        mount(
            Some("overlay"),
            &path,
            Some("overlay"),
            MsFlags::empty(),
            Some(layers.as_str()),
        )?;
        mount(
            Some("proc"),
            &path.join("proc"),
            Some("proc"),
            MsFlags::empty(),
            none,
        )?;
        // The test's own files, the registry's among them.
        mount(Some(&at("tmp")), "/tmp", none, MsFlags::MS_BIND, none)?;
        let place = Self { path };
        fs::create_dir_all(place.at(FOLDER))?;
        for name in PROGRAMS.iter().chain(&["onedock-init"]) {
            let to = place.at(FOLDER).join(name);
            fs::copy(programs.join(name), to)
                .with_context(|| format!("{name} is not in {}", programs.display()))?;
        }
        place.write(
            "/etc/hosts",
            &format!("127.0.0.1 localhost\n127.0.0.1 {HOSTS_NAME}\n"),
        )?;
        place.name_servers(&["127.0.0.1"])?;
        Ok(place)
    }

    /// A path of the root as this process sees it.
    fn at(&self, path: &str) -> PathBuf {
        self.path.join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) -> anyhow::Result<()> {
        let path = self.at(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        // Not through a link of the root, which would lead out of it.
        let _ = fs::remove_file(&path);
        fs::write(&path, text).with_context(|| format!("{}", path.display()))
    }

    fn name_servers(&self, servers: &[&str]) -> anyhow::Result<()> {
        let lines: Vec<String> = servers
            .iter()
            .map(|s| format!("nameserver {s}\n"))
            .collect();
        self.write(
            "/etc/resolv.conf",
            &format!("search cloud.test\n{}", lines.concat()),
        )
    }

    /// Calls a program in the root. A signal is a failure of its own, whatever was expected.
    fn call(&self, words: &[&str], input: &str) -> anyhow::Result<Output> {
        let mut child = Command::new("timeout")
            .args(["-k", "5", "60", "chroot"])
            .arg(&self.path)
            .args(words)
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("HOME", "/root")
            .env("ONEDOCK_CONF", "/etc/onedock/onedock.conf")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that dies does not read.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        // `timeout` ends by the signal that ended the program, or with 128 and its number.
        let signal = output.status.signal().or(output
            .status
            .code()
            .filter(|code| *code > 128)
            .map(|code| code - 128));
        if let Some(signal) = signal {
            bail!("{} died by signal {signal}", words.join(" "));
        }
        ensure!(
            output.status.code() != Some(124),
            "{} did not end within 60 s",
            words.join(" ")
        );
        Ok(output)
    }

    fn program(&self, name: &str, words: &[&str], input: &str) -> anyhow::Result<Output> {
        let path = format!("{FOLDER}/{name}");
        let mut all = vec![path.as_str()];
        all.extend(words);
        self.call(&all, input)
    }

    /// The standard output of a call that has to succeed.
    fn answer(&self, name: &str, words: &[&str], input: &str) -> anyhow::Result<String> {
        let output = self.program(name, words, input)?;
        ensure!(
            output.status.success(),
            "{name} {} failed: {}",
            words.join(" "),
            text(&output.stderr)
        );
        Ok(text(&output.stdout))
    }

    /// The one line of a call that has to fail.
    fn refusal(&self, name: &str, words: &[&str], input: &str) -> anyhow::Result<String> {
        let output = self.program(name, words, input)?;
        ensure!(
            !output.status.success(),
            "{name} {} succeeded",
            words.join(" ")
        );
        let line = text(&output.stderr);
        ensure!(line.trim_end().lines().count() == 1, "not one line: {line}");
        Ok(line)
    }
}

/// Whether `unshare` has made namespaces for this process: `timeout` is the first one there.
fn has_own_namespaces() -> bool {
    std::process::id() == 2
}

fn command<S: AsRef<OsStr>>(
    program: &str,
    words: impl IntoIterator<Item = S>,
) -> anyhow::Result<()> {
    let status = Command::new(program).args(words).status()?;
    ensure!(status.success(), "{program} failed");
    Ok(())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn starts(root: &Root) -> anyhow::Result<()> {
    for name in PROGRAMS {
        // Those that oned calls know no such option; they refuse it in one line.
        root.program(name, &["--version"], "")?;
    }
    Ok(())
}

/// What `setup node` would do about the account of OpenNebula.
fn account_steps(root: &Root) -> anyhow::Result<Vec<String>> {
    let plan = root.answer("onedock", &["setup", "node", "--dry-run"], "")?;
    let steps: Vec<String> = plan
        .lines()
        .filter(|line| line.contains("group oneadmin") || line.contains("user oneadmin"))
        .map(|line| line.trim().to_owned())
        .collect();
    ensure!(
        steps.len() == 2,
        "the account's two steps are not in: {plan}"
    );
    Ok(steps)
}

fn absent_user(root: &Root) -> anyhow::Result<()> {
    for step in account_steps(root)? {
        ensure!(step.starts_with("would do"), "{step}");
    }
    let line = root.refusal(
        "onedock",
        &["setup", "registry", "--name", "fe", "--dry-run"],
        "",
    )?;
    ensure!(line.contains("no user oneadmin"), "{line}");
    Ok(())
}

fn user_of_the_file(root: &Root) -> anyhow::Result<()> {
    let (passwd, group) = (root.at("/etc/passwd"), root.at("/etc/group"));
    let before = (fs::read_to_string(&passwd)?, fs::read_to_string(&group)?);
    let user = "oneadmin:x:9869:9869::/var/lib/one:/bin/bash\n";
    fs::write(&passwd, format!("{}{user}", before.0))?;
    fs::write(&group, format!("{}oneadmin:x:9869:\n", before.1))?;
    let steps = account_steps(root);
    fs::write(&passwd, before.0)?;
    fs::write(&group, before.1)?;
    for step in steps? {
        ensure!(step.starts_with("ok "), "{step}");
    }
    Ok(())
}

/// A record as systemd-homed or an administrator leaves it: no line of passwd(5) says it.
fn user_of_systemd(root: &Root) -> anyhow::Result<()> {
    root.write(
        "/etc/userdb/oneadmin.user",
        r#"{"userName":"oneadmin","uid":9869,"gid":9869,"disposition":"regular","homeDirectory":"/var/lib/one","shell":"/bin/bash"}"#,
    )?;
    root.write(
        "/etc/userdb/oneadmin.group",
        r#"{"groupName":"oneadmin","gid":9869,"disposition":"regular"}"#,
    )?;
    for (record, number) in [
        ("oneadmin.user", "9869.user"),
        ("oneadmin.group", "9869.group"),
    ] {
        symlink(record, root.at("/etc/userdb").join(number))?;
    }
    let steps = account_steps(root);
    fs::remove_dir_all(root.at("/etc/userdb"))?;
    for step in steps? {
        ensure!(step.starts_with("ok "), "{step}");
    }
    Ok(())
}

/// What `one_datastore` writes to the driver.
fn action(image: &str) -> String {
    STANDARD.encode(format!(
        "<DS_DRIVER_ACTION_DATA><IMAGE>{image}</IMAGE><DATASTORE><ID>100</ID>\
         <BASE_PATH>/var/lib/one/datastores/100</BASE_PATH><TEMPLATE>\
         <SAFE_DIRS>/var/tmp</SAFE_DIRS><RESTRICTED_DIRS>/</RESTRICTED_DIRS></TEMPLATE>\
         </DATASTORE></DS_DRIVER_ACTION_DATA>"
    ))
}

/// `private` is the cloud's own registry; `insecure` is the one that is asked, by plain HTTP.
fn configure(root: &Root, private: &str, insecure: &str) -> anyhow::Result<()> {
    root.write(
        "/etc/onedock/onedock.conf",
        &format!(
            "LOCAL_SERVER={private}\nONEDOCK_INSECURE_REGISTRIES={insecure}\n\
             ONEDOCK_PLATFORMS=\"linux/amd64\"\n"
        ),
    )
}

/// A disk goes into the registry, is measured there and comes out again on a host.
fn images(root: &Root, port: &str, host: &str, id: u32) -> anyhow::Result<()> {
    let registry = format!("{host}:{port}");
    configure(root, &registry, &registry)?;
    let content: Vec<u8> = (0..2 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    fs::create_dir_all(root.at("/var/tmp"))?;
    fs::write(root.at("/var/tmp/disk.raw"), &content)?;
    let id_text = id.to_string();
    let image = format!("<ID>{id}</ID><TYPE>2</TYPE><PATH>/var/tmp/disk.raw</PATH>");
    let line = root.answer("onedock-datastore", &["cp", &id_text], &action(&image))?;
    let source = line.split_whitespace().next().unwrap_or_default();
    ensure!(source.contains(&registry), "the image's SOURCE is {source}");

    let disks = format!("/var/lib/one/datastores/0/{id}");
    fs::create_dir_all(root.at(&disks))?;
    let target = format!("localhost:{disks}/disk.1");
    let words = ["clone", source, target.as_str(), id_text.as_str(), "100"];
    root.answer("onedock-tm", &words, "")?;
    let arrived = fs::read(root.at(&format!("{disks}/disk.1")))?;
    ensure!(arrived == content, "the disk is not what was registered");
    Ok(())
}

fn second_server(root: &Root, port: &str) -> anyhow::Result<()> {
    root.name_servers(&["127.0.0.2", "127.0.0.1"])?;
    let registry = format!("{DNS_NAME}:{port}");
    configure(root, HOSTS_NAME, &registry)?;
    let image = format!("<ID>9</ID><PATH>docker://{registry}/onedock/none:latest</PATH>");
    let line = root.refusal("onedock-datastore", &["stat", "9"], &action(&image));
    root.name_servers(&["127.0.0.1"])?;
    // The registry itself has to say that it knows no such image.
    let line = line?;
    ensure!(line.contains("404") || line.contains("not"), "{line}");
    ensure!(!line.contains("cannot be reached"), "{line}");
    Ok(())
}

fn unknown_registry(root: &Root, port: &str) -> anyhow::Result<()> {
    let registry = format!("{UNKNOWN_NAME}:{port}");
    configure(root, HOSTS_NAME, &registry)?;
    let image = format!("<ID>9</ID><PATH>docker://{registry}/onedock/none:latest</PATH>");
    let line = root.refusal("onedock-datastore", &["stat", "9"], &action(&image))?;
    ensure!(
        line.contains(&format!("no host is named \"{UNKNOWN_NAME}\"")),
        "{line}"
    );
    Ok(())
}

fn monitoring_document(address: &str) -> String {
    let document = include_str!("../../im/tests/data/monitord-config-7.4.0.xml");
    document.replace(
        "<MONITOR_ADDRESS><![CDATA[127.0.0.1]]>",
        &format!("<MONITOR_ADDRESS><![CDATA[{address}]]>"),
    )
}

fn monitoring(root: &Root, address: &str) -> anyhow::Result<()> {
    let monitord = UdpSocket::bind(("127.0.0.1", MONITORD_PORT))?;
    monitord.set_read_timeout(Some(Duration::from_secs(20)))?;
    let words = ["start", "onedock", "0", OWN_NAME];
    root.answer("onedock-im", &words, &monitoring_document(address))?;
    let mut message = [0; 65_536];
    let received = monitord.recv(&mut message);
    root.answer("onedock-im", &["stop", "onedock", "0", OWN_NAME], "")?;
    let message = text(&message[..received.context("nothing was sent to monitord")?]);
    // KIND STATUS HOST TIME DATA (src/monitor/include/MonitorDriverMessages.h).
    let words: Vec<&str> = message.split(' ').collect();
    ensure!(
        words.len() == 5 && words[1] == "SUCCESS" && words[2] == "0",
        "{message}"
    );
    Ok(())
}

fn unknown_monitord(root: &Root) -> anyhow::Result<()> {
    let words = ["start", "onedock", "0", OWN_NAME];
    let line = root.refusal("onedock-im", &words, &monitoring_document(UNKNOWN_NAME))?;
    ensure!(
        line.contains(&format!("no host is named \"{UNKNOWN_NAME}\"")),
        "{line}"
    );
    Ok(())
}
