use super::aligned;

/// Marks an attribute that contains attributes (`NLA_F_NESTED`).
const NESTED: u16 = 0x8000;

/// Writes netlink messages one after the other into one datagram.
///
/// A value too long for its length field is not written wrongly: it is remembered, and [`Encoder::is_too_long`] says so
/// before anything is sent.
#[derive(Debug, Default)]
pub struct Encoder {
    bytes: Vec<u8>,
    too_long: bool,
}

impl Encoder {
    /// An empty datagram.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends one message; `body` writes its family header and attributes.
    pub fn message(&mut self, kind: u16, flags: u16, sequence: u32, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(&sequence.to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 4]);
        body(self);
        let length = u32::try_from(self.bytes.len() - start);
        self.too_long |= length.is_err();
        self.bytes[start..start + 4].copy_from_slice(&length.unwrap_or(0).to_ne_bytes());
        self.pad();
    }

    /// Appends a family header or other raw bytes.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.pad();
    }

    /// Appends an attribute.
    pub fn attribute(&mut self, number: u16, value: &[u8]) {
        self.with_length(number, |encoder| encoder.bytes.extend_from_slice(value));
    }

    /// Appends a 32-bit attribute in host byte order (links, addresses).
    pub fn u32(&mut self, number: u16, value: u32) {
        self.attribute(number, &value.to_ne_bytes());
    }

    /// Appends a 32-bit attribute in network byte order (nf_tables).
    pub fn be32(&mut self, number: u16, value: u32) {
        self.attribute(number, &value.to_be_bytes());
    }

    /// Appends a 64-bit attribute in network byte order (nf_tables).
    pub fn be64(&mut self, number: u16, value: u64) {
        self.attribute(number, &value.to_be_bytes());
    }

    /// Appends a text with its terminating zero.
    pub fn text(&mut self, number: u16, value: &str) {
        self.with_length(number, |encoder| {
            encoder.bytes.extend_from_slice(value.as_bytes());
            encoder.bytes.push(0);
        });
    }

    /// Appends an attribute that contains what `body` writes.
    pub fn nested(&mut self, number: u16, body: impl FnOnce(&mut Self)) {
        self.with_length(number | NESTED, body);
    }

    fn with_length(&mut self, number: u16, body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 2]);
        self.bytes.extend_from_slice(&number.to_ne_bytes());
        body(self);
        let length = u16::try_from(self.bytes.len() - start);
        self.too_long |= length.is_err();
        self.bytes[start..start + 2].copy_from_slice(&length.unwrap_or(0).to_ne_bytes());
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(aligned(self.bytes.len()), 0);
    }

    /// Whether some value did not fit its length field; such a datagram must not be sent.
    pub const fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// The datagram.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_cover_nested_attributes_and_padding_is_outside_them() {
        let mut encoder = Encoder::new();
        encoder.message(16, 5, 7, |m| {
            m.nested(1, |m| m.text(2, "ab"));
            m.be32(3, 1);
        });
        let wanted: &[u8] = &[
            36, 0, 0, 0, 16, 0, 5, 0, 7, 0, 0, 0, 0, 0, 0, 0, // header
            12, 0, 1, 0x80, 7, 0, 2, 0, b'a', b'b', 0, 0, // nested text
            8, 0, 3, 0, 0, 0, 0, 1,
        ];
        assert_eq!(encoder.as_bytes(), wanted);
        assert!(!encoder.is_too_long());
    }

    #[test]
    fn an_attribute_beyond_64_kib_is_noticed() {
        let mut encoder = Encoder::new();
        encoder.message(16, 0, 1, |m| m.attribute(1, &vec![0; 65_532]));
        assert!(encoder.is_too_long());
    }
}
