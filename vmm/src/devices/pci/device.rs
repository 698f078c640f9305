//! The host bridge at 00:00.0. It can be found, and nothing else.

use super::config::{ADDRESS, CLASS, CLASS_REGISTER, DATA, ENABLED, HEADER_BYTES, ID, ID_REGISTER};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// The bridge, as vCPU threads reach it.
#[derive(Debug, Default)]
pub struct HostBridge {
    address: AtomicU32,
}

impl HostBridge {
    /// A read of a port; `false`: it is not this device's.
    pub fn read(&self, port: u16, data: &mut [u8]) -> bool {
        let address = self.address.load(Relaxed);
        let (word, offset) = match port {
            // Parts of the address register are other devices' ports.
            ADDRESS if data.len() == 4 => (address, 0),
            DATA..=0xcff => (register(address), usize::from(port - DATA)),
            _ => return false,
        };
        let bytes = word.to_le_bytes();
        let bytes = bytes.get(offset..).unwrap_or_default();
        // What reaches beyond the register reads as nothing there.
        data.fill(0xff);
        data.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        true
    }

    /// A write of a port. Only the address can be written.
    pub fn write(&self, port: u16, data: &[u8]) {
        if let (ADDRESS, Ok(word)) = (port, <[u8; 4]>::try_from(data)) {
            self.address.store(u32::from_le_bytes(word), Relaxed);
        }
    }

    /// As after power-on.
    pub fn reset(&self) {
        self.address.store(0, Relaxed);
    }
}

/// A register of the only device, all ones where none is.
fn register(address: u32) -> u32 {
    // Bus, device and function are 0.
    if address & ENABLED == 0 || address & 0x00ff_ff00 != 0 {
        return u32::MAX;
    }
    match address & 0xfc {
        ID_REGISTER => ID,
        CLASS_REGISTER => CLASS,
        offset if offset < HEADER_BYTES => 0,
        _ => u32::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bridge: &HostBridge, address: u32, port: u16, bytes: usize) -> Vec<u8> {
        bridge.write(ADDRESS, &address.to_le_bytes());
        let mut data = vec![0xee; bytes];
        assert!(bridge.read(port, &mut data));
        data
    }

    #[test]
    fn the_bridge_is_found_and_nothing_else() {
        let bridge = HostBridge::default();
        assert_eq!(read(&bridge, ENABLED, ADDRESS, 4), ENABLED.to_le_bytes());
        assert_eq!(read(&bridge, ENABLED, DATA, 4), ID.to_le_bytes());
        assert_eq!(read(&bridge, ENABLED | CLASS_REGISTER, DATA + 2, 2), [0x00, 0x06]);
        assert_eq!(read(&bridge, ENABLED | 0x0c, DATA, 4), [0; 4]);
        for nothing in [0, ENABLED | 1 << 8, ENABLED | 1 << 11, ENABLED | 1 << 16, ENABLED | 0x40] {
            assert_eq!(read(&bridge, nothing, DATA, 4), [0xff; 4], "{nothing:#x}");
        }
        bridge.reset();
        assert_eq!(read(&bridge, 0, ADDRESS, 4), [0; 4]);
    }

    #[test]
    fn odd_accesses_hurt_nobody() {
        let bridge = HostBridge::default();
        bridge.write(ADDRESS, &[1, 2]);
        bridge.write(DATA, &[0; 4]);
        assert_eq!(read(&bridge, ENABLED, DATA + 3, 4), [0x0d, 0xff, 0xff, 0xff]);
        assert_eq!(read(&bridge, ENABLED, DATA, 64).iter().filter(|b| **b == 0xff).count(), 60);
        assert!(
            !bridge.read(ADDRESS + 3, &mut [0]) && !bridge.read(ADDRESS, &mut [0; 2]) && !bridge.read(0xd00, &mut [0])
        );
    }
}
