use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::{Attributes, Encoder, HEADER_LEN, NetlinkError, aligned};
use crate::raw_socket::RawSocket;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The kernel answers while the request is being sent, so a long wait means that something is badly wrong.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// The kernel fills dumps with datagrams of at most 32 KiB.
const RECEIVE_BUFFER_BYTES: usize = 64 * 1024;
/// Answers queued in the socket; a dump waits for its reader, so only errors and news need room.
const SOCKET_RECEIVE_BYTES: i32 = 4 * 1024 * 1024;
/// The largest datagram this process sends (65,536 flows are about 5 MB); the kernel takes memory only when it is sent.
const SOCKET_SEND_BYTES: i32 = 16 * 1024 * 1024;
/// A listing that changed while it was read is read again, so often.
const DUMP_TRIES: u32 = 8;

/// One message of the kernel, without its header.
#[derive(Debug, Clone)]
pub struct Message {
    /// Message type (`nlmsg_type`).
    pub kind: u16,
    /// Message flags (`nlmsg_flags`).
    pub flags: u16,
    /// Number of the request it answers, 0 for news.
    pub sequence: u32,
    /// Family header and attributes.
    pub body: Vec<u8>,
}

impl Message {
    /// The attributes behind a family header of `header` bytes.
    pub fn attributes(&self, header: usize) -> Attributes<'_> {
        Attributes::new(self.body.get(aligned(header)..).unwrap_or_default())
    }

    /// If this is an acknowledgement or error: the error number (0 = done) and the kernel's words.
    fn verdict(&self) -> Option<(i32, String)> {
        if self.kind != NLMSG_ERROR {
            return None;
        }
        let code = i32::from_ne_bytes(self.body.get(..4)?.try_into().ok()?);
        let detail = self.extended_text().unwrap_or_default();
        Some((code.saturating_neg(), detail))
    }

    /// The text of an extended acknowledgement; it stands behind the echoed request.
    fn extended_text(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let echoed = if self.flags & NLM_F_CAPPED != 0 {
            HEADER_LEN
        } else {
            usize::try_from(u32::from_ne_bytes(self.body.get(4..8)?.try_into().ok()?)).ok()?
        };
        let texts = self.body.get(4usize.checked_add(aligned(echoed))?..)?;
        Attributes::new(texts).text(NLMSGERR_ATTR_MSG).map(str::to_owned)
    }
}

/// A socket to one netlink family, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct NetlinkSocket {
    socket: RawSocket,
    next_sequence: u32,
    buffer: Vec<u8>,
}

impl NetlinkSocket {
    /// Opens a socket of `protocol` (0 = rtnetlink, 12 = netfilter) in the calling thread's network namespace;
    /// `groups` is a bit mask of news to receive.
    pub fn open(protocol: i32, groups: u32) -> Result<Self, NetlinkError> {
        let open = || -> io::Result<RawSocket> {
            let socket = RawSocket::open(libc::AF_NETLINK, libc::SOCK_RAW, protocol)?;
            socket.bind_netlink(groups)?;
            socket.set_option(libc::SOL_NETLINK, libc::NETLINK_EXT_ACK, 1)?;
            socket.set_option(libc::SOL_NETLINK, libc::NETLINK_CAP_ACK, 1)?;
            // Without CAP_NET_ADMIN the plain limits stay: enough for questions, and changes are refused anyway.
            let _ = socket.set_option(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, SOCKET_RECEIVE_BYTES);
            let _ = socket.set_option(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SOCKET_SEND_BYTES);
            Ok(socket)
        };
        let socket = open().map_err(|source| NetlinkError::Open { protocol, source })?;
        Ok(Self { socket, next_sequence: 1, buffer: vec![0; RECEIVE_BUFFER_BYTES] })
    }

    /// The number that the next request will carry.
    pub(crate) const fn next_sequence(&self) -> u32 {
        self.next_sequence
    }

