//! The IP addresses of host names, without the C library's name service.
//!
//! The programs are static, and a static glibc that is asked for a name loads the modules of the
//! host's name service, which belong to another glibc or to systemd: the program dies. So nothing
//! here or elsewhere may call `getaddrinfo` (`docs/decisions/0018-no-name-service.md`).
//!
//! The order is that of `hosts: files dns myhostname` in nsswitch.conf(5): a numeric address,
//! `/etc/hosts`, `localhost` (RFC 6761), the DNS servers and search domains of `/etc/resolv.conf`
//! (resolv.conf(5)), this machine's own name. Multicast DNS, LDAP and NIS are not asked; a
//! systemd-resolved that `/etc/resolv.conf` names is asked as the DNS server that it is.

use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::time::Duration;

use hickory_resolver::config::{
    LookupIpStrategy, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use hickory_resolver::{Hosts, TokioResolver, system_conf};
use thiserror::Error;
use tokio::time::timeout;

/// When a lookup gives up. It is below the time that a connection may take, so that the reader
/// is told that the name was the problem.
pub const LIMIT: Duration = Duration::from_secs(8);

/// How often one DNS server is asked for one name.
const ATTEMPTS: u32 = 2;

/// How many bytes of `/etc/hosts` and of `/etc/resolv.conf` are read.
const FILE_LIMIT: u64 = 8 << 20;

/// Why a name has no address.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LookupError {
    /// It cannot be a host's name.
    #[error("\"{0}\" is not a host name")]
    Name(String),
    /// Everyone that was asked knows nothing of it.
    #[error("no host is named \"{host}\": {hosts} and the DNS server {servers} do not know it", hosts = hosts.display())]
    Unknown {
        /// The name.
        host: String,
        /// The file of static names.
        hosts: PathBuf,
        /// The DNS servers, as a list for the reader.
        servers: String,
    },
    /// No DNS server gave an answer.
    #[error("\"{host}\" cannot be looked up: the DNS server {servers} {problem}")]
    Failed {
        /// The name.
        host: String,
        /// The DNS servers, as a list for the reader.
        servers: String,
        /// What the last of them did.
        problem: String,
    },
}

/// Where the answers come from.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The file of static names, hosts(5).
    pub hosts: PathBuf,
    /// The file that names the DNS servers, resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// The port of the DNS servers.
    pub port: u16,
    /// When a lookup gives up.
    pub limit: Duration,
}

impl Default for Sources {
    fn default() -> Self {
        Self {
            hosts: "/etc/hosts".into(),
            resolv_conf: "/etc/resolv.conf".into(),
            port: 53,
            limit: LIMIT,
        }
    }
}

/// Looks names up, as the two files said when it was made. It remembers the answers of the DNS
/// servers for as long as these allow.
#[derive(Debug)]
pub struct Resolver {
    sources: Sources,
    hosts: Hosts,
    /// In the order of the file. Each is a resolver of its own: a second server is asked only
    /// when the first does not answer, so that a public one never speaks for an internal one.
    servers: Vec<(IpAddr, TokioResolver)>,
    search: Vec<Name>,
    ndots: usize,
}

/// What one DNS server says about one name.
enum Answer {
    Addresses(Vec<IpAddr>),
    Unknown,
}

impl Resolver {
    /// As this machine is set up.
    pub fn from_system() -> Result<Self, LookupError> {
        Self::new(Sources::default())
    }

    /// As the files of `sources` say. Without a file of static names there are none; without a
    /// named DNS server the one on this machine is asked, as by the C library.
    pub fn new(sources: Sources) -> Result<Self, LookupError> {
        let failed = |problem: String| LookupError::Failed {
            host: String::new(),
            servers: sources.resolv_conf.display().to_string(),
            problem,
        };
        let mut hosts = Hosts::default();
        // A line that is no text ends the file here; what stands before it counts.
        let _ = hosts.read_hosts_conf(read(&sources.hosts).unwrap_or_default().as_slice());
        let text = read(&sources.resolv_conf).unwrap_or_default();
        let (config, options) = parse(&text).map_err(|e| failed(format!("cannot be used: {e}")))?;
        let addresses: Vec<IpAddr> = config.name_servers().iter().map(|s| s.ip).collect();
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
        let share = sources.limit / count / ATTEMPTS;
        let mut servers = Vec::new();
        for address in addresses {
            let resolver = one_server(address, sources.port, share.min(options.timeout))
                .map_err(|e| failed(format!("cannot be used: {e}")))?;
            servers.push((address, resolver));
        }
        let search = match config.search() {
            [] => config.domain().cloned().into_iter().collect(),
            search => search.to_vec(),
        };
        Ok(Self {
            sources,
            hosts,
            servers,
            search,
            ndots: options.ndots,
        })
    }

