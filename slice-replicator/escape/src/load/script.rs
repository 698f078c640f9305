//! A session's script: which request comes next, and what must come back.
//!
//! The script holds a model of the session (counter, keys). Requests of a connection are served in order, so the model
//! after all requests issued so far says what the next reply is, however many replies are still on their way.

use super::expected::{Expected, ExpectedBody, ExpectedStatus};
use super::request::Request;
use super::seeded::Seeded;

/// Keys that a session uses (bounds the model and the session's heap).
const KEYS_MAX: usize = 8;
/// Longest value, bytes.
const VALUE_MAX: u64 = 256;
/// Longest `/bytes` reply of the mix, bytes.
const BYTES_MAX: u64 = 4096;
/// Most bytes that one `/dirty` of the mix changes.
const DIRTY_MAX: u64 = 2048;

/// The seeded sequence of one session's requests.
#[derive(Clone, Debug)]
pub struct Script {
    random: Seeded,
    counter: u64,
    /// `None`: never stored or deleted.
    values: [Option<Box<[u8]>>; KEYS_MAX],
}

impl Script {
    /// The script of session `index` in the run `seed`.
    pub fn new(seed: u64, index: u64) -> Self {
        Self { random: Seeded::new(seed, index), counter: 0, values: Default::default() }
    }

    /// The next request of the mix.
    pub fn next(&mut self) -> (Request, Expected) {
        let request = match self.random.below(100) {
            0..45 => Request::Counter,
            45..65 => self.draw_put(),
            65..80 => Request::Get { key: self.draw_key() },
            80..85 => self.draw_delete(),
            85..95 => Request::Bytes { n: 1 + self.random.below(BYTES_MAX) },
            _ => Request::Dirty { n: 1 + self.random.below(DIRTY_MAX) as u32 },
        };
        let expected = self.expect(&request);
        (request, expected)
    }

    /// Puts `request` next and says what must come back.
    pub fn expect(&mut self, request: &Request) -> Expected {
        use ExpectedStatus::{Exactly, Success};
        let (status, body) = match request {
            Request::Counter => {
                self.counter += 1;
                (Exactly(200), ExpectedBody::Number(self.counter))
            }
            Request::Put { key, value } => {
                if let Some(stored) = self.values.get_mut(usize::from(*key)) {
                    *stored = Some(value.as_slice().into());
                }
                (Success, ExpectedBody::Free)
            }
            Request::Get { key } => match self.values.get(usize::from(*key)) {
                Some(Some(value)) => (Exactly(200), ExpectedBody::Exactly(value.clone())),
                _ => (Exactly(404), ExpectedBody::Free),
            },
            Request::Delete { key } => {
                if let Some(stored) = self.values.get_mut(usize::from(*key)) {
                    *stored = None;
                }
                (Success, ExpectedBody::Free)
            }
            Request::Bytes { n } => (Exactly(200), ExpectedBody::Pattern { n: *n }),
            Request::Dirty { .. } => (Success, ExpectedBody::Free),
            Request::Session => (Exactly(200), ExpectedBody::SessionFacts { counter: self.counter }),
        };
        Expected { status, body }
    }

    fn draw_key(&mut self) -> u8 {
        self.random.below(KEYS_MAX as u64) as u8
    }

    fn draw_put(&mut self) -> Request {
        let length = self.random.below(VALUE_MAX + 1);
        let value = (0..length).map(|_| b'a' + self.random.below(26) as u8).collect();
        Request::Put { key: self.draw_key(), value }
    }

    /// A stored key, so that the answer is a success whatever the server says to a delete of nothing.
    fn draw_delete(&mut self) -> Request {
        let first = usize::from(self.draw_key());
        let stored = (0..KEYS_MAX).map(|i| (first + i) % KEYS_MAX).find(|&key| self.values[key].is_some());
        match stored {
            Some(key) => Request::Delete { key: key as u8 },
            None => Request::Counter,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_requests_and_another_does_not() {
        let draw = |seed| {
            let mut script = Script::new(seed, 5);
            (0..100).map(|_| script.next().0).collect::<Vec<_>>()
        };
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn a_deleted_value_must_be_gone() {
        let mut script = Script::new(0, 0);
        script.expect(&Request::Put { key: 1, value: b"x".to_vec() });
        assert_eq!(script.expect(&Request::Get { key: 1 }).body, ExpectedBody::Exactly(b"x".as_slice().into()));
        script.expect(&Request::Delete { key: 1 });
        assert_eq!(script.expect(&Request::Get { key: 1 }).status, ExpectedStatus::Exactly(404));
    }

    #[test]
    fn deletes_of_the_mix_always_name_a_stored_key() {
        let mut script = Script::new(9, 9);
        for _ in 0..5_000 {
            let before = script.clone();
            if let (Request::Delete { key }, _) = script.next() {
                assert!(before.values[usize::from(key)].is_some());
            }
        }
    }
}
