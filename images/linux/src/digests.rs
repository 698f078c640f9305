//! SHA-256 sums beside an image, in the form that `sha256sum -c` reads.

use sha2::{Digest, Sha256};

/// Name of the file.
pub const DIGESTS: &str = "SHA256SUMS";

/// The digest, in hexadecimal.
pub fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lines of the file.
pub(crate) fn lines(files: &[(&str, &[u8])]) -> String {
    files.iter().map(|(name, content)| format!("{}  {name}\n", sha256_hex(content))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(lines(&[("a", b"abc"), ("b", b"")]).ends_with("  b\n"));
    }
}
