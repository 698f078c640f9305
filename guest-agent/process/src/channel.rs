//! What agent and processes say to each other: fixed messages over a unix socket, some with descriptors.

use crate::ProcessError;
use escape_abi::message::Flow;
use escape_capsule::SliceKey;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketAddrUnix, SocketFlags, SocketType, sockopt,
};
use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

/// Where the agent listens.
pub const SOCKET_PATH: &str = "/run/escape-agent.sock";
/// Of these messages.
pub const VERSION: u32 = 3;
/// Ports that one process may serve.
pub const PORTS_MAX: usize = 4;
/// Descriptors that come with one message.
pub const DESCRIPTORS_MAX: usize = 12;
/// Slices that one message is about.
pub const SLICES_MAX: usize = 4;
/// Bytes of a message.
const BYTES: usize = 64;
/// A message as it goes over the socket.
pub type Words = [u64; BYTES / 8];

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Process → agent: it serves these ports (0: none).
    Hello {
        /// Must be [`VERSION`].
        version: u32,
        /// Its ports.
        ports: [u16; PORTS_MAX],
    },
    /// Agent → process, with the devices of control pages and arena, whose sizes these are.
    Welcome {
        /// Bytes of the control pages.
        control_bytes: u64,
        /// Bytes of the arena.
        arena_bytes: u64,
    },
    /// Process → agent, with the connection: it was accepted; which slice is it?
    Adopt {
        /// The connection.
        flow: Flow,
    },
    /// Agent → process: it is this slice.
    Adopted {
        /// The slice.
        slice: SliceKey,
    },
    /// Agent → process: it is none.
    NotAdopted {
        /// The connection.
        flow: Flow,
    },
    /// Process → agent: the slice changed, and nothing was sent that would say so.
    Changed {
        /// The slice.
        slice: SliceKey,
    },
    /// Process → agent: it is done with the slice; the agent sends what is left and ends the connection.
    Closing {
        /// The slice.
        slice: SliceKey,
        /// Bytes of its output that the kernel has.
        sent: u64,
    },
    /// Agent → process, with their connections in the same order: these slices run here from now on.
    Plug {
        /// The slices.
        slices: [Option<SliceKey>; SLICES_MAX],
    },
    /// Process → agent: it has taken them, or (another status than 0) not.
    Plugged {
        /// Each slice, with 0 or why not ([`escape_abi::message::refusal`]).
        slices: [Option<(SliceKey, u16)>; SLICES_MAX],
    },
    /// Agent → process: forget the slice in silence.
    Discard {
        /// The slice.
        slice: SliceKey,
    },
}

impl Message {
    /// As it goes over the socket.
    pub fn to_words(self) -> Words {
        let flow_words =
            |f: Flow| [u64::from(u32::from_be_bytes(f.ip)), u64::from(f.port) << 16 | u64::from(f.service_port)];
        let of_slice = |kind, s: SliceKey, more| [kind, u64::from(s.slot), s.incarnation, more, 0, 0, 0, 0];
        let of_flow = |kind, f| {
            let [ip, ports] = flow_words(f);
            [kind, ip, ports, 0, 0, 0, 0, 0]
        };
        match self {
            Self::Hello { version, ports: [a, b, c, d] } => {
                [1, version.into(), a.into(), b.into(), c.into(), d.into(), 0, 0]
            }
            Self::Welcome { control_bytes, arena_bytes } => [2, control_bytes, arena_bytes, 0, 0, 0, 0, 0],
            Self::Adopt { flow } => of_flow(3, flow),
            Self::Adopted { slice } => of_slice(4, slice, 0),
            Self::NotAdopted { flow } => of_flow(5, flow),
            Self::Changed { slice } => of_slice(6, slice, 0),
            Self::Closing { slice, sent } => of_slice(7, slice, sent),
            Self::Plug { slices } => of_slices(8, slices.map(|slice| slice.map(|slice| (slice, 0)))),
            Self::Plugged { slices } => of_slices(9, slices),
            Self::Discard { slice } => of_slice(10, slice, 0),
        }
    }

