//! One stream: a port of the guest's and a unix socket, with the room of both (virtio 1.2, section 5.10.6.3).

use super::config::HOST_CID;
use super::packet::{Head, NO_MORE_RECEIVED, NO_MORE_SENT, Op, STREAM};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;

/// Bytes of the guest that wait for their reader on the host; the guest knows and sends no more.
pub(super) const ROOM_BYTES: u32 = 64 << 10;
/// Most bytes for the guest taken at once, so that one stream does not keep others waiting.
const READ_BYTES_MAX: usize = 16 << 10;

/// The two ends, which name a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ports {
    pub(super) host: u32,
    pub(super) guest: u32,
}

/// A packet for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) head: Head,
    pub(super) data: Vec<u8>,
}

/// That a connection has ended, and whether the guest is yet to hear of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It knows.
    Known,
    /// In good order.
    Closed,
    /// It broke the rules.
    Broken,
}

/// What is owed to the guest besides data.
#[derive(Clone, Copy, Debug, Default)]
struct Due {
    request: bool,
    response: bool,
    credit: bool,
    /// Flags of a SHUTDOWN.
    shutdown: u32,
}

/// One stream.
#[derive(Debug)]
pub(super) struct Connection {
    stream: UnixStream,
    ports: Ports,
    open: bool,
    due: Due,
    /// For the host: first [`Connection::ours`] bytes that are not the guest's, then the guest's.
    to_host: VecDeque<u8>,
    ours: usize,
    /// Bytes of the guest that the host's program has been given, and how many of them the guest knows of; modulo 2^32.
    consumed: u32,
    told: u32,
    /// The guest's room, what it has consumed and what it was sent; modulo 2^32.
    guest_room: u32,
    guest_consumed: u32,
    sent: u32,
    /// The stream may have bytes for the guest.
    readable: bool,
    /// What each side will no longer do.
    host_sent_all: bool,
    guest_sent_all: bool,
    guest_deaf: bool,
    host_deaf: bool,
}

impl Connection {
    /// The host's program wants the guest's port.
    pub(super) fn to_guest(stream: UnixStream, ports: Ports) -> Self {
        let mut connection = Self::new(stream, ports);
        connection.due.request = true;
        connection
    }

    /// The guest wants the host's port, where the stream leads.
    pub(super) fn to_host(stream: UnixStream, ports: Ports, request: &Head) -> Self {
        let mut connection = Self::new(stream, ports);
        (connection.open, connection.due.response) = (true, true);
        connection.learn_room(request);
        connection
    }

    fn new(stream: UnixStream, ports: Ports) -> Self {
        Self {
            stream,
            ports,
            open: false,
            due: Due::default(),
            to_host: VecDeque::new(),
            ours: 0,
            consumed: 0,
            told: 0,
            guest_room: 0,
            guest_consumed: 0,
            sent: 0,
            readable: false,
            host_sent_all: false,
            guest_sent_all: false,
            guest_deaf: false,
            host_deaf: false,
        }
    }

    pub(super) fn ports(&self) -> Ports {
        self.ports
    }

    fn learn_room(&mut self, head: &Head) {
        (self.guest_room, self.guest_consumed) = (head.room, head.consumed);
    }

    /// Bytes that the guest has room for. A guest that says nonsense has none.
    fn credit(&self) -> usize {
        let under_way = self.sent.wrapping_sub(self.guest_consumed);
        self.guest_room.checked_sub(under_way).and_then(|room| usize::try_from(room).ok()).unwrap_or(0)
    }

    /// A packet of the guest.
    pub(super) fn packet(&mut self, head: &Head, data: &[u8]) -> Result<(), Ended> {
        self.learn_room(head);
        match head.op {
            Op::RESPONSE if !self.open && !self.due.request => {
                self.open = true;
                let welcome = format!("OK {}\n", self.ports.host);
                self.ours = welcome.len();
                self.to_host.extend(welcome.as_bytes());
            }
            Op::DATA if self.open && !self.guest_sent_all => self.data(data)?,
            Op::CREDIT => {}
            Op::CREDIT_REQUEST => self.due.credit = true,
            Op::SHUTDOWN => {
                self.guest_sent_all |= head.flags & NO_MORE_SENT != 0;
                self.guest_deaf |= head.flags & NO_MORE_RECEIVED != 0;
            }
            Op::RESET => return Err(Ended::Known),
            _ => return Err(Ended::Broken),
        }
        self.flush();
        self.settle()
    }

