//! The kernel's calls, one function each. All `unsafe` of this crate is here.

use crate::error::TcpError;
use std::io;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// A queue of a socket in repair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(crate) enum Queue {
    None = 0,
    Receive = 1,
    Send = 2,
}

/// How to leave repair: the peer gets a segment below its window, or nothing.
const REPAIR_OFF: i32 = 0;
const REPAIR_OFF_QUIETLY: i32 = -1;
const REPAIR_ON: i32 = 1;
/// Bytes that wait and were not sent (include/uapi/linux/sockios.h).
const SIOCOUTQNSD: libc::c_ulong = 0x894b;
const ADDRESS_BYTES: libc::socklen_t = size_of::<libc::sockaddr_in>() as libc::socklen_t;

/// Values without padding of which every bit pattern is valid.
///
/// # Safety
/// Only for such types.
pub(crate) unsafe trait Plain: Copy + Default {}
// SAFETY: integers.
unsafe impl Plain for i32 {}
// SAFETY: integers.
unsafe impl Plain for u32 {}
// SAFETY: five `u32` in the order of C.
unsafe impl Plain for crate::Window {}
// SAFETY: two `u32` in the order of C.
unsafe impl Plain for RepairOption {}

/// One option of a connection (the kernel's `struct tcp_repair_opt`).
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub(crate) struct RepairOption {
    pub code: u32,
    pub value: u32,
}

fn checked(result: i32, call: &'static str) -> Result<i32, TcpError> {
    if result < 0 { Err(TcpError::call(call)(io::Error::last_os_error())) } else { Ok(result) }
}

pub(crate) fn new() -> Result<OwnedFd, TcpError> {
    // SAFETY: takes no pointers.
    let fd = checked(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) }, "socket")?;
    // SAFETY: the descriptor was just made and is owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn set_option(fd: RawFd, level: i32, name: i32, value: &[impl Plain], call: &'static str) -> Result<(), TcpError> {
    let len = libc::socklen_t::try_from(size_of_val(value)).unwrap_or(0);
    // SAFETY: the kernel reads `len` bytes of `value`, which has so many and outlives the call.
    checked(unsafe { libc::setsockopt(fd, level, name, value.as_ptr().cast(), len) }, call).map(drop)
}

fn get_option<T: Plain>(fd: RawFd, name: i32, call: &'static str) -> Result<T, TcpError> {
    let (mut value, mut len) = (T::default(), libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0));
    // SAFETY: the kernel writes at most `len` bytes, the size of `value`, of which every content is valid.
    let got = unsafe { libc::getsockopt(fd, libc::IPPROTO_TCP, name, (&raw mut value).cast(), &raw mut len) };
    checked(got, call).map(|_| value)
}

pub(crate) fn repair(socket: BorrowedFd<'_>) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR, &[REPAIR_ON], "TCP_REPAIR")
}

pub(crate) fn end_repair(socket: BorrowedFd<'_>) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR, &[REPAIR_OFF_QUIETLY], "TCP_REPAIR off")
}

/// The same, and a segment below the peer's window leaves, which it must answer.
pub(crate) fn end_repair_and_ask(socket: BorrowedFd<'_>) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR, &[REPAIR_OFF], "TCP_REPAIR off")
}

pub(crate) fn choose(socket: BorrowedFd<'_>, queue: Queue) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, &[queue as i32], "TCP_REPAIR_QUEUE")
}

/// Sequence number behind the chosen queue.
pub(crate) fn sequence(socket: BorrowedFd<'_>) -> Result<u32, TcpError> {
    get_option(socket.as_raw_fd(), libc::TCP_QUEUE_SEQ, "TCP_QUEUE_SEQ")
}

pub(crate) fn set_sequence(socket: BorrowedFd<'_>, sequence: u32) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, &[sequence], "TCP_QUEUE_SEQ")
}

pub(crate) fn segment_max(socket: BorrowedFd<'_>) -> Result<u32, TcpError> {
    get_option(socket.as_raw_fd(), libc::TCP_MAXSEG, "TCP_MAXSEG")
}

