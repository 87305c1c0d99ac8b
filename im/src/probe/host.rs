//! MONITOR_HOST: what the host does, as OpenNebula's `im/lib/linux.rb` measures it.

use std::fmt::Write as _;
use std::io;

use onedock_common::types::decimal::parse_whole;

use super::Proc;
use crate::links;

/// Ticks of all processors since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ticks {
    all: u64,
    idle: u64,
}

/// Remembers the last measurement, so that the use of processors is that of the whole time
/// between two reports and not of the second before the second one.
#[derive(Debug, Default)]
pub struct Host {
    last: Option<Ticks>,
}

/// Processors and memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Hundreds for each processor.
    pub cpu: u64,
    /// KB.
    pub memory: u64,
    /// KB; free memory, buffers and cache are not in use.
    pub used: u64,
}

impl Capacity {
    /// Reads `/proc/stat` and `/proc/meminfo`.
    pub fn read(proc: &Proc) -> io::Result<Self> {
        let memory = proc.read("meminfo")?;
        let stat = proc.read("stat")?;
        Self::parse(&stat, &memory).ok_or_else(|| {
            io::Error::other("/proc/meminfo or /proc/stat lacks what it should have")
        })
    }

    fn parse(stat: &str, meminfo: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = meminfo
                .lines()
                .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
            parse_whole(line.split_ascii_whitespace().next()?).ok()
        };
        let online = |l: &&str| {
            let number = l.strip_prefix("cpu").and_then(|r| r.split(' ').next());
            number.is_some_and(|n| parse_whole(n).is_ok())
        };
        let memory = field("MemTotal")?;
        let free = field("MemFree")? + field("Buffers")? + field("Cached")?;
        Some(Self {
            cpu: 100 * u64::try_from(stat.lines().filter(online).count()).ok()?,
            memory,
            used: memory.saturating_sub(free),
        })
    }
}

impl Host {
    /// Measures, and gives the records. The first time the use of processors is not known yet.
    pub fn probe(&mut self, proc: &Proc) -> io::Result<String> {
        let capacity = Capacity::read(proc)?;
        let now = ticks(&proc.read("stat")?);
        let last = std::mem::replace(&mut self.last, now);
        let traffic = links::of_host(&proc.read("net/dev")?);
        let mut out = String::from("HYPERVISOR=docker\n");
        let _ = writeln!(out, "USEDMEMORY={}", capacity.used);
        let _ = writeln!(out, "FREEMEMORY={}", capacity.memory - capacity.used);
        if let Some(free) = free_share(last, now) {
            let free = capacity.cpu * free / 1000;
            let _ = writeln!(out, "FREECPU={free}\nUSEDCPU={}", capacity.cpu - free);
        }
        let _ = writeln!(out, "NETRX={}\nNETTX={}", traffic.rx, traffic.tx);
        Ok(out)
    }
}

fn ticks(stat: &str) -> Option<Ticks> {
    let line = stat.lines().find_map(|l| l.strip_prefix("cpu "))?;
    let numbers: Vec<u64> = line
        .split_ascii_whitespace()
        .map(|n| parse_whole(n).ok())
        .collect::<Option<_>>()?;
    // The last two, guests, are within the first two already.
    Some(Ticks {
        all: numbers.iter().take(8).sum(),
        idle: *numbers.get(3)?,
    })
}

/// The idle thousandths between two measurements; ticks that run backwards give none.
fn free_share(last: Option<Ticks>, now: Option<Ticks>) -> Option<u64> {
    let (last, now) = (last?, now?);
    let all = now.all.checked_sub(last.all).filter(|all| *all > 0)?;
    let idle = now.idle.checked_sub(last.idle)?;
    Some((1000 * idle / all).min(1000))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MEMINFO: &str = "MemTotal:       1000 kB\nMemFree:         300 kB\nMemAvailable:    9 kB\nBuffers:  100 kB\nCached:  200 kB\nSwapCached: 7 kB\n";

    #[test]
    fn use_of_processors_and_memory_is_counted_as_opennebula_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |file: &str, text: &str| {
            fs::create_dir_all(dir.path().join("net")).unwrap();
            fs::write(dir.path().join(file), text).unwrap();
        };
        put("meminfo", MEMINFO);
        put("net/dev", "  eth0: 7 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n");
        put(
            "stat",
            "cpu  100 0 100 800 0 0 0 0 5 5\ncpu0 1 2\ncpu1 1 2\nintr 1\n",
        );
        let (mut host, proc) = (Host::default(), Proc::at(dir.path()));
        let first = host.probe(&proc).unwrap();
        assert!(!first.contains("CPU"), "{first}");
        put(
            "stat",
            "cpu  150 0 100 850 0 0 0 0 5 5\ncpu0 1 2\ncpu1 1 2\nintr 1\n",
        );
        assert_eq!(
            host.probe(&proc).unwrap(),
            "HYPERVISOR=docker\nUSEDMEMORY=400\nFREEMEMORY=600\nFREECPU=100\nUSEDCPU=100\nNETRX=7\nNETTX=9\n"
        );
    }

    #[test]
    fn fault_20_ticks_that_run_backwards_give_no_value() {
        let t = |all, idle| Some(Ticks { all, idle });
        assert_eq!(free_share(t(100, 50), t(90, 40)), None);
        assert_eq!(free_share(t(100, 50), t(100, 50)), None);
        assert_eq!(free_share(None, t(100, 50)), None);
        assert_eq!(free_share(t(100, 50), t(200, 100)), Some(500));
    }

    #[test]
    fn this_machine_can_be_measured() {
        assert!(Capacity::read(&Proc::system()).unwrap().cpu >= 100);
    }
}
