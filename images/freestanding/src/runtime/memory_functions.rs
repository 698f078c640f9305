//! `memcpy` and its family, which the compiler expects to exist.
//!
//! Up to 128 bytes go by overlapping loads and stores without a loop, frames by a vector loop, large blocks by
//! `rep movsb`/`rep stosb`. Loops are assembly: a loop in Rust that copies bytes may be compiled into a call of the very
//! function that it implements.

use core::arch::asm;
use core::arch::x86_64::{__m128i, _mm_set1_epi8, _mm_storeu_si128};

/// From here on the microcoded string instructions win.
const STRING_BYTES_MIN: usize = 4096;

/// Copies up to 128 bytes; all loads come before the first store, so the ranges may overlap.
///
/// # Safety
/// Both ranges of `n` bytes are valid, and `n` is at most 128.
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, n: usize) {
    macro_rules! both_ends {
        ($t:ty, $($at:expr),*) => {{
            // SAFETY: each offset leaves room for a `$t` below `n` in the range of `n` that chose this arm.
            unsafe {
                let values = [$(from.add($at).cast::<$t>().read_unaligned()),*];
                let places = [$(to.add($at).cast::<$t>()),*];
                let mut i = 0;
                while i < values.len() {
                    places[i].write_unaligned(values[i]);
                    i += 1;
                }
            }
        }};
    }
    match n {
        0 => {}
        1..=3 => both_ends!(u8, 0, n / 2, n - 1),
        4..=7 => both_ends!(u32, 0, n - 4),
        8..=15 => both_ends!(u64, 0, n - 8),
        16..=32 => both_ends!(__m128i, 0, n - 16),
        33..=64 => both_ends!(__m128i, 0, 16, n - 32, n - 16),
        _ => both_ends!(__m128i, 0, 16, 32, 48, n - 64, n - 48, n - 32, n - 16),
    }
}

/// Copies more than 64 bytes upwards; correct if `to` lies below `from`, overlapping or not.
///
/// # Safety
/// Both ranges of `n` bytes are valid.
#[inline(always)]
unsafe fn copy_up(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: every access lies in the ranges: whole blocks while more than 64 bytes are left, then the last 64 bytes,
    // which were loaded before a store could overwrite them.
    unsafe {
        asm!(
            "movups xmm4, [rsi + rcx - 64]",
            "movups xmm5, [rsi + rcx - 48]",
            "movups xmm6, [rsi + rcx - 32]",
            "movups xmm7, [rsi + rcx - 16]",
            "lea rdx, [rdi + rcx - 64]",
            "2:",
            "movups xmm0, [rsi]",
            "movups xmm1, [rsi + 16]",
            "movups xmm2, [rsi + 32]",
            "movups xmm3, [rsi + 48]",
            "movups [rdi], xmm0",
            "movups [rdi + 16], xmm1",
            "movups [rdi + 32], xmm2",
            "movups [rdi + 48], xmm3",
            "add rsi, 64",
            "add rdi, 64",
            "cmp rdi, rdx",
            "jb 2b",
            "movups [rdx], xmm4",
            "movups [rdx + 16], xmm5",
            "movups [rdx + 32], xmm6",
            "movups [rdx + 48], xmm7",
            inout("rdi") to => _, inout("rsi") from => _, in("rcx") n, out("rdx") _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            options(nostack)
        );
    }
}

