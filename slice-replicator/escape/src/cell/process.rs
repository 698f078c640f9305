//! One process of the cell: this program again, in a namespace of its own, with nothing shared but what it is given.

use super::error::CellSetupError;
use escape_fabric::netns::{NetNs, enter_fd};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Lines of standard error kept for error messages.
const TAIL_LINES: usize = 30;
/// How long a process may take to end after it was killed.
const END_MAX: Duration = Duration::from_secs(5);

const EVENT_START: &str = "{\"t_us\":";

/// A running process of the cell. It is killed when this is dropped, and dies with its parent in any case.
#[derive(Debug)]
pub struct CellProcess {
    name: String,
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<String>,
    events: Receiver<String>,
    tail: Arc<Mutex<VecDeque<String>>>,
    _config: Option<OwnedFd>,
}

/// Where a process finds its configuration.
#[derive(Clone, Debug)]
pub enum Configuration {
    /// In a file without a name, which it inherits and which holds this TOML text.
    Text(String),
    /// In a file of this path.
    File(PathBuf),
}

/// What to start.
pub struct Launch<'a> {
    /// For messages.
    pub name: String,
    /// Subcommand: `node`, `edge`, `orchestrator`, `boot`.
    pub part: &'a str,
    /// Options of the subcommand.
    pub options: &'a [&'a str],
    /// Its configuration.
    pub config: Configuration,
    /// Where it lives.
    pub namespace: &'a NetNs,
    /// Descriptors that it inherits, under the same numbers.
    pub descriptors: Vec<BorrowedFd<'a>>,
}

impl CellProcess {
    /// Starts the process. The calling thread must live as long as the process: the kernel ends the child with it.
    ///
    /// # Errors
    /// What could not be made.
    pub fn start(launch: Launch<'_>) -> Result<Self, CellSetupError> {
        let name = launch.name;
        let (config, path) = match launch.config {
            Configuration::File(path) => (None, path),
            Configuration::Text(text) => {
                let file = memory_file(&text).map_err(CellSetupError::os(format!("configuration of {name}")))?;
                let path = format!("/proc/self/fd/{}", file.as_raw_fd()).into();
                (Some(file), path)
            }
        };
        let mut command = Command::new("/proc/self/exe");
        command.arg(launch.part).args(launch.options).arg(path);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let namespace = launch.namespace.as_fd().as_raw_fd();
        let mut inherited: Vec<RawFd> = launch.descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        inherited.extend(config.as_ref().map(AsRawFd::as_raw_fd));
        // SAFETY: between fork and exec only async-signal-safe calls are made (setns, prctl, fcntl), and the closure
        // touches only values that were made before the fork.
        unsafe {
            command.pre_exec(move || {
                enter_fd(namespace)?;
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                for fd in &inherited {
                    if libc::fcntl(*fd, libc::F_SETFD, 0) < 0 {
                        return Err(std::io::Error::last_os_error());
                    }
                }
                Ok(())
            });
        }
        let mut child = command.spawn().map_err(CellSetupError::os(format!("start {name}")))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(CellSetupError::os(name)(std::io::ErrorKind::BrokenPipe.into()));
        };
        let tail = Arc::new(Mutex::new(VecDeque::new()));
        let (answer, answers) = channel();
        let (event, events) = channel();
        read_lines(&name, stdout, move |line| {
            // Events and answers share standard output; events begin with their time.
            if line.starts_with(EVENT_START) { event.send(line).is_ok() } else { answer.send(line).is_ok() }
        })?;
        let kept = Arc::clone(&tail);
        let loud = std::env::var_os("ESCAPE_LOG").is_some();
        let label = name.clone();
        read_lines(&name, stderr, move |line| {
            if loud {
                eprintln!("[{label}] {line}");
            }
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            if kept.len() >= TAIL_LINES {
                kept.pop_front();
            }
            kept.push_back(line);
            true
        })?;
        Ok(Self { name, child, stdin, answers, events, tail, _config: config })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next event that it has told, if there is one.
    pub fn event(&self) -> Option<String> {
        self.events.try_recv().ok()
    }

