//! What is really there, by the kernel, the engine, the registry's storage and the network, never
//! by the drivers.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::cloud::{Cloud, Node};
use super::contents::{FOLDER, Tree};
use super::expected::Expected;

pub(super) const STATE: &str = "/var/lib/onedock";

impl Node {
    /// The VM's container as the engine inspects it; `None` when there is none.
    pub fn container(&self, vm: u32) -> Result<Option<Value>> {
        let name = format!("one-{vm}");
        let output = self
            .engine
            .output("docker", &["container", "inspect", &name])?;
        if !output.status.success() {
            return Ok(None);
        }
        let found: Vec<Value> = serde_json::from_slice(&output.stdout)?;
        Ok(found.into_iter().next())
    }

    /// Runs words in the VM's container.
    pub fn exec(&self, vm: u32, words: &str) -> Result<String> {
        let name = format!("one-{vm}");
        let mut arguments = vec!["exec", name.as_str()];
        arguments.extend(words.split(' '));
        self.engine.docker(&arguments)
    }

    /// The path by which the host reaches `path` of the VM's container.
    pub fn path_inside(&self, vm: u32, path: &str) -> Result<PathBuf> {
        let found = self.container(vm)?.context("there is no container")?;
        let pid = found.pointer("/State/Pid").and_then(Value::as_u64);
        let pid = pid.filter(|pid| *pid > 0).context("it does not run")?;
        Ok(PathBuf::from(format!("/proc/{pid}/root{path}")))
    }

    /// The folder of the test on a disk that is mounted at `path`.
    pub fn tree(&self, vm: u32, path: &str) -> Result<Tree> {
        let folder = self.path_inside(vm, path)?.join(FOLDER);
        self.engine.inside(|| Tree::read(&folder))
    }

    /// The VM's folder on the node.
    pub fn vm_folder(&self, wanted: &Expected) -> PathBuf {
        let (datastore, vm) = (wanted.datastore, wanted.vm);
        self.var.join(format!("datastores/{datastore}/{vm}"))
    }

    /// The node's interfaces named like a NIC's host end, with what `ip` says of each.
    pub fn host_ends(&self) -> Result<Vec<String>> {
        let text = self.engine.run("ip", &["-o", "link", "show"])?;
        let ends = text.lines().filter(|l| l.contains(": one-"));
        Ok(ends.map(str::to_owned).collect())
    }

    /// The mounts of the node.
    pub fn mounts(&self) -> Result<BTreeSet<String>> {
        let text = self
            .engine
            .inside(|| Ok(fs::read_to_string("/proc/thread-self/mountinfo")?))?;
        let mount_point = |line: &str| line.split(' ').nth(4).map(str::to_owned);
        Ok(text.lines().filter_map(mount_point).collect())
    }

    /// The VM runs as its document says. Answers the container's id.
    pub fn check_running(&self, wanted: &Expected) -> Result<String> {
        let vm = wanted.vm;
        let found = self.container(vm)?.context("there is no container")?;
        let id = text(&found, "/Id")?;
        for (pointer, value) in [
            ("/State/Running", Value::from(true)),
            ("/State/Paused", Value::from(false)),
            ("/HostConfig/Runtime", "onedock".into()),
            ("/HostConfig/NetworkMode", "none".into()),
            ("/HostConfig/Privileged", false.into()),
            ("/HostConfig/RestartPolicy/Name", "no".into()),
            ("/HostConfig/Memory", (wanted.memory << 20).into()),
            (
                "/HostConfig/MemorySwap",
                ((wanted.memory + wanted.swap()) << 20).into(),
            ),
            ("/HostConfig/CpuQuota", quota(wanted).into()),
            ("/Config/Labels/org.opennebula.driver", "onedock".into()),
            ("/Config/Labels/org.opennebula.vm", vm.to_string().into()),
            ("/Config/Labels/org.opennebula.disk", "0".into()),
        ] {
            let there = found.pointer(pointer).unwrap_or(&Value::Null);
            ensure!(*there == value, "{pointer} is {there}, not {value}");
        }
        let shares = found
            .pointer("/HostConfig/CpuShares")
            .and_then(Value::as_f64);
        ensure!(
            shares.is_some_and(|s| (s - wanted.cpu * 1024.0).abs() <= 1.0),
            "CpuShares {shares:?} for {} CPU",
            wanted.cpu
        );
        self.check_network(wanted)?;
        self.check_inside(wanted)?;
        self.check_files(wanted, &id)?;
        Ok(id)
    }

    fn check_network(&self, wanted: &Expected) -> Result<()> {
        let ends = self.host_ends()?;
        ensure!(ends.len() == wanted.nics.len(), "host ends {ends:?}");
        for nic in &wanted.nics {
            let end = format!(": {}@", nic.target);
            let line = ends.iter().find(|l| l.contains(&end));
            let line = line.with_context(|| format!("no {} among {ends:?}", nic.target))?;
            for part in [
                format!(" master {} ", nic.bridge),
                format!(" mtu {} ", nic.mtu),
                ",UP".to_owned(),
            ] {
                ensure!(line.contains(&part), "no {part:?} in {line}");
            }
        }
        Ok(())
    }