    /// Sends one request and waits for its acknowledgement. `flags` are added to REQUEST and ACK.
    pub fn request(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Encoder),
    ) -> Result<(), NetlinkError> {
        self.exchange(what, kind, flags | NLM_F_ACK, body).map(|_| ())
    }

    /// Sends one question and returns what was answered before the acknowledgement.
    pub fn ask(
        &mut self,
        what: &str,
        kind: u16,
        body: impl FnOnce(&mut Encoder),
    ) -> Result<Vec<Message>, NetlinkError> {
        self.exchange(what, kind, NLM_F_ACK, body)
    }

    /// Reads a whole listing, again if it changed meanwhile.
    pub fn dump(&mut self, what: &str, kind: u16, body: impl Fn(&mut Encoder)) -> Result<Vec<Message>, NetlinkError> {
        for _ in 0..DUMP_TRIES {
            let answers = match self.exchange(what, kind, NLM_F_DUMP, &body) {
                // A hash table that is being resized cannot be walked to its end.
                Err(error) if matches!(error.refusal(), Some(libc::EINTR | libc::EAGAIN)) => continue,
                other => other?,
            };
            if answers.iter().all(|answer| answer.flags & NLM_F_DUMP_INTR == 0) {
                return Ok(answers);
            }
        }
        Err(NetlinkError::KeptChanging { what: what.to_owned(), tries: DUMP_TRIES })
    }

    fn exchange(
        &mut self,
        what: &str,
        kind: u16,
        flags: u16,
        body: impl FnOnce(&mut Encoder),
    ) -> Result<Vec<Message>, NetlinkError> {
        let sequence = self.next_sequence;
        let mut encoder = Encoder::new();
        encoder.message(kind, NLM_F_REQUEST | flags, sequence, body);
        self.send(what, &encoder, 1)?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut answers = Vec::new();
        loop {
            for message in self.receive_some(what, deadline)? {
                if message.sequence != sequence {
                    continue; // the late answer to an earlier request that was given up
                }
                if message.kind == NLMSG_DONE {
                    let code = message.body.get(..4).and_then(|b| b.try_into().ok()).map_or(0, i32::from_ne_bytes);
                    // The flag of an interrupted listing may stand on its last message.
                    answers.push(message);
                    return judge(what, code.saturating_neg(), String::new()).map(|()| answers);
                }
                match message.verdict() {
                    Some((code, detail)) => return judge(what, code, detail).map(|()| answers),
                    None => answers.push(message),
                }
            }
        }
    }

    /// Sends a datagram of `count` messages that carry the numbers from [`Self::next_sequence`] on.
    pub(crate) fn send(&mut self, what: &str, datagram: &Encoder, count: u32) -> Result<(), NetlinkError> {
        if datagram.is_too_long() {
            return Err(NetlinkError::TooLong { what: what.to_owned() });
        }
        // 0 is the number of news.
        self.next_sequence = self.next_sequence.checked_add(count).unwrap_or(1);
        let bytes = datagram.as_bytes();
        self.socket.send(bytes).map_err(|source| NetlinkError::Send {
            what: what.to_owned(),
            bytes: bytes.len(),
            source,
        })
    }

    /// The verdicts on a batch whose messages have the numbers `batch`: `(number, error number, the kernel's words)`,
    /// until that on message `last` is seen, or nothing more follows an error.
    pub(crate) fn batch_verdicts(
        &mut self,
        what: &str,
        last: u32,
        batch: RangeInclusive<u32>,
    ) -> Result<Vec<(u32, i32, String)>, NetlinkError> {
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut verdicts: Vec<(u32, i32, String)> = Vec::new();
        while verdicts.iter().all(|(sequence, ..)| *sequence != last) {
            // Verdicts are queued in the socket before `send` returns. After an error there may be no last one.
            let failed = verdicts.iter().any(|(_, code, _)| *code != 0);
            match self.receive_some(what, if failed { Instant::now() } else { deadline }) {
                Err(NetlinkError::TimedOut { .. }) if failed => break,
                Err(error) => return Err(error),
                Ok(messages) => {
                    let ours = messages.iter().filter(|message| batch.contains(&message.sequence));
                    verdicts.extend(ours.filter_map(|message| {
                        message.verdict().map(|(code, detail)| (message.sequence, code, detail))
                    }));
                }
            }
        }
        Ok(verdicts)
    }

    /// The messages of the next datagram of the kernel.
    fn receive_some(&mut self, what: &str, deadline: Instant) -> Result<Vec<Message>, NetlinkError> {
        let failed = |source| NetlinkError::Receive { what: what.to_owned(), source };
        loop {
            if let Some(messages) = self.receive_now(what)? {
                return Ok(messages);
            }
            if !self.socket.wait_readable(deadline).map_err(failed)? {
                return Err(NetlinkError::TimedOut { what: what.to_owned(), after: ANSWER_LIMIT });
            }
        }
    }

    /// The messages of one datagram if there is one now. Datagrams of other processes are ignored.
    pub(crate) fn receive_now(&mut self, what: &str) -> Result<Option<Vec<Message>>, NetlinkError> {
        let failed = |source| NetlinkError::Receive { what: what.to_owned(), source };
        let Some(received) = self.socket.receive(&mut self.buffer).map_err(failed)? else { return Ok(None) };
        if received.netlink_port != 0 {
            return Ok(Some(Vec::new()));
        }
        let malformed = |why| NetlinkError::Malformed { what: what.to_owned(), why };
        let datagram = self.buffer.get(..received.length).ok_or_else(|| malformed("longer than the buffer"))?;
        split_messages(datagram).ok_or_else(|| malformed("a message length is impossible")).map(Some)
    }
}

