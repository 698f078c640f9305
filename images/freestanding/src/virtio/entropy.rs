//! The entropy device (virtio 1.2, section 5.4), used once at boot.

use super::buffers::Buffers;
use super::error::VirtioError;
use super::mmio::{F_VERSION_1, Mmio};
use crate::runtime::clock::Clock;
use escape_abi::layout::{MMIO_BASE, MMIO_STRIDE, device};

/// How long the device may take, microseconds.
const PATIENCE_US: i64 = 1_000_000;

/// Reads `N` random bytes (at most a buffer) and lets the device rest.
///
/// # Errors
/// See [`VirtioError`]; [`VirtioError::Silent`] after a second.
pub fn read<const N: usize>(clock: &Clock) -> Result<[u8; N], VirtioError> {
    let registers = (MMIO_BASE + device::RNG * MMIO_STRIDE) as *mut u32;
    // SAFETY: the VMM's page tables map the devices' pages for ever, at the addresses of the layout.
    let mmio = unsafe { Mmio::find(registers, 4)? };
    mmio.negotiate(F_VERSION_1, 0)?;
    let mut queue = mmio.queue(0, false)?;
    let buffers = Buffers::new().ok_or(VirtioError::Queue(0, 0))?;
    mmio.start();
    let mut random = [0; N];
    let mut filled = 0;
    let deadline = clock.now_us() + PATIENCE_US;
    // The device may give less than asked for.
    while filled < N {
        queue.describe(0, buffers.address(0), (N - filled) as u32, true);
        queue.post(0);
        queue.publish();
        mmio.kick(0).ring();
        let len = loop {
            match queue.take_used() {
                Some((0, len @ 1..)) => break (len as usize).min(N - filled),
                Some(_) => return Err(VirtioError::Nonsense),
                None if clock.now_us() > deadline => return Err(VirtioError::Silent),
                None => core::hint::spin_loop(),
            }
        };
        random[filled..filled + len].copy_from_slice(buffers.read(0, len));
        filled += len;
    }
    mmio.reset()?;
    Ok(random)
}