pub(crate) fn timestamp(socket: BorrowedFd<'_>) -> Result<u32, TcpError> {
    get_option(socket.as_raw_fd(), libc::TCP_TIMESTAMP, "TCP_TIMESTAMP")
}

pub(crate) fn set_timestamp(socket: BorrowedFd<'_>, clock: u32) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_TIMESTAMP, &[clock], "TCP_TIMESTAMP")
}

pub(crate) fn window(socket: BorrowedFd<'_>) -> Result<crate::Window, TcpError> {
    get_option(socket.as_raw_fd(), libc::TCP_REPAIR_WINDOW, "TCP_REPAIR_WINDOW")
}

pub(crate) fn set_window(socket: BorrowedFd<'_>, window: crate::Window) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR_WINDOW, &[window], "TCP_REPAIR_WINDOW")
}

pub(crate) fn set_options(socket: BorrowedFd<'_>, options: &[RepairOption]) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_REPAIR_OPTIONS, options, "TCP_REPAIR_OPTIONS")
}

/// Room of the chosen queue: above the machine's limit, because what waited elsewhere had room there.
pub(crate) fn set_room(socket: BorrowedFd<'_>, queue: Queue, bytes: usize) -> Result<(), TcpError> {
    let (name, call) = match queue {
        Queue::Receive => (libc::SO_RCVBUFFORCE, "SO_RCVBUFFORCE"),
        Queue::Send | Queue::None => (libc::SO_SNDBUFFORCE, "SO_SNDBUFFORCE"),
    };
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, name, &[i32::try_from(bytes).unwrap_or(i32::MAX)], call)
}

/// Lets a listener of the port be made later, beside this connection.
pub(crate) fn share_port(socket: BorrowedFd<'_>) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_REUSEADDR, &[1], "SO_REUSEADDR")
}

/// Has the kernel compute the largest segment anew from the options: connecting in repair leaves it at 536 bytes, and setting
/// no IP options is the one call that does it.
pub(crate) fn compute_segment_max(socket: BorrowedFd<'_>) -> Result<(), TcpError> {
    set_option(socket.as_raw_fd(), libc::IPPROTO_IP, libc::IP_OPTIONS, &[0u32; 0], "IP_OPTIONS")
}

