use super::*;

const FREEZE: Duration = Duration::from_secs(5);
const SYNC: Duration = Duration::from_secs(180);

/// A tracker that has reported its first full list, and its clock.
struct Clocked {
    tracker: Tracker,
    now: Instant,
}

fn observed(vms: &[(u32, State)], busy: &[u32]) -> Observation {
    Observation {
        vms: vms.iter().map(|(id, s)| (VmId::new(*id), *s)).collect(),
        busy: busy.iter().map(|id| VmId::new(*id)).collect(),
        complete: true,
        ..Observation::default()
    }
}

fn states(report: &Report) -> Vec<(u32, String)> {
    let part = |line: &str, key: &str| {
        let rest = line.split_once(&format!("{key}=\"")).unwrap().1;
        rest.split('"').next().unwrap().to_owned()
    };
    let vms = report.lines.iter().filter(|l| l.starts_with("VM = ["));
    vms.map(|l| (part(l, " ID").parse().unwrap(), part(l, "STATE")))
        .collect()
}

fn is_full(report: &Report) -> bool {
    report.lines.first().is_some_and(|l| l == "SYNC_STATE=yes")
}

impl Clocked {
    fn new(vms: &[(u32, State)]) -> Self {
        let mut clocked = Self {
            tracker: Tracker::new(FREEZE, SYNC),
            now: Instant::now(),
        };
        assert!(
            clocked.see(vms, &[]).0.is_empty(),
            "nothing is reported after one observation"
        );
        let (_, report) = clocked.see(vms, &[]);
        assert!(is_full(&report));
        clocked
    }
    fn see(&mut self, vms: &[(u32, State)], busy: &[u32]) -> (Vec<(u32, String)>, Report) {
        self.after(300, &observed(vms, busy))
    }
    fn after(&mut self, ms: u64, observed: &Observation) -> (Vec<(u32, String)>, Report) {
        self.now += Duration::from_millis(ms);
        let report = self.tracker.update(observed, self.now);
        (states(&report), report)
    }
}

fn one(id: u32, state: &str) -> Vec<(u32, String)> {
    vec![(id, state.to_owned())]
}

use State::{Created, Dead, Exited, Other, Paused, Running};

#[test]
fn the_first_report_is_a_full_list_of_what_two_observations_agree_on() {
    let mut tracker = Tracker::new(FREEZE, SYNC);
    let now = Instant::now();
    let vms = [(1, Running), (2, Exited), (3, Created), (4, Dead)];
    let first = tracker.update(&observed(&vms, &[]), now);
    assert!(first.lines.is_empty() && first.again_soon);
    let second = tracker.update(&observed(&vms, &[]), now + Duration::from_millis(300));
    assert_eq!(
        second.lines,
        [
            "SYNC_STATE=yes",
            "MISSING_STATE=POWEROFF",
            "VM = [ ID=\"1\", DEPLOY_ID=\"one-1\", STATE=\"RUNNING\" ]",
            "VM = [ ID=\"2\", DEPLOY_ID=\"one-2\", STATE=\"POWEROFF\" ]",
            "VM = [ ID=\"4\", DEPLOY_ID=\"one-4\", STATE=\"FAILURE\" ]",
        ]
    );
    assert_eq!(second.ended, [VmId::new(2), VmId::new(4)]);
}

#[test]
fn only_changes_are_reported_between_full_lists() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    assert!(clocked.see(&[(1, Running)], &[]).0.is_empty());
    assert_eq!(
        clocked.see(&[(1, Running), (2, Running)], &[]).0,
        one(2, "RUNNING")
    );
    let vms = observed(&[(1, Running), (2, Running)], &[]);
    let (_, report) = clocked.after(180_000, &vms);
    assert!(is_full(&report));
}

