//! What whole-program tests stand on, each ending with its value: a machine of its own
//! ([`machine`]), an engine on it ([`engine_server`]), a host that runs VMs by the programs under
//! test ([`test_host`]), a registry, a DNS server; and the replay of recorded calls ([`replay`]).

pub mod dns_server;
pub mod engine_server;
pub mod machine;
pub mod registry_server;
pub mod replay;
pub mod test_host;
pub mod wait;
