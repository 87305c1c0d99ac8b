//! Host names looked up with files of the test and DNS servers of the test.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests stand outside of #[test]"
)]

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use onedock_common::resolver::{LIMIT, LookupError, Resolver, Sources};
use onedock_tests::dns_server::{DnsServer, Manner};
use tempfile::TempDir;

struct Machine {
    dir: TempDir,
    port: u16,
    limit: Duration,
}

impl Machine {
    fn new(hosts: &str, resolv_conf: &str, port: u16) -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("hosts"), hosts).unwrap();
        fs::write(dir.path().join("resolv.conf"), resolv_conf).unwrap();
        Self {
            dir,
            port,
            limit: LIMIT,
        }
    }

    fn look_up(&self, host: &str) -> Result<Vec<String>, LookupError> {
        let sources = Sources {
            hosts: self.dir.path().join("hosts"),
            resolv_conf: self.dir.path().join("resolv.conf"),
            port: self.port,
            limit: self.limit,
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let found = runtime.block_on(Resolver::new(sources)?.lookup(host))?;
        Ok(found.iter().map(IpAddr::to_string).collect())
    }
}

/// Servers on 127.0.0.1, 127.0.0.2 and so on, all on one port.
fn servers(wanted: &[(Manner, &[(&str, &str)])]) -> Vec<DnsServer> {
    'port: for _ in 0..20 {
        let mut servers: Vec<DnsServer> = Vec::new();
        for (n, (manner, records)) in (1u8..).zip(wanted) {
            let port = servers.first().map_or(0, DnsServer::port);
            let address = SocketAddr::new([127, 0, 0, n].into(), port);
            match DnsServer::start(address, *manner, records) {
                Ok(server) => servers.push(server),
                Err(_) => continue 'port,
            }
        }
        return servers;
    }
    panic!("no port is free on every address");
}

fn server(manner: Manner, records: &[(&str, &str)]) -> DnsServer {
    servers(&[(manner, records)]).remove(0)
}

