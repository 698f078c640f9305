//! The kernel's socket of a slice: bytes between it and the slice's buffers.

use crate::slot::layout::{RX_AT, RX_SIZE, TX_AT, TX_SIZE};
use crate::{ProcessError, SlotState, TcpState, tcp_flag};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown, sockopt};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Room in the kernel for output, bytes: less than the slice's ring, so that a full ring always has something that waits for the
/// kernel to have room, which it tells.
const SEND_ROOM: usize = 24 << 10;

/// The socket, and how far it is.
#[derive(Debug)]
pub struct Wire {
    socket: OwnedFd,
    /// Bytes of the slice's output that the kernel has been given.
    sent: u64,
    shut: bool,
    /// The input buffer was full before the kernel had no more.
    has_more: bool,
}

/// What came of talking to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Bytes went, perhaps none.
    Open(usize),
    /// The connection is broken.
    Broken,
}

impl Wire {
    /// A connection, of whose output the kernel has had so many bytes.
    ///
    /// # Errors
    /// It is none.
    pub fn new(socket: OwnedFd, sent: u64) -> Result<Self, ProcessError> {
        rustix::io::ioctl_fionbio(&socket, true).map_err(ProcessError::call("FIONBIO"))?;
        sockopt::set_tcp_nodelay(&socket, true).map_err(ProcessError::call("TCP_NODELAY"))?;
        sockopt::set_socket_send_buffer_size(&socket, SEND_ROOM).map_err(ProcessError::call("SO_SNDBUF"))?;
        // Urgent bytes are read with the others. Else the kernel acknowledges them and nobody reads them, and what the slice has is not what
        // was acknowledged.
        sockopt::set_socket_oobinline(&socket, true).map_err(ProcessError::call("SO_OOBINLINE"))?;
        Ok(Self { socket, sent, shut: false, has_more: false })
    }

    /// The same for a connection of which only the kernel knows how much it has had; `tcp`: its slice's numbers.
    ///
    /// # Errors
    /// It is no connection, or not the slice's.
    pub fn again(socket: OwnedFd, tcp: &TcpState) -> Result<Self, ProcessError> {
        if escape_tcp::is_closed(socket.as_fd())? {
            return Ok(Self { shut: true, ..Self::new(socket, tcp.written)? });
        }
        let (behind, ended) = escape_tcp::given(socket.as_fd())?;
        let published = tcp.published().snd_nxt.wrapping_sub(u32::from(tcp.is(tcp_flag::END_WRITTEN)));
        let left = u64::from(published.wrapping_sub(behind.wrapping_sub(u32::from(ended))));
        if left > TX_SIZE as u64 {
            return Err(ProcessError::Call { call: "TCP_QUEUE_SEQ", source: std::io::ErrorKind::InvalidData.into() });
        }
        let wire = Self::new(socket, tcp.written.saturating_sub(left))?;
        Ok(Self { shut: ended, ..wire })
    }

    /// The socket alone.
    pub fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Bytes of the output that the kernel has.
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// The kernel may have more input than the buffer had room for.
    pub const fn has_more(&self) -> bool {
        self.has_more
    }

    /// Reads what has come into the input buffer. Returns the bytes.
    ///
    /// # Safety
    /// `slot` is the address of the slice's slot, and `state` the one reference into it.
    pub unsafe fn fill(&mut self, slot: *mut u8, state: &mut SlotState) -> Flow {
        let tcp = &mut state.tcp;
        // SAFETY: inside the slot by the layout; nobody else looks at the buffer while the caller has the slice.
        let buffer = unsafe { std::slice::from_raw_parts_mut(slot.add(RX_AT), RX_SIZE) };
        make_room(buffer, &mut tcp.input_start, &mut tcp.input_end);
        let mut total = 0;
        self.has_more = false;
        while !tcp.is(tcp_flag::END_READ) {
            let room = buffer.get_mut(tcp.input_end as usize..).unwrap_or_default();
            if room.is_empty() {
                self.has_more = true;
                break;
            }
            match rustix::net::recv(&self.socket, room, RecvFlags::DONTWAIT) {
                Ok((_, 0)) => tcp.flags |= tcp_flag::END_READ,
                Ok((_, n)) => {
                    tcp.input_end += n as u32;
                    tcp.read += n as u64;
                    total += n;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Flow::Broken,
            }
        }
        Flow::Open(total)
    }

    /// Gives the kernel what it has room for of the output. Returns the bytes.
    ///
    /// # Safety
    /// As for [`Self::fill`].
    pub unsafe fn flush(&mut self, slot: *const u8, state: &SlotState) -> Flow {
        // SAFETY: as in `fill`; only read.
        let ring = unsafe { std::slice::from_raw_parts(slot.add(TX_AT), TX_SIZE) };
        let mut total = 0;
        while self.sent < state.tcp.written {
            let at = (self.sent % TX_SIZE as u64) as usize;
            let left = usize::try_from(state.tcp.written - self.sent).unwrap_or(0);
            let piece = ring.get(at..).unwrap_or_default();
            let piece = piece.get(..left.min(piece.len())).unwrap_or_default();
            match rustix::net::send(&self.socket, piece, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(n) => {
                    self.sent += n as u64;
                    total += n;
                }
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return Flow::Broken,
            }
        }
        let at_end = self.sent == state.tcp.written && state.tcp.is(tcp_flag::END_WRITTEN);
        if at_end && !std::mem::replace(&mut self.shut, at_end) {
            // A connection that is gone has no end to send.
            let _ = rustix::net::shutdown(&self.socket, Shutdown::Write);
        }
        Flow::Open(total)
    }

    /// Both sides have ended, and the client has all of ours. The kernel says so by itself only if it has heard the client's end: not if that
    /// was another one, before the slice came here.
    pub fn is_over(&self, tcp: &TcpState) -> bool {
        let both = self.shut && tcp.is(tcp_flag::END_READ);
        both && escape_tcp::outstanding(self.as_fd()).is_ok_and(|outstanding| outstanding == 0)
    }

    /// Whether the kernel will say when it has room again: it does if somebody has asked while it had none.
    pub fn will_tell_of_room(&self) -> bool {
        let mut asked = [PollFd::new(&self.socket, PollFlags::OUT)];
        matches!(poll(&mut asked, Some(&Timespec::default())), Ok(0))
    }

    /// Forgets output that the client has acknowledged, and notes its window. The window is asked for last: what is acknowledged between the
    /// two makes the end of what the client takes look nearer than it is, never farther.
    pub fn trim(&self, state: &mut SlotState) {
        let tcp = &mut state.tcp;
        let outstanding = escape_tcp::outstanding(self.as_fd());
        let (Ok(outstanding), Ok(window)) = (outstanding, escape_tcp::peer_window(self.as_fd())) else { return };
        let acknowledged = self.sent.saturating_sub(outstanding as u64);
        tcp.acknowledged = tcp.acknowledged.max(acknowledged.min(tcp.written));
        tcp.window = window;
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Moves unconsumed input to the buffer's start if that makes room where there is little.
fn make_room(buffer: &mut [u8], start: &mut u32, end: &mut u32) {
    if *start == *end {
        (*start, *end) = (0, 0);
    } else if *start > 0 && *end as usize > buffer.len() / 2 {
        buffer.copy_within(*start as usize..*end as usize, 0);
        (*start, *end) = (0, *end - *start);
    }
}
