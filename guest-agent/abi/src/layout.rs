//! Guest-physical addresses. The guest maps linear = physical, so these are its pointers too.

/// Bytes of a slot: the unit in which slice memory is leased, captured and plugged.
pub const SLOT_SIZE: usize = 256 << 10;
/// Slots of a lease; one KVM memslot per lease (64 × 256 KiB = 16 MiB).
pub const LEASE_SLOTS: u32 = 64;
/// Granule of a checkpoint delta, in bytes.
pub const LINE: usize = 64;
/// Lines of a slot.
pub const SLOT_LINES: usize = SLOT_SIZE / LINE;

/// Where [`crate::BootParams`] lies; its address is also in RDI at entry.
pub const BOOT_PARAMS: u64 = 0x2000;
/// First page-table page (4-level, user pages throughout: the guest lives in ring 3).
pub const PAGE_TABLES: u64 = 0x10000;
/// Where the guest image is linked.
pub const IMAGE_BASE: u64 = 0x10_0000;
/// Linear alias (2 MiB page) of the local APIC, below 2 GiB so that interrupt stubs reach it by a 32-bit displacement.
pub const LAPIC_ALIAS: u64 = 0x7ee0_0000;
/// Control pages: a memslot of its own (see [`crate::ControlLayout`]).
pub const CONTROL_BASE: u64 = 0x8000_0000;
/// virtio-mmio devices, one page each.
pub const MMIO_BASE: u64 = 0xd000_0000;
/// Distance of two virtio-mmio devices.
pub const MMIO_STRIDE: u64 = 0x1000;
/// A 4-byte write here rings the guest→host control ring (ioeventfd: no exit to user space).
pub const DOORBELL: u64 = 0xd010_0000;
/// The arena: slot `n` lies at `ARENA_BASE + n * SLOT_SIZE` in every guest of the cell. Mapped no-execute.
pub const ARENA_BASE: u64 = 0x10_0000_0000;
/// Most slots a cell may have (16 GiB of arena addresses).
pub const SLOTS_MAX: u32 = 65_536;

/// Index of each virtio-mmio device (address `MMIO_BASE + i * MMIO_STRIDE`).
pub mod device {
    /// virtio-net.
    pub const NET: u64 = 0;
    /// virtio-rng.
    pub const RNG: u64 = 1;
}

/// Interrupt vectors that the host raises (MSI, edge, no acknowledgement beyond the APIC's end-of-interrupt).
pub mod vector {
    /// Virtqueue of device `i` has used buffers, or its configuration changed: `DEVICE0 + i`.
    pub const DEVICE0: u8 = 0x30;
    /// The host→guest control ring has entries, or a ping waits.
    pub const CONTROL: u8 = 0x38;
    /// The guest's own APIC timer.
    pub const TIMER: u8 = 0x39;
    /// The guest has used its processor for a while without a sign of life: after several in one turn of its main loop it
    /// breaks that turn off.
    pub const NUDGE: u8 = 0x3a;
}

/// Guest-physical address of a slot.
pub const fn slot_address(slot: u32) -> u64 {
    ARENA_BASE + slot as u64 * SLOT_SIZE as u64
}
