//! Agents that go on where others have ended.

use super::*;
use crate::slices::book::Phase;
use std::io::ErrorKind;

/// Steps of [`whatever_is_an_agents_last_step_its_successor_goes_on`] at which the session may end with its agent: between having a
/// connection and keeping it, and while the agent itself has a reference.
const LOST_MAX: usize = 8;

fn ask(machine: &mut Machine, client: &mut TcpStream, text: &str) {
    client.write_all(format!("{text}\n").as_bytes()).unwrap();
    let begun = Instant::now();
    let mut reply = Vec::new();
    client.set_nonblocking(true).unwrap();
    while !reply.ends_with(b"\n") {
        machine.turn();
        machine.serve();
        let mut bytes = [0; 256];
        match client.read(&mut bytes) {
            Ok(n) => reply.extend(&bytes[..n]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        assert!(begun.elapsed() < LIMIT, "no reply to {text}");
    }
    client.set_nonblocking(false).unwrap();
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.ends_with(&format!(" {text}\n")), "{reply}");
}

fn client_with_little_room() -> TcpStream {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with, sockopt};
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    sockopt::set_socket_recv_buffer_size(&socket, 4096).unwrap();
    connect(&socket, &std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, PORT)).unwrap();
    let client = TcpStream::from(socket);
    client.set_read_timeout(Some(LIMIT)).unwrap();
    client
}

#[test]
fn a_successor_goes_on_with_every_session_in_its_stage() {
    in_a_network(|| {
        let mut machine = Machine::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut running = client(&listener);
        machine.take(&listener);
        ask(&mut machine, &mut running, "before");
        // One that has ended for its process, and whose client takes no byte for now.
        let mut slow = client_with_little_room();
        let closing = machine.take(&listener);
        let line = "y".repeat(1000);
        for _ in 0..50 {
            slow.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
        slow.shutdown(std::net::Shutdown::Write).unwrap();
        let begun = Instant::now();
        while machine.agent.places.get_mut(closing).unwrap().stage.phase().0 != Phase::Closing {
            machine.turn();
            machine.serve();
            assert!(begun.elapsed() < LIMIT);
        }
        let free = machine.agent.places.free_len();
        for _ in 0..3 {
            machine.agent.restart();
        }
        assert_eq!(machine.agent.places.free_len(), free, "leases are known");
        ask(&mut machine, &mut running, "after");
        let mut text = String::new();
        let reader = std::thread::spawn(move || slow.read_to_string(&mut text).map(|_| text));
        while !reader.is_finished() {
            machine.turn();
        }
        let text = reader.join().unwrap().unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 50, "all of it, and nothing twice");
        assert!(lines.iter().enumerate().all(|(at, l)| *l == format!("{} {} {line}", at + 1, (at + 1) * 1000)));
        let SliceKey { slot, incarnation } = closing;
        machine.hear(|m| *m == GuestMessage::Close { slot, incarnation });
        machine.tell(HostMessage::SlotFree { slot, incarnation });
        machine.turn();
        let mut new = client(&listener);
        let key = machine.take(&listener);
        assert!(key.incarnation != incarnation, "no name is used twice");
        ask(&mut machine, &mut new, "a new one");
        // Its process dies while no agent is there.
        machine.agent.restart();
        for connection in machine.served.drain(..) {
            connection.forget();
        }
        machine.agent.turn(|agent| agent.process_gone(1));
        let error = new.read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the keeper has let go of it");
    });
}

/// What a session of the next test came to.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Through,
    /// Its end was told, in these words.
    Ended(&'static str),
}

/// Opens a session on one machine, moves it to the other, and ends it there.
fn whole_life(one: &mut Machine, other: &mut Machine, listener: &TcpListener) -> Came {
    let mut client = client(listener);
    let Some(key) = one.try_take(listener) else { return Came::Ended("not adopted") };
    client.write_all(b"one\ntwo\n").unwrap();
    let SliceKey { slot, incarnation } = key;
    let begun = Instant::now();
    while one.meta(key).requests < 2 {
        one.turn();
        one.serve();
        if one.has_said_the_end_of(key) {
            return Came::Ended("given up where it was opened");
        }
        assert!(begun.elapsed() < LIMIT, "not served");
    }
    let bytes = one.image(slot);
    let word = one.slots.word(slot).unwrap();
    one.tell(HostMessage::Discard { slot, incarnation });
    one.hear(|m| *m == GuestMessage::Unplugged { slot, incarnation });
    one.turn();
    one.tell(HostMessage::SlotFree { slot, incarnation });
    one.turn();
    one.agent.turn(keeper_has_heard);
    assert!(other.slots.write(slot, 0, &bytes));
    other.slots.set_word(slot, word);
    other.tell(HostMessage::Plug { slot, incarnation });
    let plugged = other.hear(
        |m| matches!(m, GuestMessage::Plugged { slot: s, incarnation: i, .. } if (*s, *i) == (slot, incarnation)),
    );
    if !matches!(plugged, GuestMessage::Plugged { status: 0, .. }) {
        return Came::Ended("refused");
    }
    client.write_all(b"three\n").unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    client.set_nonblocking(true).unwrap();
    let (mut got, mut at_end) = (Vec::new(), false);
    let close = GuestMessage::Close { slot, incarnation };
    while !at_end || !other.said.contains(&close) {
        other.turn();
        other.serve();
        if other.has_said_the_end_of(key) {
            return Came::Ended("given up where it was plugged");
        }
        let mut bytes = [0; 256];
        match client.read(&mut bytes) {
            Ok(0) => at_end = true,
            Ok(n) => got.extend(&bytes[..n]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock, "after {:?}", String::from_utf8_lossy(&got)),
        }
        assert!(begun.elapsed() < LIMIT, "{at_end} {:?} {:?}", other.said, String::from_utf8_lossy(&got));
    }
    assert_eq!(String::from_utf8(got).unwrap(), "1 3 one\n2 6 two\n3 11 three\n");
    Came::Through
}

