//! A client: a smoltcp stack with one connection, and what it does on it.

use super::segment::{self, FIN, OPTION_SACK, OPTION_SACK_PERMITTED, OPTION_SCALE, SYN, Seen, before};
use super::unacknowledged::Unacknowledged;
use super::{SERVER_IP, SERVER_MAC, Seeds};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint, Ipv4Address};
use std::collections::VecDeque;

/// What a client does: looks at what came, says what to send.
pub trait App {
    /// `incoming` may be drained; what is put to `outgoing` is sent. Returns `true` when it wants to close its side behind that.
    fn work(&mut self, incoming: &mut Vec<u8>, outgoing: &mut VecDeque<u8>, ended: bool) -> bool;
    /// All was done and was right.
    fn done(&self) -> bool;
}

/// Does nothing by itself: the test drives the buffers.
pub struct Manual;
impl App for Manual {
    fn work(&mut self, _: &mut Vec<u8>, _: &mut VecDeque<u8>, _: bool) -> bool {
        false
    }
    fn done(&self) -> bool {
        true
    }
}

/// What a client's TCP can do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub timestamps: bool,
    pub sack: bool,
    /// The shift that it announces for its windows, whatever its buffers; `None` = no window scaling at all.
    pub scale: Option<u8>,
    /// Initial sequence number.
    pub isn: Option<u32>,
    /// Largest IP packet; its MSS is 40 less.
    pub mtu: usize,
    /// Receive buffer, below 64 KiB, so that smoltcp itself scales nothing.
    pub receive: usize,
    /// Interval of its keep-alives, us.
    pub keep_alive: Option<u64>,
    /// After so many us without an answer it gives up.
    pub timeout: Option<u64>,
    /// The number of the machine that it shares with other clients; `None` = one of its own.
    pub home: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            timestamps: true,
            sack: true,
            scale: Some(0),
            isn: None,
            mtu: 1500,
            receive: 32 << 10,
            keep_alive: None,
            timeout: None,
            home: None,
        }
    }
}

struct Pipe {
    mtu: usize,
    incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}
struct In(Vec<u8>);
struct Out<'a>(&'a mut Vec<Vec<u8>>);
impl RxToken for In {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}
impl TxToken for Out<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; 14 + len];
        frame[..6].copy_from_slice(&SERVER_MAC);
        frame[6..12].copy_from_slice(&[6; 6]);
        frame[12..14].copy_from_slice(&[8, 0]);
        let r = f(&mut frame[14..]);
        self.0.push(frame);
        r
    }
}
impl Device for Pipe {
    type RxToken<'a> = In;
    type TxToken<'a> = Out<'a>;
    fn receive(&mut self, _: Instant) -> Option<(In, Out<'_>)> {
        let packet = self.incoming.pop_front()?;
        Some((In(packet), Out(&mut self.outgoing)))
    }
    fn transmit(&mut self, _: Instant) -> Option<Out<'_>> {
        Some(Out(&mut self.outgoing))
    }
    fn capabilities(&self) -> DeviceCapabilities {
        let mut c = DeviceCapabilities::default();
        c.medium = Medium::Ip;
        c.max_transmission_unit = self.mtu;
        c
    }
}

/// Send buffer of a client.
const SEND: usize = 32 << 10;

pub struct Client {
    pub ip: [u8; 4],
    pub port: u16,
    pub options: Options,
    iface: Interface,
    device: Pipe,
    sockets: SocketSet<'static>,
    /// Buffers that `sockets` borrow, freed after them.
    buffers: [*mut [u8]; 2],
    pub app: Box<dyn App>,
    pub incoming: Vec<u8>,
    pub outgoing: VecDeque<u8>,
    pub fin: bool,
    /// RSTs that the server sent.
    pub resets: u32,
    /// Bytes that it still reads from its socket: a slow reader's are few.
    pub appetite: usize,
    last_ack: [u8; 4],
    /// End of the window that it announced last.
    window_end: u32,
    unacknowledged: Unacknowledged,
}

pub fn client_tsval() -> u32 {
    7
}

impl Client {
    pub fn new(number: u32, service: u16, now: i64, seed: u64, options: Options, app: Box<dyn App>) -> Self {
        let machine = options.home.unwrap_or(number);
        let ip = [10, 1 + (machine >> 16) as u8, (machine >> 8) as u8, machine as u8];
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = options.isn.map_or(seed, Seeds::for_isn);
        let mut device = Pipe { mtu: options.mtu, incoming: VecDeque::new(), outgoing: vec![] };
        let mut iface = Interface::new(config, &mut device, Instant::from_micros(now));
        iface.update_ip_addrs(|a| a.push(IpCidr::new(Ipv4Address::from(ip).into(), 8)).unwrap());
        let buffers = [options.receive, SEND].map(|n| Box::into_raw(vec![0u8; n].into_boxed_slice()));
        // SAFETY: lives until `drop`, which ends the sockets first; nobody else uses it.
        let [rx, tx] = buffers.map(|b| SocketBuffer::new(unsafe { &mut *b }));
        let mut socket = Socket::new(rx, tx);
        socket.set_nagle_enabled(false);
        socket.set_tsval_generator(options.timestamps.then_some(client_tsval));
        socket.set_keep_alive(options.keep_alive.map(Duration::from_micros));
        socket.set_timeout(options.timeout.map(Duration::from_micros));
        let port = 20_000 + (if options.home.is_some() { u64::from(number) } else { seed } % 40_000) as u16;
        let to = IpEndpoint::new(Ipv4Address::from(SERVER_IP).into(), service);
        socket.connect(iface.context(), to, port).unwrap();
        let mut sockets = SocketSet::new(Vec::leak(vec![SocketStorage::EMPTY]));
        sockets.add(socket);
        Self {
            ip,
            port,
            options,
            iface,
            device,
            sockets,
            buffers,
            app,
            incoming: Vec::new(),
            outgoing: VecDeque::new(),
            fin: false,
            resets: 0,
            appetite: usize::MAX,
            last_ack: [0; 4],
            window_end: 0,
            unacknowledged: Unacknowledged::default(),
        }
    }

