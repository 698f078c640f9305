use super::aligned;

/// Flag bits of an attribute's type that are not part of its number.
const TYPE_MASK: u16 = 0x3fff;

/// Walks over the attributes of a message or of a nested attribute: `(number, value)`. Ends at the first attribute
/// whose length is impossible.
#[derive(Debug, Clone, Copy)]
pub struct Attributes<'a> {
    rest: &'a [u8],
}

impl<'a> Attributes<'a> {
    /// Attributes laid out in `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The value of the first attribute with this number.
    pub fn find(self, number: u16) -> Option<&'a [u8]> {
        let mut attributes = self;
        attributes.find_map(|(found, value)| (found == number).then_some(value))
    }

    /// The attributes nested in the first attribute with this number.
    pub fn nested(self, number: u16) -> Option<Attributes<'a>> {
        self.find(number).map(Attributes::new)
    }

    /// A 32-bit value in host byte order (links, addresses).
    pub fn u32(self, number: u16) -> Option<u32> {
        Some(u32::from_ne_bytes(self.find(number)?.try_into().ok()?))
    }

    /// A 64-bit value in network byte order (nf_tables).
    pub fn be64(self, number: u16) -> Option<u64> {
        Some(u64::from_be_bytes(self.find(number)?.try_into().ok()?))
    }

    /// A text, without its terminating zero; `None` if absent or not UTF-8.
    pub fn text(self, number: u16) -> Option<&'a str> {
        let bytes = self.find(number)?;
        let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
        std::str::from_utf8(bytes.get(..end)?).ok()
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(self.rest.get(..2)?.try_into().ok()?));
        let number = u16::from_ne_bytes(self.rest.get(2..4)?.try_into().ok()?) & TYPE_MASK;
        let value = self.rest.get(4..length)?;
        self.rest = self.rest.get(aligned(length)..).unwrap_or_default();
        Some((number, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_there_and_stops_at_nonsense() {
        let bytes = [5, 0, 1, 0, 0xaa, 0, 0, 0, 8, 0, 2, 0x80, 1, 0, 0, 0, 200, 0, 3, 0];
        let attributes = Attributes::new(&bytes);
        assert_eq!(attributes.find(1), Some(&[0xaa][..]));
        assert_eq!(attributes.u32(2), Some(1));
        assert_eq!(attributes.find(3), None);
        assert_eq!(attributes.count(), 2);
    }

    #[test]
    fn no_length_makes_it_loop_or_panic() {
        for length in 0..=16u16 {
            let mut bytes = vec![0u8; 11];
            bytes[..2].copy_from_slice(&length.to_ne_bytes());
            assert!(Attributes::new(&bytes).count() <= 11);
        }
    }
}
