//! A cell's name.

use super::PkiError;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Name of a cell: a DNS label of at most 40 characters, part of every certificate of the cell.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CellName(String);

impl CellName {
    /// Longest name, characters.
    pub const LEN_MAX: usize = 40;

    /// Checks a name.
    ///
    /// # Errors
    /// [`PkiError::CellName`].
    pub fn new(name: &str) -> Result<Self, PkiError> {
        let allowed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        let good = !name.is_empty()
            && name.len() <= Self::LEN_MAX
            && name.bytes().all(allowed)
            && !name.starts_with('-')
            && !name.ends_with('-');
        if good { Ok(Self(name.to_owned())) } else { Err(PkiError::CellName { name: name.chars().take(80).collect() }) }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for CellName {
    type Error = PkiError;
    fn try_from(name: String) -> Result<Self, PkiError> {
        Self::new(&name)
    }
}

impl From<CellName> for String {
    fn from(name: CellName) -> Self {
        name.0
    }
}

impl fmt::Display for CellName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_dns_labels_are_names() {
        for good in ["a", "cell-1", "0", &"x".repeat(40)] {
            assert!(CellName::new(good).is_ok(), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a b", "é", "a\n", "*", &"x".repeat(41)] {
            assert!(CellName::new(bad).is_err(), "{bad:?}");
        }
    }
}
