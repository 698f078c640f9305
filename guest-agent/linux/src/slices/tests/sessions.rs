//! Sessions on two machines.

use super::*;
use escape_abi::message::refusal;

#[test]
fn a_session_goes_on_on_another_machine_and_back() {
    in_a_network(|| {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut client = client(&listener);
        let key = one.take(&listener);
        let mut bytes = 0;
        for turn in 1..=60u64 {
            let text = "x".repeat(turn as usize * 7);
            bytes += text.len();
            client.write_all(format!("{text}\n").as_bytes()).unwrap();
            let begun = Instant::now();
            let machine = if turn <= 20 || turn > 40 { &mut one } else { &mut other };
            while machine.meta(key).requests < turn {
                machine.serve();
                machine.turn();
                assert!(begun.elapsed() < LIMIT, "turn {turn}: {:?}", machine.meta(key));
            }
            if turn == 20 {
                // The answer was never read: it is in the slice, and perhaps at the client.
                move_slice(key, &mut one, &mut other);
            } else if turn == 40 {
                assert_eq!(reply_of(&mut client), format!("{turn} {bytes} {text}"));
                move_slice(key, &mut other, &mut one);
                continue;
            }
            assert_eq!(reply_of(&mut client), format!("{turn} {bytes} {text}"));
        }
    });
}

/// Found by the lab's soak: a new connection had counted three requests after its first, two of them another client's. Its machine had died
/// between the handshake and the first request, and where it went on the slot was one that had been used before.
#[test]
fn a_slice_that_moves_before_its_program_has_state_does_not_find_another_ones() {
    in_a_network(|| {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut client = client(&listener);
        let key = one.take(&listener);
        move_slice(key, &mut one, &mut other);
        client.write_all(b"first\n").unwrap();
        other.serve_until([key], 1);
        assert_eq!(reply_of(&mut client), "1 5 first");
    });
}

#[test]
fn the_end_of_a_connection_ends_its_slice_when_the_client_has_all() {
    in_a_network(|| {
        let mut machine = Machine::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut client = client(&listener);
        let key = machine.take(&listener);
        let SliceKey { slot, incarnation } = key;
        client.write_all(b"one\ntwo\n").unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let begun = Instant::now();
        while !machine.served.is_empty() {
            machine.serve();
            machine.turn();
            assert!(begun.elapsed() < LIMIT);
        }
        machine.hear(|m| *m == GuestMessage::Close { slot, incarnation });
        let meta = machine.meta(key);
        assert_eq!((meta.flags, meta.requests), (escape_abi::meta::meta_flag::CLOSED, 2));
        let mut all = String::new();
        client.read_to_string(&mut all).unwrap();
        assert_eq!(all, "1 3 one\n2 6 two\n");
        let free = machine.agent.places.free_len();
        machine.tell(HostMessage::SlotFree { slot, incarnation });
        machine.turn();
        assert_eq!(machine.agent.places.free_len(), free + 1);
    });
}

#[test]
fn slices_of_a_process_that_dies_are_released_and_no_others() {
    in_a_network(|| {
        let mut machine = Machine::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut clients = [client(&listener), client(&listener)];
        let keys = [machine.take(&listener), machine.take(&listener)];
        // It dies while it works on the second.
        machine.agent.memory.refs().get_ref(keys[1].slot).unwrap();
        machine.agent.process_gone(machine.process);
        // The process has not closed its descriptors yet, and the host has not heard of the end: once it has, nothing of the connection leaves.
        clients[0].set_nonblocking(true).unwrap();
        let error = clients[0].read(&mut [0; 9]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "its client hears of it");
        machine.agent.host.announce();
        let said: Vec<GuestMessage> = std::iter::from_fn(|| machine.host.recv()).collect();
        let [a, b] = keys;
        let close = GuestMessage::Close { slot: a.slot, incarnation: a.incarnation };
        let poisoned = GuestMessage::Poisoned { slot: b.slot, incarnation: b.incarnation, cause: 257 };
        assert!(said.contains(&close) && said.contains(&poisoned), "{said:?}");
        machine.served.drain(..).for_each(Connection::forget);
    });
}

