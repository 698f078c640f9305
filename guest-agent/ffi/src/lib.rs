//! Slices of Linux processes for C. `include/escape_slices.h` is generated from this file.
//!
//! Each function checks what it is given for NULL; other wrong pointers are the caller's fault, as everywhere in C.

use escape_process::{Connection, Service, Session, SliceState, Turn, Upcall};
use std::cell::RefCell;
use std::ffi::{CString, c_char, c_int, c_void};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd, FromRawFd};
use std::ptr::null_mut;

/// Bytes of state that each slice has for its program.
pub const ESCAPE_STATE_BYTES: usize = 4096;
/// The program worked on the slice.
pub const ESCAPE_DONE: c_int = 0;
/// The host held the slice, or the turn left something to do: work again soon, without waiting for an event.
pub const ESCAPE_AGAIN: c_int = 1;
/// The connection is over: forget it with escape_drop().
pub const ESCAPE_OVER: c_int = 2;

/// A process that serves slices.
pub struct EscapeService(Service);

/// A connection that is a slice.
pub struct EscapeConnection(Connection);

/// A slice in a turn. Valid until the program's function returns.
pub struct EscapeSession {
    /// C has the address of a [`Session`], and never looks behind it.
    _opaque: (),
}

impl EscapeSession {
    /// # Safety
    /// The address is NULL, or that of the session of a turn that lasts, and nothing else uses the session meanwhile.
    const unsafe fn get<'a>(session: *mut Self) -> Option<&'a mut Session<'a>> {
        // SAFETY: the caller's promise; `escape_work` made the address of a session.
        unsafe { session.cast::<Session<'a>>().as_mut() }
    }
}

/// What the program does with a slice in one turn.
pub type EscapeProgram = Option<unsafe extern "C" fn(session: *mut EscapeSession, argument: *mut c_void)>;

/// The state of a slice, as C has it.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct State([u8; ESCAPE_STATE_BYTES]);
// SAFETY: bytes. That there are no addresses in them is the C program's promise (header).
unsafe impl SliceState for State {}

thread_local! {
    static ERROR: RefCell<CString> = RefCell::default();
}

fn fail<T>(error: &dyn std::fmt::Display, value: T) -> T {
    let text = error.to_string().replace('\0', " ");
    ERROR.with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
    value
}

/// Why the last call of this thread failed. Valid until the next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn escape_error() -> *const c_char {
    ERROR.with(|last| last.borrow().as_ptr())
}

/// Registers this process for its ports, at most four. NULL: there is no agent, or this is no guest of a cell.
///
/// # Safety
/// `ports` has `count` ports.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_register(ports: *const u16, count: usize) -> *mut EscapeService {
    if ports.is_null() || count > 4 {
        return fail(&"at most four ports", null_mut());
    }
    // SAFETY: the caller's promise.
    let ports = unsafe { std::slice::from_raw_parts(ports, count) };
    match Service::register(ports) {
        Ok(service) => Box::into_raw(Box::new(EscapeService(service))),
        Err(error) => fail(&error, null_mut()),
    }
}

/// A descriptor that is readable when escape_upcall() has something.
///
/// # Safety
/// `service` is of escape_register().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_upcall_fd(service: *const EscapeService) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { service.as_ref() }.map_or(-1, |service| service.0.as_fd().as_raw_fd())
}

/// A connection that was accepted on one of the ports becomes a slice. The descriptor belongs to the slice from now on, also if that fails.
///
/// # Safety
/// `service` is of escape_register(); `socket` is a connection's descriptor that nobody else uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_adopt(service: *mut EscapeService, socket: c_int) -> *mut EscapeConnection {
    // SAFETY: the caller's promise.
    let Some(service) = (unsafe { service.as_mut() }) else { return fail(&"no service", null_mut()) };
    if socket < 0 {
        return fail(&"no descriptor", null_mut());
    }
    // SAFETY: the caller's promise.
    let stream = unsafe { TcpStream::from_raw_fd(socket) };
    match service.0.adopt(stream) {
        Ok(connection) => Box::into_raw(Box::new(EscapeConnection(connection))),
        Err(error) => fail(&error, null_mut()),
    }
}

