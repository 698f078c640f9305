//! The C library's calls that a server makes of its connections. What concerns no slice goes on as it was.
//!
//! The system's own calls are made by number, not through the C library, so that none comes back here.

use crate::connections::{Said, Served};
use crate::server::enter;
use libc::{
    c_int, c_void, epoll_event, fd_set, iovec, nfds_t, off_t, pollfd, size_t, sockaddr, socklen_t, ssize_t, timeval,
};

/// Bytes of a file that are read at once for `sendfile`.
const PIECE: usize = 16 << 10;

fn set_errno(errno: c_int) {
    // SAFETY: the C library's own place for this thread.
    unsafe { *libc::__errno_location() = errno };
}

fn answer(said: Said) -> ssize_t {
    match said {
        Said::Bytes(n) => ssize_t::try_from(n).unwrap_or(ssize_t::MAX),
        Said::Again => {
            set_errno(libc::EAGAIN);
            -1
        }
        Said::Broken => {
            set_errno(libc::ECONNRESET);
            -1
        }
    }
}

/// Asks the slice behind a descriptor; `None`: there is none.
fn of_slice<R>(socket: c_int, ask: impl FnOnce(&mut Served) -> R) -> Option<R> {
    let mut entered = enter()?;
    entered.server.served(socket).map(ask)
}

/// # Safety
/// As listen(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn listen(socket: c_int, backlog: c_int) -> c_int {
    // SAFETY: takes no pointers.
    let done = unsafe { libc::syscall(libc::SYS_listen, socket, backlog) } as c_int;
    if done == 0
        && let Some(mut entered) = enter()
    {
        entered.server.listens(socket);
    }
    done
}

/// # Safety
/// As accept(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept(socket: c_int, address: *mut sockaddr, len: *mut socklen_t) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { accept4(socket, address, len, 0) }
}

/// # Safety
/// As accept4(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn accept4(socket: c_int, address: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
    // SAFETY: the caller's promise.
    let of_system = || unsafe { libc::syscall(libc::SYS_accept4, socket, address, len, flags) } as c_int;
    let Some(mut entered) = enter() else { return of_system() };
    if !entered.server.is_listener(socket) {
        drop(entered);
        return of_system();
    }
    loop {
        if let Some(plugged) = entered.server.next_plugged() {
            // SAFETY: the caller's promise for both pointers; the descriptor is a socket.
            unsafe { libc::syscall(libc::SYS_getpeername, plugged, address, len) };
            return plugged;
        }
        let accepted = of_system();
        if accepted < 0 || entered.server.adopt(accepted) {
            return accepted;
        }
        // A knock, or no slice: the next one, if there is one. The listener may be one that waits.
        if !entered.server.has_plugged() && !is_readable(socket) {
            set_errno(libc::EAGAIN);
            return -1;
        }
    }
}

fn is_readable(socket: c_int) -> bool {
    let mut asked = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
    // SAFETY: one entry, which outlives the call.
    unsafe { libc::syscall(libc::SYS_poll, &raw mut asked, 1usize, 0usize) == 1 }
}

/// # Safety
/// As read(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn read(fd: c_int, into: *mut c_void, len: size_t) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { recv(fd, into, len, c_int::MIN) }
}

/// # Safety
/// As recv(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recv(fd: c_int, into: *mut c_void, len: size_t, flags: c_int) -> ssize_t {
    let is_read = flags == c_int::MIN;
    let said = of_slice(fd, |served| {
        // SAFETY: the caller's promise.
        let into = unsafe { std::slice::from_raw_parts_mut(into.cast::<u8>(), len) };
        served.read(into, !is_read && flags & libc::MSG_PEEK != 0)
    });
    match said {
        Some(said) => answer(said),
        // SAFETY: the caller's promise, for both.
        None if is_read => unsafe { libc::syscall(libc::SYS_read, fd, into, len) as ssize_t },
        // SAFETY: as above.
        None => unsafe { libc::syscall(libc::SYS_recvfrom, fd, into, len, flags, 0usize, 0usize) as ssize_t },
    }
}

/// # Safety
/// As recvfrom(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn recvfrom(
    fd: c_int,
    into: *mut c_void,
    len: size_t,
    flags: c_int,
    address: *mut sockaddr,
    address_len: *mut socklen_t,
) -> ssize_t {
    if of_slice(fd, |_| ()).is_some() {
        // SAFETY: the caller's promise. A connected socket's address is not told.
        return unsafe { recv(fd, into, len, flags) };
    }
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_recvfrom, fd, into, len, flags, address, address_len) as ssize_t }
}

