//! Compares a reply's body with what it must be, as the bytes come in.

use super::expected::{ExpectedBody, FREE_BODY_MAX};
use super::pattern;
use super::violation::Violation;

/// Check of one body.
#[derive(Debug, Default)]
pub struct BodyCheck {
    /// Bytes seen so far.
    at: u64,
    wrong: u64,
    /// A body that is read at its end; at most [`FREE_BODY_MAX`] bytes.
    kept: Vec<u8>,
}

impl BodyCheck {
    /// The length that `expected` asks for, if it asks for one.
    pub fn length_of(expected: &ExpectedBody) -> Option<u64> {
        match expected {
            ExpectedBody::Exactly(bytes) => Some(bytes.len() as u64),
            ExpectedBody::Pattern { n } => Some(*n),
            ExpectedBody::Number(number) => Some(number.to_string().len() as u64),
            ExpectedBody::SessionFacts { .. } | ExpectedBody::Free => None,
        }
    }

    /// Refuses a length that cannot be right before a byte of the body is read.
    pub fn check_length(expected: &ExpectedBody, length: u64) -> Result<(), Violation> {
        let right = match Self::length_of(expected) {
            Some(wanted) if matches!(expected, ExpectedBody::Number(_)) => (wanted..=wanted + 1).contains(&length),
            Some(wanted) => length == wanted,
            None => length <= FREE_BODY_MAX,
        };
        if right {
            return Ok(());
        }
        let wanted = Self::length_of(expected).map_or(format!("at most {FREE_BODY_MAX}"), |n| n.to_string());
        Err(Violation::WrongBytes { count: 1, how: format!("body of {length} bytes, expected {wanted}") })
    }

    /// Compares the next bytes of the body.
    pub fn feed(&mut self, expected: &ExpectedBody, bytes: &[u8]) {
        match expected {
            ExpectedBody::Exactly(all) => {
                let from = usize::try_from(self.at).unwrap_or(usize::MAX);
                let right = all.get(from..).unwrap_or_default();
                let differing = right.iter().zip(bytes).filter(|(a, b)| a != b).count();
                self.wrong += (differing + bytes.len().saturating_sub(right.len())) as u64;
            }
            ExpectedBody::Pattern { .. } => self.wrong += pattern::count_wrong(self.at, bytes),
            ExpectedBody::SessionFacts { .. } | ExpectedBody::Number(_) => {
                let room = (FREE_BODY_MAX as usize).saturating_sub(self.kept.len());
                self.kept.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
            }
            ExpectedBody::Free => {}
        }
        self.at += bytes.len() as u64;
    }

    /// Ends the body: the number of wrong bytes and, for `GET /session`, its text.
    pub fn finish(&mut self, expected: &ExpectedBody) -> (u64, Vec<u8>) {
        self.at = 0;
        let kept = std::mem::take(&mut self.kept);
        if let ExpectedBody::Number(number) = expected {
            let digits = kept.strip_suffix(b"\n").unwrap_or(&kept);
            let right = number.to_string();
            let differing = digits.iter().zip(right.as_bytes()).filter(|(a, b)| a != b).count();
            self.wrong += (differing + digits.len().abs_diff(right.len())) as u64;
        }
        (std::mem::take(&mut self.wrong), kept)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_bytes_are_counted_across_pieces() {
        let expected = ExpectedBody::Exactly(b"abcdef".as_slice().into());
        let mut check = BodyCheck::default();
        check.feed(&expected, b"abX");
        check.feed(&expected, b"dYf");
        assert_eq!(check.finish(&expected).0, 2);
        check.feed(&expected, b"abcdefg");
        assert_eq!(check.finish(&expected).0, 1, "a byte too many is a wrong byte");
    }

    #[test]
    fn a_number_may_end_its_line_but_not_go_on() {
        let wrong = |body: &[u8]| {
            let expected = ExpectedBody::Number(12);
            let mut check = BodyCheck::default();
            body.chunks(1).for_each(|byte| check.feed(&expected, byte));
            (BodyCheck::check_length(&expected, body.len() as u64).is_err(), check.finish(&expected).0)
        };
        assert_eq!([wrong(b"12"), wrong(b"12\n")], [(false, 0); 2]);
        assert_eq!(wrong(b"13\n"), (false, 1));
        assert_eq!(wrong(b"120"), (false, 1));
        assert!(wrong(b"1").0 && wrong(b"12\n\n").0);
    }

    #[test]
    fn an_impossible_length_is_refused_before_the_body() {
        assert!(BodyCheck::check_length(&ExpectedBody::Pattern { n: 5 }, 6).is_err());
        assert!(BodyCheck::check_length(&ExpectedBody::Free, FREE_BODY_MAX + 1).is_err());
        assert!(BodyCheck::check_length(&ExpectedBody::Pattern { n: 5 }, 5).is_ok());
    }
}
