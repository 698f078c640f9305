//! Tap interfaces (Linux `Documentation/networking/tuntap.rst`).

use super::vnet_header::VNET_HEADER_BYTES;
use libc::c_int;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

const DEVICE: &str = "/dev/net/tun";
const FLAGS: c_int = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

/// Where a tap comes from.
#[derive(Debug)]
pub enum TapSource {
    /// The interface of this name: attached to if it is there, else made (and gone when this process is).
    Name(String),
    /// A descriptor that somebody else opened and configured; used as it is.
    Inherited(OwnedFd),
}

/// Why a tap could not be used. Messages say what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The name cannot be an interface's.
    #[error("tap {0:?}: an interface name has 1 to 15 bytes")]
    Name(String),
    /// A system call failed.
    #[error("tap {name}: {call}: {source}{}", advice(.source))]
    Call {
        /// The interface.
        name: String,
        /// What was tried.
        call: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The inherited descriptor is set up in a way that does not fit.
    #[error(
        "tap {name}: the inherited descriptor {what}; open it with IFF_TAP | IFF_NO_PI | IFF_VNET_HDR and 12-byte headers"
    )]
    Unsuitable {
        /// The interface.
        name: String,
        /// What does not fit.
        what: &'static str,
    },
}

/// One line of cause for the errors people meet.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EBUSY) => " (another process holds this tap: give each node its own)",
        Some(libc::EPERM) => " (needs CAP_NET_ADMIN, or a tap that belongs to this user: `ip tuntap add ... user ...`)",
        Some(libc::EACCES) => " (this user may not open /dev/net/tun)",
        Some(libc::ENOENT | libc::ENODEV | libc::ENXIO) => " (no tun driver: `modprobe tun`)",
        Some(libc::EINVAL) => " (an interface of this name exists with other flags: not a tap, or multi_queue)",
        Some(libc::EBADFD) => " (the tap was deleted or never attached)",
        Some(libc::EIO | libc::ENETDOWN) => " (the interface is down: `ip link set ... up`)",
        _ => "",
    }
}

/// An open tap with 12-byte virtio-net headers, non-blocking.
#[derive(Debug)]
pub struct Tap {
    file: File,
    name: String,
}

impl Tap {
    /// Opens or adopts a tap.
    pub fn open(source: TapSource) -> Result<Self, TapError> {
        match source {
            TapSource::Name(name) => Self::by_name(name),
            TapSource::Inherited(fd) => Self::inherited(fd),
        }
    }

    /// The interface's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For the poll loop.
    pub fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Reads one frame with its header; `WouldBlock` if there is none. A frame longer than `into` is cut off.
    pub fn read(&self, into: &mut [u8]) -> io::Result<usize> {
        (&self.file).read(into)
    }

    /// Writes one frame with its header.
    pub fn write(&self, frame: &[u8]) -> io::Result<()> {
        (&self.file).write(frame).map(drop)
    }

    fn by_name(name: String) -> Result<Self, TapError> {
        let mut request = interface_request(&name)?;
        let failed = |call, source| TapError::Call { name: name.clone(), call, source };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open(DEVICE)
            .map_err(|e| failed("opening /dev/net/tun", e))?;
        request.ifr_ifru.ifru_flags = FLAGS as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
        checked(set).map_err(|e| failed("attaching (TUNSETIFF)", e))?;
        let header = VNET_HEADER_BYTES as c_int;
        // SAFETY: TUNSETVNETHDRSZ reads one int.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &header) };
        checked(set).map_err(|e| failed("setting the header size (TUNSETVNETHDRSZ)", e))?;
        // Checksums may stay unfinished; no segmentation offload, so that a frame is always one packet.
        // SAFETY: TUNSETOFFLOAD takes its flags by value.
        let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, libc::c_ulong::from(libc::TUN_F_CSUM)) };
        checked(set).map_err(|e| failed("setting offloads (TUNSETOFFLOAD)", e))?;
        Ok(Self { file, name })
    }

    fn inherited(fd: OwnedFd) -> Result<Self, TapError> {
        let file = File::from(fd);
        let failed = |call, source| TapError::Call { name: "(inherited)".into(), call, source };
        // SAFETY: a zeroed ifreq is a valid one.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // SAFETY: TUNGETIFF writes one ifreq.
        let got = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETIFF, &mut request) };
        checked(got).map_err(|e| failed("asking its flags (TUNGETIFF)", e))?;
        let name = interface_name(&request);
        // SAFETY: TUNGETIFF filled in the flags.
        let flags = c_int::from(unsafe { request.ifr_ifru.ifru_flags });
        let mut header: c_int = 0;
        // SAFETY: TUNGETVNETHDRSZ writes one int.
        let got = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNGETVNETHDRSZ, &mut header) };
        checked(got).map_err(|e| failed("asking its header size (TUNGETVNETHDRSZ)", e))?;
        let unsuitable = |what| Err(TapError::Unsuitable { name: name.clone(), what });
        if flags & libc::IFF_TAP == 0 {
            return unsuitable("is no tap");
        }
        // IFF_NO_PI cannot be asked for: in the kernel's answer its bit says that no filter is attached.
        if flags & libc::IFF_VNET_HDR == 0 || header != VNET_HEADER_BYTES as c_int {
            return unsuitable("has no 12-byte virtio-net header before each frame");
        }
        set_nonblocking(file.as_fd()).map_err(|e| failed("making it non-blocking", e))?;
        Ok(Self { file, name })
    }
}

fn set_nonblocking(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: fcntl with integer arguments on an open descriptor.
    let flags = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GETFL) };
    checked(flags)?;
    // SAFETY: as above.
    checked(unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK) })
}

fn checked(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn interface_request(name: &str) -> Result<libc::ifreq, TapError> {
    // SAFETY: a zeroed ifreq is a valid one.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.is_empty() || name.len() >= request.ifr_name.len() || name.bytes().any(|b| b == 0 || b == b'/') {
        return Err(TapError::Name(name.into()));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn interface_name(request: &libc::ifreq) -> String {
    let bytes: Vec<u8> = request.ifr_name.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn impossible_names_are_refused_before_the_kernel_sees_them() {
        for name in ["", "a-name-that-is-too-long", "a/b"] {
            assert!(matches!(Tap::open(TapSource::Name(name.into())), Err(TapError::Name(_))), "{name}");
        }
    }

    #[test]
    fn a_descriptor_that_is_no_tap_is_refused() {
        let null = File::open("/dev/null").unwrap();
        let error = Tap::open(TapSource::Inherited(null.into())).unwrap_err();
        assert!(matches!(error, TapError::Call { .. }), "{error}");
    }

    #[test]
    fn errors_carry_advice() {
        let error = TapError::Call {
            name: "tap9".into(),
            call: "attaching (TUNSETIFF)",
            source: io::Error::from_raw_os_error(libc::EBUSY),
        };
        assert!(error.to_string().contains("another process"), "{error}");
    }
}