/// Copies more than 64 bytes downwards; correct if `to` lies above `from`, overlapping or not.
///
/// # Safety
/// Both ranges of `n` bytes are valid.
#[inline(always)]
unsafe fn copy_down(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: as for `copy_up`, mirrored: the first 64 bytes are loaded first and stored last.
    unsafe {
        asm!(
            "movups xmm4, [rsi]",
            "movups xmm5, [rsi + 16]",
            "movups xmm6, [rsi + 32]",
            "movups xmm7, [rsi + 48]",
            "2:",
            "movups xmm0, [rsi + rcx - 16]",
            "movups xmm1, [rsi + rcx - 32]",
            "movups xmm2, [rsi + rcx - 48]",
            "movups xmm3, [rsi + rcx - 64]",
            "movups [rdi + rcx - 16], xmm0",
            "movups [rdi + rcx - 32], xmm1",
            "movups [rdi + rcx - 48], xmm2",
            "movups [rdi + rcx - 64], xmm3",
            "sub rcx, 64",
            "cmp rcx, 64",
            "ja 2b",
            "movups [rdi], xmm4",
            "movups [rdi + 16], xmm5",
            "movups [rdi + 32], xmm6",
            "movups [rdi + 48], xmm7",
            in("rdi") to, in("rsi") from, inout("rcx") n => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _,
            out("xmm4") _, out("xmm5") _, out("xmm6") _, out("xmm7") _,
            options(nostack)
        );
    }
}

/// Copies `n` bytes between ranges that do not overlap, or of which the target lies below the source.
///
/// # Safety
/// Both ranges are valid.
#[inline(always)]
unsafe fn copy(to: *mut u8, from: *const u8, n: usize) {
    // SAFETY: the caller's contract, and the bounds of each branch.
    unsafe {
        if n <= 128 {
            copy_short(to, from, n);
        } else if n < STRING_BYTES_MIN {
            copy_up(to, from, n);
        } else {
            asm!("rep movsb", inout("rdi") to => _, inout("rsi") from => _, inout("rcx") n => _,
                options(nostack, preserves_flags));
        }
    }
}

/// Copies `n` bytes between ranges that may overlap.
///
/// # Safety
/// Both ranges are valid.
#[inline(always)]
unsafe fn copy_overlapping(to: *mut u8, from: *const u8, n: usize) {
    let distance = (to as usize).wrapping_sub(from as usize);
    // SAFETY: the caller's contract, and the direction that the distance asks for.
    unsafe {
        if n <= 128 {
            copy_short(to, from, n);
        } else if distance >= n && distance.wrapping_neg() >= n {
            copy(to, from, n);
        } else if distance < n {
            copy_down(to, from, n);
        } else {
            copy_up(to, from, n);
        }
    }
}

/// Sets `n` bytes.
///
/// # Safety
/// The range is valid.
#[inline(always)]
unsafe fn fill(to: *mut u8, value: u8, n: usize) {
    // SAFETY: every store lies below `n`, by the bounds of each branch.
    unsafe {
        if n > 64 {
            asm!("rep stosb", inout("rdi") to => _, in("al") value, inout("rcx") n => _,
                options(nostack, preserves_flags));
        } else if n >= 16 {
            let wide = _mm_set1_epi8(value as i8);
            for at in [0, 16.min(n - 16), n.saturating_sub(32), n - 16] {
                _mm_storeu_si128(to.add(at).cast(), wide);
            }
        } else if n >= 8 {
            let wide = 0x0101_0101_0101_0101 * u64::from(value);
            to.cast::<u64>().write_unaligned(wide);
            to.add(n - 8).cast::<u64>().write_unaligned(wide);
        } else if n >= 4 {
            let wide = 0x0101_0101 * u32::from(value);
            to.cast::<u32>().write_unaligned(wide);
            to.add(n - 4).cast::<u32>().write_unaligned(wide);
        } else if n > 0 {
            to.write(value);
            to.add(n / 2).write(value);
            to.add(n - 1).write(value);
        }
    }
}