/// State, agreed options and scales (of the peer's windows, of ours), from the first 8 bytes of `TCP_INFO`.
pub(crate) fn info(socket: BorrowedFd<'_>) -> Result<(u8, u8, (u8, u8)), TcpError> {
    let [low, high] = get_option::<Two>(socket.as_raw_fd(), libc::TCP_INFO, "TCP_INFO")?.0;
    let [state, _, _, _] = low.to_ne_bytes();
    let [_, options, scales, _] = high.to_ne_bytes();
    Ok((state, options, (scales & 15, scales >> 4)))
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Two([u32; 2]);
// SAFETY: two `u32`.
unsafe impl Plain for Two {}

/// The first 232 bytes of `TCP_INFO`: up to `tcpi_snd_wnd`, the last of them.
#[derive(Clone, Copy)]
#[repr(C)]
struct UpToWindow([u32; 58]);
impl Default for UpToWindow {
    fn default() -> Self {
        Self([0; 58])
    }
}
// SAFETY: `u32`s.
unsafe impl Plain for UpToWindow {}

/// The peer's window now, bytes; 0 from kernels before 5.4, which do not tell it.
pub(crate) fn peer_window(socket: BorrowedFd<'_>) -> Result<u32, TcpError> {
    let UpToWindow([.., window]) = get_option(socket.as_raw_fd(), libc::TCP_INFO, "TCP_INFO")?;
    Ok(window)
}

/// Place of `tcpi_segs_in` among the words of `TCP_INFO`.
const SEGMENTS_IN: usize = 35;

/// Segments that have come since the socket was made.
pub(crate) fn segments_in(socket: BorrowedFd<'_>) -> Result<u32, TcpError> {
    let UpToWindow(words) = get_option(socket.as_raw_fd(), libc::TCP_INFO, "TCP_INFO")?;
    Ok(words.get(SEGMENTS_IN).copied().unwrap_or(0))
}

fn waiting(socket: BorrowedFd<'_>, request: libc::c_ulong, call: &'static str) -> Result<usize, TcpError> {
    let mut bytes = 0i32;
    // SAFETY: these requests write one `int`, to which the pointer leads.
    checked(unsafe { libc::ioctl(socket.as_raw_fd(), request, &raw mut bytes) }, call)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

/// Bytes not read.
pub(crate) fn unread(socket: BorrowedFd<'_>) -> Result<usize, TcpError> {
    waiting(socket, libc::FIONREAD, "SIOCINQ")
}

/// Bytes written and not acknowledged.
pub(crate) fn outstanding(socket: BorrowedFd<'_>) -> Result<usize, TcpError> {
    waiting(socket, libc::TIOCOUTQ, "SIOCOUTQ")
}

/// Bytes written and not acknowledged, and how many of them were not sent.
pub(crate) fn unacknowledged(socket: BorrowedFd<'_>) -> Result<(usize, usize), TcpError> {
    Ok((outstanding(socket)?, waiting(socket, SIOCOUTQNSD, "SIOCOUTQNSD")?))
}

/// The first bytes of the chosen queue, which stay there, fewer than wanted if there are fewer; and how many the kernel has there.
pub(crate) fn peek(socket: BorrowedFd<'_>, bytes: usize) -> Result<(Vec<u8>, usize), TcpError> {
    let mut content = vec![0u8; bytes];
    let mut held = 0;
    if bytes > 0 {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the kernel writes at most `bytes` bytes, of which the buffer has so many.
        let got = unsafe { libc::recv(socket.as_raw_fd(), content.as_mut_ptr().cast(), bytes, flags) };
        held = usize::try_from(got).map_err(|_| TcpError::call("recv")(io::Error::last_os_error()))?;
        content.truncate(held);
    }
    Ok((content, held))
}

/// Puts bytes into the chosen queue; how many it took.
pub(crate) fn send(socket: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, TcpError> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: the kernel reads at most so many bytes as the slice has.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
    usize::try_from(sent).map_err(|_| TcpError::call("send")(io::Error::last_os_error()))
}

fn raw(address: SocketAddrV4) -> libc::sockaddr_in {
    libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: address.port().to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(address.ip().octets()) },
        sin_zero: [0; 8],
    }
}

pub(crate) fn bind(socket: BorrowedFd<'_>, to: SocketAddrV4) -> Result<(), TcpError> {
    let address = raw(to);
    // SAFETY: the address is a `sockaddr_in` of the length that is given, and outlives the call.
    checked(unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) }, "bind").map(drop)
}

/// In repair: no packet leaves.
pub(crate) fn connect(socket: BorrowedFd<'_>, to: SocketAddrV4) -> Result<(), TcpError> {
    let address = raw(to);
    // SAFETY: as for `bind`.
    checked(unsafe { libc::connect(socket.as_raw_fd(), (&raw const address).cast(), ADDRESS_BYTES) }, "connect")
        .map(drop)
}

/// Our end, or the peer's.
pub(crate) fn address(socket: BorrowedFd<'_>, of_peer: bool) -> Result<SocketAddrV4, TcpError> {
    let (mut name, mut len) = (raw(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0)), ADDRESS_BYTES);
    let (fd, to) = (socket.as_raw_fd(), (&raw mut name).cast());
    // SAFETY: the kernel writes at most `len` bytes, the size of `name`, which outlives the call.
    let got = unsafe {
        if of_peer { libc::getpeername(fd, to, &raw mut len) } else { libc::getsockname(fd, to, &raw mut len) }
    };
    checked(got, if of_peer { "getpeername" } else { "getsockname" })?;
    if i32::from(name.sin_family) != libc::AF_INET {
        return Err(TcpError::Family);
    }
    Ok(SocketAddrV4::new(Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes()), u16::from_be(name.sin_port)))
}
