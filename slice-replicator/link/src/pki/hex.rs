//! 32 bytes as 64 hexadecimal digits.

use super::PkiError;
use std::fmt::Write;

/// Lower-case digits.
pub(super) fn print(bytes: &[u8; 32]) -> String {
    bytes.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Reads exactly 64 digits of either case.
pub(super) fn parse(text: &str) -> Result<[u8; 32], PkiError> {
    let wrong = || PkiError::HeartbeatKey { found: text.chars().count() };
    if text.len() != 64 || !text.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(key)
}