    /// The addresses of a host, by name or number, and never an empty list: those that this
    /// machine has a route to first, and IPv4 before IPv6, because an administrator may let
    /// `monitord` listen on IPv4 alone.
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        self.look_up_name(host).await.map(reachable_first)
    }

    async fn look_up_name(&self, host: &str) -> Result<Vec<IpAddr>, LookupError> {
        let name = host_name(host)?;
        if let Some(addresses) = self.static_addresses(&name) {
            return Ok(addresses);
        }
        if is_localhost(&name) {
            return Ok(loopback());
        }
        let asked = timeout(self.sources.limit, self.ask_servers(&name)).await;
        let problem = match asked {
            Ok(Ok(Answer::Addresses(addresses))) => return Ok(addresses),
            Ok(Ok(Answer::Unknown)) => None,
            Ok(Err(problem)) => Some(problem),
            Err(_) => Some(NetError::Timeout),
        };
        let own = nix::unistd::gethostname().ok();
        if own.is_some_and(|own| own.eq_ignore_ascii_case(host)) {
            return Ok(own_addresses());
        }
        let host = host.to_owned();
        let servers = list(self.servers.iter().map(|(address, _)| *address));
        Err(match problem {
            None => LookupError::Unknown {
                host,
                hosts: self.sources.hosts.clone(),
                servers,
            },
            Some(problem) => LookupError::Failed {
                host,
                servers,
                problem: in_words(&problem),
            },
        })
    }

    fn static_addresses(&self, name: &Name) -> Option<Vec<IpAddr>> {
        let mut found: Vec<IpAddr> = Vec::new();
        for kind in [RecordType::A, RecordType::AAAA] {
            let query = Query::query(name.to_lowercase(), kind);
            if let Some(lookup) = self.hosts.lookup_static_host(&query) {
                for address in lookup.answers().iter().filter_map(|r| r.data.ip_addr()) {
                    if !found.contains(&address) {
                        found.push(address);
                    }
                }
            }
        }
        (!found.is_empty()).then_some(found)
    }

    /// Asks for each full name in turn. A server that answered is asked first for the next one.
    /// A name that no server answered for may exist, so the host is not unknown then.
    async fn ask_servers(&self, name: &Name) -> Result<Answer, NetError> {
        let mut unanswered = None;
        let mut first = 0;
        for candidate in candidates(name, self.ndots, &self.search) {
            let order = (0..self.servers.len()).map(|n| (first + n) % self.servers.len());
            let mut failed = None;
            for index in order {
                match ask(&self.servers[index].1, candidate.clone()).await {
                    Ok(Answer::Unknown) => {
                        first = index;
                        failed = None;
                        break;
                    }
                    Ok(known) => return Ok(known),
                    Err(problem) => failed = Some(problem),
                }
            }
            unanswered = failed.or(unanswered);
        }
        match unanswered {
            Some(problem) => Err(problem),
            None => Ok(Answer::Unknown),
        }
    }
}

/// The first address of a host as this machine is set up, for programs that have no runtime and
/// use one address.
pub fn lookup_blocking(host: &str) -> Result<IpAddr, LookupError> {
    // Most are numbers, and the resolver is not small.
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let resolver = Resolver::from_system()?;
    let failed = |problem: String| LookupError::Failed {
        host: host.to_owned(),
        servers: list(resolver.servers.iter().map(|(address, _)| *address)),
        problem,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| failed(format!("cannot be asked: {e}")))?;
    let addresses = runtime.block_on(resolver.lookup(host))?;
    let first = addresses.first().copied();
    first.ok_or_else(|| failed("answers with no address".to_owned()))
}

/// Those that this machine has no route to go to the end (RFC 6724, section 6, rule 1): a machine
/// without IPv6 uses the IPv4 address of a name that has both, and the other way round.
fn reachable_first(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    if addresses.len() > 1 {
        addresses.sort_by_cached_key(|address| !has_route(*address));
    }
    addresses
}