#[test]
fn fault_39_an_exit_is_reported_after_two_observations_that_agree_and_then_again_past_the_30_seconds()
 {
    let mut clocked = Clocked::new(&[(1, Running)]);
    let (nothing, first) = clocked.see(&[(1, Exited)], &[]);
    assert!(nothing.is_empty() && first.again_soon);
    let (lines, report) = clocked.see(&[(1, Exited)], &[]);
    assert_eq!(lines, one(1, "POWEROFF"));
    assert_eq!(report.ended, [VmId::new(1)]);
    let gone = observed(&[(1, Exited)], &[]);
    assert!(clocked.after(29_000, &gone).0.is_empty());
    assert_eq!(clocked.after(2_100, &gone).0, one(1, "POWEROFF"));
    assert!(clocked.after(1_000, &gone).0.is_empty());
    assert_eq!(clocked.after(31_000, &gone).0, one(1, "POWEROFF"));
    assert!(clocked.after(31_000, &gone).0.is_empty());
}

#[test]
fn one_observation_that_errs_changes_nothing() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    clocked.see(&[(1, Exited)], &[]);
    assert!(clocked.see(&[(1, Running)], &[]).0.is_empty());
    clocked.see(&[], &[]);
    assert!(clocked.see(&[(1, Running)], &[]).0.is_empty());
}

#[test]
fn fault_48_a_vm_whose_container_was_removed_by_hand_is_powered_off_once_that_is_sure() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    let (nothing, first) = clocked.see(&[], &[]);
    assert!(nothing.is_empty() && first.again_soon);
    // Its lock is still of interest.
    assert!(clocked.tracker.known().eq([VmId::new(1)]));
    let (lines, report) = clocked.see(&[], &[]);
    assert_eq!(lines, one(1, "POWEROFF"));
    assert!(
        report.ended.is_empty(),
        "there is nothing left to ask about"
    );
    assert_eq!(clocked.tracker.known().count(), 0, "then it is forgotten");
}

#[test]
fn trap_13_nobody_is_missing_from_a_list_that_could_not_be_read_whole() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    let mut doubtful = observed(&[], &[]);
    doubtful.complete = false;
    for _ in 0..5 {
        assert!(clocked.after(180_000, &doubtful).1.lines.is_empty());
    }
}

#[test]
fn faults_38_and_40_while_the_engine_is_silent_nothing_counts_and_then_all_is_reported_once() {
    let mut clocked = Clocked::new(&[(1, Running), (2, Running)]);
    clocked.see(&[(2, Running)], &[]);
    clocked.tracker.engine_unreachable();
    let (nothing, _) = clocked.see(&[(2, Running)], &[]);
    assert!(
        nothing.is_empty(),
        "one observation before and one after are not two in a row"
    );
    let (lines, report) = clocked.see(&[(1, Running), (2, Running)], &[]);
    assert!(is_full(&report));
    assert_eq!(lines, [(1, "RUNNING".into()), (2, "RUNNING".into())]);
}

#[test]
fn nothing_is_reported_of_a_vm_on_which_an_action_runs_nor_shortly_after() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    for _ in 0..10 {
        assert!(clocked.see(&[(1, Exited)], &[1]).0.is_empty());
        assert!(clocked.see(&[], &[1]).0.is_empty());
    }
    assert!(clocked.see(&[(1, Running)], &[]).0.is_empty());
    let vms = observed(&[(1, Running)], &[]);
    assert_eq!(
        clocked.after(2_000, &vms).0,
        one(1, "RUNNING"),
        "then it is reported anew"
    );
}

#[test]
fn fault_59_a_full_list_names_a_vm_in_progress_without_a_state_that_oned_acts_upon() {
    let mut clocked = Clocked::new(&[(1, Running), (2, Running)]);
    // A deploy that has no container yet, a shutdown that has ended one, and one being moved.
    let (lines, report) = clocked.after(180_000, &observed(&[(1, Exited), (2, Running)], &[1, 3]));
    assert!(is_full(&report));
    let unknown = |id: u32| (id, "UNKNOWN".to_owned());
    assert_eq!(lines, [unknown(1), (2, "RUNNING".into()), unknown(3)]);
    // Just released, not confirmed, or in a state without a word: still named.
    clocked.tracker.not_sent();
    let (lines, report) = clocked.see(&[(1, Exited), (2, Exited)], &[]);
    assert!(is_full(&report));
    assert_eq!(lines, [unknown(1), unknown(2), unknown(3)]);
    clocked.tracker.not_sent();
    let (lines, _) = clocked.after(5_000, &observed(&[(2, Other)], &[]));
    assert_eq!(lines, [unknown(1), unknown(2), unknown(3)]);
}