    /// One script reads all that is checked inside: an `exec` is slow.
    fn check_inside(&self, wanted: &Expected) -> Result<()> {
        let mut script = "hostname; echo ==; cat /etc/resolv.conf; echo ==; ip route".to_owned();
        for nic in &wanted.nics {
            script += &format!("; echo ==; ip addr show eth{}", nic.id);
        }
        for folder in ["/context", "/mnt"] {
            script += &format!("; echo ==; cat {folder}/context.sh; touch {folder}/x && echo open");
        }
        let name = format!("one-{}", wanted.vm);
        let script = format!("{{ {script}; }} 2>/dev/null; true");
        let output = self.engine.docker(&["exec", &name, "sh", "-c", &script])?;
        let mut parts = output.split("==\n").map(str::trim_end);
        let mut next = || parts.next().context("the script inside broke off");
        let hostname = next()?;
        ensure!(hostname == wanted.hostname, "hostname {hostname:?}");
        let resolv = next()?;
        ensure!(resolv.contains("nameserver 10.77.0.1"), "{resolv}");
        let routes = next()?;
        ensure!(
            routes.contains("default via 10.77.0.1 dev eth0"),
            "{routes}"
        );
        for nic in &wanted.nics {
            let there = next()?;
            let mut parts = vec![format!("mtu {} ", nic.mtu), format!("ether {}", nic.mac)];
            parts.extend(nic.addresses.iter().map(|ip| format!("inet {ip}/24 ")));
            for part in parts {
                ensure!(there.contains(&part), "no {part:?} in {there}");
            }
            let count = there.matches("inet ").count();
            ensure!(count == nic.addresses.len(), "{there}");
        }
        if let Some(context) = wanted.context_sh() {
            for folder in ["/context", "/mnt"] {
                let there = next()?;
                ensure!(there == context.trim_end(), "{folder}/context.sh: {there}");
            }
        }
        Ok(())
    }

    fn check_files(&self, wanted: &Expected, id: &str) -> Result<()> {
        let folder = self.vm_folder(wanted);
        self.engine.inside(|| {
            let descriptor = fs::read(folder.join("disk.0"))?;
            let descriptor: Value = serde_json::from_slice(&descriptor)?;
            ensure!(text(&descriptor, "/container")? == id, "{descriptor}");
            ensure!(
                Path::new(STATE).join(format!("boot/{id}.json")).is_file(),
                "no boot spec"
            );
            let marker = fs::read_to_string(folder.with_file_name(".monitor"))?;
            ensure!(
                marker.trim_end() == wanted.transfer_manager,
                ".monitor holds {marker:?}"
            );
            Ok(())
        })
    }

    /// The VM is off, its container and files are there, its network is not.
    pub fn check_stopped(&self, wanted: &Expected, id: &str) -> Result<()> {
        let found = self
            .container(wanted.vm)?
            .context("the container is gone")?;
        ensure!(text(&found, "/Id")? == id, "it is another container");
        ensure!(
            found.pointer("/State/Running") == Some(&Value::from(false)),
            "it runs"
        );
        let ends = self.host_ends()?;
        ensure!(ends.is_empty(), "host ends are left: {ends:?}");
        let descriptor = self.vm_folder(wanted).join("disk.0");
        self.engine.inside(|| {
            ensure!(descriptor.is_file(), "{} is gone", descriptor.display());
            Ok(())
        })
    }
}

impl Cloud {
    /// The tags of an image's repository and their digests, from the registry's storage.
    pub fn tags(&self, image: u32) -> Result<Vec<(String, String)>> {
        let folder = self
            .registry
            .storage()
            .join(format!("repositories/onedock/img-{image}/_manifests/tags"));
        let mut tags = Vec::new();
        for name in names(&folder)? {
            if let Ok(digest) = fs::read_to_string(folder.join(&name).join("current/link")) {
                tags.push((name, digest));
            }
        }
        tags.sort();
        Ok(tags)
    }

    /// The answer of a port of an address to a request over HTTP from the bridge's host.
    pub fn fetch(&self, address: &str, port: u16) -> Result<String> {
        let peer = format!("{address}:{port}").parse()?;
        self.front.inside(move || {
            let limit = Duration::from_secs(5);
            let begin = Instant::now();
            // The program in it may be a moment behind the start of its first process.
            let mut stream = loop {
                match TcpStream::connect_timeout(&peer, limit) {
                    Ok(stream) => break stream,
                    Err(e) if begin.elapsed() > limit => {
                        return Err(e).with_context(|| format!("no connection to {peer}"));
                    }
                    Err(_) => onedock_common::wait::pause(Duration::from_millis(5)),
                }
            };
            stream.set_read_timeout(Some(limit))?;
            stream.write_all(b"GET /index.html HTTP/1.0\r\n\r\n")?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// What the drivers have logged, for whoever reads a failure.
    pub fn drivers_log(&self) -> String {
        let files = [
            self.var.join("onedock.log"),
            PathBuf::from("/var/log/one/onedock.log"),
            Path::new(STATE).join("onedock.log"),
        ];
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap_or_default();
        ["vm", "node1", "node2"]
            .iter()
            .map(|name| {
                let log = self.machine(name).and_then(|machine| {
                    machine.inside(|| {
                        Ok(files
                            .iter()
                            .map(|p| last_lines(&read(p), 40))
                            .collect::<String>())
                    })
                });
                format!("--- {name}\n{}", log.unwrap_or_default())
            })
            .collect()
    }
}

/// VCPU as the engine's quota of 100 ms.
fn quota(wanted: &Expected) -> u32 {
    wanted.vcpu.unwrap_or(0) * 100_000
}

fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(count);
    lines[from..].iter().map(|l| format!("{l}\n")).collect()
}

/// The text at a JSON pointer.
pub fn text(value: &Value, pointer: &str) -> Result<String> {
    let found = value.pointer(pointer).and_then(Value::as_str);
    found
        .map(str::to_owned)
        .with_context(|| format!("no {pointer} in {value}"))
}

/// The names in a folder; none when it is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<String>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries
            .map(|e| Ok(e?.file_name().to_string_lossy().into_owned()))
            .collect(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => bail!("{}: {e}", folder.display()),
    }
}
