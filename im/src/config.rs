//! MONITOR_CONFIGURATION: what `monitord` sends to each client on its standard input
//! (`src/monitor/src/monitor/MonitorConfigTemplate.cc`; a recorded one is among the tests).

use std::path::PathBuf;
use std::time::Duration;

use onedock_common::HostId;
use onedock_common::opennebula::xml::{Element, Node, XmlError};
use onedock_common::types::decimal::{NotANumber, parse_u32};
use thiserror::Error;

use crate::wire::{Key, WireError};

/// Why monitoring cannot start with this configuration.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The XML is not what was expected.
    #[error("MONITOR_CONFIGURATION on standard input: {0}")]
    Xml(#[from] XmlError),
    /// The key is not a key.
    #[error(transparent)]
    Key(#[from] WireError),
    /// No address to send to.
    #[error(
        "NETWORK/MONITOR_ADDRESS of monitord.conf is \"auto\", but SSH_CLIENT does not say who started the monitoring; set MONITOR_ADDRESS to the front-end's address"
    )]
    NoAddress,
}

/// How often each message is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Periods {
    /// BEACON_HOST.
    pub beacon: Duration,
    /// SYSTEM_HOST.
    pub system: Duration,
    /// MONITOR_HOST.
    pub host: Duration,
    /// STATE_VM, when the engine's events cannot be followed and for what is not an event.
    pub state: Duration,
    /// MONITOR_VM.
    pub vm: Duration,
    /// The full list of states.
    pub sync: Duration,
}

/// What the agent does with the configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// This host's id at the front-end.
    pub host: HostId,
    /// `monitord`'s address or name.
    pub address: String,
    /// Its port, the same for UDP and TCP.
    pub port: u16,
    /// Its public key, when messages are to be encrypted.
    pub key: Option<Key>,
    /// The folder of datastores on this host.
    pub datastores: PathBuf,
    pub periods: Periods,
    network: (String, String),
}

/// Where datastores lie unless DATASTORE_LOCATION says otherwise.
pub const DATASTORES: &str = "/var/lib/one/datastores";

impl Config {
    /// Reads the document. `client` is the value of SSH_CLIENT, whose first word stands for
    /// the address `auto`.
    pub fn read(xml: &[u8], client: Option<&str>) -> Result<Self, ConfigError> {
        let document = Element::document(xml, "MONITOR_CONFIGURATION")?;
        let root = document.node();
        let network = root.required_child("NETWORK")?;
        let named = network.required_text("MONITOR_ADDRESS")?;
        let address = if named == "auto" {
            client
                .and_then(|c| c.split_ascii_whitespace().next())
                .ok_or(ConfigError::NoAddress)?
        } else {
            named
        };
        let port = network
            .read("PORT", |text| match parse_u32(text).map(u16::try_from) {
                Ok(Ok(port)) if port > 0 => Ok(port),
                _ => Err(format!("\"{text}\" is not a port (1 to 65535)")),
            })?
            .ok_or_else(|| XmlError::Missing {
                path: "MONITOR_CONFIGURATION/NETWORK/PORT".into(),
            })?;
        let pubkey = network.text("PUBKEY")?.unwrap_or("");
        let key = match pubkey {
            "" => None,
            pem => Some(Key::from_pem(pem)?),
        };
        Ok(Self {
            host: root.required("HOST_ID")?,
            address: address.to_owned(),
            port,
            key,
            datastores: root
                .text("DATASTORE_LOCATION")?
                .unwrap_or(DATASTORES)
                .into(),
            periods: Periods::read(&root)?,
            network: (named.to_owned(), pubkey.to_owned()),
        })
    }

