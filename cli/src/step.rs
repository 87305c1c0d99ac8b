//! The steps of a set-up. Each can be repeated: it checks first whether anything is to be done. The
//! outcome is [`Changed`](Outcome::Changed), [`Unchanged`](Outcome::Unchanged) or, for an optional
//! step, [`Failed`](Outcome::Failed).

use std::fmt;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

/// What a step finds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// There is nothing to do.
    Unchanged,
    /// What would be done.
    Needed(String),
}

impl State {
    /// `Needed(what)` when `missing`.
    pub fn needed_if(missing: bool, what: impl Into<String>) -> Self {
        if missing {
            Self::Needed(what.into())
        } else {
            Self::Unchanged
        }
    }
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did this.
    Changed(String),
    /// It found everything done and touched nothing.
    Unchanged,
    /// It could not be done, and nothing depends on it: why.
    Failed(String),
}

/// One thing that a set-up brings about.
pub trait Step {
    /// What it is about, most often a path.
    fn subject(&self) -> String;
    /// Whether it is still to be done. Changes nothing.
    fn check(&self) -> Result<State>;
    /// Does it. Called only after [`Step::check`] found it needed.
    fn apply(&self) -> Result<()>;
    /// Whether the steps behind it go on when it fails.
    fn is_optional(&self) -> bool {
        false
    }
}

/// A step whose failure is reported and ends nothing.
struct Optional(Box<dyn Step>);

impl Step for Optional {
    fn subject(&self) -> String {
        self.0.subject()
    }
    fn check(&self) -> Result<State> {
        self.0.check()
    }
    fn apply(&self) -> Result<()> {
        self.0.apply()
    }
    fn is_optional(&self) -> bool {
        true
    }
}

/// Makes a step optional.
pub fn optional(step: Box<dyn Step>) -> Box<dyn Step> {
    Box::new(Optional(step))
}

/// A step from two functions.
pub struct FnStep<C, A> {
    /// What it is about.
    pub subject: String,
    /// Whether it is still to be done.
    pub check: C,
    /// Does it.
    pub apply: A,
}

impl<C, A> fmt::Debug for FnStep<C, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnStep")
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

impl<C: Fn() -> Result<State>, A: Fn() -> Result<()>> Step for FnStep<C, A> {
    fn subject(&self) -> String {
        self.subject.clone()
    }
    fn check(&self) -> Result<State> {
        (self.check)()
    }
    fn apply(&self) -> Result<()> {
        (self.apply)()
    }
}

/// Steps in their order.
pub type Steps = Vec<Box<dyn Step>>;

/// Makes a step of two functions.
pub fn action(
    subject: impl Into<String>,
    check: impl Fn() -> Result<State> + 'static,
    apply: impl Fn() -> Result<()> + 'static,
) -> Box<dyn Step> {
    Box::new(FnStep {
        subject: subject.into(),
        check,
        apply,
    })
}

/// Whether the steps are applied or only listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Applied.
    Apply,
    /// Listed (`--dry-run`).
    DryRun,
}

/// What was done, in order.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Each step's subject and outcome.
    pub outcomes: Vec<(String, Outcome)>,
}

impl Summary {
    /// How many steps changed something.
    pub fn changed(&self) -> usize {
        self.outcomes
            .iter()
            .filter(|(_, o)| matches!(o, Outcome::Changed(_)))
            .count()
    }

    /// Whether the step about this subject changed something.
    pub fn has_changed(&self, subject: &str) -> bool {
        self.outcomes
            .iter()
            .any(|(s, o)| s == subject && matches!(o, Outcome::Changed(_)))
    }

    /// Whether a step about something in this folder changed it.
    pub fn has_changed_beneath(&self, folder: &Path) -> bool {
        self.outcomes.iter().any(|(subject, outcome)| {
            Path::new(subject).starts_with(folder) && matches!(outcome, Outcome::Changed(_))
        })
    }
}

/// Does the steps one after another and writes a line for each; the first failure ends it.
pub fn run(steps: &[Box<dyn Step>], mode: Mode, out: &mut dyn Write) -> Result<Summary> {
    let mut summary = Summary::default();
    for step in steps {
        let subject = step.subject();
        let outcome = match take(step.as_ref(), mode) {
            Err(why) if step.is_optional() => Outcome::Failed(why.line()),
            other => other?,
        };
        let line = match (&outcome, mode) {
            (Outcome::Unchanged, _) => format!("  ok       {subject}"),
            (Outcome::Failed(why), _) => format!("  not done {subject}: {why}"),
            (Outcome::Changed(what), Mode::Apply) => format!("  done     {subject}: {what}"),
            (Outcome::Changed(what), Mode::DryRun) => format!("  would do {subject}: {what}"),
        };
        say(out, &line)?;
        summary.outcomes.push((subject, outcome));
    }
    let changed = summary.changed();
    let unchanged = summary
        .outcomes
        .iter()
        .filter(|(_, outcome)| matches!(outcome, Outcome::Unchanged))
        .count();
    let verb = match mode {
        Mode::Apply => "done",
        Mode::DryRun => "would be done",
    };
    say(out, &format!("{changed} {verb}, {unchanged} unchanged."))?;
    Ok(summary)
}