#[test]
fn damaged_and_foreign_slices_are_refused_and_nothing_is_left_of_them() {
    in_a_network(|| {
        let mut machine = Machine::new();
        machine.tell(HostMessage::Plug { slot: 9, incarnation: 5 });
        machine.tell(HostMessage::Plug { slot: N_SLOTS, incarnation: 5 });
        for slot in [9, N_SLOTS] {
            let refused = machine.hear(|m| matches!(m, GuestMessage::Plugged { slot: s, .. } if *s == slot));
            let GuestMessage::Plugged { status, .. } = refused else { panic!("{refused:?}") };
            assert_eq!(status, escape_abi::message::refusal::BAD_HEADER);
        }
        let stranger = Flow { ip: [10, 0, 0, 1], port: 1, service_port: PORT };
        assert!(machine.agent.places.of_flow(&stranger).is_none());
    });
}

/// Takes all input and writes as many bytes.
fn echo(session: &mut Session<'_>) {
    let input = session.input().to_vec();
    let taken = session.write(&input);
    session.consume(taken);
    if session.at_end() {
        session.close();
    }
}

/// Found by the lab: a stream stood still, because a full buffer had ended a turn and no event began another.
#[test]
fn a_buffer_that_was_full_does_not_end_the_stream() {
    const BYTES: usize = 4 << 20;
    in_a_network(|| {
        let mut machine = Machine::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut reader = client(&listener);
        machine.take(&listener);
        let mut writer = reader.try_clone().unwrap();
        let sent = std::thread::spawn(move || {
            let bytes: Vec<u8> = (0..BYTES).map(|i| (i / 3) as u8).collect();
            writer.write_all(&bytes).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
            bytes
        });
        let got = std::thread::spawn(move || {
            let mut all = Vec::new();
            reader.read_to_end(&mut all).unwrap();
            all
        });
        // Turns only when the kernel says so, once each time, as an edge-triggered poller has them.
        use rustix::event::{Timespec, epoll};
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        epoll::add(&poll, &machine.served[0], epoll::EventData::new_u64(0), flags).unwrap();
        let begun = Instant::now();
        let mut due = true;
        while !machine.served.is_empty() {
            let mut events = Vec::with_capacity(4);
            let patience = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&patience)).unwrap();
            if due || !events.is_empty() {
                machine.served.retain_mut(|connection| connection.work(echo).unwrap() != Turn::Over);
                due = machine.served.first().is_some_and(Connection::is_due);
            }
            machine.turn();
            assert!(begun.elapsed() < LIMIT, "it stands still");
        }
        while !got.is_finished() && begun.elapsed() < LIMIT {
            machine.turn();
        }
        assert!(sent.join().unwrap() == got.join().unwrap());
    });
}

/// TCP-FAILOVER, T12: the machine dies before the client has heard the answer to its SYN.
#[test]
fn a_client_that_has_not_heard_the_answer_to_its_syn_hears_it_again() {
    in_a_network(|| {
        let mut machine = Machine::new();
        // Packets of this kernel to the client do not reach it: the handshake stays half open for it, and the slice is made of what the
        // host saw. No listener: the kernel knows nothing of the connection.
        let numbers = OpeningNumbers { iss: 500, irs: 900, mss: 1460, window: 65_535, ..OpeningNumbers::default() };
        let flow = Flow { ip: Ipv4Addr::LOCALHOST.octets(), port: 45_678, service_port: PORT };
        machine.tell(HostMessage::Opening { flow, numbers });
        let bound = machine.hear(|m| matches!(m, GuestMessage::Bind { .. }));
        let GuestMessage::Bind { slot, incarnation, .. } = bound else { panic!("{bound:?}") };
        let key = SliceKey { slot, incarnation };
        let mut other = Machine::new();
        let heard = RawEars::open();
        move_slice(key, &mut machine, &mut other);
        let segment = heard.wait_for(45_678);
        assert_eq!((segment.seq, segment.ack, segment.flags.0), (500, 901, 0x12));
        assert_eq!(other.served.len(), 1, "it is served all the same");
    });
}

/// Hears every TCP packet of this network.
struct RawEars(OwnedFd);

