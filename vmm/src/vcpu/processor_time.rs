//! How much processor time a thread has used.

use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// Microseconds of processor time of a thread that is not joined; `None` if the kernel does not tell.
pub(super) fn of_thread_us<T>(thread: &JoinHandle<T>) -> Option<u64> {
    let mut clock = 0;
    // SAFETY: the thread was not joined, so its id is valid; `clock` is written.
    if unsafe { libc::pthread_getcpuclockid(thread.as_pthread_t(), &mut clock) } != 0 {
        return None;
    }
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is written; a clock of a thread that has ended meanwhile is refused.
    if unsafe { libc::clock_gettime(clock, &mut time) } != 0 {
        return None;
    }
    Some(u64::try_from(time.tv_sec).ok()? * 1_000_000 + u64::try_from(time.tv_nsec).ok()? / 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::{Duration, Instant};

    #[test]
    fn a_thread_that_works_uses_time_and_one_that_waits_does_not() {
        let (done, is_done) = channel();
        let (go, may_go) = channel::<()>();
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(100) {
                std::hint::spin_loop();
            }
            done.send(()).ok();
            may_go.recv().ok();
        });
        is_done.recv().ok();
        let worked = of_thread_us(&thread);
        std::thread::sleep(Duration::from_millis(50));
        let waited = of_thread_us(&thread);
        drop(go);
        let (Some(worked), Some(waited)) = (worked, waited) else { panic!("{worked:?} {waited:?}") };
        assert!(worked > 0 && waited < worked + 20_000, "{worked} {waited}");
        assert!(thread.join().is_ok());
    }
}