impl Machine {
    /// Forgets all that is over, as the host does.
    fn clean_up(&mut self, bystander: SliceKey) {
        self.turn();
        let over: Vec<SliceKey> = (0..N_SLOTS)
            .map(|slot| self.agent.places.book.record(slot))
            .filter(|record| record.phase != Phase::Free && record.key != bystander)
            .map(|record| record.key)
            .collect();
        for SliceKey { slot, incarnation } in over {
            self.tell(HostMessage::Discard { slot, incarnation });
            self.tell(HostMessage::SlotFree { slot, incarnation });
            // What a torn slice left is the host's to mend.
            let word = self.slots.word(slot).unwrap();
            if !word.quiescent() {
                self.slots.set_word(slot, escape_abi::SlotWord::new(word.generation() + 1, 0));
            }
        }
        self.turn();
        let (kept, gone): (Vec<_>, Vec<_>) =
            self.served.drain(..).partition(|connection| connection.key() == bystander);
        self.served = kept;
        gone.into_iter().for_each(Connection::forget);
        self.said.clear();
    }

    fn has_said_the_end_of(&self, key: SliceKey) -> bool {
        self.said.iter().any(|m| {
            matches!(m, GuestMessage::Poisoned { slot, incarnation, .. } if (*slot, *incarnation) == (key.slot, key.incarnation))
        })
    }
}

/// The agent ends before each of its steps in turn: each write to its book, each word to host, keeper and processes. Sessions beside never
/// notice; the one at work goes on, or its end is told and is no hanging connection.
#[test]
fn whatever_is_an_agents_last_step_its_successor_goes_on() {
    in_a_network(|| {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut beside = client(&listener);
        let bystander = one.take(&listener);
        let mut ends = std::collections::BTreeMap::new();
        let mut steps = 0;
        loop {
            let before = one.agent.ended + other.agent.ended;
            crash::after(steps);
            let came = whole_life(&mut one, &mut other, &listener);
            crash::after(u64::MAX);
            let ended = one.agent.ended + other.agent.ended - before;
            if ended == 0 {
                assert_eq!(came, Came::Through);
                break;
            }
            if let Came::Ended(how) = came {
                ends.entry(how).or_insert_with(Vec::new).push(steps);
            }
            one.clean_up(bystander);
            other.clean_up(SliceKey { slot: u32::MAX, incarnation: 0 });
            ask(&mut one, &mut beside, &format!("beside {steps}"));
            steps += 1;
        }
        let lost: usize = ends.values().map(Vec::len).sum();
        println!("{steps} steps, each an agent's last: {lost} sessions ended with it: {ends:?}");
        assert!(steps > 35 && lost <= LOST_MAX, "{lost} of {steps} sessions ended");
    });
}

/// The same while many slices come at once, whose connections are made ahead of their turn: an agent that ends in the middle has done nothing
/// of those that are left.
#[test]
fn whatever_is_an_agents_last_step_among_many_plugs_at_most_one_slice_ends() {
    const SESSIONS: usize = 10;
    in_a_network(|| {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let nobody = SliceKey { slot: u32::MAX, incarnation: 0 };
        let (mut steps, mut lost) = (0, 0);
        loop {
            let clients: Vec<TcpStream> = (0..SESSIONS).map(|_| client(&listener)).collect();
            let keys: Vec<SliceKey> = (0..SESSIONS).map(|_| one.take(&listener)).collect();
            carry(&keys, &mut one, &mut other);
            let before = other.agent.ended;
            for SliceKey { slot, incarnation } in keys.iter().copied() {
                other.tell(HostMessage::Plug { slot, incarnation });
            }
            crash::after(steps);
            let has_come = |m: &GuestMessage, key: SliceKey| match m {
                GuestMessage::Plugged { slot, incarnation, status }
                    if (*slot, *incarnation) == (key.slot, key.incarnation) =>
                {
                    Some(*status == 0)
                }
                _ => None,
            };
            let begun = Instant::now();
            while !keys.iter().all(|key| other.said.iter().any(|m| has_come(m, *key).is_some())) {
                other.turn();
                assert!(begun.elapsed() < LIMIT, "step {steps}: {:?}", other.said);
            }
            crash::after(u64::MAX);
            other.turn();
            let goes_on = |other: &Machine, key: SliceKey| {
                other.said.iter().any(|m| has_come(m, key) == Some(true)) && !other.has_said_the_end_of(key)
            };
            let mut ended = 0;
            for (mut client, key) in clients.into_iter().zip(&keys) {
                if goes_on(&other, *key) {
                    ask(&mut other, &mut client, "still here");
                } else {
                    ended += 1;
                }
            }
            assert!(ended <= 1, "step {steps}: {ended} of {SESSIONS} ended: {:?}", other.said);
            lost += ended;
            one.clean_up(nobody);
            other.clean_up(nobody);
            if other.agent.ended == before {
                break;
            }
            steps += 1;
        }
        println!("{steps} steps, each an agent's last: {lost} of {} sessions ended with it", steps * SESSIONS as u64);
        assert!(steps > 80 && lost <= SESSIONS, "{lost} ended in {steps} steps");
    });
}
