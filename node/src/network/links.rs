//! Links, addresses and routes of one network namespace, by rtnetlink. A netlink socket stays
//! bound to the namespace of the thread that opened it; each use opens, works and closes on one
//! thread.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use onedock_common::types::nic::Bandwidth;
use onedock_common::{IfName, Mac};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};
use thiserror::Error;

use crate::network::token_bucket;

/// The longest that the kernel may take for one answer; it waits for others who change links.
const LIMIT: Duration = Duration::from_secs(10);

/// Why netlink did not do what was asked.
#[derive(Debug, Error)]
pub enum LinkError {
    /// The kernel refused.
    #[error("{0}")]
    Kernel(Errno),
    /// No answer in time.
    #[error("the kernel did not answer within {} s", LIMIT.as_secs())]
    Late,
    /// Netlink itself.
    #[error("netlink failed: {0}")]
    Netlink(String),
    #[error("a netlink socket cannot be opened: {0}")]
    Socket(io::Error),
}

impl LinkError {
    /// Whether the kernel gave this answer.
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, Self::Kernel(e) if *e == errno)
    }
}

impl From<rtnetlink::Error> for LinkError {
    fn from(error: rtnetlink::Error) -> Self {
        match error {
            rtnetlink::Error::NetlinkError(message) => match message.code {
                Some(code) => Self::Kernel(Errno::from_raw(code.get().saturating_abs())),
                None => Self::Netlink("an empty answer".into()),
            },
            other => Self::Netlink(other.to_string()),
        }
    }
}

/// What matters of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number in this namespace.
    pub index: u32,
    /// In bytes.
    pub mtu: u32,
    /// Whether it is a Linux bridge.
    pub is_bridge: bool,
    /// Whether it is switched on.
    pub is_up: bool,
    /// The text by which its owner is known.
    pub alias: Option<String>,
}

/// A veth pair to be made: the near end a port of a bridge here, the far end in another
/// namespace from its first moment on.
#[derive(Debug)]
pub struct Pair<'a> {
    /// The near end.
    pub host: &'a IfName,
    /// Index of the bridge of the kernel; none where something else takes the near end in.
    pub bridge: Option<u32>,
    /// The far end's name.
    pub inside: String,
    /// The far end's address.
    pub mac: Mac,
    /// Of both ends.
    pub mtu: u32,
    /// The namespace of the far end.
    pub network: &'a OwnedFd,
}

/// An open netlink socket.
#[derive(Debug, Clone)]
pub struct Links(Handle);

/// Runs `work` with a socket of the calling thread's namespace.
pub fn with<T, E, F>(work: impl FnOnce(Links) -> F) -> Result<T, E>
where
    E: From<LinkError>,
    F: Future<Output = Result<T, E>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(LinkError::Socket)?;
    runtime.block_on(async {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(LinkError::Socket)?;
        tokio::spawn(connection);
        work(Links(handle)).await
    })
}

async fn ask<T>(
    request: impl Future<Output = Result<T, rtnetlink::Error>>,
) -> Result<T, LinkError> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(LinkError::Late),
    }
}

impl Links {
    /// The link of this name; none when there is none.
    pub async fn find(&self, name: &str) -> Result<Option<Link>, LinkError> {
        let mut answers = self.0.link().get().match_name(name).execute();
        match ask(answers.try_next()).await {
            Ok(message) => Ok(message.as_ref().map(read)),
            Err(e) if e.is(Errno::ENODEV) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Makes the pair in one message.
    pub async fn add_pair(&self, pair: &Pair<'_>) -> Result<(), LinkError> {
        let far = LinkMessageBuilder::<LinkUnspec>::new()
            .name(pair.inside.clone())
            .append_extra_attribute(LinkAttribute::Address(pair.mac.octets().to_vec()))
            .append_extra_attribute(LinkAttribute::Mtu(pair.mtu))
            .append_extra_attribute(LinkAttribute::NetNsFd(pair.network.as_raw_fd()))
            .build();
        let mut near = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(far)))
            .name(pair.host.to_string())
            .append_extra_attribute(LinkAttribute::Address(near_mac(pair.mac)))
            .append_extra_attribute(LinkAttribute::Mtu(pair.mtu));
        if let Some(bridge) = pair.bridge {
            near = near.append_extra_attribute(LinkAttribute::Controller(bridge));
        }
        ask(self.0.link().add(near.up().build()).execute()).await
    }