    /// Asks on standard input and waits for one line.
    ///
    /// # Errors
    /// It is gone, or says nothing within `limit`.
    pub fn ask(&mut self, question: &str, limit: Duration) -> Result<String, CellSetupError> {
        while self.answers.try_recv().is_ok() {} // Late answers to earlier questions.
        self.tell(question)?;
        self.answer_to(question, limit)
    }

    /// Waits for the answer to something that was told.
    ///
    /// # Errors
    /// It is gone, or says nothing within `limit`.
    pub fn answer(&mut self, limit: Duration) -> Result<String, CellSetupError> {
        self.answer_to("", limit)
    }

    fn answer_to(&mut self, question: &str, limit: Duration) -> Result<String, CellSetupError> {
        match self.answers.recv_timeout(limit) {
            Ok(line) => Ok(line),
            Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => Err(CellSetupError::Silent {
                what: self.name.clone(),
                question: question.into(),
                limit_ms: limit.as_millis(),
            }),
        }
    }

    /// Says something on standard input.
    ///
    /// # Errors
    /// It is gone.
    pub fn tell(&mut self, line: &str) -> Result<(), CellSetupError> {
        writeln!(self.stdin, "{line}").and_then(|()| self.stdin.flush()).map_err(|_| self.ended())
    }

    /// An error if the process has ended.
    ///
    /// # Errors
    /// Its status and its last words.
    pub fn check(&mut self) -> Result<(), CellSetupError> {
        match self.child.try_wait() {
            Ok(None) => Ok(()),
            _ => Err(self.ended()),
        }
    }

    /// Whether it has not ended.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn signal(&self, signal: i32) -> Result<(), CellSetupError> {
        let pid = i32::try_from(self.child.id()).unwrap_or(0);
        // SAFETY: takes no pointers; the child has not been waited for, so the id is still its own.
        if pid > 0 && unsafe { libc::kill(pid, signal) } == 0 {
            return Ok(());
        }
        Err(CellSetupError::os(format!("signal {signal} to {}", self.name))(std::io::Error::last_os_error()))
    }

    /// Ends it at once and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let until = Instant::now() + END_MAX;
        while Instant::now() < until {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn ended(&mut self) -> CellSetupError {
        std::thread::sleep(Duration::from_millis(50));
        let how = match self.child.try_wait() {
            Ok(Some(status)) => status.to_string(),
            Ok(None) => "it runs, but closed its output".into(),
            Err(e) => e.to_string(),
        };
        let tail: Vec<String> = self.tail.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect();
        let tail = if tail.is_empty() { String::new() } else { format!("; it said:\n  {}", tail.join("\n  ")) };
        CellSetupError::Ended { what: self.name.clone(), how, tail }
    }
}

impl Drop for CellProcess {
    fn drop(&mut self) {
        self.kill();
    }
}

/// An anonymous file with this text: it is gone with its last descriptor.
fn memory_file(text: &str) -> std::io::Result<OwnedFd> {
    // SAFETY: the name is a valid C string; the result is checked before it is owned.
    let fd = unsafe { libc::memfd_create(c"escape-config".as_ptr(), libc::MFD_CLOEXEC) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and is owned by nobody else.
    let mut file = std::fs::File::from(unsafe { OwnedFd::from_raw_fd(fd) });
    file.write_all(text.as_bytes())?;
    file.rewind()?;
    Ok(file.into())
}

fn read_lines(
    name: &str,
    from: impl std::io::Read + Send + 'static,
    mut take: impl FnMut(String) -> bool + Send + 'static,
) -> Result<(), CellSetupError> {
    std::thread::Builder::new()
        .name(format!("read {name}"))
        .spawn(move || {
            for line in BufReader::new(from).lines().map_while(Result::ok) {
                if !take(line) {
                    return;
                }
            }
        })
        .map(|_| ())
        .map_err(CellSetupError::os(format!("reader of {name}")))
}
