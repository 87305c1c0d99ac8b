//! What the engine's seccomp profile lets a VM do that it must not:
//!
//! - With loop devices nothing but read and write. A VM may use those that are reserved for it, because
//!   on cgroup v2 nothing can be allowed later (`docs/decisions/0017-loop-devices.md`). With the ioctls
//!   of the loop driver it could bind files to them, have the host's kernel parse partition tables, and
//!   read the paths of the host's files.
//! - Sockets of the kernel's crypto (AF_ALG, CVE-2026-31431), which engines refuse from 29.4.3 on.
//! - io_uring, whose requests pass by every other rule; engines refuse it from 25 on.
//!
//! All else stays as the engine has it. A container whose administrator runs it without a profile is
//! left so. What 32-bit programs do by `socketcall` no profile can tell apart (moby,
//! `profiles/seccomp/default_linux.go`).

use serde_json::{Map, Value, json};

/// The ioctls of the loop driver are 0x4C00 to 0x4CFF (`include/uapi/linux/loop.h`).
const LOOP: u32 = 0x4C00;
/// The bits that distinguish them; the kernel looks at no more than 32.
const LOOP_BITS: std::ops::Range<u32> = 8..32;
/// The family of sockets of the kernel's crypto (`include/linux/socket.h`).
const AF_ALG: u32 = 38;
/// Families are smaller than 2 to this power; the kernel looks at 32 bits.
const FAMILY_BITS: u32 = 6;
const IO_URING: [&str; 3] = ["io_uring_setup", "io_uring_enter", "io_uring_register"];
const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";

/// Takes all of that out of the profile of `config`.
pub(crate) fn restrict(config: &mut Value) {
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
        let loops = u64::from(u32::MAX << LOOP_BITS.start);
        rules.push(rule("ioctl", ERRNO, &[masked(1, loops, LOOP.into())]));
        rules.push(rule(
            "socket",
            ERRNO,
            &[masked(0, u32::MAX.into(), AF_ALG.into())],
        ));
        rules.extend(IO_URING.map(|name| rule(name, ERRNO, &[])));
        return;
    }
    let unconditional = |rule: &Map<String, Value>| {
        let args = rule.get("args").and_then(Value::as_array);
        args.is_none_or(Vec::is_empty)
    };
    if !take(rules, "ioctl", unconditional).is_empty() {
        // Allowed is what differs from all of them in at least one bit.
        rules.extend(LOOP_BITS.map(|bit| {
            let mask = 1u32 << bit;
            rule(
                "ioctl",
                ALLOW,
                &[masked(1, mask.into(), (!LOOP & mask).into())],
            )
        }));
    }
    let sockets = take(rules, "socket", |_| true);
    match Families::of(&sockets) {
        Some(families) => rules.extend(families.rules()),
        None => rules.extend(sockets),
    }
    for name in IO_URING {
        take(rules, name, |_| true);
    }
}

/// Takes a call out of the rules that allow it, of those that `which` chooses; answers rules of it alone.
fn take(
    rules: &mut Vec<Value>,
    call: &str,
    which: impl Fn(&Map<String, Value>) -> bool,
) -> Vec<Value> {
    let mut taken = Vec::new();
    let objects = rules.iter_mut().filter_map(Value::as_object_mut);
    for rule in objects.filter(|rule| which(rule)) {
        if let Some(own) = take_from(rule, call) {
            taken.push(own);
        }
    }
    rules.retain(|rule| {
        let names = rule.get("names").and_then(Value::as_array);
        names.is_none_or(|names| !names.is_empty())
    });
    taken
}

fn take_from(rule: &mut Map<String, Value>, call: &str) -> Option<Value> {
    if rule.get("action").and_then(Value::as_str) != Some(ALLOW) {
        return None;
    }
    let names = rule.get_mut("names").and_then(Value::as_array_mut)?;
    let before = names.len();
    names.retain(|name| name != call);
    if names.len() == before {
        return None;
    }
    let mut own = rule.clone();
    own.insert("names".into(), json!([call]));
    Some(Value::Object(own))
}

/// The families of sockets that a profile allows.
struct Families {
    /// Bit n is family n.
    small: u64,
    /// Whether numbers beyond are allowed, which are no families.
    others: bool,
}

impl Families {
    /// Those that rules of `socket` allow; `None` where they look at more than the family. A rule sees
    /// 64 bits of a number of which the kernel takes 32, so that "greater than" would let through what
    /// it must not.
    fn of(rules: &[Value]) -> Option<Self> {
        let mut families = Self {
            small: 0,
            others: false,
        };
        for rule in rules {
            let args = rule.get("args").and_then(Value::as_array);
            let args = args.map_or(&[][..], Vec::as_slice);
            let allows = |family: u64| match args {
                [] => Some(true),
                [arg] => matches(arg, family),
                _ => None,
            };
            for family in 0..1 << FAMILY_BITS {
                families.small |= u64::from(allows(family)?) << family;
            }
            families.others |= allows(1 << 31)?;
        }
        families.small &= !(1 << AF_ALG);
        Some(families)
    }

