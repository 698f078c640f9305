//! What the ports do. They have no state.

use super::config::{RESET, RESET_VALUE, S5, SLEEP_CONTROL, SLEEP_STATUS};
use crate::exit::GuestExit;

/// Sleep control: go to sleep now (SLP_EN).
const SLEEP_ENABLE: u8 = 1 << 5;
/// Sleep control: where the type lies (SLP_TYP, 3 bits).
const SLEEP_TYPE_SHIFT: u8 = 2;
/// Command port of the 8042, and the command that pulses the processor's reset line.
const KEYBOARD_COMMAND: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

/// The guest reads a port; `None`: another device's.
pub const fn read(port: u16) -> Option<u8> {
    match port {
        SLEEP_CONTROL | SLEEP_STATUS => Some(0),
        _ => None,
    }
}

/// The guest writes a port. `Some`: it must stop. Sleep states but S5 are not offered and do nothing.
pub const fn write(port: u16, value: u8) -> Option<GuestExit> {
    match (port, value) {
        (SLEEP_CONTROL, _) if value & SLEEP_ENABLE != 0 && value >> SLEEP_TYPE_SHIFT & 7 == S5 => {
            Some(GuestExit::Shutdown)
        }
        (RESET, RESET_VALUE) | (KEYBOARD_COMMAND, PULSE_RESET) => Some(GuestExit::Reset),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_soft_off_and_resets_stop_the_guest() {
        assert_eq!(write(SLEEP_CONTROL, SLEEP_ENABLE | S5 << SLEEP_TYPE_SHIFT), Some(GuestExit::Shutdown));
        for (port, value) in [(RESET, 1), (0x64, 0xfe)] {
            assert_eq!(write(port, value), Some(GuestExit::Reset));
        }
        let others =
            [(SLEEP_CONTROL, S5 << 2), (SLEEP_CONTROL, SLEEP_ENABLE | 3 << 2), (RESET, 2), (0x64, 0xd1), (0x3f8, 1)];
        assert!(others.iter().all(|(port, value)| write(*port, *value).is_none()));
        assert_eq!((read(SLEEP_STATUS), read(0x3f8)), (Some(0), None));
    }
}
