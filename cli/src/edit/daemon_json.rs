//! Edits of Docker's `daemon.json`: two keys of ours beside whatever is there. The order and
//! the layout of the rest stay.

use super::json::{Object, Unfit, set};

/// What the two keys have to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// The absolute path of our runtime.
    pub runtime: &'a str,
    /// Whether `live-restore` is to be written; not when the engine's command line says it,
    /// because a setting in both places keeps the engine from starting.
    pub live_restore: bool,
}

/// The edited text, and what was changed. An empty text counts as an empty object.
pub fn edit(text: &str, wanted: Wanted<'_>) -> Result<(String, Vec<String>), Unfit> {
    let mut text = if text.trim().is_empty() {
        "{}\n".to_owned()
    } else {
        text.to_owned()
    };
    let mut changes = Vec::new();
    if wanted.live_restore && set(&mut text, None, "live-restore", "true")? {
        changes.push("live-restore".to_owned());
    }
    // The runtime's path is plain ASCII of our own making; serde_json quotes it all the same.
    let entry = format!("{{\"path\": {}}}", serde_json::Value::from(wanted.runtime));
    let top: Object<'_> = serde_json::from_str(&text)?;
    let changed = if top.contains_key("runtimes") {
        set(&mut text, Some("runtimes"), "onedock", &entry)?
    } else {
        set(
            &mut text,
            None,
            "runtimes",
            &format!("{{\"onedock\": {entry}}}"),
        )?
    };
    if changed {
        changes.push("runtimes onedock".to_owned());
    }
    Ok((text, changes))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: Wanted<'_> = Wanted {
        runtime: "/usr/lib/onedock/onedock-runtime",
        live_restore: true,
    };

    fn twice(text: &str) -> String {
        let (once, _) = edit(text, WANTED).unwrap();
        let (again, changes) = edit(&once, WANTED).unwrap();
        assert_eq!((again, changes.len()), (once.clone(), 0));
        let value: serde_json::Value = serde_json::from_str(&once).unwrap();
        assert_eq!(value["live-restore"], true);
        assert_eq!(value["runtimes"]["onedock"]["path"], WANTED.runtime);
        once
    }

    #[test]
    fn an_empty_file_becomes_a_readable_one() {
        let wanted = "{\n    \"live-restore\": true,\n    \"runtimes\": {\"onedock\": {\"path\": \
                      \"/usr/lib/onedock/onedock-runtime\"}}\n}\n";
        assert_eq!(twice(""), wanted);
        assert_eq!(twice("{}\n"), wanted);
    }

    #[test]
    fn what_is_there_stays_in_its_order_and_layout() {
        let text = "{\n    \"z\": [1,\n  2],\n    \"a\": {\"b\": \"}\"}\n}\n";
        let out = twice(text);
        assert!(
            out.starts_with("{\n    \"z\": [1,\n  2],\n    \"a\": {\"b\": \"}\"},\n    \"live")
        );
    }

    #[test]
    fn other_runtimes_stay_and_a_wrong_value_is_set_right() {
        let out = twice(
            "{\"live-restore\": false, \"runtimes\": {\"x\": {\"path\": \"/x\"}, \"onedock\": {\"path\": \"/old\"}}}",
        );
        let value: serde_json::Value = serde_json::from_str(&out).unwrap();
        assert_eq!(value["runtimes"]["x"]["path"], "/x");
        let out = twice("{\"runtimes\": {}}");
        assert!(out.contains("\"onedock\""));
    }

    #[test]
    fn no_json_is_refused_and_so_is_another_kind() {
        assert!(matches!(edit("{,}", WANTED), Err(Unfit::Syntax(_))));
        assert!(matches!(edit("[]", WANTED), Err(Unfit::Syntax(_))));
        assert!(matches!(
            edit("{\"runtimes\": 1}", WANTED),
            Err(Unfit::Kind("runtimes"))
        ));
    }

    #[test]
    fn what_the_command_line_says_is_not_said_twice() {
        let wanted = Wanted {
            live_restore: false,
            ..WANTED
        };
        assert!(!edit("{}", wanted).unwrap().0.contains("live-restore"));
    }
}
