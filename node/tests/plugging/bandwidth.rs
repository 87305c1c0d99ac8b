//! What a NIC may transfer, measured with a stream over TCP.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use onedock_common::types::nic::Bandwidth;

use crate::{TestNetwork, Wrapped, nic, on_a_host, tc};

/// Slow enough that a busy machine does not fall behind by more than the burst.
const RATE: u64 = 500_000;
const BURST: u64 = 64 * 1024;
/// How long a stream is measured.
const MEASURED: Duration = Duration::from_secs(4);

fn bandwidth(average: u64) -> Option<Bandwidth> {
    Some(Bandwidth {
        average,
        peak: None,
        burst: None,
    })
}

/// Bytes a second that arrive, after what passes as a burst.
fn arriving(mut from: TcpStream) -> Result<f64> {
    let mut buffer = vec![0; 64 * 1024];
    let mut before = 0;
    while before < 2 * BURST {
        before += from.read(&mut buffer)? as u64;
    }
    let begin = Instant::now();
    let mut bytes = 0;
    while begin.elapsed() < MEASURED {
        let read = from.read(&mut buffer)?;
        ensure!(read > 0, "the stream ended");
        bytes += read;
    }
    Ok(bytes as f64 / begin.elapsed().as_secs_f64())
}

/// Sends until the other end has enough.
fn send(mut to: TcpStream) {
    let block = vec![7; 64 * 1024];
    while to.write_all(&block).is_ok() {}
}

impl TestNetwork {
    /// How fast the container sends to the host, or the host to the container.
    fn measured(&self, outbound: bool) -> Result<f64> {
        let listener = TcpListener::bind("10.1.0.1:0")?;
        let address = listener.local_addr()?;
        let inside = self
            .container
            .within(|| {
                let limit = Duration::from_secs(5);
                TcpStream::connect_timeout(&address, limit).map_err(|e| Wrapped(e.into()))
            })
            .map_err(|e| e.0)?;
        let outside = listener.accept()?.0;
        let (from, to) = if outbound {
            (outside, inside)
        } else {
            (inside, outside)
        };
        let sender = thread::spawn(move || send(to));
        let rate = arriving(from);
        sender.join().ok().context("the sender")?;
        rate
    }
}

#[test]
fn a_stream_is_as_fast_as_the_template_says_in_each_direction() -> Result<()> {
    on_a_host(|network| {
        let mut bound = nic(5, 0, "10.1.0.5/16");
        bound.inbound = bandwidth(RATE);
        bound.outbound = bandwidth(2 * RATE);
        network.plug(5, &[bound])?;
        for (outbound, rate) in [(false, RATE), (true, 2 * RATE)] {
            let measured = network.measured(outbound)?;
            // Headers of 66 bytes in a packet of 1466 are counted, and not among what arrives.
            let payload = rate as f64 * 1348.0 / 1414.0;
            let part = measured / payload;
            ensure!(
                (0.9..=1.1).contains(&part),
                "outbound {outbound}: {measured:.0} bytes a second of {payload:.0}"
            );
        }
        Ok(())
    })
}

#[test]
fn a_peak_and_its_amount_are_the_kernel_s_and_no_bandwidth_is_no_queue() -> Result<()> {
    on_a_host(|network| {
        let mut bound = nic(5, 0, "10.1.0.5/16");
        bound.inbound = Some(Bandwidth {
            average: 1_000_000,
            peak: Some(2_000_000),
            burst: Some(512 * 1024),
        });
        // Above what 32 bits hold.
        let mut fast = nic(5, 1, "10.1.0.6/16");
        fast.inbound = bandwidth(12_500_000_000);
        network.plug(5, &[bound, fast, nic(5, 2, "10.1.0.7/16")])?;
        for (port, parts) in [
            (
                "one-5-0",
                vec!["tbf", "rate 8Mbit", "burst 512Kb", "peakrate 16Mbit"],
            ),
            ("one-5-1", vec!["tbf", "rate 100Gbit"]),
        ] {
            let shown = tc(&format!("qdisc show dev {port}"))?;
            for part in parts {
                ensure!(shown.contains(part), "no {part:?} in {shown}");
            }
        }
        let plain = tc("qdisc show dev one-5-2")?;
        ensure!(plain.contains("noqueue"), "{plain}");
        Ok(())
    })
}
