//! An agent that ends at a step of its own, for tests.

use std::cell::Cell;

thread_local! {
    static STEPS_LEFT: Cell<u64> = const { Cell::new(u64::MAX) };
}

/// The calling thread's agent ends before its `steps`-th step from now; [`u64::MAX`]: it does not.
pub fn after(steps: u64) {
    STEPS_LEFT.set(steps);
}

/// The agent is about to write to its book, to tell the host, the keeper or a process.
pub fn step() {
    match STEPS_LEFT.get() {
        0 => {
            STEPS_LEFT.set(u64::MAX);
            std::panic::resume_unwind(Box::new("the agent's end"));
        }
        u64::MAX => {}
        left => STEPS_LEFT.set(left - 1),
    }
}
