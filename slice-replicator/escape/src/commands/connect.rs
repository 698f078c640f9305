//! `escape connect SOCKET PORT`: a stream to a port of a Linux guest.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::CommandError;
use crate::exit::Exit;

/// A guest that has not answered by then does not.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// Longest answer: two letters, a blank, a number and the line's end.
const ANSWER_BYTES_MAX: usize = 16;

/// Carries standard input to the guest and what it says to standard output, until it ends.
pub fn run(socket: &Path, port: u32) -> Result<Exit, CommandError> {
    let error = |cause: String| CommandError::Connect { socket: socket.to_owned(), port, cause };
    let mut stream = open(socket, port).map_err(|e| error(advice(&e)))?;
    let mut to_guest = stream.try_clone().map_err(|e| error(e.to_string()))?;
    // Ends with the process: nothing waits for a reader of keys.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut to_guest);
        let _ = to_guest.shutdown(Shutdown::Write);
    });
    pass_on(&mut stream).map_err(|e| error(e.to_string()))?;
    Ok(Exit::Done)
}

fn open(socket: &Path, port: u32) -> io::Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    writeln!(stream, "CONNECT {port}")?;
    let mut answer = Vec::new();
    let mut byte = [0];
    while !answer.ends_with(b"\n") {
        if stream.read(&mut byte)? == 0 || answer.len() == ANSWER_BYTES_MAX {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        answer.extend(byte);
    }
    if !answer.starts_with(b"OK ") {
        return Err(io::ErrorKind::InvalidData.into());
    }
    stream.set_read_timeout(None)?;
    Ok(stream)
}

/// Every piece at once: a person waits for it.
fn pass_on(stream: &mut UnixStream) -> io::Result<()> {
    let mut piece = [0; 4096];
    loop {
        let len = stream.read(&mut piece)?;
        if len == 0 {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        out.write_all(piece.get(..len).unwrap_or_default())?;
        out.flush()?;
    }
}

fn advice(error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::NotFound => "no guest has this socket; its image file names it as `vsock`",
        io::ErrorKind::ConnectionRefused => "nobody listens on that port of the guest, or the guest is not up",
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the guest did not answer within 10 s",
        _ => return error.to_string(),
    };
    advice.to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn answered(name: &str, answer: &'static [u8]) -> io::Result<UnixStream> {
        let path = std::env::temp_dir().join(format!("escape-connect-{}-{name}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let guest = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut asked = [0; 13];
            stream.read_exact(&mut asked).unwrap();
            stream.write_all(answer).unwrap();
            asked
        });
        let opened = open(&path, 1023);
        std::fs::remove_file(path).unwrap();
        assert_eq!(&guest.join().unwrap(), b"CONNECT 1023\n");
        opened
    }

    #[test]
    fn nothing_behind_the_answer_is_lost() {
        let mut stream = answered("good", b"OK 1073741824\nhello").unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
    }

    #[test]
    fn refusals_are_told() {
        assert!(advice(&answered("end", b"").unwrap_err()).contains("nobody listens"));
        assert!(answered("nonsense", b"HTTP\n").is_err());
        assert!(answered("endless", b"OK 11111111111111111111").is_err());
        assert!(advice(&open(Path::new("/nowhere/socket"), 1).unwrap_err()).contains("no guest has this socket"));
    }
}
