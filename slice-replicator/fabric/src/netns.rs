//! Network namespaces without names.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::thread;

use thiserror::Error;

/// What can go wrong with a network namespace.
#[derive(Debug, Error)]
pub enum NetNsError {
    /// A helper thread could not be started.
    #[error("cannot start a thread for a network namespace: {0}")]
    Thread(#[source] io::Error),
    /// `unshare(CLONE_NEWNET)` failed.
    #[error("cannot make a network namespace: {0} (CAP_SYS_ADMIN is needed)")]
    Create(#[source] io::Error),
    /// The namespace's file under `/proc` could not be opened.
    #[error("cannot open this thread's network namespace under /proc: {0}")]
    Open(#[source] io::Error),
    /// `setns` failed.
    #[error("cannot enter network namespace (descriptor {fd}): {source} (CAP_SYS_ADMIN is needed)")]
    Enter {
        /// The descriptor that was tried.
        fd: RawFd,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

/// A network namespace held by a descriptor.
///
/// It has no name and no process of its own: when the last descriptor, socket and process in it is gone, the kernel
/// takes it down with all its virtual interfaces. So nothing is left behind however this process ends.
#[derive(Debug)]
pub struct NetNs {
    fd: OwnedFd,
}

impl NetNs {
    /// Makes a new namespace (its loopback interface is down). The calling thread stays where it is.
    pub fn create() -> Result<Self, NetNsError> {
        on_own_thread(|| {
            // SAFETY: takes no pointers and changes only the namespace of this short-lived thread.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } < 0 {
                return Err(NetNsError::Create(io::Error::last_os_error()));
            }
            Self::current()
        })?
    }

    /// The namespace that the calling thread is in.
    pub fn current() -> Result<Self, NetNsError> {
        let file = File::open("/proc/thread-self/ns/net").map_err(NetNsError::Open)?;
        Ok(Self { fd: file.into() })
    }

    /// Another handle on the same namespace.
    pub fn try_clone(&self) -> Result<Self, NetNsError> {
        Ok(Self { fd: self.fd.try_clone().map_err(NetNsError::Open)? })
    }

    /// Runs `work` inside the namespace, on a thread made for it, and waits for its end. Sockets opened by `work`
    /// belong to the namespace for life, so they can be used from any thread afterwards.
    pub fn enter<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, NetNsError> {
        let fd = self.fd.as_raw_fd();
        on_own_thread(move || {
            enter_fd(fd).map_err(|source| NetNsError::Enter { fd, source })?;
            Ok(work())
        })?
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Moves the calling thread into the network namespace behind `fd`.
///
/// Async-signal-safe, so it may be used between `fork` and `exec` (`CommandExt::pre_exec`); a child started this way
/// lives in the namespace while its parent does not.
pub fn enter_fd(fd: RawFd) -> io::Result<()> {
    // SAFETY: takes no pointers; a descriptor that is no namespace is refused by the kernel.
    if unsafe { libc::setns(fd, libc::CLONE_NEWNET) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Runs `work` on a thread of its own, because namespaces belong to threads.
fn on_own_thread<R: Send>(work: impl FnOnce() -> R + Send) -> Result<R, NetNsError> {
    thread::scope(|scope| {
        let helper = thread::Builder::new().name("netns".into()).spawn_scoped(scope, work);
        match helper.map_err(NetNsError::Thread)?.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
