//! `onedock-roots ROOT MEMORY PROGRAMS`: the static programs in a root of another system, with users
//! and hosts that exist only there. `tests/roots/run.sh` gives it namespaces of its own.
//!
//! A static program that asks the C library for a user or a host dies in these roots: of the name
//! service's modules, which belong to another glibc. Each look-up of the programs is made
//! here once, by every way that a name can be known.

#![allow(clippy::print_stdout, reason = "each case is reported in a line")]

mod root;

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use onedock_common::DatastoreId;
use onedock_common::opennebula::oned::datastore::Datastore;
use onedock_tests::dns_server::{DnsServer, Manner};
use onedock_tests::registry_server::{RegistryServer, Setup};
use root::{Root, text};

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
    let root = Root::enter(root, memory, programs)?;
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
        ("every program starts", Box::new(|| starts(&root))),
        ("a user that is not there", Box::new(|| absent_user(&root))),
        ("a user of the file", Box::new(|| user_of_the_file(&root))),
        (
            "a user that only systemd's module knows",
            Box::new(|| user_of_systemd(&root)),
        ),
        (
            "datastore and transfer manager by a name of /etc/hosts",
            Box::new(|| images(&root, &port, HOSTS_NAME, 1)),
        ),
        (
            "datastore and transfer manager by a name of the DNS server",
            Box::new(|| images(&root, &port, DNS_NAME, 2)),
        ),
        (
            "datastore and transfer manager by a search domain",
            Box::new(|| images(&root, &port, SHORT_NAME, 3)),
        ),
        (
            "datastore and transfer manager by this machine's own name",
            Box::new(|| images(&root, &port, OWN_NAME, 4)),
        ),
        (
            "a second DNS server for a silent first",
            Box::new(|| second_server(&root, &port)),
        ),
        (
            "a registry's name that nobody knows",
            Box::new(|| unknown_registry(&root, &port)),
        ),
        (
            "monitord by a name of /etc/hosts",
            Box::new(|| monitoring(&root, HOSTS_NAME)),
        ),
        (
            "monitord by a name of the DNS server",
            Box::new(|| monitoring(&root, DNS_NAME)),
        ),
        (
            "monitord's name that nobody knows",
            Box::new(|| unknown_monitord(&root)),
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

/// The request of a datastore's action.
fn action(image: &str) -> String {
    let datastore = Datastore {
        id: DatastoreId::new(100),
        name: "images",
        base_path: Some("/var/lib/one/datastores/100"),
        safe_dirs: "/var/tmp",
    };
    datastore.request(image)
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