/// Compares `n` bytes as C does: negative, 0 or positive, by the first that differs.
///
/// # Safety
/// Both ranges are valid.
#[inline(always)]
unsafe fn compare(a: *const u8, b: *const u8, n: usize) -> i32 {
    let mut at = 0;
    while at + 8 <= n {
        // SAFETY: eight bytes are left.
        let (x, y) = unsafe { (a.add(at).cast::<u64>().read_unaligned(), b.add(at).cast::<u64>().read_unaligned()) };
        if x != y {
            return if x.swap_bytes() < y.swap_bytes() { -1 } else { 1 };
        }
        at += 8;
    }
    while at < n {
        // SAFETY: a byte is left. Volatile, lest the loop become a call of this function.
        let (x, y) = unsafe { (a.add(at).read_volatile(), b.add(at).read_volatile()) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}

/// The names by which the compiler calls them.
#[cfg(all(feature = "image", not(test)))]
mod symbols {
    /// C's `memcpy`.
    ///
    /// # Safety
    /// Both ranges are valid and do not overlap.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { super::copy(to, from, n) };
        to
    }

    /// C's `memmove`.
    ///
    /// # Safety
    /// Both ranges are valid.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, n: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { super::copy_overlapping(to, from, n) };
        to
    }

    /// C's `memset`.
    ///
    /// # Safety
    /// The range is valid.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, value: i32, n: usize) -> *mut u8 {
        // SAFETY: the caller's contract.
        unsafe { super::fill(to, value as u8, n) };
        to
    }

    /// C's `memcmp`.
    ///
    /// # Safety
    /// Both ranges are valid.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: the caller's contract.
        unsafe { super::compare(a, b, n) }
    }

    /// C's `bcmp`.
    ///
    /// # Safety
    /// Both ranges are valid.
    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(a: *const u8, b: *const u8, n: usize) -> i32 {
        // SAFETY: the caller's contract.
        unsafe { super::compare(a, b, n) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every length around the limits of the branches.
    fn lengths() -> impl Iterator<Item = usize> {
        (0..=400).chain([511, 512, 513, 1460, 1514, 4095, 4096, 4097, 9000])
    }

    fn sample(n: usize) -> Vec<u8> {
        (0..n).map(|i| (i * 31 + i / 251) as u8).collect()
    }

    #[test]
    fn copies_exactly_the_range() {
        for n in lengths() {
            let from = sample(n + 3);
            let mut to = vec![0xee; n + 8];
            // SAFETY: both vectors hold the ranges.
            unsafe { copy(to.as_mut_ptr().add(4), from.as_ptr().add(3), n) };
            assert_eq!(to[4..4 + n], from[3..], "{n}");
            assert!(to[..4].iter().chain(&to[4 + n..]).all(|b| *b == 0xee), "{n}");
        }
    }

    #[test]
    fn moves_overlapping_ranges_both_ways() {
        for n in lengths() {
            for distance in [1, 7, 15, 16, 63, 64, 65, 200] {
                for (from, to) in [(0, distance), (distance, 0)] {
                    let mut memory = sample(n + distance);
                    let mut expected = memory.clone();
                    expected.copy_within(from..from + n, to);
                    let base = memory.as_mut_ptr();
                    // SAFETY: both ranges lie in the vector.
                    unsafe { copy_overlapping(base.add(to), base.add(from), n) };
                    assert_eq!(memory, expected, "{n} bytes from {from} to {to}");
                }
            }
        }
    }

    #[test]
    fn fills_exactly_the_range() {
        for n in lengths() {
            let mut to = vec![0xee; n + 8];
            // SAFETY: the vector holds the range.
            unsafe { fill(to.as_mut_ptr().add(4), 0x5a, n) };
            assert!(to[4..4 + n].iter().all(|b| *b == 0x5a), "{n}");
            assert!(to[..4].iter().chain(&to[4 + n..]).all(|b| *b == 0xee), "{n}");
        }
    }

    #[test]
    fn compares_as_slices_do() {
        for n in (1..40).chain([100, 1000]) {
            let a = sample(n);
            for at in 0..n {
                for change in [1, 0x80] {
                    let mut b = a.clone();
                    b[at] ^= change;
                    // SAFETY: both vectors hold `n` bytes.
                    let order = unsafe { compare(a.as_ptr(), b.as_ptr(), n) };
                    assert_eq!(order.cmp(&0), a.cmp(&b), "{n} bytes, {at} differs");
                }
            }
            // SAFETY: as above.
            assert_eq!(unsafe { compare(a.as_ptr(), a.as_ptr(), n) }, 0);
        }
    }
}
