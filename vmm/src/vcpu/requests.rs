//! What other threads ask of a vCPU thread.

use super::fault::Injection;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// One thing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Leave the loop.
    Stop,
    /// Break the guest.
    Fault(Injection),
    /// It was paused and may go on.
    Paused,
}

#[derive(Debug, Default)]
struct Asked {
    stop: bool,
    pause: bool,
    parked: bool,
    fault: Option<Injection>,
}

/// Requests for one vCPU thread. At most one fault waits; a second replaces it.
#[derive(Debug, Default)]
pub struct Requests {
    pending: AtomicBool,
    asked: Mutex<Asked>,
    changed: Condvar,
}

impl Requests {
    /// Whether there is anything to do; cheap.
    pub fn any(&self) -> bool {
        self.pending.load(SeqCst)
    }

    /// Asks the thread to leave its loop.
    pub fn stop(&self) {
        self.ask(|a| a.stop = true);
    }

    /// Asks for a fault.
    pub fn fault(&self, fault: Injection) {
        self.ask(|a| a.fault = Some(fault));
    }

    /// Asks the thread to stay out of the guest until [`Requests::resume`].
    pub fn pause(&self) {
        self.ask(|a| a.pause = true);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.ask(|a| a.pause = false);
    }

    /// Whether the thread is out of the guest because of a pause.
    pub fn parked(&self) -> bool {
        self.lock().parked
    }

    /// The next thing to do, on the vCPU thread; waits while paused.
    pub(super) fn next(&self) -> Option<Request> {
        let mut asked = self.lock();
        if asked.stop {
            return Some(Request::Stop);
        }
        if let Some(fault) = asked.fault.take() {
            return Some(Request::Fault(fault));
        }
        if asked.pause {
            asked.parked = true;
            self.changed.notify_all();
            while asked.pause && !asked.stop {
                asked = self.changed.wait(asked).unwrap_or_else(PoisonError::into_inner);
            }
            asked.parked = false;
            return Some(Request::Paused);
        }
        self.pending.store(false, SeqCst);
        None
    }

    fn ask(&self, change: impl FnOnce(&mut Asked)) {
        let mut asked = self.lock();
        change(&mut asked);
        self.pending.store(true, SeqCst);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Asked> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
