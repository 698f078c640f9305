//! A client's side of HTTP.

use std::io::{Read, Write};
use std::net::TcpStream;

/// One request on a connection that stays; the reply's body.
pub fn get(client: &mut TcpStream, path: &str) -> Vec<u8> {
    client.write_all(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes()).unwrap();
    body(client)
}

/// The body of the next reply.
pub fn body(client: &mut TcpStream) -> Vec<u8> {
    let mut reply = Vec::new();
    let mut part = [0; 4096];
    loop {
        if let Some(end) = reply.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&reply[..end]).into_owned();
            assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
            let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).unwrap();
            if reply.len() >= end + 4 + length.parse::<usize>().unwrap() {
                return reply.split_off(end + 4);
            }
        }
        let n = client.read(&mut part).unwrap();
        assert!(n > 0, "the connection was closed");
        reply.extend(&part[..n]);
    }
}
