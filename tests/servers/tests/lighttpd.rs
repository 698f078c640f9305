//! A server that was ported, lighttpd with `images/lighttpd/slices.patch`: its connections go on in another process in the middle of a request
//! and in the middle of a response.
#![allow(clippy::unwrap_used)]

use escape_abi::GuestMessage;
use escape_capsule::SliceKey;
use escape_servers::{Guest, PORT, Server, body, get, on_stage};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

const TEXT: &str = "a file that is served by whoever is alive\n";
/// More than slice and kernel can take: most of it is written after the client has read from it.
const LARGE: usize = 8 << 20;

const CONFIGURATION: &str = r#"
server.document-root = "DIR/files"
server.bind = "127.0.0.1"
server.port = PORT
server.max-request-size = 48
server.max-keep-alive-requests = 1000
server.max-keep-alive-idle = 60
etag.use-inode = "disable"
mimetype.assign = ( "" => "application/octet-stream" )
"#;

/// Where the program is that `images/lighttpd/build` made: `ESCAPE_LIGHTTPD`.
fn lighttpd() -> Option<PathBuf> {
    std::env::var_os("ESCAPE_LIGHTTPD").map(PathBuf::from).filter(|path| path.is_file())
}

fn large() -> Vec<u8> {
    (0..LARGE).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn serve(guest: &mut Guest, directory: &Path) -> Server {
    let mut command = Command::new(lighttpd().unwrap());
    command.arg("-D").arg("-f").arg(directory.join("lighttpd.conf")).env("ESCAPE_AGENT", guest.socket());
    guest.serve(&mut command)
}

fn play(name: &str, act: impl FnOnce(&Path) + Send) {
    if lighttpd().is_none() {
        return println!("SKIPPED: no ported lighttpd (images/lighttpd/build makes it, ESCAPE_LIGHTTPD names it)");
    }
    on_stage(name, &[("text", TEXT.as_bytes()), ("large", &large())], |directory| {
        let configuration = CONFIGURATION.replace("DIR", directory.to_str().unwrap());
        std::fs::write(directory.join("lighttpd.conf"), configuration.replace("PORT", &PORT.to_string())).unwrap();
        act(directory);
    });
}

#[test]
fn a_connection_goes_on_in_the_middle_of_a_request() {
    play("lighttpd-request", |directory| {
        let mut one = Guest::new(directory, "one");
        let server = serve(&mut one, directory);
        let (mut client, key) = one.open(&server);
        (0..3).for_each(|_| assert_eq!(get(&mut client, "/text"), TEXT.as_bytes()));
        // One request and a half: the first is answered, the rest of the second comes when its machine is gone.
        let (first, rest) = ("GET /text HT", "TP/1.1\r\nHost: test\r\n\r\n");
        one.hear_part(&mut client, key, first);
        let slice = one.die(server, key);
        let mut other = Guest::new(directory, "other");
        let _server = serve(&mut other, directory);
        other.plug(&slice);
        client.write_all(rest.as_bytes()).unwrap();
        assert_eq!(body(&mut client), TEXT.as_bytes(), "the other server has both halves");
        (0..3).for_each(|_| assert_eq!(get(&mut client, "/text"), TEXT.as_bytes()));
        end(&mut client, &mut other, key);
    });
}

#[test]
fn a_connection_goes_on_in_the_middle_of_a_response() {
    goes_on_in_a_response("lighttpd-response", Duration::ZERO);
}

/// Its window is closed when the machine dies.
#[test]
fn a_reader_that_rests_has_all_of_the_response_in_the_end() {
    goes_on_in_a_response("lighttpd-slow", Duration::from_millis(700));
}

fn goes_on_in_a_response(name: &str, rest_for: Duration) {
    play(name, |directory| {
        let mut one = Guest::new(directory, "one");
        let server = serve(&mut one, directory);
        let (mut client, key) = one.open(&server);
        assert_eq!(get(&mut client, "/text"), TEXT.as_bytes());
        client.write_all(b"GET /large HTTP/1.1\r\nHost: test\r\n\r\n").unwrap();
        let mut got = vec![0; LARGE / 4];
        client.read_exact(&mut got).unwrap();
        std::thread::sleep(rest_for);
        let slice = one.die(server, key);
        let mut other = Guest::new(directory, "other");
        let _server = serve(&mut other, directory);
        other.plug(&slice);
        std::thread::sleep(rest_for);
        let head = got.windows(4).position(|w| w == b"\r\n\r\n").unwrap() + 4;
        let mut rest = vec![0; LARGE + head - got.len()];
        client.read_exact(&mut rest).unwrap();
        let large = large();
        assert!(got[head..] == large[..got.len() - head], "before the machine died");
        same(&rest, &large, got.len() - head);
        (0..3).for_each(|_| assert_eq!(get(&mut client, "/text"), TEXT.as_bytes()));
        end(&mut client, &mut other, key);
    });
}

/// What came is what is there from this place on. If not: from where, and whose it is.
fn same(came: &[u8], large: &[u8], from: usize) {
    let wanted = &large[from..];
    let Some(at) = came.iter().zip(wanted).position(|(a, b)| a != b) else { return };
    let piece = &came[at..(at + 64).min(came.len())];
    let source = large.windows(piece.len()).position(|w| w == piece);
    let again = (at..came.len()).find(|i| came[*i..] == wanted[*i..]);
    panic!("byte {} of the file is wrong, up to {again:?} of what came; what came is there at {source:?}", from + at);
}

/// The client's end is the slice's.
fn end(client: &mut TcpStream, guest: &mut Guest, key: SliceKey) {
    let SliceKey { slot, incarnation } = key;
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0);
    guest.hear(|m| *m == GuestMessage::Close { slot, incarnation });
}
