//! `exec`: what is run in a VM beside its command (`docker exec`, a console) has the VM's variables too. The
//! engine knows only those of the image.

use std::fs;
use std::io;
use std::path::Path;

use onedock_common::state::files;
use onedock_common::types::environment::Variable;
use serde_json::{Value, json};

/// The largest description of a process that is read, in bytes.
const LIMIT: u64 = 16 * 1024 * 1024;

/// Adds variables that the process in the runtime's file does not have: what whoever runs it says stands.
pub(super) fn add(path: &Path, variables: &[Variable]) -> io::Result<()> {
    let bytes = files::read_bounded(path, LIMIT)?;
    let mut process: Value = serde_json::from_slice(&bytes)?;
    if !complete(&mut process, variables) {
        return Ok(());
    }
    // In place: the engine holds the file by its name, and nobody else reads it.
    fs::write(path, serde_json::to_vec(&process)?)
}

/// Whether anything was added.
fn complete(process: &mut Value, variables: &[Variable]) -> bool {
    let Some(env) = process.get_mut("env").and_then(Value::as_array_mut) else {
        return false;
    };
    let before = env.len();
    for variable in variables {
        let is_there = env.iter().any(|entry| {
            let name = entry.as_str().and_then(|text| text.split('=').next());
            name == Some(variable.name())
        });
        if !is_there {
            env.push(json!(format!("{}={}", variable.name(), variable.value())));
        }
    }
    env.len() > before
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_the_process_has_stay_and_the_others_are_added() {
        let variables = ["A=vm".parse().unwrap(), "B=x=y".parse().unwrap()];
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("process.json");
        let process = json!({"args": ["sh"], "env": ["PATH=/bin", "A=own"], "cwd": "/"});
        fs::write(&file, process.to_string()).unwrap();
        add(&file, &variables).unwrap();
        let read: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        assert_eq!(read["env"], json!(["PATH=/bin", "A=own", "B=x=y"]));
        assert_eq!(
            (&read["args"], &read["cwd"]),
            (&process["args"], &process["cwd"])
        );
        assert!(!complete(&mut json!({"args": []}), &variables));
        assert!(add(&dir.path().join("none"), &variables).is_err());
    }
}