    /// The fewest rules that allow them by their bits.
    fn rules(&self) -> Vec<Value> {
        let mut rules = Vec::new();
        let whole = (1u32 << FAMILY_BITS) - 1;
        self.cover(0, 0, FAMILY_BITS, &mut |mask, value| {
            // Beyond the families' bits anything, where that is allowed.
            let mask = if self.others { mask } else { mask | !whole };
            rules.push(rule(
                "socket",
                ALLOW,
                &[masked(0, mask.into(), value.into())],
            ));
        });
        if self.others {
            rules.extend((FAMILY_BITS..32).map(|bit| {
                let mask = 1u64 << bit;
                rule("socket", ALLOW, &[masked(0, mask, mask)])
            }));
        }
        rules
    }

    /// Gives `found` the masks and values of the largest sets of allowed families whose numbers agree
    /// in the highest bits.
    fn cover(&self, mask: u32, value: u32, bits: u32, found: &mut impl FnMut(u32, u32)) {
        let mut members = (0..1u32 << FAMILY_BITS).filter(|family| family & mask == value);
        if members.clone().all(|family| self.small >> family & 1 == 1) {
            found(mask, value);
        } else if members.any(|family| self.small >> family & 1 == 1) {
            let bit = 1 << (bits - 1);
            self.cover(mask | bit, value, bits - 1, found);
            self.cover(mask | bit, value | bit, bits - 1, found);
        }
    }
}

/// Whether a condition on the first argument holds; `None` for one that is not understood.
fn matches(arg: &Value, number: u64) -> Option<bool> {
    let value = |key: &str| arg.get(key).and_then(Value::as_u64);
    if value("index")? != 0 {
        return None;
    }
    let first = value("value")?;
    Some(match arg.get("op")?.as_str()? {
        "SCMP_CMP_NE" => number != first,
        "SCMP_CMP_LT" => number < first,
        "SCMP_CMP_LE" => number <= first,
        "SCMP_CMP_EQ" => number == first,
        "SCMP_CMP_GE" => number >= first,
        "SCMP_CMP_GT" => number > first,
        "SCMP_CMP_MASKED_EQ" => number & first == value("valueTwo").unwrap_or(0),
        _ => return None,
    })
}

fn rule(call: &str, action: &str, args: &[Value]) -> Value {
    match args {
        [] => json!({ "names": [call], "action": action }),
        args => json!({ "names": [call], "action": action, "args": args }),
    }
}

