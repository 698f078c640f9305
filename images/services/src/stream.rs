//! The checked byte stream (protocol: the documentation of `escape_session`).

use escape_process::{Session, SliceState};
use escape_session::pattern;

/// Pattern bytes made at once.
const PIECE: usize = 4096;
/// Bytes of the trailer.
const TRAILER: usize = 16;

#[derive(Clone, Copy)]
#[repr(C)]
struct Stream {
    received: u64,
    wrong: u64,
    sent: u64,
}
// SAFETY: three integers.
unsafe impl SliceState for Stream {}

/// Takes what has come, and sends what there is room for.
pub fn run(session: &mut Session<'_>) {
    let mut stream = *session.state::<Stream>();
    let input = session.input();
    let len = input.len();
    stream.wrong += pattern::count_wrong(input, stream.received);
    stream.received += len as u64;
    session.consume(len);
    if session.at_end() {
        if session.room() >= TRAILER {
            session.write(&stream.received.to_le_bytes());
            session.write(&stream.wrong.to_le_bytes());
            session.close();
        }
    } else {
        let mut piece = [0; PIECE];
        loop {
            let len = session.room().min(PIECE);
            let Some(piece) = piece.get_mut(..len).filter(|piece| !piece.is_empty()) else { break };
            pattern::fill(piece, stream.sent);
            stream.sent += session.write(piece) as u64;
        }
    }
    *session.state::<Stream>() = stream;
}
