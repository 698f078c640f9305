//! An unmodified server of Debian's packages, nginx: a client's connection goes from one process of it to another, each in a guest of its own.
#![allow(clippy::unwrap_used)]

use escape_abi::GuestMessage;
use escape_capsule::SliceKey;
use escape_servers::{Guest, PORT, Server, body, get, on_stage};
use escape_vmm::memory::SlotMemory;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

const TEXT: &str = "a file that is served by whoever is alive\n";

/// One process, one thread; nothing written anywhere but into this directory.
const CONFIGURATION: &str = "daemon off; master_process off; pid DIR/pid; error_log stderr warn;
events { worker_connections 64; }
http {
    access_log off; sendfile on; keepalive_timeout 60; keepalive_requests 1000;
    client_body_temp_path DIR/t1; proxy_temp_path DIR/t2; fastcgi_temp_path DIR/t3; uwsgi_temp_path DIR/t4; scgi_temp_path DIR/t5;
    server { listen 127.0.0.1:PORT; root DIR/files; }
}
";

/// Where the server is: `ESCAPE_NGINX`, or where Debian's package puts it.
fn nginx() -> Option<PathBuf> {
    let named = std::env::var_os("ESCAPE_NGINX").map(PathBuf::from);
    named.into_iter().chain([PathBuf::from("/usr/sbin/nginx")]).find(|path| path.is_file())
}

/// The server with the preloaded library, registered with this guest's agent.
fn serve(guest: &mut Guest, nginx: &Path, directory: &Path) -> Server {
    let library = std::env::current_exe().unwrap().parent().unwrap().join("libescape_preload.so");
    let mut command = Command::new(nginx);
    command.arg("-p").arg(directory).arg("-c").arg(directory.join("nginx.conf")).args(["-e", "stderr"]);
    command.env("LD_PRELOAD", library).env("ESCAPE_PORTS", PORT.to_string()).env("ESCAPE_AGENT", guest.socket());
    guest.serve(&mut command)
}

#[test]
fn a_connection_of_nginx_goes_on_in_another_process() {
    let Some(nginx) = nginx() else { return println!("SKIPPED: no nginx (Debian's package of that name)") };
    on_stage("nginx", &[("text", TEXT.as_bytes()), ("large", &[7; 40_000])], |directory| {
        let configuration = CONFIGURATION.replace("DIR", directory.to_str().unwrap());
        std::fs::write(directory.join("nginx.conf"), configuration.replace("PORT", &PORT.to_string())).unwrap();
        go_on(&nginx, directory);
    });
}

fn go_on(nginx: &Path, directory: &Path) {
    let mut one = Guest::new(directory, "one");
    let server = serve(&mut one, nginx, directory);
    let (mut client, key) = one.open(&server);
    let SliceKey { slot, incarnation } = key;
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/text"), TEXT.as_bytes());
        assert_eq!(get(&mut client, "/large"), vec![7; 40_000]);
    }
    assert_eq!(one.slots.meta(slot).unwrap().requests, 6);
    // Its agent is another one from here on. The server does not notice: old connections go on, and new ones come.
    one.restart_agent();
    let (mut late, _) = one.open(&server);
    assert_eq!(get(&mut late, "/large"), vec![7; 40_000]);
    assert_eq!(get(&mut client, "/text"), TEXT.as_bytes());
    // Half of a request: its server reads it, and dies with it.
    let (first, rest) = ("GET /text HT", "TP/1.1\r\nHost: test\r\n\r\n");
    one.hear_part(&mut client, key, first);
    let slice = one.die(server, key);
    let mut other = Guest::new(directory, "other");
    let _server = serve(&mut other, nginx, directory);
    other.plug(&slice);
    other.restart_agent();
    client.write_all(rest.as_bytes()).unwrap();
    assert_eq!(body(&mut client), TEXT.as_bytes(), "the other server has both halves");
    for _ in 0..3 {
        assert_eq!(get(&mut client, "/large"), vec![7; 40_000]);
        assert_eq!(get(&mut client, "/text"), TEXT.as_bytes());
    }
    assert_eq!(other.slots.meta(slot).unwrap().requests, 14);

    // And its end is the slice's.
    client.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.read(&mut [0; 9]).unwrap(), 0, "{key:?}");
    other.hear(|m| *m == GuestMessage::Close { slot, incarnation });
}
