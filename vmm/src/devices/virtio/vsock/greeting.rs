//! What a program on the host says first: `CONNECT PORT`, ended by a line feed, as Firecracker has it.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;

/// Longest line: the word, a blank and a number of 32 bits.
const LINE_BYTES_MAX: usize = 20;

/// A program that has not said yet where it wants to go.
#[derive(Debug)]
pub struct Greeting {
    stream: UnixStream,
    line: Vec<u8>,
}

/// How far it is.
#[derive(Debug)]
pub enum Said {
    /// More must come.
    Part(Greeting),
    /// It wants this port.
    Port(UnixStream, u32),
    /// Nonsense, or it went away.
    Nonsense,
}

impl Greeting {
    /// Of a stream that does not block.
    pub fn new(stream: UnixStream) -> Self {
        Self { stream, line: Vec::with_capacity(LINE_BYTES_MAX) }
    }

    /// Reads on. Not one byte behind the line is taken: it is the guest's.
    pub fn read(mut self) -> Said {
        let mut byte = [0];
        loop {
            match self.stream.read(&mut byte) {
                Ok(1) if byte == *b"\n" => {
                    return port_of(&self.line).map_or(Said::Nonsense, |p| Said::Port(self.stream, p));
                }
                Ok(1) if self.line.len() < LINE_BYTES_MAX => self.line.extend(byte),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Said::Part(self),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                _ => return Said::Nonsense,
            }
        }
    }
}

fn port_of(line: &[u8]) -> Option<u32> {
    std::str::from_utf8(line).ok()?.strip_prefix("CONNECT ")?.trim_end_matches('\r').parse().ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::io::Write;

    #[test]
    fn only_the_line_is_taken() {
        let (mut person, stream) = UnixStream::pair().unwrap();
        stream.set_nonblocking(true).unwrap();
        person.write_all(b"CONN").unwrap();
        let Said::Part(greeting) = Greeting::new(stream).read() else { panic!("a part") };
        person.write_all(b"ECT 4294967295\nfirst").unwrap();
        let Said::Port(mut stream, u32::MAX) = greeting.read() else { panic!("a port") };
        let mut rest = [0; 5];
        stream.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"first");
    }

    #[test]
    fn nonsense_is_refused() {
        for line in
            ["\n", "CONNECT\n", "CONNECT -1\n", "CONNECT 4294967296\n", "GET / HTTP/1.1 and much more than that\n"]
        {
            let (mut person, stream) = UnixStream::pair().unwrap();
            stream.set_nonblocking(true).unwrap();
            person.write_all(line.as_bytes()).unwrap();
            assert!(matches!(Greeting::new(stream).read(), Said::Nonsense), "{line}");
        }
    }
}