    /// Writes the text by which the owner of a link is known (`ip link show` prints it). The
    /// kernel ignores it in the message that makes the link.
    pub async fn set_alias(&self, name: &str, alias: &str) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_name(name)
            .append_extra_attribute(LinkAttribute::IfAlias(alias.to_owned()))
            .build();
        ask(self.0.link().set(message).execute()).await
    }

    /// Switches a link on.
    pub async fn up(&self, index: u32) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index).up().build();
        ask(self.0.link().set(message).execute()).await
    }

    /// Removes a link; one that is gone is removed already.
    pub async fn remove(&self, index: u32) -> Result<(), LinkError> {
        match ask(self.0.link().del(index).execute()).await {
            Err(e) if e.is(Errno::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Gives a link an address. An IPv6 address counts at once: OpenNebula's addresses are
    /// unique, so that the second of waiting for a duplicate would only delay every start.
    pub async fn add_address(&self, index: u32, network: IpNetwork) -> Result<(), LinkError> {
        let mut request = self.0.address().add(index, network.ip(), network.prefix());
        if network.is_ipv6() {
            let message = request.message_mut();
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
                .attributes
                .push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        match ask(request.execute()).await {
            Err(e) if e.is(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Takes an address from a link; one that it does not have is taken.
    pub async fn remove_address(&self, index: u32, network: IpNetwork) -> Result<(), LinkError> {
        let mut like = self.0.address().add(index, network.ip(), network.prefix());
        let message = like.message_mut().clone();
        match ask(self.0.address().del(message).execute()).await {
            Err(e) if e.is(Errno::EADDRNOTAVAIL) || e.is(Errno::ENODEV) => Ok(()),
            other => other,
        }
    }

    /// Adds a route. Where one of the same destination and metric is there already, that one stays.
    pub async fn add_route(&self, index: u32, route: &LinkRoute) -> Result<(), LinkError> {
        let mut message = message_of(index, route);
        message
            .attributes
            .push(RouteAttribute::Gateway(route.gateway.into()));
        if route.on_link {
            message.header.flags |= RouteFlags::Onlink;
        }
        match ask(self.0.route().add(message).execute()).await {
            Err(e) if e.is(Errno::EEXIST) => Ok(()),
            other => other,
        }
    }

    /// Removes the route of this destination and metric that leads over the link, whatever its
    /// gateway is; one that is not there is removed.
    pub async fn remove_route(&self, index: u32, route: &LinkRoute) -> Result<(), LinkError> {
        let message = message_of(index, route);
        match ask(self.0.route().del(message).execute()).await {
            Err(e) if e.is(Errno::ESRCH) => Ok(()),
            other => other,
        }
    }

    /// Tells the neighbours of all addresses of a link, which is up: a gratuitous ARP and an
    /// unsolicited neighbour advertisement each. The kernel sends them when the hardware address is
    /// set, also to what it is (`arp_notify` and `ndisc_notify`).
    pub async fn announce(&self, index: u32, mac: Mac) -> Result<(), LinkError> {
        let message = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::Address(mac.octets().to_vec()))
            .build();
        ask(self.0.link().set(message).execute()).await
    }

    /// Bounds what leaves a link, in place of an earlier bound.
    pub async fn bound(&self, index: u32, bandwidth: Bandwidth) -> Result<(), LinkError> {
        let message = queue_of(index, Some(bandwidth))?;
        let flags = NLM_F_CREATE | NLM_F_REPLACE;
        self.send(RouteNetlinkMessage::NewQueueDiscipline(message), flags)
            .await
    }

    /// Takes the bound from what leaves a link; there may be none.
    pub async fn unbound(&self, index: u32) -> Result<(), LinkError> {
        let message = queue_of(index, None)?;
        match self
            .send(RouteNetlinkMessage::DelQueueDiscipline(message), 0)
            .await
        {
            Err(e) if e.is(Errno::ENOENT) || e.is(Errno::EINVAL) => Ok(()),
            other => other,
        }
    }

    /// Sends a message for which the crate has no request of its own.
    async fn send(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), LinkError> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut handle = self.0.clone();
        ask(async {
            let mut answers = handle.request(message)?;
            while let Some(answer) = answers.next().await {
                if let NetlinkPayload::Error(error) = answer.payload {
                    return Err(rtnetlink::Error::NetlinkError(error));
                }
            }
            Ok(())
        })
        .await
    }
}

/// A route over one link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkRoute {
    /// Without host bits; none for the default route.
    pub destination: Option<IpNetwork>,
    /// Of the destination's family.
    pub gateway: IpAddr,
    /// The kernel's own when there is none.
    pub metric: Option<u32>,
    /// Whether the gateway is a neighbour although no address of the link says so.
    pub on_link: bool,
}

/// A route without its gateway.
fn message_of(index: u32, route: &LinkRoute) -> RouteMessage {
    let mut message = match route.gateway {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new()
            .output_interface(index)
            .build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(index)
            .build(),
    };
    if let Some(destination) = route.destination {
        message.header.destination_prefix_length = destination.prefix();
        let address = RouteAttribute::Destination(destination.ip().into());
        message.attributes.push(address);
    }
    if let Some(metric) = route.metric {
        message.attributes.push(RouteAttribute::Priority(metric));
    }
    message
}

fn queue_of(index: u32, bandwidth: Option<Bandwidth>) -> Result<TcMessage, LinkError> {
    let index = i32::try_from(index).map_err(|e| LinkError::Netlink(e.to_string()))?;
    let mut message = TcMessage::with_index(index);
    message.header.parent = TcHandle::ROOT;
    if let Some(bandwidth) = bandwidth {
        message.attributes = token_bucket::attributes(bandwidth);
    }
    Ok(message)
}

/// The near end's address: the far end's with `fe` in front, as libvirt does. A bridge without
/// an address of its own takes the lowest of its ports', which must not change with each VM.
fn near_mac(far: Mac) -> Vec<u8> {
    let mut octets = far.octets().to_vec();
    if let Some(first) = octets.first_mut() {
        *first = 0xfe;
    }
    octets
}

fn read(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        mtu: 1500,
        is_bridge: false,
        is_up: message.header.flags.contains(LinkFlags::Up),
        alias: None,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::LinkInfo(infos) => {
                link.is_bridge = infos.contains(&LinkInfo::Kind(InfoKind::Bridge));
            }
            _ => {}
        }
    }
    link
}
