//! The store on a thread of its own: a slow medium never delays the judgement of heartbeats.

use crate::error::ProcessError;
use escape_engine::orchestrator::TxnFailure;
use escape_engine::store::{Changes, Txn};
use escape_store::{CommitError, EmbeddedStore};
use mio::Waker;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Transactions that may wait for the thread. Full: the store counts as unavailable, the machine tries again.
const TXNS_MAX: usize = 256;
/// Transactions that share one write to the medium.
const BATCH_MAX: usize = 32;

type Request = (u64, Txn);
/// A transaction's id and outcome.
pub(crate) type Outcome = (u64, Result<Changes, TxnFailure>);

/// The running thread; it ends, after what it was given, when this is dropped.
#[derive(Debug)]
pub(crate) struct StoreThread {
    requests: Option<SyncSender<Request>>,
    outcomes: Receiver<Outcome>,
    /// Ids that wait or are being written: the same again is the same transaction.
    under_way: BTreeSet<u64>,
    thread: Option<JoinHandle<()>>,
}

impl StoreThread {
    pub(crate) fn start(store: EmbeddedStore, waker: Arc<Waker>) -> Result<Self, ProcessError> {
        let (requests, waiting) = sync_channel(TXNS_MAX);
        let (results, outcomes) = sync_channel(TXNS_MAX + BATCH_MAX);
        let thread = std::thread::Builder::new()
            .name("store".into())
            .spawn(move || commit_loop(store, &waiting, &results, &waker))
            .map_err(ProcessError::system("thread for the store"))?;
        Ok(Self { requests: Some(requests), outcomes, under_way: BTreeSet::new(), thread: Some(thread) })
    }

    /// Hands a transaction over. `Some`: it was not taken, and this is its outcome.
    pub(crate) fn submit(&mut self, id: u64, txn: Txn) -> Option<Outcome> {
        if !self.under_way.insert(id) {
            return None;
        }
        let sent = self.requests.as_ref().is_some_and(|requests| requests.try_send((id, txn)).is_ok());
        if sent {
            return None;
        }
        self.under_way.remove(&id);
        let cause = format!("{} transactions wait already", self.under_way.len());
        Some((id, Err(TxnFailure::Unavailable { cause })))
    }

    /// The next outcome, if there is one.
    pub(crate) fn next_outcome(&mut self) -> Option<Outcome> {
        let outcome = self.outcomes.try_recv().ok()?;
        self.under_way.remove(&outcome.0);
        Some(outcome)
    }

    /// Transactions that wait or are being written.
    pub(crate) fn waiting(&self) -> usize {
        self.under_way.len()
    }
}

impl Drop for StoreThread {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // It ends when its queue is empty; a panic there has ended the process already.
            let _ = thread.join();
        }
    }
}

fn commit_loop(mut store: EmbeddedStore, waiting: &Receiver<Request>, results: &SyncSender<Outcome>, waker: &Waker) {
    while let Ok(first) = waiting.recv() {
        let mut ids = vec![first.0];
        let mut txns = vec![first.1];
        while let Some((id, txn)) = (ids.len() < BATCH_MAX).then(|| waiting.try_recv().ok()).flatten() {
            ids.push(id);
            txns.push(txn);
        }
        let outcomes = store.commit_all(&txns);
        for (id, outcome) in ids.into_iter().zip(outcomes) {
            let outcome = outcome.map_err(|error| match error {
                CommitError::Conflict(_) => TxnFailure::Conflict { now: Box::new(store.state().clone()) },
                CommitError::Unavailable(cause) => TxnFailure::Unavailable { cause },
            });
            // As many fit as can be under way, so this never waits; an error means that nobody listens any more.
            if results.try_send((id, outcome)).is_err() {
                return;
            }
        }
        // Without a waker the loop sees the outcomes at its next tick.
        let _ = waker.wake();
    }
}