#[test]
fn an_address_is_its_own_answer_and_nobody_is_asked() {
    let dns = server(Manner::Answers, &[]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    for address in ["192.0.2.7", "2001:db8::7", "::1"] {
        assert_eq!(machine.look_up(address).unwrap(), [address]);
    }
    assert!(dns.asked().is_empty());
}

#[test]
fn the_hosts_file_comes_before_every_dns_server_and_search_domain() {
    let records = [
        ("front.cloud.example", "192.0.2.99"),
        ("front", "192.0.2.98"),
    ];
    let dns = server(Manner::Answers, &records);
    let hosts = "# static\n192.0.2.1 Front.lan front # the registry\n2001:db8::1 front\n\
                 192.0.2.1 front\nno-address front\n";
    let conf = "search cloud.example\nnameserver 127.0.0.1\n";
    let machine = Machine::new(hosts, conf, dns.port());
    let mut found = machine.look_up("FRONT").unwrap();
    found.sort();
    assert_eq!(found, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(machine.look_up("front.lan").unwrap(), ["192.0.2.1"]);
    assert!(dns.asked().is_empty(), "{:?}", dns.asked());
}

#[test]
fn localhost_needs_no_file_and_no_server() {
    let dns = server(Manner::Answers, &[("localhost", "192.0.2.1")]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    for name in ["localhost", "registry.localhost", "LOCALHOST."] {
        let found = machine.look_up(name).unwrap();
        assert!(found.contains(&"127.0.0.1".to_owned()), "{found:?}");
        assert!(found.iter().all(|a| a == "127.0.0.1" || a == "::1"));
    }
    assert!(dns.asked().is_empty());
}

#[test]
fn search_domains_are_tried_in_their_order_and_ndots_decides_when() {
    let records = [("reg.b.example", "192.0.2.2"), ("reg.x", "192.0.2.3")];
    let conf = "search a.example b.example\nnameserver 127.0.0.1\n";
    for (host, conf, found, asked) in [
        (
            "reg",
            conf.to_owned(),
            "192.0.2.2",
            vec!["reg.a.example", "reg.b.example"],
        ),
        ("reg.x", conf.to_owned(), "192.0.2.3", vec!["reg.x"]),
        (
            "reg.x",
            format!("{conf}options ndots:2\n"),
            "192.0.2.3",
            vec!["reg.x.a.example", "reg.x.b.example", "reg.x"],
        ),
    ] {
        let dns = server(Manner::Answers, &records);
        let machine = Machine::new("", &conf, dns.port());
        assert_eq!(machine.look_up(host).unwrap(), [found]);
        assert_eq!(dns.asked(), asked);
    }
}

#[test]
fn a_final_dot_ends_the_name() {
    let dns = server(Manner::Answers, &[("reg.a.example", "192.0.2.2")]);
    let conf = "search a.example\nnameserver 127.0.0.1\n";
    let machine = Machine::new("", conf, dns.port());
    assert_eq!(machine.look_up("reg.a.example.").unwrap(), ["192.0.2.2"]);
    assert!(machine.look_up("reg.").is_err());
    assert_eq!(dns.asked(), ["reg.a.example", "reg"]);
}

#[test]
fn the_domain_line_counts_where_there_is_no_search_list() {
    let dns = server(Manner::Answers, &[("reg.a.example", "192.0.2.2")]);
    let conf = "domain a.example\nnameserver 127.0.0.1\n";
    let machine = Machine::new("", conf, dns.port());
    assert_eq!(machine.look_up("reg").unwrap(), ["192.0.2.2"]);
}

#[test]
fn a_second_server_is_asked_when_the_first_is_silent_or_fails() {
    for manner in [Manner::Silent, Manner::Fails] {
        let all = servers(&[
            (manner, &[]),
            (Manner::Answers, &[("reg.example", "192.0.2.2")]),
        ]);
        let conf = "search a.example\nnameserver 127.0.0.1\nnameserver 127.0.0.2\n";
        let machine = Machine::new("", conf, all[0].port());
        let begin = Instant::now();
        assert_eq!(machine.look_up("reg.example").unwrap(), ["192.0.2.2"]);
        assert!(begin.elapsed() < LIMIT, "{:?}", begin.elapsed());
        assert_eq!(all[0].asked(), ["reg.example"]);
    }
}

/// One silent server costs its time once, and not once for each search domain.
#[test]
fn a_server_that_answered_is_asked_first_for_the_next_name() {
    let all = servers(&[
        (Manner::Silent, &[]),
        (Manner::Answers, &[("reg.c.example", "192.0.2.2")]),
    ]);
    let conf = "search a.example b.example c.example\nnameserver 127.0.0.1\nnameserver 127.0.0.2\n";
    let machine = Machine::new("", conf, all[0].port());
    assert_eq!(machine.look_up("reg").unwrap(), ["192.0.2.2"]);
    assert_eq!(all[0].asked(), ["reg.a.example"]);
}

#[test]
fn an_unknown_name_of_the_first_server_is_not_asked_of_a_second() {
    let all = servers(&[
        (Manner::Answers, &[]),
        (Manner::Answers, &[("intern.example", "198.51.100.1")]),
    ]);
    let conf = "nameserver 127.0.0.1\nnameserver 127.0.0.2\n";
    let machine = Machine::new("", conf, all[0].port());
    assert!(matches!(
        machine.look_up("intern.example"),
        Err(LookupError::Unknown { .. })
    ));
    assert!(all[1].asked().is_empty());
}

#[test]
fn silent_servers_are_named_when_the_time_is_over() {
    let all = servers(&[(Manner::Silent, &[]), (Manner::Silent, &[])]);
    let conf = "nameserver 127.0.0.1\nnameserver 127.0.0.2\n";
    let mut machine = Machine::new("", conf, all[0].port());
    machine.limit = Duration::from_secs(1);
    let begin = Instant::now();
    let error = machine.look_up("reg.example").unwrap_err();
    assert!(
        begin.elapsed() < Duration::from_secs(4),
        "{:?}",
        begin.elapsed()
    );
    assert_eq!(
        error.to_string(),
        "\"reg.example\" cannot be looked up: the DNS server 127.0.0.1 or 127.0.0.2 does not answer"
    );
    assert!(!all[1].asked().is_empty());
}

#[test]
fn a_server_that_fails_is_told_with_its_answer() {
    let dns = server(Manner::Fails, &[]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    let text = machine.look_up("reg.example").unwrap_err().to_string();
    let begin =
        "\"reg.example\" cannot be looked up: the DNS server 127.0.0.1 answers with \"Server Fail";
    assert!(text.starts_with(begin) && !text.contains('\n'), "{text}");
}

#[test]
fn a_host_is_not_unknown_while_one_of_its_names_has_no_answer() {
    let dns = server(Manner::FailsFor("reg.a.example"), &[]);
    let conf = "search a.example b.example\nnameserver 127.0.0.1\n";
    let machine = Machine::new("", conf, dns.port());
    let error = machine.look_up("reg").unwrap_err();
    assert!(matches!(error, LookupError::Failed { .. }), "{error}");
    assert_eq!(dns.asked(), ["reg.a.example", "reg.b.example", "reg"]);
}

#[test]
fn a_host_may_have_ipv6_alone() {
    let dns = server(Manner::Answers, &[("six.example", "2001:db8::6")]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    assert_eq!(machine.look_up("six.example").unwrap(), ["2001:db8::6"]);
}

#[test]
fn an_answer_that_is_too_long_for_udp_comes_by_tcp() {
    let dns = server(Manner::Truncates, &[("reg.example", "192.0.2.2")]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    assert_eq!(machine.look_up("reg.example").unwrap(), ["192.0.2.2"]);
}

#[test]
fn a_name_that_nobody_knows_is_one_plain_line() {
    let dns = server(Manner::Answers, &[]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    let text = machine.look_up("none.example").unwrap_err().to_string();
    let hosts = machine.dir.path().join("hosts");
    assert_eq!(
        text,
        format!(
            "no host is named \"none.example\": {} and the DNS server 127.0.0.1 do not know it",
            hosts.display()
        )
    );
}

#[test]
fn what_is_no_host_name_is_refused_before_anyone_is_asked() {
    let dns = server(Manner::Answers, &[]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    let long = "a".repeat(64);
    for text in ["", ".", "a b", "a..b", "a\nb", long.as_str()] {
        assert_eq!(
            machine.look_up(text).unwrap_err(),
            LookupError::Name(text.to_owned())
        );
    }
    assert!(dns.asked().is_empty());
}

#[test]
fn names_with_an_underscore_are_looked_up() {
    let dns = server(Manner::Answers, &[("my_reg.example", "192.0.2.2")]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    assert_eq!(machine.look_up("my_reg.example").unwrap(), ["192.0.2.2"]);
    let machine = Machine::new("192.0.2.5 my_front\n", "", dns.port());
    assert_eq!(machine.look_up("my_front").unwrap(), ["192.0.2.5"]);
}

#[test]
fn without_a_named_server_the_one_of_this_machine_is_asked() {
    for conf in [
        "",
        "search a.example\n",
        "# nothing\nfoo bar\noptions wat\n",
    ] {
        let records = [("reg.example", "192.0.2.2"), ("r.a.example", "192.0.2.3")];
        let dns = server(Manner::Answers, &records);
        let machine = Machine::new("", conf, dns.port());
        assert_eq!(machine.look_up("reg.example").unwrap(), ["192.0.2.2"]);
        assert_eq!(machine.look_up("r").is_ok(), conf.starts_with("search"));
        fs::remove_file(machine.dir.path().join("resolv.conf")).unwrap();
        fs::remove_file(machine.dir.path().join("hosts")).unwrap();
        assert_eq!(machine.look_up("reg.example").unwrap(), ["192.0.2.2"]);
    }
}

#[test]
fn a_line_that_nobody_understands_does_not_hide_the_others() {
    let dns = server(Manner::Answers, &[("reg.a.example", "192.0.2.2")]);
    let conf = "options trust-ad edns0 no-such-option timeout:x\nnameserver not-an-address\n\
                lookup file bind\nsearch a.example\nnameserver 127.0.0.1\nsortlist 10.0.0.0/8\n";
    let machine = Machine::new("", conf, dns.port());
    assert_eq!(machine.look_up("reg").unwrap(), ["192.0.2.2"]);
}

#[test]
fn the_machine_knows_its_own_name_when_nobody_else_does() {
    let own = nix::unistd::gethostname().unwrap().into_string().unwrap();
    let dns = server(Manner::Answers, &[]);
    let machine = Machine::new("", "nameserver 127.0.0.1\n", dns.port());
    let found = machine.look_up(&own).unwrap();
    // Each is an address that this machine can listen on.
    for address in found {
        let address: IpAddr = address.parse().unwrap();
        std::net::UdpSocket::bind(SocketAddr::new(address, 0)).unwrap();
    }
}