/// The kernel looks for a route when a UDP socket is connected; nothing is sent.
fn has_route(to: IpAddr) -> bool {
    let any: IpAddr = match to {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    UdpSocket::bind(SocketAddr::new(any, 0))
        .is_ok_and(|socket| socket.connect(SocketAddr::new(to, 9)).is_ok())
}

fn read(path: &PathBuf) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    file.take(FILE_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Lines that resolv.conf(5) does not know are passed over.
fn parse(text: &[u8]) -> Result<(ResolverConfig, ResolverOpts), NetError> {
    system_conf::parse_resolv_conf(text).or_else(|_| {
        let mut local = text.to_vec();
        local.extend_from_slice(b"\nnameserver 127.0.0.1\n");
        system_conf::parse_resolv_conf(local)
    })
}

fn one_server(address: IpAddr, port: u16, patience: Duration) -> Result<TokioResolver, NetError> {
    let mut server = NameServerConfig::udp_and_tcp(address);
    for connection in &mut server.connections {
        connection.port = port;
    }
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options = builder.options_mut();
    options.timeout = patience;
    // Counted without the first.
    options.attempts = ATTEMPTS as usize - 1;
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

async fn ask(server: &TokioResolver, name: Name) -> Result<Answer, NetError> {
    match server.lookup_ip(name).await {
        Ok(found) => {
            let addresses: Vec<IpAddr> = found.iter().collect();
            Ok(if addresses.is_empty() {
                Answer::Unknown
            } else {
                Answer::Addresses(addresses)
            })
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none)))
            if matches!(
                none.response_code,
                ResponseCode::NXDomain | ResponseCode::NoError
            ) =>
        {
            Ok(Answer::Unknown)
        }
        Err(problem) => Err(problem),
    }
}

/// The full names to ask for, in the order of resolv.conf(5): a name with at least `ndots` dots
/// is asked for as it stands before the search domains are tried, a shorter one after them.
fn candidates(name: &Name, ndots: usize, search: &[Name]) -> Vec<Name> {
    let mut whole = name.clone();
    whole.set_fqdn(true);
    if name.is_fqdn() {
        return vec![whole];
    }
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let mut names: Vec<Name> = search
        .iter()
        .filter_map(|domain| name.clone().append_domain(domain).ok())
        .collect();
    for name in &mut names {
        name.set_fqdn(true);
    }
    let place = if dots >= ndots { 0 } else { names.len() };
    names.insert(place, whole);
    names
}

fn host_name(host: &str) -> Result<Name, LookupError> {
    let bad = || LookupError::Name(host.to_owned());
    if host.is_empty() || host.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad());
    }
    let name = Name::from_str_relaxed(host).map_err(|_| bad())?;
    if name.is_root() { Err(bad()) } else { Ok(name) }
}

fn is_localhost(name: &Name) -> bool {
    name.iter()
        .next_back()
        .is_some_and(|label| label.eq_ignore_ascii_case(b"localhost"))
}

fn loopback() -> Vec<IpAddr> {
    vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]
}

/// The addresses of this machine, IPv4 before IPv6: what nss-myhostname(8) answers for its name. Of one
/// that has none its loopback.
pub fn own_addresses() -> Vec<IpAddr> {
    let mut v4: Vec<IpAddr> = Vec::new();
    let mut v6: Vec<IpAddr> = Vec::new();
    for interface in nix::ifaddrs::getifaddrs().into_iter().flatten() {
        let Some(address) = interface.address else {
            continue;
        };
        if let Some(address) = address.as_sockaddr_in() {
            v4.push(address.ip().into());
        } else if let Some(address) = address.as_sockaddr_in6() {
            // Without its interface a link-local address leads nowhere.
            if !address.ip().is_unicast_link_local() {
                v6.push(address.ip().into());
            }
        }
    }
    v4.append(&mut v6);
    v4.retain(|address| !address.is_loopback());
    if v4.is_empty() { loopback() } else { v4 }
}

fn in_words(problem: &NetError) -> String {
    match problem {
        NetError::Timeout | NetError::NoConnections => "does not answer".to_owned(),
        NetError::Dns(DnsError::ResponseCode(code)) => format!("answers with \"{code}\""),
        NetError::Dns(DnsError::NoRecordsFound(none)) => {
            format!("answers with \"{}\"", none.response_code)
        }
        other => format!("cannot be asked: {other}"),
    }
}

fn list(addresses: impl Iterator<Item = IpAddr>) -> String {
    let words: Vec<String> = addresses.map(|a| a.to_string()).collect();
    words.join(" or ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(text: &str) -> Vec<IpAddr> {
        text.split(' ').map(|a| a.parse().unwrap()).collect()
    }

    #[test]
    fn an_address_without_a_route_comes_after_those_with_one() {
        // A network namespace of this thread's own, with a loopback and nothing else.
        std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("this test needs root: it makes a network namespace");
            let up = std::process::Command::new("ip")
                .args(["link", "set", "lo", "up"])
                .status()
                .expect("install the package iproute2");
            assert!(up.success());
            let ordered = |text: &str| reachable_first(addresses(text));
            assert_eq!(ordered("192.0.2.1 ::1"), addresses("::1 192.0.2.1"));
            assert_eq!(
                ordered("127.0.0.2 2001:db8::1 127.0.0.1"),
                addresses("127.0.0.2 127.0.0.1 2001:db8::1")
            );
            assert_eq!(ordered("192.0.2.1"), addresses("192.0.2.1"));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_number_needs_no_runtime() {
        assert_eq!(lookup_blocking("192.0.2.1"), Ok([192, 0, 2, 1].into()));
        let bad = lookup_blocking("a b");
        assert_eq!(bad, Err(LookupError::Name("a b".to_owned())));
    }
}
