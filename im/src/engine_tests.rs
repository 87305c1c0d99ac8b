use super::*;

const LIST: &str = include_str!("../tests/data/list-20.10.json");
const INSPECT: &str = include_str!("../tests/data/inspect-exited-20.10.json");

#[test]
fn a_recorded_list_of_20_10_gives_every_vm_with_its_state() {
    let listing = read_list(LIST.as_bytes()).unwrap();
    assert!(listing.complete);
    let mut seen: Vec<_> = listing
        .containers
        .iter()
        .map(|c| (c.vm.get(), c.state, c.own_name))
        .collect();
    seen.sort_by_key(|s| s.0);
    assert_eq!(
        seen,
        [
            (1, State::Running, true),
            (2, State::Paused, true),
            (3, State::Exited, true),
            (4, State::Created, true),
            (6, State::Exited, false),
        ]
    );
}

#[test]
fn a_recorded_inspection_gives_how_it_ended() {
    let raw: RawInspect = read("x", INSPECT.as_bytes()).unwrap();
    assert_eq!((raw.state.exit_code, raw.state.pid), (3, 0));
    assert!(!raw.state.oom_killed && !raw.config.tty);
}

fn one(state: &str, labels: &str) -> String {
    let id = "ab".repeat(32);
    format!(r#"{{"Id":"{id}","Names":["/one-5"],"Labels":{labels},"State":"{state}"}}"#)
}
const OURS: &str = r#"{"org.opennebula.vm":"5","org.opennebula.driver":"onedock"}"#;

#[test]
fn trap_13_one_odd_container_hides_no_other_and_makes_the_list_incomplete() {
    let list = format!(
        r#"[{},{{"Id":7}},{}]"#,
        one("running", OURS),
        one("new-word", OURS)
    );
    let listing = read_list(list.as_bytes()).unwrap();
    assert!(!listing.complete);
    let states: Vec<_> = listing.containers.iter().map(|c| c.state).collect();
    assert_eq!(states, [State::Running, State::Other]);
}

#[test]
fn fault_65_containers_without_both_labels_or_with_a_foreign_value_are_not_ours() {
    for labels in [
        "{}",
        r#"{"org.opennebula.vm":"5"}"#,
        r#"{"org.opennebula.vm":"5","org.opennebula.driver":"other"}"#,
        r#"{"org.opennebula.vm":"5\"]","org.opennebula.driver":"onedock"}"#,
        r#"{"org.opennebula.vm":"-1","org.opennebula.driver":"onedock"}"#,
    ] {
        let listing = read_list(format!("[{}]", one("running", labels)).as_bytes()).unwrap();
        assert_eq!(listing.containers, [], "{labels}");
        assert!(listing.complete);
    }
}

#[test]
fn the_tree_of_a_disk_is_no_vm_whatever_labels_its_image_brings() {
    let tree = r#""org.opennebula.tree":"9","org.opennebula.driver":"onedock""#;
    let list = |state: &str, more: &str| {
        let entry = one(state, &format!("{{{tree}{more}}}"));
        read_list(format!("[{entry}]").as_bytes())
            .unwrap()
            .containers
    };
    assert_eq!(list("created", ""), []);
    let vm = r#","org.opennebula.vm":"5""#;
    assert_eq!(list("created", vm), [], "the image says it were VM 5");
    let running = list("running", vm);
    assert_eq!(running.len(), 1, "the image of VM 5 says it were a tree");
}

#[test]
fn the_size_of_a_layer_is_in_the_list_unless_it_is_0() {
    let size = |size: &str| {
        let id = "ab".repeat(32);
        let text = format!(
            r#"{{"Id":"{id}","Names":["/one-5"],"State":"created","Labels":{{"org.opennebula.driver":"onedock","org.opennebula.vm":"5","org.opennebula.disk":"0"}}{size}}}"#
        );
        read_layer_size(&text).map(|found| found.bytes)
    };
    assert_eq!(size(r#","SizeRw":77,"SizeRootFs":900"#), Some(77));
    assert_eq!(size(r#","SizeRootFs":900"#), Some(0));
    assert_eq!(size(r#","SizeRw":-1"#), None);
}

#[test]
fn attack_44_an_answer_that_is_no_list_is_an_error_and_not_an_empty_list() {
    for bad in ["", "{}", "[", "null x", "[{]"] {
        assert!(read_list(bad.as_bytes()).is_err(), "{bad}");
    }
}

#[test]
fn the_last_lines_are_taken_out_of_the_engine_s_frames() {
    let mut body = Vec::new();
    for (stream, text) in [(1u8, "starting\n"), (2, "cannot open \"db\"\n")] {
        body.extend([stream, 0, 0, 0]);
        body.extend(u32::try_from(text.len()).unwrap().to_be_bytes());
        body.extend(text.as_bytes());
    }
    assert_eq!(last_lines(&body, false), ["starting", "cannot open \"db\""]);
    assert_eq!(last_lines(b"a\r\n\r\nb", true), ["a", "b"]);
    body.extend([1, 0, 0, 0, 255, 255, 255, 255, b'x']);
    assert_eq!(last_lines(&body, false).len(), 3);
    let long = "y".repeat(100_000);
    assert!(last_lines(long.as_bytes(), true)[0].len() <= OUTPUT_BYTES);
}
