//! The kernel's token bucket filter (`tc-tbf(8)`, `net/sched/sch_tbf.c`) as attributes of a netlink
//! message, for which `netlink-packet-route` has no type.

use onedock_common::types::nic::Bandwidth;
use rtnetlink::packet_core::DefaultNla;
use rtnetlink::packet_route::tc::{TcAttribute, TcOption};

/// `TCA_TBF_PARMS`, `TCA_TBF_RATE64`, `TCA_TBF_PRATE64`, `TCA_TBF_BURST` and `TCA_TBF_PBURST` of
/// `linux/pkt_sched.h`.
const PARMS: u16 = 1;
const RATE64: u16 = 4;
const PRATE64: u16 = 5;
const BURST: u16 = 6;
const PBURST: u16 = 7;
/// `TC_LINKLAYER_ETHERNET`: the kernel counts by bytes and wants no table of rates.
const ETHERNET: u8 = 1;

/// The least burst in bytes: one packet of segmentation offload passes whole.
pub(super) const LEAST_BURST: u64 = 64 * 1024;
/// Parts of a second that pass as a burst where the template names none, and that wait at most.
const BURST_PART: u64 = 100;
const WAIT_PART: u64 = 10;

/// What a queue of this kind is made with.
pub(super) fn attributes(bandwidth: Bandwidth) -> Vec<TcAttribute> {
    let burst = burst(bandwidth);
    let limit = clamp(burst.saturating_add(bandwidth.average / WAIT_PART));
    let peak = bandwidth.peak.filter(|peak| *peak > bandwidth.average);
    let mut parameters = rate(bandwidth.average);
    parameters.extend(rate(peak.unwrap_or(0)));
    parameters.extend(limit.to_ne_bytes());
    // Buffer and MTU in the kernel's ticks: the bursts in bytes take their place.
    parameters.extend([0; 8]);
    let mut options = vec![
        option(PARMS, parameters),
        option(RATE64, bandwidth.average.to_ne_bytes().to_vec()),
        option(BURST, clamp(burst).to_ne_bytes().to_vec()),
    ];
    if let Some(peak) = peak {
        options.push(option(PRATE64, peak.to_ne_bytes().to_vec()));
        options.push(option(PBURST, clamp(LEAST_BURST).to_ne_bytes().to_vec()));
    }
    vec![
        TcAttribute::Kind("tbf".into()),
        TcAttribute::Options(options),
    ]
}

/// In bytes.
fn burst(bandwidth: Bandwidth) -> u64 {
    bandwidth
        .burst
        .unwrap_or(bandwidth.average / BURST_PART)
        .max(LEAST_BURST)
}

/// `struct tc_ratespec`; a rate of 32 bits stands beside the one of 64.
fn rate(bytes_per_second: u64) -> Vec<u8> {
    // cell_log, linklayer, overhead (16 bits), cell_align (16), mpu (16), rate (32).
    let mut bytes = vec![0, ETHERNET, 0, 0, 0, 0, 0, 0];
    bytes.extend(clamp(bytes_per_second).to_ne_bytes());
    bytes
}

fn clamp(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn option(kind: u16, value: Vec<u8>) -> TcOption {
    TcOption::Other(DefaultNla::new(kind, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_the_template_s_or_10_ms_and_never_less_than_one_offloaded_packet() {
        let of = |average, burst_| {
            burst(Bandwidth {
                average,
                peak: None,
                burst: burst_,
            })
        };
        assert_eq!(of(1_000_000, None), 65_536);
        assert_eq!(of(125_000_000, None), 1_250_000);
        assert_eq!(of(1_000_000, Some(1_000_000)), 1_000_000);
        assert_eq!(of(1_000_000, Some(1024)), 65_536);
    }
}
