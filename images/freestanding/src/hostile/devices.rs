//! Attacks on the network device: descriptors, rings, registers, headers.

use crate::guest::Guest;
use crate::wire::{self, HEADER_BYTES, RAW_IDS, Wire, descriptor};
use escape_abi::layout::{MMIO_BASE, MMIO_STRIDE};
use escape_freestanding::runtime::log;

const QUEUE_SELECT: usize = 0x30;
const QUEUE_SIZE: usize = 0x38;
const QUEUE_READY: usize = 0x44;
const STATUS: usize = 0x70;
const DESCRIPTORS_LOW: usize = 0x80;
const DESCRIPTORS_HIGH: usize = 0x84;
const AVAILABLE_LOW: usize = 0x90;
const DRIVER_FEATURES: usize = 0x20;
const STARTED: u32 = 1 | 2 | 4 | 8;
const NEEDS_RESET: u32 = 64;

/// A chain that leads to itself.
pub fn descriptor_loop(guest: &mut Guest) {
    let address = guest.wire.valid_address();
    guest.wire.show_one(address, 1, descriptor::NEXT, RAW_IDS);
    let two =
        [(RAW_IDS, address, 1, descriptor::NEXT, RAW_IDS + 1), (RAW_IDS + 1, address, 1, descriptor::NEXT, RAW_IDS)];
    guest.wire.show(RAW_IDS, &two);
    guest.wire.wait_below(1);
}

/// Buffers outside RAM, across its end, across the end of the address space, in the arena, in the device's registers.
pub fn descriptor_outside_ram(guest: &mut Guest) {
    let ram = guest.params.ram_bytes;
    let arena = escape_abi::layout::slot_address(guest.honest.slot);
    for (address, len) in [(ram, 64), (ram - 8, 64), (u64::MAX - 8, 64), (arena, 64), (MMIO_BASE, 64)] {
        guest.wire.show_one(address, len, 0, 0);
    }
}

/// Nothing, four gigabytes, and just more than any frame has.
pub fn descriptor_length(guest: &mut Guest) {
    let address = guest.wire.valid_address();
    for len in [0, u32::MAX, 80_000] {
        guest.wire.show_one(address, len, 0, 0);
    }
}

/// Buffers that the device would have to write, alone and behind a readable one.
pub fn descriptor_writable(guest: &mut Guest) {
    let address = guest.wire.valid_address();
    guest.wire.show_one(address, 64, descriptor::WRITE, 0);
    let two = [(RAW_IDS, address, 64, descriptor::NEXT, RAW_IDS + 1), (RAW_IDS + 1, address, 64, descriptor::WRITE, 0)];
    guest.wire.show(RAW_IDS, &two);
    guest.wire.wait_below(1);
}

/// Indirect tables, which were not negotiated: in RAM, outside it, of odd size.
pub fn descriptor_indirect(guest: &mut Guest) {
    let address = guest.wire.valid_address();
    for (address, len) in [(address, 16), (guest.params.ram_bytes, 16), (address, 7), (address, u32::MAX)] {
        guest.wire.show_one(address, len, descriptor::INDIRECT, 0);
    }
}

/// Chains that go on where no descriptor is.
pub fn descriptor_next(guest: &mut Guest) {
    let address = guest.wire.valid_address();
    for next in [256, 60_000, u16::MAX] {
        guest.wire.show_one(address, 64, descriptor::NEXT, next);
    }
}

/// The available index jumps further than the queue is long. The device must give up, and serve again after a reset.
pub fn available_jump(guest: &mut Guest) {
    // Frames that the device has not taken yet are lost with the queue.
    guest.wire.wait_below(1);
    guest.wire.transmit.publish_raw(30_000);
    guest.wire.ring_transmit();
    wait_for_needs_reset(guest);
    start_again(guest);
}

/// The available ring names descriptors that do not exist. As above.
pub fn available_id(guest: &mut Guest) {
    guest.wire.wait_below(1);
    guest.wire.transmit.post(60_000);
    guest.wire.transmit.publish();
    guest.wire.ring_transmit();
    wait_for_needs_reset(guest);
    start_again(guest);
}

/// Queues outside RAM: the device must refuse to start, and start with proper ones.
pub fn queue_outside_ram(guest: &mut Guest) {
    guest.wire.wait_below(1);
    if let Some(mmio) = wire::find() {
        let _ = mmio.negotiate(escape_freestanding::virtio::mmio::F_VERSION_1, 0);
        for queue in 0..2 {
            mmio.write(QUEUE_SELECT, queue);
            mmio.write(QUEUE_SIZE, 256);
            for register in [DESCRIPTORS_LOW, AVAILABLE_LOW, 0xa0] {
                mmio.write(register, 0xffff_f000);
                mmio.write(register + 4, 0xffff_ffff);
            }
            mmio.write(QUEUE_READY, 1);
        }
        mmio.write(STATUS, STARTED);
    }
    wait_for_needs_reset(guest);
    start_again(guest);
}

