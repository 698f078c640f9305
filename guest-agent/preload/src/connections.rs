//! Slices behind the server's descriptors.

use escape_process::{Connection, Session, SliceState, Turn};

/// What a call of the server's comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// So many bytes; of a read 0 is the end.
    Bytes(usize),
    /// Nothing now.
    Again,
    /// The connection is over.
    Broken,
}

/// What is kept in the slice beside input and output.
#[derive(Clone, Copy)]
#[repr(C)]
struct Kept {
    /// 1: the server is in the midst of an answer, of which a part is published.
    midst: u64,
}
// SAFETY: one integer.
unsafe impl SliceState for Kept {}

/// A connection as its server sees it.
#[derive(Debug)]
pub struct Served {
    connection: Option<Connection>,
    /// Bytes of the slice's input that the server has, but not answered.
    given: usize,
    /// Bytes of the input that the server has not seen.
    unseen: usize,
    /// What the server has written since it waited last. Bounded by the slice's room.
    written: Vec<u8>,
    /// Room that the slice had for it when the server waited last.
    room: usize,
    /// The server was told that there is no room: its answer goes on.
    refused: bool,
    closes: bool,
}

impl Served {
    /// One that was just accepted, or has come from elsewhere. `None`: it was in the midst of an answer, of which nobody knows the rest.
    pub fn new(mut connection: Connection) -> Option<Self> {
        let turn = connection.work(|session| (session.state::<Kept>().midst, session.room(), session.input().len()));
        let (midst, room, unseen) = match turn {
            Ok(Turn::Done(facts)) => facts,
            // Held: nothing can be said of it yet; the first call of the server looks again.
            Ok(Turn::Held) => (0, 0, 0),
            Ok(Turn::Over) | Err(_) => return None,
        };
        let (connection, written) = (Some(connection), Vec::new());
        let served = Self { connection, given: 0, unseen, written, room, refused: false, closes: false };
        (midst == 0).then_some(served)
    }

    fn work<R>(&mut self, program: impl FnOnce(&mut Session<'_>) -> R) -> Option<R> {
        let connection = self.connection.as_mut()?;
        match connection.work(program) {
            Ok(Turn::Done(said)) => Some(said),
            Ok(Turn::Held) => None,
            Ok(Turn::Over) | Err(_) => {
                self.connection = None;
                None
            }
        }
    }

    /// The server reads.
    pub fn read(&mut self, into: &mut [u8], keep: bool) -> Said {
        self.refused = false;
        let given = self.given;
        let read = self.work(|session| {
            session.state::<Kept>().midst = 0;
            let new = session.input().get(given..).unwrap_or_default();
            let len = new.len().min(into.len());
            into.iter_mut().zip(new).for_each(|(to, from)| *to = *from);
            (len, new.len() - len, session.has_end(), session.room())
        });
        let Some((len, left, ended, room)) = read else {
            return if self.connection.is_some() { Said::Again } else { Said::Broken };
        };
        (self.room, self.unseen) = (room, if keep { len + left } else { left });
        match (len, ended) {
            (0, true) => Said::Bytes(0),
            (0, false) if !into.is_empty() => Said::Again,
            _ => {
                self.given += if keep { 0 } else { len };
                Said::Bytes(len)
            }
        }
    }

    /// The server writes.
    pub fn write(&mut self, bytes: &[u8]) -> Said {
        if self.connection.is_none() {
            return Said::Broken;
        }
        let len = bytes.len().min(self.room.saturating_sub(self.written.len()));
        self.refused = len < bytes.len();
        if self.refused && len == 0 {
            return Said::Again;
        }
        self.written.extend_from_slice(bytes.get(..len).unwrap_or_default());
        Said::Bytes(len)
    }

    /// The server has not seen all of the input. Its kernel does not know of that.
    pub const fn has_unseen(&self) -> bool {
        self.unseen > 0
    }

    /// Bytes that can be written now.
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.written.len())
    }

    /// The server waits, or is done: what it has read and written becomes the slice's state in one step.
    pub fn commit(&mut self) {
        let due = self.connection.as_ref().is_some_and(Connection::is_due);
        if self.written.is_empty() && !self.refused && !self.closes && !due {
            return;
        }
        let (given, refused, closes) = (self.given, self.refused, self.closes);
        let written = std::mem::take(&mut self.written);
        let done = self.work(|session| {
            let answered = !written.is_empty() || closes;
            if answered {
                session.consume(given);
            }
            session.write(&written);
            session.state::<Kept>().midst = u64::from(refused);
            if answered && !refused {
                session.count_request();
            }
            if closes {
                session.close();
            }
            (answered, session.room(), session.input().len())
        });
        match done {
            Some((answered, room, input)) => {
                self.given = if answered { 0 } else { given };
                (self.room, self.unseen) = (room, input - self.given.min(input));
            }
            // Held: with the next wait.
            None => self.written = written,
        }
    }

    /// The server writes no more.
    pub fn close(&mut self) {
        self.closes = true;
        // The host holds a slice for microseconds; a server that is gone does not wait again.
        for _ in 0..1000 {
            self.commit();
            if self.connection.is_none() || self.written.is_empty() {
                return;
            }
            std::thread::yield_now();
        }
    }

    /// The slice is not this process's any more.
    pub fn forget(mut self) {
        if let Some(connection) = self.connection.take() {
            connection.forget();
        }
    }
}
