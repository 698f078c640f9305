//! Tells the agent of a Linux guest that its control ring has something: a byte on a stream that the agent has opened.
//!
//! The freestanding guest has an interrupt for that. Debian's kernel has no driver that would hand one to a program, but it has
//! virtio-vsock: the agent calls the host's port [`WAKE_PORT`], and each byte on that stream says "look".

use crate::error::NodeError;
use escape_abi::wake::WAKE_PORT;
use escape_vmm::VsockConfig;
use mio::net::{UnixListener, UnixStream};
use mio::{Interest, Registry, Token};
use std::io::{self, Write};
use std::path::PathBuf;

/// The host's end.
#[derive(Debug)]
pub struct GuestWaker {
    listener: UnixListener,
    path: PathBuf,
    /// The agent's present stream; a newer one takes its place.
    stream: Option<UnixStream>,
}

impl GuestWaker {
    /// Makes the socket that the guest's calls arrive at.
    pub fn listen(vsock: &VsockConfig) -> Result<Self, NodeError> {
        let mut path = vsock.socket.clone().into_os_string();
        path.push(format!("_{WAKE_PORT}"));
        let path = PathBuf::from(path);
        // One that a former process has left; that it still lives would have shown at the device's own socket.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).map_err(NodeError::os("make the socket for the guest's waker"))?;
        Ok(Self { listener, path, stream: None })
    }

    /// Calls of the agent come as events.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.listener, token, Interest::READABLE)
    }

    /// Takes the agent's call.
    pub fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            self.stream = Some(stream);
            // What waits already is looked at by an agent that has just called.
        }
    }

    /// Wakes the agent. A full stream is as good: it has bytes to read.
    pub fn wake(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        match stream.write(&[1]) {
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.stream = None,
        }
    }
}

impl Drop for GuestWaker {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