    fn data(&mut self, data: &[u8]) -> Result<(), Ended> {
        let waiting = self.to_host.len().saturating_sub(self.ours);
        if waiting + data.len() > ROOM_BYTES as usize {
            return Err(Ended::Broken);
        }
        if self.host_deaf {
            self.consume(data.len());
        } else {
            self.to_host.extend(data);
        }
        Ok(())
    }

    /// The stream has bytes, or room.
    pub(super) fn wake(&mut self) -> Result<(), Ended> {
        self.readable = true;
        self.flush();
        self.settle()
    }

    /// Gives the host's program what it takes.
    fn flush(&mut self) {
        while !self.to_host.is_empty() {
            let written = self.stream.write(self.to_host.as_slices().0);
            let taken = match written {
                Ok(n @ 1..) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                _ => {
                    // It has gone: what waits is nobody's.
                    self.host_deaf = true;
                    self.due.shutdown |= NO_MORE_RECEIVED;
                    self.to_host.len()
                }
            };
            self.to_host.drain(..taken);
            let ours = taken.min(self.ours);
            self.ours -= ours;
            self.consume(taken - ours);
        }
        if self.guest_sent_all && !self.host_deaf {
            // It may be shut already.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed = self.consumed.wrapping_add(u32::try_from(bytes).unwrap_or(0));
        self.due.credit |= self.consumed.wrapping_sub(self.told) >= ROOM_BYTES / 2;
    }

    /// Whether that was all: the guest has ended both directions, and its last bytes are where they belong.
    fn settle(&self) -> Result<(), Ended> {
        if self.guest_sent_all && self.guest_deaf && self.to_host.is_empty() { Err(Ended::Closed) } else { Ok(()) }
    }

    /// Whether [`Connection::next`] may have a packet.
    pub(super) fn has_packet(&self) -> bool {
        let Due { request, response, credit, shutdown } = self.due;
        request || response || credit || shutdown != 0 || self.may_read()
    }

    fn may_read(&self) -> bool {
        self.open && self.readable && !self.host_sent_all && !self.guest_deaf && self.credit() > 0
    }

    /// The next packet for the guest, whose context id is `cid`.
    pub(super) fn next(&mut self, cid: u32) -> Option<Outgoing> {
        if std::mem::take(&mut self.due.request) {
            return Some(self.outgoing(cid, Op::REQUEST, 0, Vec::new()));
        }
        if std::mem::take(&mut self.due.response) {
            return Some(self.outgoing(cid, Op::RESPONSE, 0, Vec::new()));
        }
        if self.may_read()
            && let Some(data) = self.read()
        {
            return Some(self.outgoing(cid, Op::DATA, 0, data));
        }
        match std::mem::take(&mut self.due.shutdown) {
            0 if std::mem::take(&mut self.due.credit) => Some(self.outgoing(cid, Op::CREDIT, 0, Vec::new())),
            0 => None,
            flags => Some(self.outgoing(cid, Op::SHUTDOWN, flags, Vec::new())),
        }
    }

    fn read(&mut self) -> Option<Vec<u8>> {
        let mut data = vec![0; self.credit().min(READ_BYTES_MAX)];
        match self.stream.read(&mut data) {
            Ok(n @ 1..) => {
                data.truncate(n);
                self.sent = self.sent.wrapping_add(u32::try_from(n).unwrap_or(0));
                return Some(data);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.readable = false,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // The end, or an error that is one.
            _ => {
                self.host_sent_all = true;
                self.due.shutdown |= NO_MORE_SENT;
            }
        }
        None
    }

    fn outgoing(&mut self, cid: u32, op: Op, flags: u32, data: Vec<u8>) -> Outgoing {
        self.told = self.consumed;
        self.due.credit = false;
        let head = Head { flags, room: ROOM_BYTES, consumed: self.consumed, ..head_to_guest(cid, self.ports, op) };
        Outgoing { head, data }
    }
}

/// A head without room and data.
pub(super) fn head_to_guest(cid: u32, ports: Ports, op: Op) -> Head {
    Head {
        source: (HOST_CID, ports.host),
        destination: (u64::from(cid), ports.guest),
        len: 0,
        kind: STREAM,
        op,
        flags: 0,
        room: 0,
        consumed: 0,
    }
}
