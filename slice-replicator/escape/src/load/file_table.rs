//! A table of open files for one thread: the limit of open files (RLIMIT_NOFILE, `getrlimit(2)`) is one of each table, and a
//! thread may have its own (`unshare(2)`, CLONE_FILES).

use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Poll;

/// Standard input, output and error stay.
const STANDARD_MAX: RawFd = 2;

/// What the thread that started another one keeps of that one's poll.
#[derive(Debug)]
pub(super) struct FileTable {
    poll: RawFd,
    unshared: Arc<AtomicBool>,
}

/// The thread's side.
#[derive(Debug)]
pub(super) struct OwnTable {
    unshared: Arc<AtomicBool>,
}

impl FileTable {
    /// For a thread that is about to start with this poll.
    pub(super) fn new(poll: &Poll) -> (Self, OwnTable) {
        let unshared = Arc::new(AtomicBool::new(false));
        (Self { poll: poll.as_raw_fd(), unshared: Arc::clone(&unshared) }, OwnTable { unshared })
    }

    /// Closes the poll in the table of this process, once the thread, which had a copy, has ended.
    pub(super) fn close(self) {
        if self.unshared.load(Ordering::SeqCst) {
            // SAFETY: the thread took the `Poll`, which owned this descriptor, into a table of its own and closed it there only, so
            // in this table it is still open and nobody owns it.
            drop(unsafe { OwnedFd::from_raw_fd(self.poll) });
        }
    }
}

impl OwnTable {
    /// From here on the calling thread has its own table, with nothing in it but standard input, output, error and `poll`.
    ///
    /// # Errors
    /// What the kernel says.
    pub(super) fn unshare(self, poll: &Poll) -> io::Result<()> {
        // SAFETY: no pointers; the thread gets a copy of the table of open files.
        if unsafe { libc::unshare(libc::CLONE_FILES) } != 0 {
            return Err(io::Error::last_os_error());
        }
        self.unshared.store(true, Ordering::SeqCst);
        let open: Vec<RawFd> = fs::read_dir("/proc/thread-self/fd")?
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter(|fd| *fd > STANDARD_MAX && *fd != poll.as_raw_fd())
            .collect();
        for fd in open {
            // SAFETY: no pointers. The table is this thread's alone, and nothing in the thread owns these copies; one that has been
            // closed since it was listed (that of the listing) is an error that changes nothing.
            unsafe { libc::close(fd) };
        }
        Ok(())
    }
}