/// # Safety
/// As write(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn write(fd: c_int, bytes: *const c_void, len: size_t) -> ssize_t {
    // SAFETY: the caller's promise.
    unsafe { send(fd, bytes, len, c_int::MIN) }
}

/// # Safety
/// As send(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn send(fd: c_int, bytes: *const c_void, len: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the caller's promise.
    let said = of_slice(fd, |served| served.write(unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), len) }));
    match said {
        Some(said) => answer(said),
        // SAFETY: the caller's promise, for both.
        None if flags == c_int::MIN => unsafe { libc::syscall(libc::SYS_write, fd, bytes, len) as ssize_t },
        // SAFETY: as above.
        None => unsafe { libc::syscall(libc::SYS_sendto, fd, bytes, len, flags, 0usize, 0usize) as ssize_t },
    }
}

/// # Safety
/// As writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
    let said = of_slice(fd, |served| {
        // SAFETY: the caller's promise.
        let parts = unsafe { std::slice::from_raw_parts(parts, usize::try_from(count).unwrap_or(0)) };
        let mut total = 0;
        for part in parts.iter().filter(|part| part.iov_len > 0) {
            // SAFETY: the caller's promise.
            let bytes = unsafe { std::slice::from_raw_parts(part.iov_base.cast::<u8>(), part.iov_len) };
            match served.write(bytes) {
                Said::Bytes(n) => {
                    total += n;
                    if n < bytes.len() {
                        break;
                    }
                }
                Said::Again if total > 0 => break,
                other => return other,
            }
        }
        Said::Bytes(total)
    });
    match said {
        Some(said) => answer(said),
        // SAFETY: the caller's promise.
        None => unsafe { libc::syscall(libc::SYS_writev, fd, parts, count) as ssize_t },
    }
}

/// # Safety
/// As sendfile(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    let said = of_slice(to, |served| {
        let mut piece = vec![0u8; PIECE.min(count).min(served.room().max(1))];
        // SAFETY: the buffer is as long as said; the caller's promise for the offset.
        let read = unsafe {
            match offset.as_ref() {
                Some(at) => libc::syscall(libc::SYS_pread64, from, piece.as_mut_ptr(), piece.len(), *at),
                None => libc::syscall(libc::SYS_read, from, piece.as_mut_ptr(), piece.len()),
            }
        };
        let Ok(read) = usize::try_from(read) else { return Said::Broken };
        piece.truncate(read);
        let said = served.write(&piece);
        let taken = if let Said::Bytes(n) = said { n } else { 0 };
        let moved = off_t::try_from(taken).unwrap_or(0);
        // SAFETY: the caller's promise for the offset.
        unsafe {
            match offset.as_mut() {
                Some(at) => *at += moved,
                // What was read and not taken is put back.
                None => drop(libc::syscall(libc::SYS_lseek, from, moved - read as off_t, libc::SEEK_CUR)),
            }
        }
        said
    });
    match said {
        Some(said) => answer(said),
        // SAFETY: the caller's promise.
        None => unsafe { libc::syscall(libc::SYS_sendfile, to, from, offset, count) as ssize_t },
    }
}

/// # Safety
/// As sendfile64(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sendfile64(to: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
    // SAFETY: the caller's promise; the two are one on this machine.
    unsafe { sendfile(to, from, offset, count) }
}

/// # Safety
/// As shutdown(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn shutdown(fd: c_int, how: c_int) -> c_int {
    let is_slice = of_slice(fd, |served| {
        if how != libc::SHUT_RD {
            served.close();
        }
    });
    match is_slice {
        Some(()) => 0,
        // SAFETY: takes no pointers.
        None => unsafe { libc::syscall(libc::SYS_shutdown, fd, how) as c_int },
    }
}

/// # Safety
/// As close(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn close(fd: c_int) -> c_int {
    if let Some(mut entered) = enter()
        && entered.server.closes(fd)
    {
        return 0;
    }
    // SAFETY: takes no pointers.
    unsafe { libc::syscall(libc::SYS_close, fd) as c_int }
}

/// Commits, and names the descriptors with input that only this library knows of.
fn waits() -> Vec<c_int> {
    enter().map(|mut entered| entered.server.waits()).unwrap_or_default()
}

