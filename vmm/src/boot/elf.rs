//! Loads a static ELF executable into guest RAM (System V ABI, chapters 4 and 5).
//!
//! The file is the operator's, not the guest's, but a damaged download must give an error and not a panic: every offset
//! is checked before use.

use super::error::BootError;
use escape_abi::layout::IMAGE_BASE;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
/// More program headers than any sensible image has.
const PROGRAM_HEADERS_MAX: usize = 64;
const ET_EXEC: u16 = 2;
const EM_X86_64: u16 = 62;
const PT_LOAD: u32 = 1;
const PF_X: u32 = 1;

/// One loadable segment.
struct Segment<'a> {
    index: usize,
    address: u64,
    file: &'a [u8],
    bytes: u64,
    executable: bool,
}

/// Copies the loadable segments to their physical addresses and returns the entry point.
///
/// RAM from [`IMAGE_BASE`] to `ram_bytes` must be zero: the part of a segment that is not in the file is not written.
pub fn load(image: &[u8], memory: &GuestMemoryMmap, ram_bytes: u64) -> Result<u64, BootError> {
    check_kind(image)?;
    let entry = u64_at(image, 24).unwrap_or(0);
    let mut entry_is_code = false;
    for segment in segments(image)? {
        let end = segment.address.checked_add(segment.bytes);
        if segment.address < IMAGE_BASE || end.is_none_or(|end| end > ram_bytes) {
            let Segment { index, address, bytes, .. } = segment;
            return Err(BootError::NoRoom { index, address, bytes, low: IMAGE_BASE, high: ram_bytes });
        }
        memory.write_slice(segment.file, GuestAddress(segment.address)).map_err(|source| BootError::Write {
            what: "a segment",
            address: segment.address,
            source,
        })?;
        entry_is_code |= segment.executable && entry.wrapping_sub(segment.address) < segment.bytes;
    }
    if entry_is_code { Ok(entry) } else { Err(BootError::Entry { entry }) }
}

/// Where the image's code has these bytes, if it has: a drill makes a guest hang there.
pub fn find_loop(image: &[u8], code: &[u8]) -> Option<u64> {
    segments(image).ok()?.into_iter().filter(|s| s.executable).find_map(|segment| {
        let at = segment.file.windows(code.len().max(1)).position(|bytes| bytes == code)?;
        segment.address.checked_add(u64::try_from(at).ok()?)
    })
}

fn check_kind(image: &[u8]) -> Result<(), BootError> {
    let wrong = |found: &str| Err(BootError::WrongKind { found: found.into() });
    if image.is_empty() {
        return wrong("empty");
    }
    if image.get(0x202..0x206) == Some(b"HdrS") {
        return wrong("a Linux bzImage");
    }
    if image.get(..4) != Some(b"\x7fELF") {
        return wrong("no ELF file");
    }
    if image.len() < HEADER_BYTES {
        return wrong("a truncated ELF file");
    }
    if image.get(4..6) != Some(&[2, 1]) {
        return wrong("an ELF file of another class (32-bit or big-endian)");
    }
    match (u16_at(image, 16), u16_at(image, 18)) {
        (Some(ET_EXEC), Some(EM_X86_64)) => Ok(()),
        (Some(3), Some(EM_X86_64)) => wrong("a position-independent ELF (ET_DYN; link it with -no-pie)"),
        (_, Some(EM_X86_64)) => wrong("an ELF file, but no executable"),
        _ => wrong("an ELF file for another processor"),
    }
}

fn segments(image: &[u8]) -> Result<Vec<Segment<'_>>, BootError> {
    let damaged = |what, index| BootError::Damaged { what, index };
    let table = u64_at(image, 32).and_then(|o| usize::try_from(o).ok()).unwrap_or(usize::MAX);
    let count = usize::from(u16_at(image, 56).unwrap_or(0));
    if usize::from(u16_at(image, 54).unwrap_or(0)) != PROGRAM_HEADER_BYTES || count > PROGRAM_HEADERS_MAX {
        return Err(damaged("odd size or number of program headers", 0));
    }
    let mut found = Vec::with_capacity(count);
    for index in 0..count {
        let header = table
            .checked_add(index * PROGRAM_HEADER_BYTES)
            .and_then(|at| image.get(at..at.checked_add(PROGRAM_HEADER_BYTES)?))
            .ok_or_else(|| damaged("its program header lies outside the file", index))?;
        if u32_at(header, 0) == Some(PT_LOAD) {
            found.push(segment(image, header, index)?);
        }
    }
    Ok(found)
}