fn masked(index: u32, mask: u64, value: u64) -> Value {
    json!({ "index": index, "value": mask, "valueTwo": value, "op": "SCMP_CMP_MASKED_EQ" })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a call is allowed with this argument.
    fn lets(config: &Value, call: &str, index: u64, argument: u64) -> bool {
        let profile = config.pointer("/linux/seccomp").unwrap();
        let holds = |rule: &&Value| {
            let names = rule["names"].as_array().unwrap();
            let args = rule["args"].as_array();
            names.contains(&json!(call))
                && args.is_none_or(|args| {
                    args.iter().all(|arg| {
                        let mut first = arg.clone();
                        first["index"] = json!(0);
                        arg["index"] == index && matches(&first, argument).unwrap()
                    })
                })
        };
        let rules = profile["syscalls"].as_array().unwrap();
        let default = profile["defaultAction"].clone();
        let action = rules
            .iter()
            .find(holds)
            .map_or(default, |r| r["action"].clone());
        action == ALLOW
    }

    fn allows(config: &Value, request: u32) -> bool {
        lets(config, "ioctl", 1, request.into())
    }

    fn config(rules: Value) -> Value {
        json!({ "linux": { "seccomp": { "defaultAction": ERRNO, "syscalls": rules } } })
    }

    fn arg(op: &str, value: u64) -> Value {
        json!({ "index": 0, "value": value, "valueTwo": 0, "op": op })
    }

    #[test]
    fn every_ioctl_but_those_of_loop_devices_stays_allowed() {
        let mut config = config(json!([
            { "names": ["read", "ioctl", "write"], "action": ALLOW },
            { "names": ["personality"], "action": ALLOW, "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            { "names": ["ioctl"], "action": ALLOW, "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_EQ" }] },
        ]));
        restrict(&mut config);
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
        // Which an administrator has allowed on a condition stays as it is.
        assert_eq!(rules[2]["args"][0]["value"], 1);
    }

    #[test]
    fn a_profile_that_allows_all_refuses_them_and_a_profile_without_them_gets_none() {
        let mut open = config(json!([]));
        open["linux"]["seccomp"]["defaultAction"] = json!(ALLOW);
        restrict(&mut open);
        for (request, allowed) in [
            (0x4C00, false),
            (0x4C0A, false),
            (0x4CFF, false),
            (0x4D00, true),
            (0x5401, true),
            (0x0100_4C00, true),
        ] {
            assert_eq!(allows(&open, request), allowed, "{request:#x}");
        }
        assert!(!lets(&open, "socket", 0, 38) && lets(&open, "socket", 0, 2));
        assert!(!lets(&open, "io_uring_setup", 0, 1));
        let mut closed = config(json!([{ "names": ["ioctl", "socket"], "action": ERRNO }]));
        let before = closed.clone();
        restrict(&mut closed);
        assert_eq!(closed, before);
        let mut none = json!({ "linux": {} });
        restrict(&mut none);
        assert_eq!(none, json!({ "linux": {} }));
    }

    #[test]
    fn a_condition_holds_as_libseccomp_has_it() {
        // scmp_compare in seccomp.h: with 5 for 4, 5 and 6.
        for (op, expected) in [
            ("SCMP_CMP_NE", [true, false, true]),
            ("SCMP_CMP_LT", [true, false, false]),
            ("SCMP_CMP_LE", [true, true, false]),
            ("SCMP_CMP_EQ", [false, true, false]),
            ("SCMP_CMP_GE", [false, true, true]),
            ("SCMP_CMP_GT", [false, false, true]),
        ] {
            let found = [4, 5, 6].map(|number| matches(&arg(op, 5), number).unwrap());
            assert_eq!(found, expected, "{op}");
        }
        assert_eq!(matches(&arg("SCMP_CMP_MASKED_EQ", 5), 2), Some(true));
        assert_eq!(matches(&arg("SCMP_CMP_MASKED_EQ", 5), 4), Some(false));
        assert_eq!(matches(&arg("SCMP_CMP_UNKNOWN", 5), 5), None);
        assert_eq!(
            matches(&json!({ "index": 1, "value": 5, "op": "SCMP_CMP_EQ" }), 5),
            None
        );
    }

    #[test]
    fn attack_34_sockets_of_the_kernels_crypto_are_refused_whatever_the_profile_says() {
        const HIGH: u64 = 1 << 32;
        let alone = |args: &[Value]| rule("socket", ALLOW, args);
        let by_engine = [
            // 20.10, 23 to 29.4.2, and from there.
            vec![json!({ "names": ["read", "socket"], "action": ALLOW })],
            vec![alone(&[arg("SCMP_CMP_NE", 40)])],
            vec![
                alone(&[arg("SCMP_CMP_LT", 38)]),
                alone(&[arg("SCMP_CMP_EQ", 39)]),
                alone(&[arg("SCMP_CMP_GT", 40)]),
            ],
        ];
        for (engine, rules) in by_engine.into_iter().enumerate() {
            let mut config = config(json!(rules));
            restrict(&mut config);
            let lets = |family: u64| lets(&config, "socket", 0, family);
            for family in 0..64 {
                let refused = family == 38 || (family == 40 && engine > 0);
                assert_eq!(lets(family), !refused, "{engine} {family}");
                // The kernel drops the upper half of the number.
                assert_eq!(lets(HIGH | family), !refused, "{engine} {family}");
            }
            assert!(lets(64) && lets(1 << 31));
            let rules = config.pointer("/linux/seccomp/syscalls").unwrap();
            assert!(rules.as_array().unwrap().len() < 40);
        }
        let mut few = config(json!([
            alone(&[arg("SCMP_CMP_EQ", 1)]),
            alone(&[arg("SCMP_CMP_LE", 2)])
        ]));
        restrict(&mut few);
        for family in 0..200 {
            assert_eq!(lets(&few, "socket", 0, family), family < 3, "{family}");
        }
        // A profile of an administrator's own that looks at more stays as it is.
        let own = json!([alone(&[
            json!({ "index": 1, "value": 1, "op": "SCMP_CMP_EQ" })
        ])]);
        let mut special = config(own.clone());
        restrict(&mut special);
        assert_eq!(special, config(own));
    }

    #[test]
    fn attack_34_io_uring_is_refused_where_the_engine_still_allows_it() {
        let mut config = config(json!([{
            "names": ["io_uring_enter", "read", "io_uring_register", "io_uring_setup", "io_setup"],
            "action": ALLOW,
        }]));
        restrict(&mut config);
        let rules = config.pointer("/linux/seccomp/syscalls").unwrap();
        assert_eq!(
            rules,
            &json!([{ "names": ["read", "io_setup"], "action": ALLOW }])
        );
    }
}
