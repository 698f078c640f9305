//! Tap interfaces whose descriptor belongs to a VMM and whose interface belongs to the edge.
//!
//! Source: `include/uapi/linux/if_tun.h`, `Documentation/networking/tuntap.rst`.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

use thiserror::Error;

use crate::links::{LinkError, Links, check_name};
use crate::netns::{NetNs, NetNsError};

/// `struct virtio_net_hdr_v1`: stands before each frame, in both directions.
pub const VNET_HEADER_LEN: i32 = 12;

const TUN_DEVICE: &str = "/dev/net/tun";

/// What can go wrong when a tap is made.
#[derive(Debug, Error)]
pub enum TapError {
    /// The clone device could not be opened.
    #[error("cannot open {TUN_DEVICE}: {source}{}", open_advice(.source))]
    Open {
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// One step of the setting failed.
    #[error("tap {name}: {step}: {source}{}", step_advice(.source))]
    Step {
        /// Name of the interface.
        name: String,
        /// What was to be done.
        step: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The interface could not be found, silenced or set up.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The namespace could not be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
}

fn open_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "; load the module `tun` (modprobe tun)",
        Some(libc::EACCES | libc::EPERM) => "; give this user read and write access to it",
        Some(libc::ENODEV | libc::ENXIO) => "; the kernel has no tun driver",
        _ => "",
    }
}

fn step_advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY) => "; another process has it open, or an interface of another kind has this name",
        Some(libc::EPERM) => "; CAP_NET_ADMIN is needed, or the tap belongs to another user",
        Some(libc::EINVAL) => "; an interface of this name exists with other flags (tun for tap, multi-queue)",
        Some(libc::EEXIST) => "; an interface of this name exists",
        _ => "",
    }
}

/// Frames that wait for a node which has no processor for a while: 100 ms at 40,000 frames a second, which is less than a client's shortest
/// retransmission timeout. With the kernel's 1,000 a node that answers so many drops some in each pause of a scheduler; a dropped request costs
/// more than its answer.
pub const QUEUE_FRAMES: u32 = 4_096;

/// How long a tap's interface lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TapLifetime {
    /// As long as some process has its descriptor open. Its entries in the fabric must then be taken out when it goes.
    WithDescriptor,
    /// Until it is deleted or its namespace vanishes: the interface stays where a node dies and is started again.
    Persistent,
}

/// A tap: frames written to the descriptor are received by the interface, frames sent by the interface are read from it,
/// each behind a [`VNET_HEADER_LEN`] byte header.
#[derive(Debug)]
pub struct Tap {
    fd: OwnedFd,
    index: u32,
    name: String,
}

impl Tap {
    /// Makes a tap in `namespace`, or attaches to a persistent one that is there, silences the kernel's own chatter on
    /// it and sets it up. Offloads are off until the VMM sets them (`TUNSETOFFLOAD`) as its guest negotiated. Frames that
    /// nobody reads wait in the interface's queue ([`QUEUE_FRAMES`]), further ones are dropped there. The descriptor does
    /// not block and is closed on `exec`; it works in every namespace.
    pub fn open_in(namespace: &NetNs, name: &str, lifetime: TapLifetime) -> Result<Self, TapError> {
        check_name(name)?;
        let fd = namespace.enter(|| attach(name, lifetime))??;
        let mut links = Links::open_in(namespace)?;
        let index = links.index_of(name)?;
        links.silence(index)?;
        links.set_queue(index, QUEUE_FRAMES)?;
        links.set_up(index)?;
        Ok(Self { fd, index, name: name.to_owned() })
    }

    /// Number of the interface in its namespace.
    pub const fn index(&self) -> u32 {
        self.index
    }

    /// Name of the interface.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The descriptor alone. The interface of a tap that is not persistent lives as long as it.
    pub fn into_fd(self) -> OwnedFd {
        self.fd
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Keeps `fd` open across the next `exec` of this process, under its number.
///
/// Async-signal-safe: to be used between `fork` and `exec` (`CommandExt::pre_exec`), so that only the node that a tap is
/// meant for inherits it.
pub fn inherit_fd(fd: RawFd) -> io::Result<()> {
    // SAFETY: takes numbers only; a descriptor that is not open is refused by the kernel.
    if unsafe { libc::fcntl(fd, libc::F_SETFD, 0) } < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Opens the clone device and ties it to the interface; must run inside the wanted namespace.
fn attach(name: &str, lifetime: TapLifetime) -> Result<OwnedFd, TapError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(TUN_DEVICE)
        .map_err(|source| TapError::Open { source })?;
    let fd = OwnedFd::from(file);
    let failed = |step| move |source| TapError::Step { name: name.to_owned(), step, source };

    // SAFETY: ifreq is plain integers and bytes; all zero is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    control(&fd, libc::TUNSETIFF, &mut request).map_err(failed("TUNSETIFF (tap, no packet info, vnet header)"))?;
    let mut header_len = VNET_HEADER_LEN;
    control(&fd, libc::TUNSETVNETHDRSZ, &mut header_len).map_err(failed("TUNSETVNETHDRSZ (12 bytes)"))?;
    if lifetime == TapLifetime::Persistent {
        // SAFETY: TUNSETPERSIST takes its argument as a number.
        let status = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETPERSIST, 1) };
        if status < 0 {
            return Err(failed("TUNSETPERSIST")(io::Error::last_os_error()));
        }
    }
    Ok(fd)
}

/// An ioctl of the tun driver that takes its argument through a pointer.
fn control<T>(fd: &OwnedFd, request: libc::Ioctl, argument: &mut T) -> io::Result<()> {
    // SAFETY: callers pass the argument type of the request (an ifreq, an int), which is live, writable and plain data:
    // TUNSETIFF writes the ifreq back.
    let status = unsafe { libc::ioctl(fd.as_raw_fd(), request, std::ptr::from_mut(argument)) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
