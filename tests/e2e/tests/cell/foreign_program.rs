//! Programs that nobody here wrote, run where a cell's clients live.

use escape::cell::LocalCell;
use escape_fabric::netns::enter_fd;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(2);

/// Whether the machine has this program; says so loudly if not.
pub fn is_here(program: &str, test: &str) -> bool {
    let places = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&places).any(|place| place.join(program).is_file());
    if !here {
        eprintln!("\n*** SKIPPED: no {program} on this machine; {test} was not tested ***\n");
    }
    here
}

/// A running program. It is killed when this is dropped, and dies with the test in any case.
pub struct ForeignProgram {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    out: Heard,
    err: Heard,
}

impl ForeignProgram {
    /// Starts it in the clients' namespace.
    pub fn start<A: AsRef<OsStr>>(cell: &LocalCell, name: &str, arguments: &[A]) -> Self {
        let clients = cell.network().clients.try_clone().unwrap();
        let mut command = Command::new(name);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // SAFETY: between fork and exec only setns and prctl are called, with values made before the fork.
        unsafe {
            command.pre_exec(move || {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                enter_fd(clients.as_fd().as_raw_fd())
            });
        }
        let mut child = command.spawn().unwrap_or_else(|e| panic!("{name}: {e}"));
        let (out, err) = (Heard::new(child.stdout.take()), Heard::new(child.stderr.take()));
        Self { name: name.into(), stdin: child.stdin.take(), child, out, err }
    }

    /// Its standard input, to be dropped when there is nothing more to say. `None` the second time.
    pub fn stdin(&mut self) -> Option<ChildStdin> {
        self.stdin.take()
    }

    /// What it has written to standard output so far.
    pub fn out(&self) -> Vec<u8> {
        self.out.so_far()
    }

    /// Bytes of it.
    pub fn out_len(&self) -> u64 {
        self.out.bytes.lock().unwrap_or_else(PoisonError::into_inner).len() as u64
    }

    /// The same as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out()).into_owned()
    }

    /// What it has written to standard error so far.
    pub fn complaints(&self) -> String {
        String::from_utf8_lossy(&self.err.so_far()).into_owned()
    }

    /// Waits for something while it runs; fails if it ends before, or after `limit`.
    pub fn wait_for<T>(&mut self, what: &str, limit: Duration, mut wanted: impl FnMut(&mut Self) -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = wanted(self) {
                return found;
            }
            let ended = self.child.try_wait().unwrap();
            let told = || format!("{}: {what}: it said {:?} {:?}", self.name, self.text(), self.complaints());
            assert!(ended.is_none(), "ended too early with {ended:?}: {}", told());
            assert!(begun.elapsed() < limit, "not within {limit:?}: {}", told());
            std::thread::sleep(LOOK);
        }
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: i32) {
        let id = i32::try_from(self.child.id()).unwrap();
        // SAFETY: takes no pointers; the child has not been waited for, so the id is its own.
        assert_eq!(unsafe { libc::kill(id, signal) }, 0, "{}: signal {signal}", self.name);
    }

    /// Waits for its end, however it ends.
    pub fn wait_for_end(&mut self, limit: Duration) -> ExitStatus {
        // It has nothing more to hear.
        self.stdin = None;
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            let late = || format!("{} did not end within {limit:?}: {:?}", self.name, self.complaints());
            assert!(begun.elapsed() < limit, "{}", late());
            std::thread::sleep(LOOK);
        };
        self.out.finish();
        self.err.finish();
        status
    }

    /// Waits for its end, which must come within `limit` and be a good one. Returns standard output and standard error.
    pub fn end(mut self, limit: Duration) -> (Vec<u8>, String) {
        let status = self.wait_for_end(limit);
        assert!(status.success(), "{}: {status}: {:?} {:?}", self.name, self.text(), self.complaints());
        (self.out(), self.complaints())
    }
}

impl Drop for ForeignProgram {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe, read by a thread so that the program never waits for its reader.
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Heard {
    fn new(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let into = Arc::clone(&bytes);
        let reader = pipe.map(|mut pipe| {
            std::thread::spawn(move || {
                let mut part = vec![0; 1 << 16];
                while let Ok(n @ 1..) = pipe.read(&mut part) {
                    into.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&part[..n]);
                }
            })
        });
        Self { bytes, reader }
    }

    fn so_far(&self) -> Vec<u8> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
    }
}