/// Everything that is fixed once the device runs is written again.
pub fn reconfigure_live(guest: &mut Guest) {
    let mmio = &guest.wire.mmio;
    for queue in [0, 1, 2, 99, u32::MAX] {
        mmio.write(QUEUE_SELECT, queue);
        for (register, value) in [
            (QUEUE_SIZE, 1024),
            (QUEUE_SIZE, 3),
            (QUEUE_READY, 0),
            (DESCRIPTORS_LOW, 0x1234),
            (DESCRIPTORS_HIGH, u32::MAX),
            (AVAILABLE_LOW, 0),
            (DRIVER_FEATURES, u32::MAX),
        ] {
            mmio.write(register, value);
        }
    }
}

/// Every register of both devices and of a page without one, in every width, read and written.
pub fn registers(guest: &mut Guest) {
    // The entropy device and the page behind it: the network device is needed afterwards.
    for page in [1, 2] {
        for offset in (0..0x200).step_by(3) {
            let at = MMIO_BASE + page * MMIO_STRIDE + offset;
            // SAFETY: pages of devices, mapped by the VMM's tables; they touch no memory.
            unsafe {
                let byte = (at as *const u8).read_volatile();
                (at as *mut u8).write_volatile(!byte);
                ((at & !3) as *mut u32).write_volatile(0xffff_ffff);
                let _ = ((at & !7) as *const u64).read_volatile();
                ((at & !1) as *mut u16).write_volatile(0x5555);
            }
        }
    }
    // Registers of the network device that do not exist, and odd widths on those that do.
    for offset in [0x18, 0x1c, 0x28, 0x60, 0x72, 0xc0, 0xfc] {
        let at = MMIO_BASE + offset;
        // SAFETY: as above; none of these changes the queues.
        unsafe {
            let _ = (at as *const u8).read_volatile();
            (at as *mut u8).write_volatile(0xff);
        }
        let _ = guest.wire.mmio.read(offset as usize & !3);
    }
}

/// Receive buffers that the device cannot write: readable, outside RAM, too small, endless.
pub fn receive_buffers(guest: &mut Guest) {
    let (address, ram) = (guest.wire.valid_address(), guest.params.ram_bytes);
    let bad = [
        (address, 2048, 0, 0),
        (ram, 2048, descriptor::WRITE, 0),
        (address, 5, descriptor::WRITE, 0),
        (u64::MAX - 3, 2048, descriptor::WRITE, 0),
        (address, 1, descriptor::WRITE | descriptor::NEXT, 4),
        (address, 0, descriptor::WRITE, 0),
    ];
    for (id, (address, len, flags, next)) in (0..).zip(bad) {
        guest.wire.receive.describe_raw(id, address, len, flags, next);
        guest.wire.receive.post(id);
    }
    guest.wire.receive.publish();
    guest.wire.ring_receive();
}

/// Frames shorter than their headers.
pub fn short_frames(guest: &mut Guest) {
    let address = guest.wire.valid_address();
    for len in 1..(HEADER_BYTES as u32 + 14) {
        guest.wire.show_one(address, len, 0, 0);
    }
}

/// Headers that ask for what was not negotiated, or for what cannot be, around an honest segment.
pub fn vnet_header(guest: &mut Guest) {
    let frame = guest.bad.packet().frame(b"lying header");
    for header in [
        [0, 1, 54, 0, 100, 0, 34, 0, 16, 0, 0, 0],           // TCP segmentation
        [0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],                // UDP segmentation
        [1, 0, 0, 0, 0, 0, 34, 0, 16, 0, 0, 0],              // unfinished checksum
        [1, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0],    // … outside the frame
        [1, 0x81, 0xff, 0xff, 0xff, 0xff, 4, 0, 0, 0, 9, 9], // all at once
    ] {
        guest.wire.send_with_header(header, &frame);
    }
    guest.wire.wait_below(1);
}

/// The device must notice and say so in its status register.
fn wait_for_needs_reset(guest: &Guest) {
    while guest.wire.mmio.read(STATUS) & NEEDS_RESET == 0 {
        core::hint::spin_loop();
    }
}

fn start_again(guest: &mut Guest) {
    match Wire::start() {
        Some(wire) => guest.wire = wire,
        None => log!("hostile: the device does not start again"),
    }
}