    /// What came over the socket; `None`: nothing that this library knows.
    pub fn of_words(words: Words) -> Option<Self> {
        let [kind, a, b, c, d, e, ..] = words;
        let slice = || Some(SliceKey { slot: u32::try_from(a).ok()?, incarnation: b });
        let flow = || {
            let ip = u32::try_from(a).ok()?.to_be_bytes();
            Some(Flow { ip, port: u16::try_from(b >> 16).ok()?, service_port: (b & 0xffff) as u16 })
        };
        let port = |word| u16::try_from(word).ok();
        Some(match kind {
            1 => Self::Hello { version: u32::try_from(a).ok()?, ports: [port(b)?, port(c)?, port(d)?, port(e)?] },
            2 => Self::Welcome { control_bytes: a, arena_bytes: b },
            3 => Self::Adopt { flow: flow()? },
            4 => Self::Adopted { slice: slice()? },
            5 => Self::NotAdopted { flow: flow()? },
            6 => Self::Changed { slice: slice()? },
            7 => Self::Closing { slice: slice()?, sent: c },
            8 => Self::Plug { slices: slices_of(words).map(|slice| slice.map(|(slice, _)| slice)) },
            9 => Self::Plugged { slices: slices_of(words) },
            10 => Self::Discard { slice: slice()? },
            _ => return None,
        })
    }
}

/// In place of a slot: no slice.
const NO_SLOT: u32 = u32::MAX;

/// Four slices in eight words: kind, incarnations, slots two by two, statuses.
fn of_slices(kind: u64, slices: [Option<(SliceKey, u16)>; SLICES_MAX]) -> Words {
    let [a, b, c, d] = slices.map(|slice| slice.map_or(0, |(slice, _)| slice.incarnation));
    let [e, f, g, h] = slices.map(|slice| u64::from(slice.map_or(NO_SLOT, |(slice, _)| slice.slot)));
    let statuses = slices.map(|slice| u64::from(slice.map_or(0, |(_, status)| status)));
    let statuses = statuses.into_iter().rev().fold(0, |all, status| all << 16 | status);
    [kind, a, b, c, d, e | f << 32, g | h << 32, statuses]
}

fn slices_of([_, a, b, c, d, ef, gh, statuses]: Words) -> [Option<(SliceKey, u16)>; SLICES_MAX] {
    let (low, high) = (|word: u64| word as u32, |word: u64| (word >> 32) as u32);
    let mut statuses = (0..).map(|at| (statuses >> (16 * at)) as u16);
    [(a, low(ef)), (b, high(ef)), (c, low(gh)), (d, high(gh))].map(|(incarnation, slot)| {
        let status = statuses.next().unwrap_or(0);
        (slot != NO_SLOT).then_some((SliceKey { slot, incarnation }, status))
    })
}

/// What came.
#[derive(Debug)]
pub struct Received {
    /// The message.
    pub message: Message,
    /// Its descriptors.
    pub descriptors: Vec<OwnedFd>,
}

/// One end of the socket. Clones of it are the same.
#[derive(Clone, Debug)]
pub struct Channel {
    socket: std::sync::Arc<OwnedFd>,
}

impl Channel {
    /// Calls the agent.
    ///
    /// # Errors
    /// It is not there.
    pub fn connect(path: &Path) -> Result<Self, ProcessError> {
        let error = |e: Errno| ProcessError::Agent { path: path.display().to_string(), source: e.into() };
        let socket = socket().map_err(error)?;
        rustix::net::connect(&socket, &SocketAddrUnix::new(path).map_err(error)?).map_err(error)?;
        Ok(Self::of(socket))
    }

    /// Both ends, in one process: for tests.
    ///
    /// # Errors
    /// The kernel has no more descriptors.
    pub fn pair() -> Result<(Self, Self), ProcessError> {
        let flags = SocketFlags::CLOEXEC;
        let (a, b) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(ProcessError::call("socketpair"))?;
        Ok((Self::of(a), Self::of(b)))
    }

    /// A connected socket.
    pub fn of(socket: OwnedFd) -> Self {
        Self { socket: std::sync::Arc::new(socket) }
    }

