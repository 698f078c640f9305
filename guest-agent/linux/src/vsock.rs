//! Listening on virtio-vsock (vsock(7)). Only the host is served.

use crate::error::AgentError;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// A connection.
pub type Stream = OwnedFd;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 16;

/// A port of the guest's.
#[derive(Debug)]
pub struct VsockListener(OwnedFd);

impl VsockListener {
    /// Listens on a port.
    ///
    /// # Errors
    /// There is no virtio-vsock, or the port is taken.
    pub fn bind(port: u32) -> Result<Self, AgentError> {
        Self::try_bind(port).map_err(|source| AgentError::Listen { port, source })
    }

    fn try_bind(port: u32) -> io::Result<Self> {
        // SAFETY: takes no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just made and is owned by nobody else.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        let address = libc::sockaddr_vm { svm_port: port, svm_cid: libc::VMADDR_CID_ANY, ..empty() };
        // SAFETY: the address is a `sockaddr_vm` of the length that is given, and outlives the call.
        let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) };
        // SAFETY: takes no pointers.
        if bound < 0 || unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(Self(socket))
    }

    /// The next connection; `None`: it is not the host's, or went away before it was taken.
    ///
    /// # Errors
    /// No more can be taken.
    pub fn accept(&self) -> Result<Option<Stream>, AgentError> {
        let mut peer = empty();
        let mut len = ADDRESS_BYTES;
        // SAFETY: `peer` and `len` outlive the call; the kernel writes at most `len` bytes, the size of `peer`.
        let fd = unsafe { libc::accept4(self.0.as_raw_fd(), (&raw mut peer).cast(), &raw mut len, libc::SOCK_CLOEXEC) };
        if fd < 0 {
            let error = io::Error::last_os_error();
            return match error.raw_os_error() {
                Some(libc::EINTR | libc::ECONNABORTED | libc::ENOTCONN) => Ok(None),
                _ => Err(AgentError::Accept(error)),
            };
        }
        // SAFETY: the descriptor was just made and is owned by nobody else.
        let stream = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok((peer.svm_cid == libc::VMADDR_CID_HOST).then_some(stream))
    }
}

/// Calls a port of the host's.
///
/// # Errors
/// Nobody listens there, or there is no virtio-vsock.
pub fn call_host(port: u32) -> io::Result<Stream> {
    // SAFETY: takes no pointers; the result is checked before it is owned.
    let fd = unsafe { libc::socket(libc::AF_VSOCK, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made and is owned by nobody else.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let address = libc::sockaddr_vm { svm_port: port, svm_cid: libc::VMADDR_CID_HOST, ..empty() };
    // SAFETY: as for `bind`.
    match unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) } {
        0 => Ok(socket),
        _ => Err(io::Error::last_os_error()),
    }
}

const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_vm>() as libc::socklen_t;

fn empty() -> libc::sockaddr_vm {
    libc::sockaddr_vm {
        svm_family: libc::AF_VSOCK as libc::sa_family_t,
        svm_reserved1: 0,
        svm_port: 0,
        svm_cid: 0,
        svm_zero: [0; 4],
    }
}
