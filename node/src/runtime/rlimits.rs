//! Limits of each process of a VM, where the engine's administrator has set none of the kind: open files
//! as in a Debian with systemd, whatever the engine has for itself, and no core dumps, which the host's
//! kernel would hand to a program of the host.

use rustix::process::{Resource, getrlimit};
use serde_json::{Map, Value, json};

/// `DefaultLimitNOFILE` of systemd: soft, hard.
const FILES: (u64, u64) = (1024, 524_288);

/// Adds them to `process.rlimits`.
pub(crate) fn add(process: &mut Map<String, Value>) {
    // A runtime in a container of its own may not give more than it has.
    add_within(
        process,
        getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
    );
}

fn add_within(process: &mut Map<String, Value>, most: u64) {
    let limits = process.entry("rlimits").or_insert_with(|| json!([]));
    let Some(limits) = limits.as_array_mut() else {
        return;
    };
    for (kind, (soft, hard)) in [("RLIMIT_NOFILE", FILES), ("RLIMIT_CORE", (0, 0))] {
        if !limits.iter().any(|limit| limit["type"] == kind) {
            let (soft, hard) = (soft.min(most), hard.min(most));
            limits.push(json!({ "type": kind, "soft": soft, "hard": hard }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(process: Value, most: u64) -> Value {
        let mut process = process.as_object().unwrap().clone();
        add_within(&mut process, most);
        process["rlimits"].clone()
    }

    #[test]
    fn a_vm_has_the_files_of_a_debian_and_no_core_dumps_unless_the_engine_says_otherwise() {
        let core = json!({"type": "RLIMIT_CORE", "soft": 0, "hard": 0});
        let files =
            |soft: u64, hard: u64| json!({"type": "RLIMIT_NOFILE", "soft": soft, "hard": hard});
        let own = json!({"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6});
        for (process, most, expected) in [
            (json!({}), u64::MAX, json!([files(1024, 524_288), core])),
            (
                json!({"rlimits": []}),
                20_000,
                json!([files(1024, 20_000), core]),
            ),
            (json!({}), 512, json!([files(512, 512), core])),
            (json!({"rlimits": [own]}), u64::MAX, json!([own, core])),
        ] {
            assert_eq!(limits(process, most), expected);
        }
    }
}