    /// Sends a message, and descriptors of which the receiver gets copies.
    ///
    /// # Errors
    /// The other end is gone, or does not read.
    pub fn send(&self, message: Message, descriptors: &[BorrowedFd<'_>]) -> Result<(), ProcessError> {
        self.send_words(message.to_words(), descriptors)
    }

    /// The same for words of another language than [`Message`].
    ///
    /// # Errors
    /// As for [`Self::send`].
    pub fn send_words(&self, words: Words, descriptors: &[BorrowedFd<'_>]) -> Result<(), ProcessError> {
        let mut bytes = [0; BYTES];
        bytes.chunks_exact_mut(8).zip(words).for_each(|(to, word)| to.copy_from_slice(&word.to_le_bytes()));
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(ProcessError::Protocol);
        }
        let sent = rustix::net::sendmsg(&self.socket, &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL);
        sent.map(drop).map_err(ProcessError::call("telling the other side"))
    }

    /// The next message; `None` if there is none now and the caller does not `wait`.
    ///
    /// # Errors
    /// The other end is gone, said nonsense, or (waiting) nothing for [`Self::patience`].
    pub fn receive(&self, wait: bool) -> Result<Option<Received>, ProcessError> {
        let Some((words, descriptors)) = self.receive_words(wait)? else { return Ok(None) };
        let message = Message::of_words(words).ok_or(ProcessError::Protocol)?;
        Ok(Some(Received { message, descriptors }))
    }

    /// The same for words of another language than [`Message`].
    ///
    /// # Errors
    /// As for [`Self::receive`].
    pub fn receive_words(&self, wait: bool) -> Result<Option<(Words, Vec<OwnedFd>)>, ProcessError> {
        let mut bytes = [0; BYTES];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC | if wait { RecvFlags::empty() } else { RecvFlags::DONTWAIT };
        let got = loop {
            match rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags) {
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) if !wait => return Ok(None),
                other => break other.map_err(ProcessError::call("hearing the other side"))?,
            }
        };
        if got.bytes == 0 {
            let source = std::io::ErrorKind::UnexpectedEof.into();
            return Err(ProcessError::Call { call: "hearing the other side", source });
        }
        let descriptors = control.drain().filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
            _ => None,
        });
        let descriptors: Vec<OwnedFd> = descriptors.flatten().collect();
        let mut words = Words::default();
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        if got.bytes == BYTES { Ok(Some((words, descriptors))) } else { Err(ProcessError::Protocol) }
    }

    /// How long [`Self::receive`] waits.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn patience(&self, limit: Duration) -> Result<(), ProcessError> {
        sockopt::set_socket_timeout(&self.socket, sockopt::Timeout::Recv, Some(limit))
            .map_err(ProcessError::call("SO_RCVTIMEO"))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A socket for such messages.
fn socket() -> Result<OwnedFd, Errno> {
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
}

/// The agent's end: processes call here. Removes what is left of a former agent.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> Result<OwnedFd, ProcessError> {
    // Only a socket file can be left; a living agent would hold the control ring too.
    let _ = std::fs::remove_file(path);
    let call = ProcessError::call;
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let listener =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(call("socket"))?;
    let address = SocketAddrUnix::new(path).map_err(call("the agent's socket"))?;
    rustix::net::bind(&listener, &address).map_err(call("binding the agent's socket"))?;
    rustix::net::listen(&listener, 16).map_err(call("listen"))?;
    Ok(listener)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_message_survives_the_socket() {
        let (a, b) = Channel::pair().unwrap();
        let slice = SliceKey { slot: 77, incarnation: 5 << 32 | 9 };
        let other = SliceKey { slot: u32::MAX - 1, incarnation: u64::MAX };
        let flow = Flow { ip: [10, 1, 2, 3], port: 40_000, service_port: 80 };
        for message in [
            Message::Hello { version: VERSION, ports: [80, 9000, 0, u16::MAX] },
            Message::Welcome { control_bytes: 2 << 20, arena_bytes: 1 << 34 },
            Message::Adopt { flow },
            Message::Adopted { slice },
            Message::NotAdopted { flow },
            Message::Changed { slice },
            Message::Closing { slice, sent: 1 << 40 },
            Message::Plug { slices: [Some(slice), None, None, Some(other)] },
            Message::Plugged { slices: [Some((slice, 3)), Some((other, u16::MAX)), Some((slice, 0)), None] },
            Message::Plugged { slices: [None; SLICES_MAX] },
            Message::Discard { slice },
        ] {
            a.send(message, &[]).unwrap();
            let got = b.receive(true).unwrap().unwrap();
            assert_eq!((got.message, got.descriptors.len()), (message, 0));
        }
        assert!(b.receive(false).unwrap().is_none());
        drop(a);
        assert!(b.receive(false).is_err());
    }

    #[test]
    fn descriptors_come_along_and_nonsense_is_an_error() {
        let (a, b) = Channel::pair().unwrap();
        let zero = std::fs::File::open("/dev/zero").unwrap();
        a.send(Message::Welcome { control_bytes: 1, arena_bytes: 2 }, &[zero.as_fd(), zero.as_fd()]).unwrap();
        assert_eq!(b.receive(true).unwrap().unwrap().descriptors.len(), 2);
        for nonsense in [&[0u8; BYTES][..], &[9], &[1, 0, 0, 0, 0, 0, 0, 0]] {
            rustix::net::send(&a, nonsense, SendFlags::NOSIGNAL).unwrap();
            assert!(matches!(b.receive(true), Err(ProcessError::Protocol)), "{nonsense:?}");
        }
        b.patience(Duration::from_millis(10)).unwrap();
        assert!(b.receive(true).is_err(), "a silent other side is not waited for for ever");
    }
}