impl RawEars {
    fn open() -> Self {
        use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto, socket_with};
        Self(socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::TCP)).unwrap())
    }

    fn wait_for(&self, client_port: u16) -> escape_vmm::commit::Segment {
        use escape_vmm::commit::{Frame, Source, parse};
        let begun = Instant::now();
        let mut packet = [0u8; 2048];
        loop {
            assert!(begun.elapsed() < LIMIT, "not heard");
            let got = rustix::net::recv(&self.0, &mut packet[..], rustix::net::RecvFlags::DONTWAIT);
            let Ok((_, len)) = got else { continue };
            let frame = [&[0; 12][..], &[2; 12], &[8, 0], &packet[..len]].concat();
            if let Frame::Tcp(segment) = parse(&frame, Source::Guest)
                && segment.flow.port == client_port
                && segment.flags.syn()
            {
                return segment;
            }
        }
    }
}

#[test]
fn handshakes_that_nobody_finishes_are_given_up() {
    in_a_network(|| {
        let mut machine = Machine::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let opened = client(&listener);
        let open =
            Flow { ip: Ipv4Addr::LOCALHOST.octets(), port: opened.local_addr().unwrap().port(), service_port: PORT };
        let never = Flow { port: 1, ..open };
        let numbers = OpeningNumbers { mss: 1460, ..OpeningNumbers::default() };
        for flow in [open, never] {
            machine.tell(HostMessage::Opening { flow, numbers });
        }
        machine.turn();
        machine.agent.look_at_openings();
        machine.turn();
        assert!(!machine.said.iter().any(|m| matches!(m, GuestMessage::Close { .. })), "not yet");
        for flow in [open, never] {
            let place = machine.agent.places.of_flow(&flow).unwrap();
            place.since = Instant::now().checked_sub(Duration::from_secs(6)).unwrap();
        }
        machine.agent.look_at_openings();
        machine.turn();
        let closed: Vec<_> = machine.said.iter().filter(|m| matches!(m, GuestMessage::Close { .. })).collect();
        assert_eq!(closed.len(), 1, "the other is open, and its process only slow: {:?}", machine.said);
    });
}

#[test]
fn a_slice_waits_for_the_process_that_serves_its_port() {
    in_a_network(|| {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut client = client(&listener);
        let key = one.take(&listener);
        other.agent.process_gone(other.process);
        let bytes = one.image(key.slot);
        let SliceKey { slot, incarnation } = key;
        let word = one.slots.word(slot).unwrap();
        one.tell(HostMessage::Discard { slot, incarnation });
        one.hear(|m| *m == GuestMessage::Unplugged { slot, incarnation });
        one.turn();
        one.agent.turn(keeper_has_heard);
        assert!(other.slots.write(slot, 0, &bytes));
        other.slots.set_word(slot, word);
        other.tell(HostMessage::Plug { slot, incarnation });
        other.agent.hear_host();
        other.agent.host.announce();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(50) {
            assert_eq!(other.host.recv(), None, "nobody has it");
        }
        // It was restored: the kernel takes what comes, and does not say that nobody reads it.
        client.write_all(b"hello\n").unwrap();
        let (ours, theirs) = Channel::pair().unwrap();
        other.process = other.agent.add_process(ours).unwrap();
        let Machine { agent, process, .. } = &mut other;
        let memory = agent.memory;
        other.service = std::thread::scope(|scope| {
            let service = scope.spawn(move || Service::over(theirs, memory, &[PORT]).unwrap());
            while !service.is_finished() {
                agent.hear_process(*process).unwrap();
            }
            service.join().unwrap()
        });
        other.hear(|m| *m == GuestMessage::Plugged { slot, incarnation, status: 0 });
        while other.meta(key).requests < 1 {
            other.serve();
            assert!(begun.elapsed() < LIMIT);
        }
        assert_eq!(reply_of(&mut client), "1 5 hello");
    });
}