impl AsFd for NetlinkSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn judge(what: &str, code: i32, detail: String) -> Result<(), NetlinkError> {
    if code == 0 {
        return Ok(());
    }
    Err(NetlinkError::Refused { what: what.to_owned(), source: io::Error::from_raw_os_error(code), detail })
}

fn split_messages(mut datagram: &[u8]) -> Option<Vec<Message>> {
    let mut messages = Vec::new();
    while datagram.len() >= HEADER_LEN {
        let length = usize::try_from(u32::from_ne_bytes(datagram.get(..4)?.try_into().ok()?)).ok()?;
        messages.push(Message {
            kind: u16::from_ne_bytes(datagram.get(4..6)?.try_into().ok()?),
            flags: u16::from_ne_bytes(datagram.get(6..8)?.try_into().ok()?),
            sequence: u32::from_ne_bytes(datagram.get(8..12)?.try_into().ok()?),
            body: datagram.get(HEADER_LEN..length)?.to_vec(),
        });
        datagram = datagram.get(aligned(length)..).unwrap_or_default();
    }
    Some(messages)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_the_kernels_number_and_the_advice() {
        let mut socket = NetlinkSocket::open(libc::NETLINK_ROUTE, 0).unwrap();
        // RTM_SETLINK of an interface that cannot exist.
        let error = socket
            .request("change of interface 2147483000", 19, 0, |m| {
                m.raw(&[0, 0, 0, 0]);
                m.raw(&2_147_483_000u32.to_ne_bytes());
                m.raw(&[0; 8]);
            })
            .unwrap_err();
        assert!(matches!(error.refusal(), Some(libc::ENODEV | libc::EPERM)), "{error}");
        assert!(error.to_string().starts_with("change of interface 2147483000: "), "{error}");
        assert!(!error.outcome_unknown());
    }

    #[test]
    fn a_listing_ends() {
        let mut socket = NetlinkSocket::open(libc::NETLINK_ROUTE, 0).unwrap();
        let links = socket.dump("list of links", 18, |m| m.raw(&[0; 16])).unwrap();
        assert!(links.len() >= 2, "loopback and the end mark");
    }

    #[test]
    fn impossible_message_lengths_are_refused() {
        let mut datagram = vec![0u8; 32];
        datagram[0] = 200;
        assert!(split_messages(&datagram).is_none());
        datagram[0] = 4;
        assert!(split_messages(&datagram).is_none());
        assert!(split_messages(&[1, 2, 3]).unwrap().is_empty());
    }
}
