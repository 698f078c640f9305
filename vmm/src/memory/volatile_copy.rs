//! Copies between host buffers and memory that a running guest writes at the same time.
//!
//! The guest is not part of this program, so the compiler must neither assume that two reads agree nor invent reads:
//! every access is volatile, in words of eight bytes where the shared side is aligned and by bytes at the ends.

const WORD: usize = size_of::<u64>();

/// Copies `into.len()` bytes out of shared memory.
///
/// # Safety
/// `from .. from + into.len()` must lie in one live mapping of shared memory, of which no Rust reference to plain data
/// exists. `into` is an ordinary buffer and so cannot overlap it.
pub unsafe fn copy_out(from: *const u8, into: &mut [u8]) {
    let head = from.align_offset(WORD).min(into.len());
    let (first, rest) = into.split_at_mut(head);
    for (i, byte) in first.iter_mut().enumerate() {
        // SAFETY: i < into.len(), which the caller vouches for.
        *byte = unsafe { from.add(i).read_volatile() };
    }
    let mut at = head;
    let mut words = rest.chunks_exact_mut(WORD);
    for word in &mut words {
        // SAFETY: at + 8 <= into.len(), and `from + head` is aligned for u64, so `from + at` is.
        let value = unsafe { from.add(at).cast::<u64>().read_volatile() };
        word.copy_from_slice(&value.to_ne_bytes());
        at += WORD;
    }
    for (i, byte) in words.into_remainder().iter_mut().enumerate() {
        // SAFETY: at + i < into.len().
        *byte = unsafe { from.add(at + i).read_volatile() };
    }
}

/// Copies `from` into shared memory.
///
/// # Safety
/// As for [`copy_out`], with `into .. into + from.len()`.
pub unsafe fn copy_in(into: *mut u8, from: &[u8]) {
    let head = into.align_offset(WORD).min(from.len());
    let (first, rest) = from.split_at(head);
    for (i, byte) in first.iter().enumerate() {
        // SAFETY: i < from.len(), which the caller vouches for.
        unsafe { into.add(i).write_volatile(*byte) };
    }
    let mut at = head;
    let words = rest.chunks_exact(WORD);
    let tail = words.remainder();
    for word in words {
        let mut value = [0; WORD];
        value.copy_from_slice(word);
        // SAFETY: at + 8 <= from.len(), and `into + head` is aligned for u64, so `into + at` is.
        unsafe { into.add(at).cast::<u64>().write_volatile(u64::from_ne_bytes(value)) };
        at += WORD;
    }
    for (i, byte) in tail.iter().enumerate() {
        // SAFETY: at + i < from.len().
        unsafe { into.add(at + i).write_volatile(*byte) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_alignment_and_length_is_copied_exactly() {
        let source: Vec<u8> = (0..=255).collect();
        for start in 0..17 {
            for len in 0..64 {
                let mut out = vec![0xee; len];
                // SAFETY: start + len < 256; the vector plays the shared memory.
                unsafe { copy_out(source.as_ptr().add(start), &mut out) };
                assert_eq!(out, source[start..start + len]);

                let mut target = vec![0xee; 96];
                // SAFETY: start + len < 96.
                unsafe { copy_in(target.as_mut_ptr().add(start), &source[..len]) };
                assert_eq!(target[start..start + len], source[..len]);
                assert!(target[..start].iter().chain(&target[start + len..]).all(|b| *b == 0xee));
            }
        }
    }
}
