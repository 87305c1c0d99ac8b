//! `onedock-init` in a container: where it is seen, and what it is told as process 1.

use std::path::{Path, PathBuf};

use onedock_common::state::boot::{BootSpec, FirstProcess};
use serde_json::{Map, Value, json};

/// Where the program is seen: on the engine's tmpfs, so that the layer has no trace of it.
pub(super) const PROGRAM: &str = "/dev/onedock-init";
/// Where it is seen besides in a VM with a context, for the driver to start it there.
pub(super) const OF_CONTEXT: &str = "/dev/onedock-context";
/// Where the host's time zones are seen (`init/program/src/apply/timezone.rs`).
pub(super) const ZONES: &str = "/dev/onedock-zoneinfo";

/// The time zones of a host with Debian's `tzdata`, and of most others.
const ZONES_OF_THE_HOST: &str = "/usr/share/zoneinfo";

/// What a process needs to become another user, and to pass signals on to it (capabilities(7)).
const TO_BECOME: [&str; 3] = ["CAP_SETUID", "CAP_SETGID", "CAP_KILL"];

/// `onedock-init` beside this program (they are installed together), else where it is installed.
pub(super) fn find() -> Option<PathBuf> {
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| Some(exe.parent()?.join("onedock-init")));
    beside
        .into_iter()
        .chain([PathBuf::from("/usr/lib/onedock/onedock-init")])
        .find(|path| path.is_file())
}

/// The host's time zones, where it has any.
pub(super) fn zones() -> Option<&'static Path> {
    let zones = Path::new(ZONES_OF_THE_HOST);
    zones.is_dir().then_some(zones)
}

/// The argument vector of process 1, and its user: root with what the image may ever have, because it
/// applies the context; it becomes the command's own user before it runs that. Where the container may
/// become nobody else, the command's user it is from the beginning, and the context is as far in force as
/// that user can write. `None`: the user is not one that the runtime specification has.
pub(super) fn arguments(process: &mut Map<String, Value>, spec: &BootSpec) -> Option<Value> {
    let mut words = vec![PROGRAM.to_owned(), "run".to_owned()];
    if let Some(user) = user(process)?
        && can_become(process)
    {
        words.push(format!("--user={user}"));
        let bounding = process["capabilities"]["bounding"].clone();
        process["capabilities"]["effective"] = bounding.clone();
        process["capabilities"]["permitted"] = bounding;
        process["user"] = json!({"uid": 0, "gid": 0});
    }
    let env = process.get("env").and_then(Value::as_array);
    let is_home = |text: &Value| text.as_str().is_some_and(|text| text.starts_with("HOME="));
    if !env.is_some_and(|env| env.iter().any(is_home)) {
        words.push("--home".to_owned());
    }
    if spec.give_way {
        words.push("--give-way".to_owned());
    }
    if spec.first == FirstProcess::KeepAlive {
        words.push("--keep-alive".to_owned());
    }
    words.push("--".to_owned());
    words.extend(spec.args.iter().cloned());
    Some(json!(words))
}

/// The user of the image, where it is not root, as `onedock-init` takes it.
fn user(process: &Map<String, Value>) -> Option<Option<String>> {
    let Some(user) = process.get("user") else {
        return Some(None);
    };
    let number = |name: &str| user.get(name).map_or(Some(0), Value::as_u64);
    let (uid, gid) = (number("uid")?, number("gid")?);
    let groups = user.get("additionalGids").and_then(Value::as_array);
    let groups: Vec<String> = groups
        .into_iter()
        .flatten()
        .map(|group| group.as_u64().map(|id| id.to_string()))
        .collect::<Option<_>>()?;
    Some((uid != 0).then(|| format!("{uid}:{gid}:{}", groups.join(","))))
}

fn can_become(process: &Map<String, Value>) -> bool {
    let bounding = process
        .get("capabilities")
        .and_then(|all| all.get("bounding"))
        .and_then(Value::as_array);
    let has = |name: &str| bounding.is_some_and(|all| all.iter().any(|one| one == name));
    TO_BECOME.iter().all(|name| has(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(first: &str, args: &[&str]) -> BootSpec {
        serde_json::from_value(json!({
            "version": 6, "vm": 5, "boot_id": "b", "hostname": "web", "args": args,
            "first": first, "nics": [], "dns": [], "search": [], "context": null, "volumes": []
        }))
        .unwrap()
    }

    fn process(user: &Value, bounding: &[&str]) -> Map<String, Value> {
        let process = json!({
            "user": user, "env": ["PATH=/bin"],
            "capabilities": {"bounding": bounding, "inheritable": []}
        });
        process.as_object().unwrap().clone()
    }

    #[test]
    fn the_command_of_a_user_begins_as_root_and_becomes_the_user() {
        let all = ["CAP_CHOWN", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"];
        let user = json!({"uid": 1000, "gid": 100, "additionalGids": [4, 20]});
        let mut process = process(&user, &all);
        let words = arguments(&mut process, &spec("init", &["httpd", "-f"])).unwrap();
        let expected = json!([
            PROGRAM,
            "run",
            "--user=1000:100:4,20",
            "--home",
            "--",
            "httpd",
            "-f"
        ]);
        assert_eq!(words, expected);
        assert_eq!(process["user"], json!({"uid": 0, "gid": 0}));
        for set in ["effective", "permitted"] {
            assert_eq!(process["capabilities"][set], json!(all), "{set}");
        }
        assert_eq!(process["capabilities"]["inheritable"], json!([]));
    }

    #[test]
    fn root_stays_root_with_what_the_engine_gave_it() {
        let mut process = process(
            &json!({"uid": 0, "gid": 0, "additionalGids": [0]}),
            &["CAP_SETUID"],
        );
        process["env"] = json!(["HOME=/srv"]);
        let before = process.clone();
        let words = arguments(&mut process, &spec("keep_alive", &[])).unwrap();
        assert_eq!(words, json!([PROGRAM, "run", "--keep-alive", "--"]));
        assert_eq!(process, before);
    }

    #[test]
    fn where_nobody_else_can_be_become_the_user_is_that_of_the_image_from_the_beginning() {
        for bounding in [
            &["CAP_SETUID", "CAP_KILL"][..],
            &["CAP_SETGID", "CAP_KILL"],
            &["CAP_SETUID", "CAP_SETGID"],
            &[],
        ] {
            let user = json!({"uid": 5, "gid": 6});
            let mut process = process(&user, bounding);
            let words = arguments(&mut process, &spec("init", &["x"])).unwrap();
            assert_eq!(words, json!([PROGRAM, "run", "--home", "--", "x"]));
            assert_eq!(process["user"], user);
        }
    }

    #[test]
    fn a_user_that_is_no_number_is_refused() {
        for user in [
            json!({"uid": "x"}),
            json!({"uid": 5, "additionalGids": ["y"]}),
        ] {
            let mut process = process(&user, &["CAP_SETGID", "CAP_SETUID"]);
            assert!(arguments(&mut process, &spec("init", &["x"])).is_none());
        }
    }
}
