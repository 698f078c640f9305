//! How the guest divides its RAM.

/// Bytes of the main stack.
pub const STACK_BYTES: u64 = 2 << 20;
/// Bytes below the main stack that are not mapped: one large page, the granule of the VMM's page tables. It costs no
/// memory, because RAM is backed on first touch.
pub const GUARD_BYTES: u64 = 2 << 20;
/// The least heap with which a guest starts.
pub const HEAP_BYTES_MIN: u64 = 4 << 20;
const LARGE_PAGE: u64 = 2 << 20;

/// What follows the image in RAM: heap, guard, main stack, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryMap {
    /// First byte of the heap.
    pub heap_start: u64,
    /// First byte of the guard, and end of the heap.
    pub guard_start: u64,
    /// First byte of the main stack.
    pub stack_start: u64,
    /// End of the main stack: its initial stack pointer.
    pub stack_end: u64,
}

impl MemoryMap {
    /// The map for `ram_bytes` of RAM from address 0 and an image that ends at `image_end`; `None` if the heap would be
    /// smaller than [`HEAP_BYTES_MIN`].
    pub const fn new(ram_bytes: u64, image_end: u64) -> Option<Self> {
        let stack_end = ram_bytes / LARGE_PAGE * LARGE_PAGE;
        // RAM must end below the lowest address with another meaning, the alias of the local APIC.
        if stack_end > escape_abi::layout::LAPIC_ALIAS {
            return None;
        }
        let heap_start = image_end.next_multiple_of(4096);
        let Some(rest) = stack_end.checked_sub(STACK_BYTES + GUARD_BYTES) else { return None };
        if rest < heap_start + HEAP_BYTES_MIN {
            return None;
        }
        Some(Self { heap_start, guard_start: rest, stack_start: rest + GUARD_BYTES, stack_end })
    }

    /// Bytes of the heap.
    pub const fn heap_bytes(&self) -> u64 {
        self.guard_start - self.heap_start
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_and_end_on_large_pages() {
        let ram = (64 << 20) + 12_345;
        let Some(map) = MemoryMap::new(ram, 0x18_1001) else { panic!("64 MiB are enough") };
        assert_eq!(map.heap_start, 0x18_2000);
        assert_eq!(map.stack_end, 64 << 20);
        assert_eq!(map.guard_start % LARGE_PAGE, 0);
        assert_eq!(map.guard_start + GUARD_BYTES, map.stack_start);
        assert_eq!(map.stack_start + STACK_BYTES, map.stack_end);
        assert_eq!(map.heap_bytes(), (60 << 20) - 0x18_2000);
    }

    #[test]
    fn too_little_or_too_much_ram_is_refused() {
        for ram in [0, 1 << 20, 8 << 20, u64::MAX] {
            assert_eq!(MemoryMap::new(ram, 0x10_0000), None, "{ram}");
        }
    }
}
