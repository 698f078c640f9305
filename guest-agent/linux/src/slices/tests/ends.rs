//! Connections that end, and what is not ordinary data, before and after their machine has died (TCP-FAILOVER, T13, T14, T37).

use super::*;
use rustix::net::{SendFlags, Shutdown, send, sockopt};
use std::io::ErrorKind;

/// Two machines, and a client of the one.
struct Opened {
    one: Machine,
    other: Machine,
    client: TcpStream,
    key: SliceKey,
}

impl Opened {
    fn begin() -> Self {
        let (mut one, other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let client = client(&listener);
        let key = one.take(&listener);
        Self { one, other, client, key }
    }
}

/// Turns of one machine until this is so.
fn until(machine: &mut Machine, what: &str, mut is_so: impl FnMut(&mut Machine) -> bool) {
    let begun = Instant::now();
    while !is_so(machine) {
        machine.turn();
        machine.serve();
        assert!(begun.elapsed() < LIMIT, "never: {what}; said {:?}", machine.said);
    }
}

/// All that a client hears until the end, while a machine has turns.
fn hear_out(machine: &mut Machine, client: &mut TcpStream) -> String {
    client.set_nonblocking(true).unwrap();
    let mut all = Vec::new();
    until(machine, "the client's end", |_| {
        let mut bytes = [0; 4096];
        match client.read(&mut bytes) {
            Ok(0) => return true,
            Ok(n) => all.extend(&bytes[..n]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "{:?}", String::from_utf8_lossy(&all)),
        }
        false
    });
    String::from_utf8(all).unwrap()
}

fn wait_for_close(machine: &mut Machine, SliceKey { slot, incarnation }: SliceKey) {
    machine.hear(|m| *m == GuestMessage::Close { slot, incarnation });
}

/// Answers one line and ends the connection from our side.
fn answer_and_close(session: &mut Session<'_>) {
    answer(session);
    if session.state::<Lines>().count > 0 {
        session.close();
    }
}

#[test]
fn t13_a_connection_that_its_client_has_half_closed_is_answered_elsewhere_to_its_end() {
    in_a_network(|| {
        let Opened { mut one, mut other, mut client, key } = Opened::begin();
        client.write_all(b"one\ntwo\nthree").unwrap();
        one.serve_until([key], 2);
        // The machine dies with half a line read; the rest and the end come to the next one.
        move_slice(key, &mut one, &mut other);
        client.write_all(b" and more\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(hear_out(&mut other, &mut client), "1 3 one\n2 6 two\n3 20 three and more\n");
        wait_for_close(&mut other, key);
    });
}

/// The next kernel is told numbers behind the client's end, and does not hear it: the slice of such a connection stayed for a minute.
#[test]
fn t13_the_end_that_a_client_has_sent_and_that_was_read_is_not_waited_for_elsewhere() {
    in_a_network(|| {
        let Opened { mut one, mut other, mut client, key } = Opened::begin();
        client.write_all(b"one\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        // A program that answers, and has not ended the connection yet when its machine dies.
        let begun = Instant::now();
        while one.meta(key).numbers[0].rcv_nxt != other_end(&client) {
            one.turn();
            for connection in &mut one.served {
                connection.work(|session| session.has_end().then(|| session.consume(0))).unwrap();
            }
            assert!(begun.elapsed() < LIMIT);
        }
        move_slice(key, &mut one, &mut other);
        assert_eq!(hear_out(&mut other, &mut client), "1 3 one\n");
        wait_for_close(&mut other, key);
    });
}

/// The number behind everything that a client has sent, its end included.
fn other_end(client: &TcpStream) -> u32 {
    use std::os::fd::AsFd;
    escape_tcp::given(client.as_fd()).unwrap().0
}

#[test]
fn t13_a_connection_that_the_server_has_ended_is_ended_by_the_next_one_and_not_reset() {
    for simultaneous in [false, true] {
        in_a_network(|| {
            let Opened { mut one, mut other, mut client, key } = Opened::begin();
            client.write_all(b"one\n").unwrap();
            let begun = Instant::now();
            while one.meta(key).requests < 1 {
                one.turn();
                one.served.retain_mut(|connection| connection.work(answer_and_close).unwrap() != Turn::Over);
                assert!(begun.elapsed() < LIMIT);
            }
            if simultaneous {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            // What this kernel has sent of it, the client may have or not.
            one.served.drain(..).for_each(Connection::forget);
            move_slice(key, &mut one, &mut other);
            assert_eq!(hear_out(&mut other, &mut client), "1 3 one\n");
            drop(client);
            wait_for_close(&mut other, key);
        });
    }
}

#[test]
fn t14_a_client_that_resets_its_connection_ends_its_slice_here_or_where_it_has_gone() {
    for before_the_failover in [false, true] {
        in_a_network(|| {
            let Opened { mut one, mut other, mut client, key } = Opened::begin();
            client.write_all(b"one\n").unwrap();
            one.serve_until([key], 1);
            sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            if before_the_failover {
                // Nobody hears the reset: the machine dies first. The answer that is sent again finds no connection.
                move_slice_and(key, &mut one, &mut other, || drop(client));
            } else {
                move_slice(key, &mut one, &mut other);
                drop(client);
            }
            until(&mut other, "its end", |other| other.served.is_empty());
            wait_for_close(&mut other, key);
            let SliceKey { slot, incarnation } = key;
            let free = other.agent.places.free_len();
            other.tell(HostMessage::SlotFree { slot, incarnation });
            other.turn();
            assert_eq!(other.agent.places.free_len(), free + 1);
        });
    }
}

/// Left to the kernel's default, one would be acknowledged and never be read: the program missed it, and nothing covered what was acknowledged
/// from then on.
#[test]
fn t37_urgent_bytes_are_bytes_of_the_stream() {
    in_a_network(|| {
        let Opened { mut one, mut other, mut client, key } = Opened::begin();
        client.write_all(b"on").unwrap();
        send(&client, b"e", SendFlags::OOB).unwrap();
        client.write_all(b"\n").unwrap();
        one.serve_until([key], 1);
        assert_eq!(reply_of(&mut client), "1 3 one");
        assert_eq!(one.meta(key).numbers[0].rcv_nxt, other_end(&client), "all of it is in the slice");
        move_slice(key, &mut one, &mut other);
        client.write_all(b"tw").unwrap();
        send(&client, b"o", SendFlags::OOB).unwrap();
        client.write_all(b"\n").unwrap();
        other.serve_until([key], 2);
        assert_eq!(reply_of(&mut client), "2 6 two");
        rustix::net::shutdown(&client, Shutdown::Write).unwrap();
        assert_eq!(hear_out(&mut other, &mut client), "");
        wait_for_close(&mut other, key);
    });
}