/// So many that their connections are made ahead of their turn, by several threads.
#[test]
fn of_many_slices_that_come_at_once_each_goes_on_and_a_damaged_one_harms_no_other() {
    const SESSIONS: usize = 40;
    const DAMAGED: usize = 17;
    in_a_network(|| {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut clients: Vec<TcpStream> = (0..SESSIONS).map(|_| client(&listener)).collect();
        let keys: Vec<SliceKey> = (0..SESSIONS).map(|_| one.take(&listener)).collect();
        for (n, client) in clients.iter_mut().enumerate() {
            client.write_all(format!("before {n}\n").as_bytes()).unwrap();
        }
        one.serve_until(keys.iter().copied(), 1);
        carry(&keys, &mut one, &mut other);
        let damaged = keys[DAMAGED];
        assert!(other.slots.write(damaged.slot, 0, &[0xff; 64]));
        for SliceKey { slot, incarnation } in keys.iter().copied() {
            other.tell(HostMessage::Plug { slot, incarnation });
        }
        for key in &keys {
            let SliceKey { slot, incarnation } = *key;
            let status = if *key == damaged { refusal::BAD_HEADER } else { 0 };
            other.hear(|m| *m == GuestMessage::Plugged { slot, incarnation, status });
        }
        assert_eq!(other.served.len(), SESSIONS - 1);
        for (n, client) in clients.iter_mut().enumerate().filter(|(n, _)| *n != DAMAGED) {
            client.write_all(format!("after {n}\n").as_bytes()).unwrap();
            let text = format!("before {n}");
            assert_eq!(reply_of(client), format!("1 {} {text}", text.len()));
        }
        other.serve_until(keys.iter().copied().filter(|key| *key != damaged), 2);
        for (n, client) in clients.iter_mut().enumerate().filter(|(n, _)| *n != DAMAGED) {
            let text = format!("after {n}");
            assert_eq!(reply_of(client), format!("2 {} {text}", 2 * text.len() + 1));
        }
        other.served.drain(..).for_each(Connection::forget);
    });
}

/// A `Plug` that was read while the answer to `Adopt` was waited for is not in the socket any more: the descriptor says still that it is there.
#[test]
fn a_slice_that_comes_while_another_is_adopted_is_not_slept_on() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let is_readable = |service: &Service| {
        poll(&mut [PollFd::new(service, PollFlags::IN)], Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    };
    in_a_network(|| {
        let (mut one, mut other) = (Machine::new(), Machine::new());
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let (_first, _second) = (client(&listener), client(&listener));
        let key = one.take(&listener);
        carry(&[key], &mut one, &mut other);
        assert!(!is_readable(&other.service));
        other.tell(HostMessage::Plug { slot: key.slot, incarnation: key.incarnation });
        other.agent.turn(Agent::hear_host);
        let (stream, peer) = listener.accept().unwrap();
        let SocketAddr::V4(peer) = peer else { panic!("{peer}") };
        let flow = Flow { ip: peer.ip().octets(), port: peer.port(), service_port: PORT };
        let numbers = OpeningNumbers { flags: 0, mss: 1460, ..OpeningNumbers::default() };
        other.tell(HostMessage::Opening { flow, numbers });
        other.agent.turn(Agent::hear_host);
        let Machine { service, agent, process, .. } = &mut other;
        let adopted = std::thread::scope(|scope| {
            let adopted = scope.spawn(|| service.adopt(stream).unwrap());
            while !adopted.is_finished() {
                agent.turn(|agent| agent.hear_process(*process).unwrap());
            }
            adopted.join().unwrap()
        });
        assert!(is_readable(service), "it was read with the answer");
        let Some(Upcall::Plugged(plugged)) = service.upcall().unwrap() else { panic!("no slice") };
        assert_eq!(plugged.key(), key);
        assert!(service.upcall().unwrap().is_none());
        assert!(!is_readable(service), "nothing is left");
        [adopted, plugged].into_iter().for_each(Connection::forget);
    });
}

/// A process that may not have another descriptor refuses the slice, and serves the others as before.
#[test]
fn a_slice_without_a_descriptor_is_refused_and_its_process_goes_on() {
    use escape_process::Message;
    in_a_network(|| {
        let mut machine = Machine::new();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).unwrap();
        let mut client = client(&listener);
        let key = machine.take(&listener);
        let slice = SliceKey { slot: 9, incarnation: 5 };
        let agents_end = machine.agent.processes.get(machine.process).unwrap().channel.clone();
        agents_end.send(Message::Plug { slices: [Some(slice), None, None, None] }, &[]).unwrap();
        assert!(machine.service.upcall().unwrap().is_none());
        let answer = agents_end.receive(true).unwrap().unwrap().message;
        let status = u16::try_from(refusal::NO_DESCRIPTOR).unwrap();
        assert_eq!(answer, Message::Plugged { slices: [Some((slice, status)), None, None, None] });
        client.write_all(b"on\n").unwrap();
        machine.serve_until([key], 1);
        assert_eq!(reply_of(&mut client), "1 2 on");
    });
}
