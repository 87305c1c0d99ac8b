//! What wakes the agent before its time: an event of the engine, and SIGUSR1. A thread waits for
//! each.

use std::io::Read as _;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};

use crate::engine::Engine;

/// Between tries to follow the engine's events.
const RETRY: Duration = Duration::from_secs(1);
/// When the events are relied upon.
const SETTLED: Duration = Duration::from_secs(2);

/// What woke the agent.
#[derive(Debug)]
pub(crate) enum Wake {
    /// Something happened to a VM's container, or the events' stream began or ended.
    Engine,
    /// SIGUSR1.
    Refresh,
}

/// Starts the two threads. Both wake the agent through a channel of a few places: one wake-up is
/// as good as a hundred.
pub(crate) fn listen(engine: Engine, events: Events) -> Receiver<Wake> {
    let (give, take) = sync_channel(4);
    let wake = give.clone();
    spawn("events", move || follow(&engine, &events, &wake));
    spawn("refresh", move || wait_for_refresh(&give));
    take
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new()
        .name(name.into())
        .stack_size(256 * 1024);
    if let Err(error) = thread.spawn(body) {
        tracing::warn!(%error, name, "thread cannot be started; states are polled");
    }
}

/// Since when the engine's events are followed. The engine answers the request for them before it
/// takes note of who asks, so that what happens in between is no event for anybody: it is relied
/// upon only after a while, and until then the agent polls as if there were none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Events(Arc<Mutex<Option<Instant>>>);

impl Events {
    fn set(&self, since: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// Whether nothing that happens is missed.
    pub(crate) fn is_reliable(&self) -> bool {
        let since = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() > SETTLED)
    }
}

/// Wakes the agent at each event of a VM's container. What the event says is not read: the list
/// that follows is the truth (fault 44).
fn follow(engine: &Engine, events: &Events, wake: &SyncSender<Wake>) {
    let mut buffer = vec![0; 4096];
    loop {
        if let Ok(mut stream) = engine.events() {
            events.set(Some(Instant::now()));
            let _ = wake.try_send(Wake::Engine);
            while stream.read(&mut buffer).is_ok_and(|n| n > 0) {
                let _ = wake.try_send(Wake::Engine);
            }
        }
        events.set(None);
        let _ = wake.try_send(Wake::Engine);
        onedock_common::wait::pause(RETRY);
    }
}

/// Keeps SIGUSR1 for the thread that waits for it; to be called before any thread is started.
pub(crate) fn hold_refresh_signal() -> nix::Result<()> {
    refresh_signal().thread_block()
}

fn refresh_signal() -> SigSet {
    let mut set = SigSet::empty();
    set.add(Signal::SIGUSR1);
    set
}

/// SIGUSR1 asks for the host's probes at once, as with OpenNebula's own client.
fn wait_for_refresh(wake: &SyncSender<Wake>) {
    while refresh_signal().wait().is_ok() {
        let _ = wake.send(Wake::Refresh);
    }
}