/// # Safety
/// As poll(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
    let unseen = waits();
    let asked = |fd: &pollfd| unseen.contains(&fd.fd) && fd.events & libc::POLLIN != 0;
    // SAFETY: the caller's promise.
    let all = unsafe { std::slice::from_raw_parts_mut(fds, if fds.is_null() { 0 } else { count as usize }) };
    let timeout = if all.iter().any(asked) { 0 } else { timeout };
    // SAFETY: the caller's promise.
    let done = unsafe { libc::syscall(libc::SYS_poll, fds, count, timeout) as c_int };
    if done < 0 {
        return done;
    }
    all.iter_mut().filter(|fd| asked(fd)).for_each(|fd| fd.revents |= libc::POLLIN);
    c_int::try_from(all.iter().filter(|fd| fd.revents != 0).count()).unwrap_or(c_int::MAX)
}

/// # Safety
/// As select(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn select(
    count: c_int,
    read: *mut fd_set,
    write: *mut fd_set,
    except: *mut fd_set,
    timeout: *mut timeval,
) -> c_int {
    let unseen = waits();
    // SAFETY: the caller's promise; numbers are below `count`, which is at most FD_SETSIZE.
    let is_in = |fd: c_int| !read.is_null() && fd < count.min(1024) && unsafe { libc::FD_ISSET(fd, read) };
    let asked: Vec<c_int> = unseen.into_iter().filter(|fd| is_in(*fd)).collect();
    let mut at_once = timeval { tv_sec: 0, tv_usec: 0 };
    let timeout = if asked.is_empty() { timeout } else { &raw mut at_once };
    // SAFETY: the caller's promise.
    let done = unsafe { libc::syscall(libc::SYS_select, count, read, write, except, timeout) as c_int };
    if done < 0 {
        return done;
    }
    let more: Vec<c_int> = asked.into_iter().filter(|fd| !is_in(*fd)).collect();
    // SAFETY: as above.
    more.iter().for_each(|fd| unsafe { libc::FD_SET(*fd, read) });
    done.saturating_add(c_int::try_from(more.len()).unwrap_or(0))
}

/// # Safety
/// As epoll_ctl(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_ctl(poll: c_int, what: c_int, fd: c_int, event: *mut epoll_event) -> c_int {
    // SAFETY: the caller's promise.
    let done = unsafe { libc::syscall(libc::SYS_epoll_ctl, poll, what, fd, event) as c_int };
    // SAFETY: the caller's promise: NULL, or an event.
    if let Some(event) = unsafe { event.as_ref() }
        && done == 0
        && what != libc::EPOLL_CTL_DEL
        && let Some(mut entered) = enter()
    {
        entered.server.polls(poll, fd, event.u64);
    }
    done
}

/// # Safety
/// As epoll_wait(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn epoll_wait(poll: c_int, events: *mut epoll_event, max: c_int, timeout: c_int) -> c_int {
    let unseen = waits();
    let words = enter().map(|entered| entered.server.words(poll, &unseen)).unwrap_or_default();
    let timeout = if words.is_empty() { timeout } else { 0 };
    // SAFETY: the caller's promise.
    let done = unsafe { libc::syscall(libc::SYS_epoll_wait, poll, events, max, timeout) as c_int };
    let (Ok(told), Ok(room)) = (usize::try_from(done), usize::try_from(max)) else { return done };
    // SAFETY: the caller's promise: room for `max` events, of which the kernel has written `told`.
    let events = unsafe { std::slice::from_raw_parts_mut(events, room) };
    let mut told = told;
    for word in words {
        let known = events.get(..told).is_some_and(|told| told.iter().any(|event| event.u64 == word));
        if let (Some(place), false) = (events.get_mut(told), known) {
            *place = epoll_event { events: libc::EPOLLIN as u32, u64: word };
            told += 1;
        }
    }
    c_int::try_from(told).unwrap_or(done)
}

/// # Safety
/// As recv(2), which programs call by this name where the compiler checks lengths.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __recv_chk(fd: c_int, into: *mut c_void, len: size_t, room: size_t, flags: c_int) -> ssize_t {
    // SAFETY: the caller's promise, for the shorter of the two.
    unsafe { recv(fd, into, len.min(room), flags) }
}

/// # Safety
/// As read(2), likewise.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __read_chk(fd: c_int, into: *mut c_void, len: size_t, room: size_t) -> ssize_t {
    // SAFETY: as above.
    unsafe { read(fd, into, len.min(room)) }
}
