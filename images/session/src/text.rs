//! Text of bounded length, put together without formatting machinery: replies are made in the hot path.

/// A text of at most `N` bytes; what does not fit is left out (bounds are chosen so that it does).
pub(crate) struct Text<const N: usize> {
    bytes: [u8; N],
    len: usize,
}

impl<const N: usize> Text<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], len: 0 }
    }
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
    pub(crate) fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        let n = bytes.len().min(N - self.len);
        self.bytes[self.len..self.len + n].copy_from_slice(&bytes[..n]);
        self.len += n;
        self
    }
    pub(crate) fn str(&mut self, s: &str) -> &mut Self {
        self.raw(s.as_bytes())
    }
    pub(crate) fn dec(&mut self, mut n: u64) -> &mut Self {
        let mut digits = [0u8; 20];
        let mut at = digits.len();
        loop {
            at -= 1;
            digits[at] = b'0' + (n % 10) as u8;
            n /= 10;
            if n == 0 {
                return self.raw(&digits[at..]);
            }
        }
    }
    pub(crate) fn hex(&mut self, bytes: &[u8]) -> &mut Self {
        for b in bytes {
            let digit = |d: u8| b"0123456789abcdef"[usize::from(d & 15)];
            self.raw(&[digit(b >> 4), digit(*b)]);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bounds() {
        let mut t = Text::<40>::new();
        t.dec(0).str(" ").dec(u64::MAX).str(" ").hex(&[0x0f, 0xa0]);
        assert_eq!(t.as_bytes(), b"0 18446744073709551615 0fa0");
        let mut short = Text::<3>::new();
        assert_eq!(short.str("abcdef").dec(1).as_bytes(), b"abc");
    }
}
