//! Process 1: the context is applied, the start scripts run, then the command. Signals are passed on to
//! it, orphans are reaped, and its end is the VM's.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use crate::arguments::{First, Work};
use crate::context_file::{ContextFile, FOLDER};
use crate::{apply, command, helper, report, scripts, system};

/// Signals that are not passed on: those of children, terminals, job control and faults. Bit n - 1 is
/// signal n.
const OWN: u64 = bits(&[
    libc::SIGCHLD,
    libc::SIGCONT,
    libc::SIGTSTP,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGURG,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
]);

/// How long a command that ignores the stop signal may take after a hang-up.
const HANG_UP: Duration = Duration::from_secs(2);

const fn bits(signals: &[i32]) -> u64 {
    let mut all = 0;
    let mut at = 0;
    while at < signals.len() {
        all |= 1 << (signals[at] - 1);
        at += 1;
    }
    all
}

/// Whether this signal is for the command, and where there is none, asks the VM to stop: whatever
/// STOPSIGNAL the image has.
const fn is_for_command(signal: i32) -> bool {
    signal >= 1 && signal <= 64 && OWN & (1 << (signal - 1)) == 0
}

/// Signals by which a VM is asked to end; others only mean something to the command.
const ENDS: [i32; 5] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGPWR,
    // RTMIN+3 of the C library, by which systemd is asked to.
    37,
];

/// What runs in front.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The start scripts; the command comes behind them.
    Scripts(Pid),
    Command(Pid),
    /// Nothing: the VM lives until it is asked to stop.
    Idle,
}

/// What comes next.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    Wait,
    /// The scripts have ended.
    StartCommand,
    /// The command has ended with this code, and the VM lives on.
    LiveOn(i32),
    /// The VM ends.
    Exit(i32),
    /// Pass this signal on to this process.
    PassOn(Pid, i32),
}

/// A child has ended.
fn ended(stage: Stage, child: Pid, code: i32, keep_alive: bool) -> Next {
    match stage {
        Stage::Scripts(pid) if pid == child => Next::StartCommand,
        Stage::Command(pid) if pid == child && keep_alive => Next::LiveOn(code),
        Stage::Command(pid) if pid == child => Next::Exit(code),
        _ => Next::Wait,
    }
}

/// A signal has come.
fn signalled(stage: Stage, signal: i32) -> Next {
    match stage {
        _ if !is_for_command(signal) => Next::Wait,
        // STOPSIGNAL of some images. No terminal sends it to process 1, which is not in its foreground.
        Stage::Command(pid) => Next::PassOn(pid, signal),
        Stage::Scripts(_) | Stage::Idle if signal == libc::SIGWINCH => Next::Wait,
        Stage::Scripts(_) | Stage::Idle => Next::Exit(0),
    }
}

/// Does what process 1 does.
pub fn run(first: &First) -> ExitCode {
    system::block_all_signals();
    let is_init = first.give_way || command::is_init(&first.command);
    let work = match context(is_init) {
        Some(context) => scripts::work(&context, Path::new(FOLDER)),
        None => Work {
            scripts: false,
            ready: false,
        },
    };
    if is_init {
        return give_way(first, work);
    }
    let mut vm = Vm {
        first,
        work,
        stage: Stage::Idle,
        is_ending: false,
    };
    vm.begin();
    loop {
        let next = match system::next_signal() {
            Some(signal) if signal != libc::SIGCHLD => signalled(vm.stage, signal),
            _ => Next::Wait,
        };
        vm.follow(next);
        while let Some((child, code)) = system::reap_one() {
            let lives_on = first.keep_alive && !vm.is_ending;
            vm.follow(ended(vm.stage, child, code, lives_on));
        }
    }
}

/// Applies the context, unless packages of the image will.
fn context(is_init: bool) -> Option<ContextFile> {
    if is_init && command::has_context_packages() {
        return None;
    }
    let folder = Path::new(FOLDER);
    match ContextFile::read(folder) {
        Ok(Some(context)) => {
            report::lines(&apply::all(&context, folder));
            Some(context)
        }
        Ok(None) => None,
        Err(problem) => {
            report::line(&problem);
            None
        }
    }
}

/// Becomes the init system; the scripts run beside it, as in a machine.
fn give_way(first: &First, work: Work) -> ExitCode {
    if (work.scripts || work.ready)
        && let Err(problem) = spawn_helper(work)
    {
        report::line(&problem);
    }
    let Some(mut command) = command::of(first) else {
        return ExitCode::FAILURE;
    };
    let error = system::become_user(first.user.as_ref())
        .and_then(|()| system::unblock_all_signals())
        .map_or_else(|e| e, |()| command.exec());
    ExitCode::from(not_started(command.get_program(), &error))
}

fn spawn_helper(work: Work) -> Result<Pid, String> {
    let mut command = helper::command(work);
    system::with_signals(&mut command);
    match command.spawn() {
        Ok(child) => Ok(Pid::from_raw(child.id().cast_signed())),
        Err(e) => Err(format!("the start scripts cannot be run: {e}")),
    }
}

/// The exit code of a shell for a program that cannot be run; and why, for the log.
fn not_started(program: &OsStr, error: &io::Error) -> u8 {
    let program = program.display();
    match error.kind() {
        io::ErrorKind::NotFound => {
            report::line(&format!(
                "the VM's command {program} is not in the image, or what it needs to run is not"
            ));
            127
        }
        _ => {
            report::line(&format!(
                "the VM's command {program} cannot be run: {error}"
            ));
            126
        }
    }
}