fn take(step: &dyn Step, mode: Mode) -> Result<Outcome> {
    Ok(match step.check()? {
        State::Unchanged => Outcome::Unchanged,
        State::Needed(what) => {
            if mode == Mode::Apply {
                step.apply()?;
            }
            Outcome::Changed(what)
        }
    })
}

/// One line to the administrator.
pub fn say(out: &mut dyn Write, line: &str) -> Result<()> {
    writeln!(out, "{line}").map_err(Error::file("write", Path::new("the standard output")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::rc::Rc;

    fn counter(done: &Rc<Cell<u32>>) -> Steps {
        let (a, b) = (Rc::clone(done), Rc::clone(done));
        vec![action(
            "the counter",
            move || Ok(State::needed_if(a.get() == 0, "count")),
            move || {
                b.set(b.get() + 1);
                Ok(())
            },
        )]
    }

    #[test]
    fn an_optional_step_that_fails_is_reported_and_the_next_one_is_done() {
        let fails = || {
            let needed = || Ok(State::Needed("install kmod".into()));
            action("kmod", needed, || Err(Error::refused("no network")))
        };
        let done = Rc::new(Cell::new(0));
        let mut steps = vec![optional(fails())];
        steps.extend(counter(&done));
        let mut out = Vec::new();
        let summary = run(&steps, Mode::Apply, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("not done kmod: no network"), "{text}");
        assert!(text.ends_with("1 done, 0 unchanged.\n"), "{text}");
        assert_eq!((done.get(), summary.changed()), (1, 1));
        assert!(run(&[fails()], Mode::Apply, &mut Vec::new()).is_err());
    }

    #[test]
    fn an_optional_step_is_checked_done_once_and_only_listed_in_a_dry_run_like_any_other() {
        let done = Rc::new(Cell::new(0));
        let steps = || counter(&done).into_iter().map(optional).collect::<Steps>();
        let mut out = Vec::new();
        for (mode, count, changed) in [
            (Mode::DryRun, 0, 1),
            (Mode::Apply, 1, 1),
            (Mode::Apply, 1, 0),
        ] {
            let summary = run(&steps(), mode, &mut out).unwrap();
            assert_eq!((done.get(), summary.changed()), (count, changed));
            assert_eq!(summary.has_changed("the counter"), changed == 1);
        }
        // One that cannot even be checked is reported, too, and is not applied.
        let blind = action(
            "kmod",
            || Err(Error::refused("no such folder")),
            || panic!("applied"),
        );
        let summary = run(&[optional(blind)], Mode::Apply, &mut out).unwrap();
        let outcome = Outcome::Failed("no such folder".into());
        assert_eq!(summary.outcomes, [("kmod".to_owned(), outcome)]);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("not done kmod: no such folder"), "{text}");
        assert!(text.ends_with("0 done, 0 unchanged.\n"), "{text}");
    }

    #[test]
    fn what_changed_in_a_folder_is_told_from_what_changed_beside_it() {
        let outcome = |subject: &str| (subject.to_owned(), Outcome::Changed("x".into()));
        let outcomes = vec![
            outcome("/r/one/a"),
            outcome("/r/two"),
            ("/r/so/b".to_owned(), Outcome::Unchanged),
        ];
        let summary = Summary { outcomes };
        assert!(summary.has_changed_beneath(Path::new("/r/one")));
        assert!(!summary.has_changed_beneath(Path::new("/r/on")));
        assert!(!summary.has_changed_beneath(Path::new("/r/so")));
    }

    #[test]
    fn a_second_run_finds_nothing_to_do_and_a_dry_run_does_nothing() {
        let done = Rc::new(Cell::new(0));
        let mut out = Vec::new();
        let listed = run(&counter(&done), Mode::DryRun, &mut out).unwrap();
        assert_eq!((done.get(), listed.changed()), (0, 1));
        assert!(
            run(&counter(&done), Mode::Apply, &mut out)
                .unwrap()
                .has_changed("the counter")
        );
        let second = run(&counter(&done), Mode::Apply, &mut out).unwrap();
        assert_eq!((done.get(), second.changed()), (1, 0));
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("would do the counter: count"), "{text}");
        assert!(text.contains("0 done, 1 unchanged."), "{text}");
    }
}