fn segment<'a>(image: &'a [u8], header: &[u8], index: usize) -> Result<Segment<'a>, BootError> {
    let word = |at| u64_at(header, at).unwrap_or(u64::MAX);
    let (offset, address, in_file, bytes) = (word(8), word(24), word(32), word(40));
    let range = usize::try_from(offset).ok().zip(usize::try_from(in_file).ok());
    let file = range
        .and_then(|(from, len)| image.get(from..from.checked_add(len)?))
        .ok_or(BootError::Damaged { what: "its bytes lie outside the file", index })?;
    if bytes < in_file {
        return Err(BootError::Damaged { what: "smaller in memory than in the file", index });
    }
    Ok(Segment { index, address, file, bytes, executable: u32_at(header, 4).is_some_and(|f| f & PF_X != 0) })
}

fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes_at(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes_at(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes_at(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RAM: u64 = 4 << 20;

    /// A one-segment executable of this code, linked and entered at [`IMAGE_BASE`].
    pub(crate) fn executable(code: &[u8], bss: u64) -> Vec<u8> {
        let mut elf = vec![0; HEADER_BYTES + PROGRAM_HEADER_BYTES];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[16..18].copy_from_slice(&ET_EXEC.to_le_bytes());
        elf[18..20].copy_from_slice(&EM_X86_64.to_le_bytes());
        elf[24..32].copy_from_slice(&IMAGE_BASE.to_le_bytes());
        elf[32..40].copy_from_slice(&64u64.to_le_bytes());
        elf[54..56].copy_from_slice(&56u16.to_le_bytes());
        elf[56..58].copy_from_slice(&1u16.to_le_bytes());
        let header = &mut elf[64..];
        header[..4].copy_from_slice(&PT_LOAD.to_le_bytes());
        header[4..8].copy_from_slice(&7u32.to_le_bytes());
        header[8..16].copy_from_slice(&120u64.to_le_bytes());
        header[24..32].copy_from_slice(&IMAGE_BASE.to_le_bytes());
        header[32..40].copy_from_slice(&(code.len() as u64).to_le_bytes());
        header[40..48].copy_from_slice(&(code.len() as u64 + bss).to_le_bytes());
        elf.extend_from_slice(code);
        elf
    }

    fn ram() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), RAM as usize)]).unwrap()
    }

    #[test]
    fn a_static_executable_is_loaded() {
        let memory = ram();
        assert_eq!(load(&executable(b"code", 100), &memory, RAM).unwrap(), IMAGE_BASE);
        let mut got = [0; 4];
        memory.read_slice(&mut got, GuestAddress(IMAGE_BASE)).unwrap();
        assert_eq!(&got, b"code");
    }

    #[test]
    fn other_files_are_named_in_the_error() {
        let mut pie = executable(b"x", 0);
        pie[16] = 3;
        let mut bzimage = vec![0; 0x300];
        bzimage[0x202..0x206].copy_from_slice(b"HdrS");
        let cases =
            [(vec![], "empty"), (b"#!/bin/sh".to_vec(), "no ELF"), (pie, "position-independent"), (bzimage, "bzImage")];
        for (file, want) in cases {
            let said = load(&file, &ram(), RAM).unwrap_err().to_string();
            assert!(said.contains(want), "{said}");
        }
    }

    #[test]
    fn segments_outside_ram_or_file_are_refused() {
        let memory = ram();
        assert!(matches!(load(&executable(b"x", RAM), &memory, RAM), Err(BootError::NoRoom { .. })));
        let mut low = executable(b"x", 0);
        low[64 + 24..64 + 32].copy_from_slice(&0x2000u64.to_le_bytes());
        assert!(matches!(load(&low, &memory, RAM), Err(BootError::NoRoom { .. })));
        let mut long = executable(b"x", 0);
        long[64 + 32..64 + 40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(matches!(load(&long, &memory, RAM), Err(BootError::Damaged { .. })));
        let mut astray = executable(b"x", 0);
        astray[24] = 1;
        assert!(matches!(load(&astray, &memory, RAM), Err(BootError::Entry { .. })));
    }

    /// Every single-byte change and every truncation gives a result, never a panic.
    #[test]
    fn damaged_files_never_panic() {
        let memory = ram();
        let good = executable(&[0x90; 16], 64);
        for at in 0..good.len() {
            let _ = load(&good[..at], &memory, RAM);
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = load(&bad, &memory, RAM);
            }
        }
    }
}
