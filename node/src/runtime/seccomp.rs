//! What the engine's seccomp profile lets a VM do with loop devices: nothing but read and write.
//!
//! A VM may use the loop devices that are reserved for it, because on cgroup v2 nothing can be
//! allowed later (`docs/decisions/0017-loop-devices.md`). With the ioctls of the loop driver it
//! could bind files to them, have the host's kernel parse partition tables, and read the paths of
//! the host's files. So those ioctls, and only those, are refused.

use serde_json::{Map, Value, json};

/// The ioctls of the loop driver are 0x4C00 to 0x4CFF (`include/uapi/linux/loop.h`).
const LOOP: u32 = 0x4C00;
/// The bits that distinguish them; the kernel looks at no more than 32.
const BITS: std::ops::Range<u32> = 8..32;
const IOCTL: &str = "ioctl";
const ALLOW: &str = "SCMP_ACT_ALLOW";

/// Takes the ioctls of the loop driver out of the profile of `config`. A container whose
/// administrator runs it without a profile is left so.
pub(crate) fn refuse_loop_ioctls(config: &mut Value) {
    let profile = config
        .pointer_mut("/linux/seccomp")
        .and_then(Value::as_object_mut);
    let Some(profile) = profile else { return };
    let allowed = profile.get("defaultAction").and_then(Value::as_str) == Some(ALLOW);
    let rules = profile.entry("syscalls").or_insert_with(|| json!([]));
    let Some(rules) = rules.as_array_mut() else {
        return;
    };
    if allowed {
        rules.push(json!({
            "names": [IOCTL],
            "action": "SCMP_ACT_ERRNO",
            "args": [masked(u64::from(u32::MAX << BITS.start), u64::from(LOOP))],
        }));
        return;
    }
    let mut taken = false;
    for rule in rules.iter_mut().filter_map(Value::as_object_mut) {
        taken |= take_ioctl(rule);
    }
    rules.retain(|rule| {
        let names = rule.get("names").and_then(Value::as_array);
        names.is_none_or(|names| !names.is_empty())
    });
    if taken {
        // Allowed is what differs from all of them in at least one bit.
        rules.extend(BITS.map(|bit| {
            let mask = 1u32 << bit;
            let args = [masked(u64::from(mask), u64::from(!LOOP & mask))];
            json!({ "names": [IOCTL], "action": ALLOW, "args": args })
        }));
    }
}

/// Takes `ioctl` out of a rule that allows it without a condition; whether it was there.
fn take_ioctl(rule: &mut Map<String, Value>) -> bool {
    let unconditional = rule
        .get("args")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty);
    if !unconditional || rule.get("action").and_then(Value::as_str) != Some(ALLOW) {
        return false;
    }
    let Some(names) = rule.get_mut("names").and_then(Value::as_array_mut) else {
        return false;
    };
    let before = names.len();
    names.retain(|name| name != IOCTL);
    names.len() != before
}

fn masked(mask: u64, value: u64) -> Value {
    json!({ "index": 1, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(config: &Value, request: u32) -> bool {
        let rules = config.pointer("/linux/seccomp/syscalls").unwrap();
        rules.as_array().unwrap().iter().any(|rule| {
            let names = rule["names"].as_array().unwrap();
            let args = rule["args"].as_array();
            rule["action"] == ALLOW
                && names.contains(&json!(IOCTL))
                && args.is_none_or(|args| {
                    args.iter().all(|arg| {
                        let mask = arg["value"].as_u64().unwrap();
                        u64::from(request) & mask == arg["valueTwo"].as_u64().unwrap()
                    })
                })
        })
    }

    fn config(rules: Value) -> Value {
        json!({ "linux": { "seccomp": { "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules } } })
    }

    #[test]
    fn every_ioctl_but_those_of_loop_devices_stays_allowed() {
        let mut config = config(json!([
            { "names": ["read", "ioctl", "write"], "action": ALLOW },
            { "names": ["personality"], "action": ALLOW, "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
        ]));
        refuse_loop_ioctls(&mut config);
        for request in [0x4C00, 0x4C04, 0x4C0A, 0x4C80, 0x4C82, 0x4CFF] {
            assert!(!allows(&config, request), "{request:#x}");
        }
        // Terminals, block sizes, file systems' freezing, and neighbours of 0x4C00.
        for request in [
            0x5401,
            0x5413,
            0x1260,
            0x8008_1272,
            0xC004_5877,
            0x4BFF,
            0x4D00,
            0x1_4C00,
            0,
        ] {
            assert!(allows(&config, request), "{request:#x}");
        }
        let rules = config.pointer("/linux/seccomp/syscalls").unwrap();
        assert_eq!(rules[0]["names"], json!(["read", "write"]));
        assert_eq!(rules[1]["names"], json!(["personality"]));
    }

    #[test]
    fn a_profile_that_allows_all_refuses_them_and_a_profile_without_ioctl_gets_none() {
        let mut open = config(json!([]));
        open["linux"]["seccomp"]["defaultAction"] = json!(ALLOW);
        refuse_loop_ioctls(&mut open);
        let rules = open.pointer("/linux/seccomp/syscalls").unwrap();
        assert_eq!(rules[0]["action"], "SCMP_ACT_ERRNO");
        let mut closed = config(json!([{ "names": ["ioctl"], "action": "SCMP_ACT_ERRNO" }]));
        let before = closed.clone();
        refuse_loop_ioctls(&mut closed);
        assert_eq!(closed, before);
        let mut none = json!({ "linux": {} });
        refuse_loop_ioctls(&mut none);
        assert_eq!(none, json!({ "linux": {} }));
    }
}