    /// The copy in template syntax that OpenNebula 7.2 and later keep on the host.
    pub fn to_monitord(&self) -> String {
        let (address, pubkey) = &self.network;
        let p = &self.periods;
        let [beacon, system, host, state, vm] =
            [p.beacon, p.system, p.host, p.state, p.vm].map(|d| d.as_secs());
        format!(
            "NETWORK = [\n    MONITOR_ADDRESS = {},\n    PORT            = {},\n    PUBKEY          = {},\n]\n\n\
             PROBES_PERIOD = [\n    BEACON_HOST    = {beacon},\n    SYSTEM_HOST    = {system},\n    MONITOR_HOST   = {host},\n    STATE_VM       = {state},\n    EXEC_VM        = {state},\n    MONITOR_VM     = {vm},\n]\n",
            crate::template::quoted(address),
            self.port,
            crate::template::quoted(pubkey),
        )
    }
}

impl Periods {
    /// Absent and empty periods are `monitord.conf`'s defaults, as the stock client of 7.x has
    /// them.
    fn read(root: &Node<'_>) -> Result<Self, XmlError> {
        let node = root.child("PROBES_PERIOD")?;
        let period = |name: &str, default: u64| -> Result<Duration, XmlError> {
            let read = |text: &str| Ok::<u64, NotANumber>(u64::from(parse_u32(text)?));
            let given = match &node {
                Some(node) => node.read(name, read)?,
                None => None,
            };
            // A period of 0 would be a busy loop, and one of a year would not be a period.
            Ok(Duration::from_secs(
                given.unwrap_or(default).clamp(1, 86_400),
            ))
        };
        Ok(Self {
            beacon: period("BEACON_HOST", 30)?,
            system: period("SYSTEM_HOST", 600)?,
            host: period("MONITOR_HOST", 120)?,
            state: period("STATE_VM", 5)?,
            vm: period("MONITOR_VM", 30)?,
            sync: period("SYNC_STATE_VM", 180)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORDED: &str = include_str!("../tests/data/monitord-config-7.4.0.xml");

    #[test]
    fn the_recorded_configuration_of_7_4_is_read() {
        let config = Config::read(RECORDED.as_bytes(), None).unwrap();
        assert_eq!((config.host.get(), config.port), (0, 4124));
        assert_eq!(config.address, "127.0.0.1");
        assert_eq!(config.datastores, PathBuf::from("/var/lib/one//datastores"));
        assert_eq!(config.periods.sync, Duration::from_secs(180));
        assert!(config.key.is_none());
        assert!(
            config
                .to_monitord()
                .contains("MONITOR_ADDRESS = \"127.0.0.1\",\n")
        );
    }

    #[test]
    fn auto_means_who_came_by_ssh_and_is_an_error_without() {
        let xml = RECORDED.replace("127.0.0.1", "auto");
        let config = Config::read(xml.as_bytes(), Some("10.1.2.3 40000 22")).unwrap();
        assert_eq!(config.address, "10.1.2.3");
        assert!(matches!(
            Config::read(xml.as_bytes(), None),
            Err(ConfigError::NoAddress)
        ));
    }

    #[test]
    fn a_document_of_6_10_without_periods_has_the_defaults_and_none_is_zero() {
        let xml = "<MONITOR_CONFIGURATION><NETWORK><MONITOR_ADDRESS>::1</MONITOR_ADDRESS><PORT>4124</PORT></NETWORK><PROBES_PERIOD><STATE_VM>0</STATE_VM><BEACON_HOST/></PROBES_PERIOD><HOST_ID>7</HOST_ID></MONITOR_CONFIGURATION>";
        let periods = Config::read(xml.as_bytes(), None).unwrap().periods;
        assert_eq!(periods.state, Duration::from_secs(1));
        assert_eq!(periods.beacon, Duration::from_secs(30));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let bad = RECORDED.replace("4124", "70000");
        let error = Config::read(bad.as_bytes(), None).unwrap_err().to_string();
        assert!(
            error.contains("NETWORK/PORT") && error.contains("70000"),
            "{error}"
        );
        let bad = RECORDED.replace("<PUBKEY><![CDATA[]]>", "<PUBKEY>x");
        assert!(
            Config::read(bad.as_bytes(), None)
                .unwrap_err()
                .to_string()
                .contains("PUBKEY")
        );
        assert!(Config::read(b"<VM/>", None).is_err());
        assert!(Config::read(b"", None).is_err());
    }
}