/// What the agent asks. 1: `*plugged` goes on here; work on it once now. 2: the slice in the slot `*discarded` is not this process's any more:
/// escape_forget() its connection. 0: nothing now. Negative: the agent is gone.
///
/// # Safety
/// `service` is of escape_register(); the other two point to a place each.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_upcall(
    service: *mut EscapeService,
    plugged: *mut *mut EscapeConnection,
    discarded: *mut u32,
) -> c_int {
    // SAFETY: the caller's promise, for all three.
    let (service, plugged, discarded) = unsafe { (service.as_mut(), plugged.as_mut(), discarded.as_mut()) };
    let (Some(service), Some(plugged), Some(discarded)) = (service, plugged, discarded) else {
        return fail(&"a pointer is NULL", -1);
    };
    match service.0.upcall() {
        Ok(None) => 0,
        Ok(Some(Upcall::Plugged(connection))) => {
            *plugged = Box::into_raw(Box::new(EscapeConnection(connection)));
            1
        }
        Ok(Some(Upcall::Discarded(key))) => {
            *discarded = key.slot;
            2
        }
        Err(error) => fail(&error, -1),
    }
}

/// The connection's descriptor, for poll() and its like: edge-triggered, for input, output and the peer's end. Nothing else may be done with it.
///
/// # Safety
/// `connection` is of escape_adopt() or escape_upcall().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_fd(connection: *const EscapeConnection) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { connection.as_ref() }.map_or(-1, |connection| connection.0.as_fd().as_raw_fd())
}

/// The slot that the slice is in: its name in this guest.
///
/// # Safety
/// `connection` is of escape_adopt() or escape_upcall().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_slot(connection: *const EscapeConnection) -> u32 {
    // SAFETY: the caller's promise.
    unsafe { connection.as_ref() }.map_or(u32::MAX, |connection| connection.0.key().slot)
}

/// One turn: what has come in is read, `program` works on the slice, and what it wrote is sent. Returns ESCAPE_DONE, ESCAPE_AGAIN, ESCAPE_OVER, or a
/// negative number if the agent is gone. `program` must return: it may neither longjmp() nor throw.
///
/// # Safety
/// `connection` is of escape_adopt() or escape_upcall().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_work(
    connection: *mut EscapeConnection,
    program: EscapeProgram,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: the caller's promise.
    let (Some(connection), Some(program)) = (unsafe { connection.as_mut() }, program) else {
        return fail(&"no connection or no program", -1);
    };
    let turn = connection.0.work(|session| {
        // SAFETY: the program gets the session's address for this call alone, and gives it to functions of this library only (header).
        unsafe { program(std::ptr::from_mut(session).cast(), argument) };
    });
    match turn {
        Ok(Turn::Done(())) if connection.0.is_due() => ESCAPE_AGAIN,
        Ok(Turn::Done(())) => ESCAPE_DONE,
        Ok(Turn::Held) => ESCAPE_AGAIN,
        Ok(Turn::Over) => ESCAPE_OVER,
        Err(error) => fail(&error, -1),
    }
}

/// Frees a connection. One that is not over ends behind what was written.
///
/// # Safety
/// `connection` is of escape_adopt() or escape_upcall(), and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_drop(connection: *mut EscapeConnection) {
    if !connection.is_null() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(connection) });
    }
}

/// Frees the connection of a slice that was discarded, in silence.
///
/// # Safety
/// As for escape_drop().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_forget(connection: *mut EscapeConnection) {
    if !connection.is_null() {
        // SAFETY: the caller's promise.
        unsafe { Box::from_raw(connection) }.0.forget();
    }
}