    /// Turns a frame of smoltcp into one that a stack with these options would have sent.
    fn disguise(&self, frame: &mut [u8]) {
        if frame[47] & SYN != 0 {
            if !self.options.sack {
                segment::strip_option(frame, OPTION_SACK_PERMITTED);
            }
            match (self.options.scale, segment::find_option(frame, OPTION_SCALE)) {
                (None, _) => segment::strip_option(frame, OPTION_SCALE),
                (Some(shift), Some((at, _))) => frame[at + 2] = shift,
                (Some(_), None) => panic!("smoltcp scales always"),
            }
        } else {
            let window = u16::from_be_bytes([frame[48], frame[49]]) >> self.options.scale.unwrap_or(0);
            frame[48..50].copy_from_slice(&window.to_be_bytes());
        }
        segment::fill_checksums(frame);
    }

    pub fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(SocketHandle::default())
    }
    pub fn state(&mut self) -> State {
        self.socket().state()
    }
    pub fn ended(&mut self) -> bool {
        let s = self.socket();
        !s.may_recv() && s.recv_queue() == 0 && s.state() != State::SynSent
    }

    pub fn deliver(&mut self, frame: &[u8]) {
        assert_eq!(frame[..6], [6; 6], "the address of the SYN");
        self.resets += u32::from(frame[14 + 33] & 4 != 0);
        let seen = Seen::parse(frame);
        self.unacknowledged.on_segment(&seen);
        assert!(self.options.sack || seen.option(OPTION_SACK).is_none(), "{seen:?}");
        assert!(self.options.timestamps || seen.tsval().is_none(), "{seen:?}");
        let header = 34 + usize::from(frame[46] >> 4) * 4;
        let (pure, again) = (frame[47] & 7 == 0 && frame.len() == header, frame[42..46] == self.last_ack);
        self.last_ack.copy_from_slice(&frame[42..46]);
        // smoltcp forgets a FIN that is all that is out when it has three duplicate ACKs; a real client does not.
        let s = self.socket();
        let fin_out = matches!(s.state(), State::FinWait1 | State::Closing | State::LastAck) && s.send_queue() == 0;
        if fin_out && pure && again {
            return;
        }
        let mut frame = frame.to_vec();
        if seen.flags & FIN != 0 && before(self.window_end, seen.end().wrapping_sub(1)) {
            // smoltcp takes a FIN although its window has cut off bytes before it; a real client does not.
            frame[47] &= !FIN;
            segment::fill_checksums(&mut frame);
        }
        self.device.incoming.push_back(frame.split_off(14));
    }

    /// Runs stack and app until both are quiet; returns the frames to send.
    pub fn poll(&mut self, now: i64) -> Vec<Vec<u8>> {
        let t = Instant::from_micros(now);
        loop {
            self.iface.poll(t, &mut self.device, &mut self.sockets);
            let ended = self.ended();
            let socket = self.sockets.get_mut::<Socket<'static>>(SocketHandle::default());
            if socket.state() == State::TimeWait {
                // smoltcp throws away what was not read when that state ends.
                self.appetite = usize::MAX;
            }
            let mut moved = 0;
            while socket.can_recv() && self.appetite > 0 {
                let read = socket.recv(|b| {
                    let n = b.len().min(self.appetite);
                    self.incoming.extend_from_slice(&b[..n]);
                    (n, n)
                });
                let n = read.unwrap();
                self.appetite -= if self.appetite == usize::MAX { 0 } else { n };
                moved += n;
            }
            if socket.may_send() {
                self.fin |= self.app.work(&mut self.incoming, &mut self.outgoing, ended);
            } else if ended {
                self.app.work(&mut self.incoming, &mut VecDeque::new(), ended);
            }
            while socket.can_send() && !self.outgoing.is_empty() {
                let n = socket.send_slice(self.outgoing.as_slices().0).unwrap();
                self.outgoing.drain(..n);
                moved += n;
            }
            if self.fin && self.outgoing.is_empty() && socket.may_send() && socket.state() != State::SynReceived {
                socket.close();
                moved += 1;
            }
            if moved == 0 {
                break;
            }
        }
        let mut frames = std::mem::take(&mut self.device.outgoing);
        if let Some(last) = frames.last().map(|f| Seen::parse(f)) {
            self.window_end = last.ack.wrapping_add(u32::from(last.window));
        }
        let again = self.unacknowledged.on_sent(&frames, now);
        frames.extend(again);
        frames.iter_mut().for_each(|f| self.disguise(f));
        frames
    }

    pub fn deadline(&mut self, now: i64) -> Option<i64> {
        self.iface.poll_at(Instant::from_micros(now), &self.sockets).map(|t| t.total_micros().max(now + 1))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.sockets.remove(SocketHandle::default());
        for buffer in self.buffers {
            // SAFETY: made by `new` from a box; the socket that borrowed it is gone.
            drop(unsafe { Box::from_raw(buffer) });
        }
    }
}
