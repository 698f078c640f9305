//! `GET /events`: ticks in chunks. All there is to them lies in the slot, and their time is the slice's own clock: with the next
//! owner they go on where they were.

use crate::clock::MS;
use crate::http::head::decimal;
use crate::tcp::Pipe;
use crate::text::Text;

/// Milliseconds between two ticks: least, most, and when nothing is asked for.
const EVERY_MS_MIN: u64 = 10;
const EVERY_MS_MAX: u64 = 60_000;
const EVERY_MS: u64 = 1_000;
/// Room that a chunk, and the end behind the last one, may need.
const CHUNK_ROOM: usize = 128;
/// Bytes of a chunk's data, so that two digits tell them.
const LINE_MAX: usize = 64;

/// Ticks that are still to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Ticks {
    /// Number of the next one; the first is 1.
    next: u64,
    /// Number of the last one; `u64::MAX`: there is none.
    last: u64,
    every_us: i64,
    /// Slice clock at which the next one is due; 0: at once.
    due_at: i64,
}

impl Ticks {
    /// Those that a query asks for: `every_ms` and `count`, in any order, each once at most. `None`: not a query, or out of bounds.
    pub(crate) fn of_query(query: &str) -> Option<Self> {
        let (mut every_ms, mut count) = (None, None);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=')?;
            let place = match name {
                "every_ms" => &mut every_ms,
                "count" => &mut count,
                _ => return None,
            };
            if place.replace(decimal(value.as_bytes())?).is_some() {
                return None;
            }
        }
        let every_ms = every_ms.unwrap_or(EVERY_MS);
        let last = count.unwrap_or(u64::MAX);
        let good = (EVERY_MS_MIN..=EVERY_MS_MAX).contains(&every_ms) && last > 0;
        good.then_some(Self { next: 1, last, every_us: every_ms as i64 * MS, due_at: 0 })
    }

    /// Slice clock at which there is something to do.
    pub(crate) const fn due_at(&self) -> i64 {
        self.due_at
    }

    /// Sends the tick that is due, if it is and there is room: one that waited for room comes late, and the next one its full time
    /// later. Returns whether it was the last.
    pub(crate) fn run(&mut self, clock: i64, node: u32, pipe: &mut Pipe<'_>) -> bool {
        if clock < self.due_at || pipe.space() < CHUNK_ROOM {
            return false;
        }
        let mut line = Text::<LINE_MAX>::new();
        line.str("{\"tick\":").dec(self.next).str(",\"node\":").dec(u64::from(node)).str("}\n");
        let data = line.as_bytes();
        let mut chunk = Text::<CHUNK_ROOM>::new();
        chunk.hex(&[data.len() as u8]).str("\r\n").raw(data).str("\r\n");
        let over = self.next == self.last;
        if over {
            chunk.str("0\r\n\r\n");
        }
        pipe.write(chunk.as_bytes());
        // The rhythm is that of the times when they were due, unless room came more than a whole one late.
        let on_time = self.due_at + self.every_us;
        self.due_at = if self.due_at > 0 && on_time > clock { on_time } else { clock + self.every_us };
        self.next += 1;
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let ticks = |every_ms: i64, last| Some(Ticks { next: 1, last, every_us: every_ms * 1000, due_at: 0 });
        for (query, want) in [
            ("", ticks(1000, u64::MAX)),
            ("every_ms=10", ticks(10, u64::MAX)),
            ("every_ms=60000&count=1", ticks(60_000, 1)),
            ("count=7&every_ms=20", ticks(20, 7)),
            ("every_ms=9", None),
            ("every_ms=60001", None),
            ("every_ms=", None),
            ("every_ms=-10", None),
            ("every_ms=99999999999999999999", None),
            ("count=0", None),
            ("count=1&count=2", None),
            ("every_ms", None),
            ("n=5", None),
        ] {
            assert_eq!(Ticks::of_query(query), want, "{query:?}");
        }
    }
}