/// What has come in and was not consumed; `*len` is its length. Valid until the next call with this session.
///
/// # Safety
/// `session` is that of a turn; `len` points to a place.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_input(session: *const EscapeSession, len: *mut usize) -> *const u8 {
    // SAFETY: the caller's promise.
    let (Some(session), Some(len)) = (unsafe { EscapeSession::get(session.cast_mut()) }, unsafe { len.as_mut() })
    else {
        return std::ptr::null();
    };
    let input = session.input();
    *len = input.len();
    input.as_ptr()
}

/// Takes the first bytes off the input.
///
/// # Safety
/// `session` is that of a turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_consume(session: *mut EscapeSession, bytes: usize) {
    // SAFETY: the caller's promise.
    if let Some(session) = unsafe { EscapeSession::get(session) } {
        session.consume(bytes);
    }
}

/// Whether the client has sent its last byte and it was consumed: 1 or 0.
///
/// # Safety
/// `session` is that of a turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_at_end(session: *const EscapeSession) -> c_int {
    // SAFETY: the caller's promise.
    unsafe { EscapeSession::get(session.cast_mut()) }.map_or(0, |session| c_int::from(session.at_end()))
}

/// Bytes that can be written in this turn.
///
/// # Safety
/// `session` is that of a turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_room(session: *const EscapeSession) -> usize {
    // SAFETY: the caller's promise.
    unsafe { EscapeSession::get(session.cast_mut()) }.map_or(0, |session| session.room())
}

/// Writes as much as there is room for; returns how many bytes.
///
/// # Safety
/// `session` is that of a turn; `bytes` has `len` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_write(session: *mut EscapeSession, bytes: *const u8, len: usize) -> usize {
    // SAFETY: the caller's promise.
    match unsafe { EscapeSession::get(session) } {
        // SAFETY: the caller's promise.
        Some(session) if !bytes.is_null() => session.write(unsafe { std::slice::from_raw_parts(bytes, len) }),
        _ => 0,
    }
}

/// Nothing more will be written: the client sees the end behind what was.
///
/// # Safety
/// `session` is that of a turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_close(session: *mut EscapeSession) {
    // SAFETY: the caller's promise.
    if let Some(session) = unsafe { EscapeSession::get(session) } {
        session.close();
    }
}

/// The slice's state, ESCAPE_STATE_BYTES bytes aligned to 64, zeros in a new slice. Valid until the turn ends.
///
/// # Safety
/// `session` is that of a turn.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn escape_state(session: *mut EscapeSession) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { EscapeSession::get(session) }
        .map_or(null_mut(), |session| std::ptr::from_mut(session.state::<State>()).cast())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_header_is_that_of_the_source() {
        let generated = include_str!(concat!(env!("OUT_DIR"), "/escape_slices.h"));
        let kept = include_str!("../include/escape_slices.h");
        assert_eq!(kept, generated, "copy it from the build's OUT_DIR");
    }

    /// A program that was given nonsense hears why, and nothing else happens.
    #[test]
    fn missing_things_are_refused_with_a_cause() {
        use super::*;
        // SAFETY: NULL is what is tested.
        unsafe {
            assert!(escape_register(std::ptr::null(), 1).is_null());
            assert!(escape_adopt(null_mut(), 3).is_null());
            assert_eq!(escape_upcall(null_mut(), null_mut(), null_mut()), -1);
            assert_eq!(escape_work(null_mut(), None, null_mut()), -1);
            assert_eq!((escape_fd(std::ptr::null()), escape_room(std::ptr::null())), (-1, 0));
            escape_drop(null_mut());
            escape_forget(null_mut());
            let said = std::ffi::CStr::from_ptr(escape_error()).to_string_lossy().into_owned();
            assert_eq!(said, "no connection or no program");
            let port = 80;
            assert!(escape_register(&raw const port, 1).is_null(), "this machine is no guest of a cell");
            let said = std::ffi::CStr::from_ptr(escape_error()).to_string_lossy().into_owned();
            assert!(said.starts_with("the agent at /run/escape-agent.sock: "), "{said}");
        }
    }
}