#[test]
fn what_is_only_created_is_not_named() {
    let mut clocked = Clocked::new(&[(1, Created)]);
    assert!(clocked.see(&[(1, Created)], &[]).0.is_empty());
    clocked.tracker.not_sent();
    assert!(clocked.see(&[(1, Created)], &[]).0.is_empty());
}

#[test]
fn decision_7_a_freeze_is_reported_when_it_outlasts_a_period() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    let frozen = observed(&[(1, Paused)], &[]);
    assert!(clocked.after(300, &frozen).0.is_empty());
    assert!(clocked.after(4_000, &frozen).0.is_empty());
    let (lines, report) = clocked.after(1_100, &frozen);
    assert_eq!(lines, one(1, "SUSPENDED"));
    assert!(report.ended.is_empty());
    let (lines, report) = clocked.see(&[(1, Running)], &[]);
    assert_eq!(lines, one(1, "RUNNING"));
    assert!(report.revived.is_empty(), "it has not ended");
}

#[test]
fn that_a_vm_runs_is_reported_once() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    for _ in 0..4 {
        let running = observed(&[(1, Running)], &[]);
        assert!(clocked.after(31_000, &running).0.is_empty());
    }
}

#[test]
fn a_vm_that_runs_again_is_reported_at_once_and_named_as_revived() {
    let mut clocked = Clocked::new(&[(1, Exited)]);
    let (lines, report) = clocked.see(&[(1, Running)], &[]);
    assert_eq!(lines, one(1, "RUNNING"));
    assert_eq!(report.revived, [VmId::new(1)]);
    clocked.tracker.not_sent();
    let (_, report) = clocked.see(&[(1, Running)], &[]);
    assert_eq!(report.revived, [VmId::new(1)], "what was not sent is lost");
    clocked.tracker.sync_at = None;
    let (_, report) = clocked.see(&[(1, Running)], &[]);
    assert!(is_full(&report) && report.revived.is_empty(), "once a run");
}

#[test]
fn a_vm_that_an_action_started_again_has_its_former_end_taken_back() {
    let mut clocked = Clocked::new(&[(1, Exited)]);
    clocked.see(&[(1, Exited)], &[1]);
    clocked.see(&[(1, Running)], &[1]);
    let (lines, report) = clocked.after(60_000, &observed(&[(1, Running)], &[]));
    assert_eq!(lines, one(1, "RUNNING"));
    assert_eq!(report.revived, [VmId::new(1)]);
}

#[test]
fn an_agent_that_begins_takes_back_what_another_reported_of_an_end() {
    let mut tracker = Tracker::new(FREEZE, SYNC);
    let vms = observed(&[(1, Running), (2, Exited)], &[]);
    let now = Instant::now();
    assert!(
        tracker.update(&vms, now).revived.is_empty(),
        "nothing is reported yet"
    );
    let report = tracker.update(&vms, now + Duration::from_millis(300));
    assert!(is_full(&report));
    assert_eq!(report.revived, [VmId::new(1)]);
    // One that comes from another host.
    let vms = observed(&[(1, Running), (2, Exited), (3, Running)], &[]);
    let report = tracker.update(&vms, now + Duration::from_millis(600));
    assert_eq!(report.revived, [VmId::new(3)]);
}

#[test]
fn a_report_that_was_not_sent_is_repeated_as_a_full_list() {
    let mut clocked = Clocked::new(&[(1, Running)]);
    clocked.see(&[(1, Exited)], &[]);
    assert_eq!(clocked.see(&[(1, Exited)], &[]).0, one(1, "POWEROFF"));
    clocked.tracker.not_sent();
    let (lines, report) = clocked.see(&[(1, Exited)], &[]);
    assert!(is_full(&report));
    assert_eq!(lines, one(1, "POWEROFF"));
}
