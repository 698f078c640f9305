//! The 16550 itself, by `vm-superio`, behind a lock: the vCPU writes, the I/O thread types.

use super::console::Console;
use crate::interrupts::Interrupt;
use std::sync::{Mutex, PoisonError};
use vm_superio::Serial;
use vm_superio::serial::NoEvents;

/// First port.
pub const SERIAL_BASE: u16 = 0x3f8;
/// Ports.
pub const SERIAL_PORTS: u16 = 8;

/// The serial port.
#[derive(Debug)]
pub struct SerialPort {
    serial: Mutex<Option<Serial<Interrupt, NoEvents, Console>>>,
    interrupt: Interrupt,
}

impl SerialPort {
    /// A port that writes to this console.
    pub fn new(interrupt: Interrupt, console: Console) -> Self {
        Self { serial: Mutex::new(Some(Serial::new(interrupt.clone(), console))), interrupt }
    }

    /// Whether the port is one of this device's, and which.
    pub fn offset(port: u16) -> Option<u8> {
        let offset = port.checked_sub(SERIAL_BASE)?;
        u8::try_from(offset).ok().filter(|_| offset < SERIAL_PORTS)
    }

    /// The guest reads a register.
    pub fn read(&self, offset: u8) -> u8 {
        self.with(|s| s.read(offset)).unwrap_or(0xff)
    }

    /// The guest writes a register. A sink that fails loses output, nothing else.
    pub fn write(&self, offset: u8, value: u8) {
        self.with(|s| drop(s.write(offset, value)));
    }

    /// Types `bytes`; returns how many the port's 64-byte buffer took. The rest is the caller's to try again.
    pub fn input(&self, bytes: &[u8]) -> usize {
        self.with(|s| {
            s.writer_mut().flush_line();
            let room = s.fifo_capacity().min(bytes.len());
            let part = bytes.get(..room).unwrap_or(&[]);
            s.enqueue_raw_bytes(part).unwrap_or(0)
        })
        .unwrap_or(0)
    }

    /// Passes on an unfinished line.
    pub fn flush(&self) {
        self.with(|s| s.writer_mut().flush_line());
    }

    /// Bytes of console output dropped so far.
    pub fn dropped_bytes(&self) -> u64 {
        self.with(|s| s.writer().dropped_bytes()).unwrap_or(0)
    }

    /// Registers as after power-on; the console stays.
    pub fn reset(&self) {
        let mut slot = self.serial.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = slot.take() {
            let mut console = old.into_writer();
            console.flush_line();
            *slot = Some(Serial::new(self.interrupt.clone(), console));
        }
    }

    fn with<T>(&self, use_it: impl FnOnce(&mut Serial<Interrupt, NoEvents, Console>) -> T) -> Option<T> {
        self.serial.lock().unwrap_or_else(PoisonError::into_inner).as_mut().map(use_it)
    }
}
