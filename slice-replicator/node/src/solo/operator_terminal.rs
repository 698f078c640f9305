//! Standard input as the guest's console: key by key where it is a terminal.

use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};

/// Standard input, set to give every key at once without echo; Ctrl-C still interrupts. Restored when dropped.
#[derive(Debug)]
pub(super) struct OperatorTerminal {
    before: Option<libc::termios>,
    flags: libc::c_int,
}

impl OperatorTerminal {
    /// Takes standard input. A pipe or file works too.
    pub(super) fn take() -> Self {
        let fd = Self::fd();
        // SAFETY: F_GETFL takes no pointer; standard input is this process's own.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        if flags >= 0 {
            // SAFETY: as above.
            unsafe { libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) };
        }
        // SAFETY: termios is plain integers; all zero is a valid value.
        let mut settings: libc::termios = unsafe { std::mem::zeroed() };
        // SAFETY: `settings` is writable for the duration of the call; what is no terminal is refused.
        let is_terminal = unsafe { libc::tcgetattr(fd, &mut settings) } == 0;
        let before = is_terminal.then_some(settings);
        if is_terminal {
            settings.c_lflag &= !(libc::ICANON | libc::ECHO);
            // SAFETY: `settings` is valid for the duration of the call.
            unsafe { libc::tcsetattr(fd, libc::TCSANOW, &settings) };
        }
        Self { before, flags }
    }

    /// For the poll.
    pub(super) fn fd() -> RawFd {
        std::io::stdin().as_raw_fd()
    }

    /// What was typed; `None` at the end of input. An empty piece: nothing now.
    pub(super) fn read<'a>(&self, into: &'a mut [u8]) -> Option<&'a [u8]> {
        match std::io::stdin().lock().read(into) {
            Ok(0) => None,
            Ok(n) => Some(into.get(..n).unwrap_or_default()),
            Err(_) => Some(&[]),
        }
    }
}

impl Drop for OperatorTerminal {
    fn drop(&mut self) {
        let fd = Self::fd();
        if let Some(before) = &self.before {
            // SAFETY: `before` is what tcgetattr gave for this descriptor.
            unsafe { libc::tcsetattr(fd, libc::TCSANOW, before) };
        }
        if self.flags >= 0 {
            // SAFETY: F_SETFL takes no pointer. The flags belong to the open file, which a shell may share.
            unsafe { libc::fcntl(fd, libc::F_SETFL, self.flags) };
        }
    }
}
