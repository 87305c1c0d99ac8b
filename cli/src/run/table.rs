//! The played VMs as a table: what `onevm list` shows, from the monitor's own probes, once.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onedock::edit::template_read::{Value, read};
use onedock_common::process::Command;

use super::drivers::Drivers;
use super::state::{Stage, Vm};

/// One VM's measured values by their names; STATE, CPU, MEMORY are used.
type Measured = BTreeMap<String, BTreeMap<String, String>>;

/// The table's lines, the heading first.
pub(crate) fn lines(vms: &[Vm], user: &str) -> Vec<String> {
    let mut lines = vec![row(["ID", "NAME", "STATE", "ADDRESS", "CPU", "MEMORY"])];
    let mut remotes: Vec<_> = vms.iter().map(|vm| vm.remotes.clone()).collect();
    remotes.dedup();
    let mut measured = Measured::new();
    for folder in remotes {
        let drivers = Drivers::at(&folder, user);
        for probe in ["state", "vm"] {
            if let Ok(text) = drivers.probe(probe) {
                collect(&text, &mut measured);
            }
        }
    }
    for vm in vms {
        let empty = BTreeMap::new();
        let values = measured.get(&vm.id.to_string()).unwrap_or(&empty);
        let value = |name: &str| values.get(name).map(String::as_str);
        let state = match vm.stage {
            Stage::Prolog => "PROLOG".to_owned(),
            Stage::Boot => "BOOT".to_owned(),
            Stage::Epilog => "EPILOG".to_owned(),
            Stage::Deployed => value("STATE").map_or_else(|| from_engine(vm), str::to_owned),
        };
        let addresses: Vec<&str> = vm.nics.iter().filter_map(|nic| nic.ip.as_deref()).collect();
        lines.push(row([
            &vm.id.to_string(),
            &vm.name,
            &state,
            &addresses.join(","),
            &value("CPU").map_or_else(|| "-".to_owned(), |percent| format!("{percent} %")),
            &value("MEMORY").map_or_else(|| "-".to_owned(), memory),
        ]));
    }
    lines
}

fn row(cells: [&str; 6]) -> String {
    let [id, name, state, address, cpu, memory] = cells;
    format!("{id:>8}  {name:<20}  {state:<9}  {address:<16}  {cpu:>8}  {memory:>9}")
        .trim_end()
        .to_owned()
}

/// MEMORY is in KiB.
fn memory(kib: &str) -> String {
    match kib.parse::<f64>() {
        Ok(kib) => format!("{:.1} MiB", kib / 1024.0),
        Err(_) => "-".to_owned(),
    }
}

/// The records of a probe: `VM = [ ID="…", STATE="…" ]`, or with what was measured in MONITOR,
/// in base64.
fn collect(text: &str, measured: &mut Measured) {
    for record in read(text).unwrap_or_default() {
        let ("VM", Value::Vector(parts)) = (record.name.as_str(), &record.value) else {
            continue;
        };
        let of = |name: &str| {
            parts
                .iter()
                .find(|part| part.name == name)
                .and_then(|part| part.text())
        };
        let Some(id) = of("ID") else { continue };
        let values = measured.entry(id.to_owned()).or_default();
        if let Some(state) = of("STATE") {
            values.insert("STATE".into(), state.to_owned());
        }
        let monitor = of("MONITOR").and_then(|packed| STANDARD.decode(packed).ok());
        let lines = String::from_utf8(monitor.unwrap_or_default()).unwrap_or_default();
        for part in read(&lines).unwrap_or_default() {
            if let Some(value) = part.text() {
                values.insert(part.name.clone(), value.to_owned());
            }
        }
    }
}

/// The state by the engine, where the monitor reports none.
fn from_engine(vm: &Vm) -> String {
    let name = format!("one-{}", vm.id);
    let answer = Command::local("docker")
        .args([
            "container",
            "inspect",
            "--format",
            "{{.State.Running}}",
            "--",
            &name,
        ])
        .run();
    match answer {
        Ok(answer) if answer.stdout.trim() == "true" => "RUNNING".to_owned(),
        Ok(answer) if answer.stdout.trim() == "false" => "POWEROFF".to_owned(),
        _ => "UNKNOWN".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probes_answers_are_read() {
        let mut measured = Measured::new();
        let monitor = STANDARD.encode("CPU=\"0.50\"\nMEMORY=\"2048\"\n");
        collect(
            "SYNC_STATE=yes\nVM = [ ID=\"1000000\", DEPLOY_ID=\"one-1000000\", STATE=\"RUNNING\" ]\n",
            &mut measured,
        );
        collect(
            &format!("VM = [ ID=\"1000000\", MONITOR=\"{monitor}\" ]\n"),
            &mut measured,
        );
        let values = &measured["1000000"];
        assert_eq!(
            (values["STATE"].as_str(), values["CPU"].as_str()),
            ("RUNNING", "0.50")
        );
        assert_eq!(memory(&values["MEMORY"]), "2.0 MiB");
    }
}
