//! The guest images, and the agent of Linux guests, built together with whatever depends on this crate: there is no separate step.
//!
//! An image is a static ELF file that expects the boot parameters and the memory layout of `escape-abi`. Equal sources and
//! an equal compiler give equal bytes, whatever the directory.
#![forbid(unsafe_code)]

/// The freestanding session server, an ELF file.
pub fn freestanding() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/escape-freestanding"))
}

/// The agent of Linux guests, a static ELF program.
pub fn agent() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/escape-agent"))
}

/// The sample service of Linux guests, a static ELF program.
pub fn sessions() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/escape-sessions"))
}

/// A guest that misbehaves on purpose, an ELF file; the boot command line says how. For tests of the host.
pub fn hostile() -> &'static [u8] {
    include_bytes!(concat!(env!("OUT_DIR"), "/escape-hostile"))
}

/// The digest by which the nodes of a cell know that they run the same image: BLAKE3 of the whole file.
pub fn digest(image: &[u8]) -> [u8; 32] {
    blake3::hash(image).into()
}

/// The image id that goes into every slot: the first 8 bytes of the [`digest`], little-endian.
pub fn image_id(image: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest(image);
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A little-endian field of the image.
    fn field<const N: usize>(image: &[u8], at: usize) -> [u8; N] {
        std::array::from_fn(|i| image.get(at + i).copied().unwrap_or_default())
    }

    #[test]
    fn the_image_is_a_static_x86_64_executable_at_its_address() {
        let image = freestanding();
        assert_eq!(field(image, 0), *b"\x7fELF\x02\x01\x01");
        let [kind, machine] = [16, 18].map(|at| u16::from_le_bytes(field(image, at)));
        assert_eq!((kind, machine), (2, 62), "ET_EXEC for x86-64");
        assert_eq!(u64::from_le_bytes(field(image, 24)), 0x10_0000, "entry");
    }

    #[test]
    fn the_image_asks_for_no_loader_and_tells_no_path() {
        let image = freestanding();
        let (table, size, count) = (
            u64::from_le_bytes(field(image, 32)) as usize,
            u16::from_le_bytes(field(image, 54)) as usize,
            u16::from_le_bytes(field(image, 56)) as usize,
        );
        let kinds: Vec<u32> = (0..count).map(|n| u32::from_le_bytes(field(image, table + n * size))).collect();
        assert_eq!(kinds, [1, 1], "two PT_LOAD segments and nothing else");
        let here = env!("CARGO_MANIFEST_DIR").as_bytes();
        assert!(!image.windows(here.len()).any(|w| w == here), "a path of the building machine is in the image");
    }

    #[test]
    fn programs_of_linux_guests_need_no_libraries_and_tell_no_path() {
        [agent(), sessions()].into_iter().for_each(needs_no_libraries);
    }

    fn needs_no_libraries(agent: &[u8]) {
        assert_eq!(field(agent, 0), *b"\x7fELF\x02\x01\x01");
        let (table, count) =
            (u64::from_le_bytes(field(agent, 32)) as usize, u16::from_le_bytes(field(agent, 56)) as usize);
        let kinds: Vec<u32> = (0..count).map(|n| u32::from_le_bytes(field(agent, table + n * 56))).collect();
        assert!(kinds.contains(&1) && !kinds.contains(&3), "segments, and no loader of libraries: {kinds:?}");
        let here = env!("CARGO_MANIFEST_DIR").as_bytes();
        assert!(!agent.windows(here.len()).any(|w| w == here), "a path of the building machine is in the agent");
    }

    #[test]
    fn digest_and_id_belong_together() {
        let digest = digest(freestanding());
        assert_eq!(image_id(freestanding()).to_le_bytes(), digest[..8]);
        assert_ne!(digest, super::digest(b""));
    }
}
