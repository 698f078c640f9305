//! The few socket calls that the standard library does not offer.

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Instant;

/// A socket of any family, closed on drop and on `exec`.
#[derive(Debug)]
pub(crate) struct RawSocket(OwnedFd);

/// What one `receive` found.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    /// Length of the datagram, which may exceed the buffer.
    pub(crate) length: usize,
    /// Netlink port of the sender, 0 = the kernel; 0 too for other families.
    pub(crate) netlink_port: u32,
}

impl RawSocket {
    pub(crate) fn open(family: i32, kind: i32, protocol: i32) -> io::Result<Self> {
        // SAFETY: `socket` takes no pointers.
        let fd = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the call above returned a new descriptor which nobody else knows.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Binds a netlink socket to a port of the kernel's choice and the given multicast groups (a bit mask).
    pub(crate) fn bind_netlink(&self, groups: u32) -> io::Result<()> {
        // SAFETY: sockaddr_nl is plain integers; all zero is a valid value.
        let mut address: libc::sockaddr_nl = unsafe { mem::zeroed() };
        address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
        address.nl_groups = groups;
        // SAFETY: sockaddr_nl is what an AF_NETLINK socket wants.
        unsafe { self.bind(&address) }
    }

    /// Binds a packet socket to one interface and one ethertype.
    pub(crate) fn bind_packet(&self, interface: u32, ethertype: u16) -> io::Result<()> {
        // SAFETY: sockaddr_ll is plain integers; all zero is a valid value.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = ethertype.to_be();
        address.sll_ifindex = i32::try_from(interface).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?;
        // SAFETY: sockaddr_ll is what an AF_PACKET socket wants.
        unsafe { self.bind(&address) }
    }

    /// # Safety
    /// `A` is the C socket address type of this socket's family.
    unsafe fn bind<A>(&self, address: &A) -> io::Result<()> {
        let length = mem::size_of::<A>() as libc::socklen_t;
        // SAFETY: the pointer is to a live value of `length` bytes, which the kernel only reads.
        let status = unsafe { libc::bind(self.0.as_raw_fd(), std::ptr::from_ref(address).cast(), length) };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    pub(crate) fn set_option(&self, level: i32, name: i32, value: i32) -> io::Result<()> {
        // SAFETY: an i32 is what every option used with this method wants.
        unsafe { self.set_option_value(level, name, &value) }
    }

    /// Lets only frames pass for which the classic BPF `program` returns non-zero.
    pub(crate) fn attach_filter(&self, program: &mut [libc::sock_filter]) -> io::Result<()> {
        let length = u16::try_from(program.len()).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let described = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
        // SAFETY: SO_ATTACH_FILTER wants a sock_fprog; its pointer covers `length` instructions and outlives the call.
        unsafe { self.set_option_value(libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &described) }
    }

    /// # Safety
    /// `T` is what the option wants, with valid pointers.
    unsafe fn set_option_value<T>(&self, level: i32, name: i32, value: &T) -> io::Result<()> {
        let length = mem::size_of::<T>() as libc::socklen_t;
        let pointer = std::ptr::from_ref(value).cast();
        // SAFETY: the pointer is to a live value of `length` bytes, which the kernel only reads.
        let status = unsafe { libc::setsockopt(self.0.as_raw_fd(), level, name, pointer, length) };
        if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends one datagram without waiting for room.
    pub(crate) fn send(&self, datagram: &[u8]) -> io::Result<()> {
        let flags = libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT;
        // SAFETY: pointer and length are of one live slice, which the kernel only reads.
        let sent = unsafe { libc::send(self.0.as_raw_fd(), datagram.as_ptr().cast(), datagram.len(), flags) };
        match usize::try_from(sent) {
            Err(_) => Err(io::Error::last_os_error()),
            Ok(sent) if sent < datagram.len() => Err(io::ErrorKind::WriteZero.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Receives one datagram, or `None` if there is none now.
    pub(crate) fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<Received>> {
        // SAFETY: sockaddr_storage is plain integers; all zero is a valid value.
        let mut sender: libc::sockaddr_storage = unsafe { mem::zeroed() };
        let mut sender_length = mem::size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        // SAFETY: `buffer`, `sender` and `sender_length` are live, writable, and their lengths are the true ones.
        let length = unsafe {
            libc::recvfrom(
                self.0.as_raw_fd(),
                buffer.as_mut_ptr().cast(),
                buffer.len(),
                libc::MSG_DONTWAIT | libc::MSG_TRUNC,
                std::ptr::from_mut(&mut sender).cast(),
                &mut sender_length,
            )
        };
        let Ok(length) = usize::try_from(length) else {
            let error = io::Error::last_os_error();
            return match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(None),
                _ => Err(error),
            };
        };
        let netlink_port = if i32::from(sender.ss_family) == libc::AF_NETLINK {
            // SAFETY: the family says that the kernel wrote a sockaddr_nl, which is smaller than a sockaddr_storage.
            unsafe { std::ptr::from_ref(&sender).cast::<libc::sockaddr_nl>().read().nl_pid }
        } else {
            0
        };
        Ok(Some(Received { length, netlink_port }))
    }

    /// Waits until there is something to read; `false` once `deadline` has passed.
    pub(crate) fn wait_readable(&self, deadline: Instant) -> io::Result<bool> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Rounded up, so that the last fraction of a millisecond is slept, not spun.
            let millis = i32::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
            let mut entry = libc::pollfd { fd: self.0.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one live, writable pollfd.
            let ready = unsafe { libc::poll(&mut entry, 1, millis) };
            if ready > 0 {
                return Ok(true);
            }
            if ready < 0 {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            } else if left.is_zero() {
                return Ok(false);
            }
        }
    }
}

impl AsFd for RawSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