struct Vm<'a> {
    first: &'a First,
    work: Work,
    stage: Stage,
    /// The VM was asked to end.
    is_ending: bool,
}

impl Vm<'_> {
    fn begin(&mut self) {
        if self.work.scripts {
            let scripts = Work {
                scripts: true,
                ready: false,
            };
            match spawn_helper(scripts) {
                Ok(pid) => {
                    self.stage = Stage::Scripts(pid);
                    return;
                }
                Err(problem) => report::line(&problem),
            }
        }
        self.start_command();
    }

    fn start_command(&mut self) {
        self.stage = Stage::Idle;
        if let Some(mut command) = command::of(self.first) {
            system::as_command(&mut command, self.first.user.clone());
            match command.spawn() {
                Ok(child) => self.stage = Stage::Command(Pid::from_raw(child.id().cast_signed())),
                Err(e) => {
                    let code = not_started(command.get_program(), &e);
                    if !self.first.keep_alive {
                        std::process::exit(code.into());
                    }
                }
            }
        }
        if self.work.ready {
            let ready = Work {
                scripts: false,
                ready: true,
            };
            if let Err(problem) = spawn_helper(ready) {
                report::line(&problem);
            }
        }
    }

    fn follow(&mut self, next: Next) {
        match next {
            Next::Wait => {}
            Next::StartCommand => self.start_command(),
            Next::LiveOn(code) => {
                report::line(&format!(
                    "the VM's command has ended with exit code {code}; the VM lives on (KEEPALIVE)"
                ));
                self.stage = Stage::Idle;
            }
            Next::Exit(code) => std::process::exit(code),
            Next::PassOn(pid, signal) => {
                self.is_ending |= ENDS.contains(&signal);
                pass_on(pid, signal);
            }
        }
    }
}

/// Passes a signal on. A shell at a terminal ignores TERM, by which it is asked to stop: it is told that
/// its terminal goes, which it obeys, and is ended if it does not.
fn pass_on(pid: Pid, signal: i32) {
    if signal != libc::SIGTERM || !ignores(pid, signal) {
        system::send(pid, signal);
        return;
    }
    system::send(pid, libc::SIGHUP);
    system::send(pid, libc::SIGCONT);
    let end = Instant::now() + HANG_UP;
    while let Some(rest) = end.checked_duration_since(Instant::now()) {
        while let Some((child, code)) = system::reap_one() {
            if child == pid {
                std::process::exit(code);
            }
        }
        system::wait_for_signal(rest);
    }
    std::process::exit(128 + signal);
}

/// Whether a process ignores a signal and does not fetch it either.
fn ignores(pid: Pid, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    is_ignored(&status, signal)
}

fn is_ignored(status: &str, signal: i32) -> bool {
    let has = |key: &str| {
        let mask = status.lines().find_map(|line| line.strip_prefix(key))?;
        let mask = u64::from_str_radix(mask.trim(), 16).ok()?;
        Some(mask >> (signal - 1) & 1 == 1)
    };
    has("SigIgn:") == Some(true) && has("SigBlk:") == Some(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPTS: Stage = Stage::Scripts(Pid::from_raw(7));
    const COMMAND: Stage = Stage::Command(Pid::from_raw(8));

    #[test]
    fn every_signal_is_the_command_s_but_those_of_children_terminals_job_control_and_faults() {
        let own = [4, 5, 7, 8, 11, 17, 18, 20, 21, 22, 23, 31];
        for signal in 1..=64 {
            assert_eq!(is_for_command(signal), !own.contains(&signal), "{signal}");
        }
        assert!(!is_for_command(0) && !is_for_command(65));
    }

    #[test]
    fn a_signal_reaches_the_command_and_ends_a_vm_without_one() {
        for signal in [1, 2, 15, 37] {
            let passed = Next::PassOn(Pid::from_raw(8), signal);
            assert_eq!(signalled(COMMAND, signal), passed);
            assert_eq!(signalled(Stage::Idle, signal), Next::Exit(0));
            assert_eq!(signalled(SCRIPTS, signal), Next::Exit(0));
        }
        for stage in [Stage::Idle, SCRIPTS] {
            assert_eq!(signalled(stage, libc::SIGWINCH), Next::Wait);
        }
        let passed = Next::PassOn(Pid::from_raw(8), libc::SIGWINCH);
        assert_eq!(signalled(COMMAND, libc::SIGWINCH), passed);
        assert_eq!(signalled(COMMAND, libc::SIGURG), Next::Wait);
    }

    #[test]
    fn the_command_comes_behind_the_scripts_and_its_end_is_the_vm_s() {
        let pid = Pid::from_raw;
        assert_eq!(ended(SCRIPTS, pid(7), 1, false), Next::StartCommand);
        assert_eq!(ended(COMMAND, pid(8), 3, false), Next::Exit(3));
        assert_eq!(ended(COMMAND, pid(8), 3, true), Next::LiveOn(3));
        // Orphans, and scripts that outlive their helper.
        for stage in [SCRIPTS, COMMAND, Stage::Idle] {
            assert_eq!(ended(stage, pid(99), 0, false), Next::Wait);
        }
    }

    #[test]
    fn only_a_signal_that_is_ignored_and_not_fetched_counts_as_ignored() {
        let status =
            |blocked: &str, ignored: &str| format!("SigBlk:\t{blocked}\nSigIgn:\t{ignored}\n");
        let (none, term) = ("0000000000000000", "0000000000004000");
        assert!(is_ignored(&status(none, term), 15));
        assert!(!is_ignored(&status(term, term), 15));
        assert!(!is_ignored(&status(none, none), 15));
        assert!(!is_ignored("", 15));
    }
}
