//! A drill that is interrupted at any moment leaves nothing: no process, no interface, no namespace, no file.

use super::tidy::Directory;
use super::traces::{Traces, entries, processes_with};
use super::{cells_run_here, escape};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant, SystemTime};

/// How long the remains of a drill may take to vanish.
const VANISH_MAX: Duration = Duration::from_secs(5);
/// Interruptions fall between these times after the start: from the network's set-up to the failover's aftermath.
const EARLIEST_MS: u64 = 20;
const LATEST_MS: u64 = 3_000;
const ROUNDS: usize = 2;
/// Environment variable that chooses the moments.
const SEED: &str = "ESCAPE_E2E_SEED";

/// SIGINT, SIGTERM and SIGKILL, each at random moments.
pub fn leaves_nothing() {
    if !cells_run_here("the interrupted drill") {
        return;
    }
    let from_clock = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().subsec_nanos();
    let seed = std::env::var(SEED).ok().and_then(|text| text.parse().ok()).unwrap_or(u64::from(from_clock));
    println!("seed {seed} (again with {SEED}={seed})");
    let mut random = seed | 1;
    for round in 0..ROUNDS {
        for (name, signal) in [("SIGINT", libc::SIGINT), ("SIGTERM", libc::SIGTERM), ("SIGKILL", libc::SIGKILL)] {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let moment = Duration::from_millis(EARLIEST_MS + (random >> 33) % (LATEST_MS - EARLIEST_MS));
            interrupt(&format!("{name} after {moment:?}"), round, signal, moment);
        }
    }
}

fn interrupt(what: &str, round: usize, signal: i32, moment: Duration) {
    let (before, directory) = (Traces::now(), Directory::new("drill"));
    let mark = format!("{}-{round}-{signal}", std::process::id());
    let variable = format!("ESCAPE_E2E_MARK={mark}");
    let mut drill = escape(&["drill", "--sessions", "20", "--seed", "7", "--json"]);
    drill.env("ESCAPE_E2E_MARK", &mark).env("TMPDIR", directory.path());
    drill.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut drill = Ending(drill.spawn().unwrap());
    std::thread::sleep(moment);
    let running = processes_with(&variable).len();
    assert!(running > 0, "{what}: the drill was over already");
    // SAFETY: takes no pointers; the child has not been waited for, so the id is its own.
    assert_eq!(unsafe { libc::kill(i32::try_from(drill.0.id()).unwrap(), signal) }, 0);
    let begun = Instant::now();
    drill.0.wait().unwrap();
    loop {
        let left = (processes_with(&variable), before.since(), entries(directory.path()));
        if left == (Vec::new(), Vec::new(), Vec::new()) {
            break;
        }
        assert!(begun.elapsed() < VANISH_MAX, "{what}: processes, names and files left: {left:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    println!("{what}: {running} processes gone {:?} later", begun.elapsed());
}

/// A child that does not outlive the test, whatever fails.
struct Ending(Child);

impl Drop for Ending {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
