//! A client: a smoltcp stack with one connection, and what it does on it.

use super::{SERVER_IP, SERVER_MAC};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
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

#[derive(Default)]
struct Pipe {
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
        c.max_transmission_unit = 1500;
        c
    }
}

pub struct Client {
    pub ip: [u8; 4],
    pub port: u16,
    iface: Interface,
    device: Pipe,
    sockets: SocketSet<'static>,
    pub app: Box<dyn App>,
    pub incoming: Vec<u8>,
    pub outgoing: VecDeque<u8>,
    pub fin: bool,
    /// RSTs that the server sent.
    pub resets: u32,
    last_ack: [u8; 4],
}

pub fn client_tsval() -> u32 {
    7
}

impl Client {
    pub fn new(number: u32, service: u16, now: i64, seed: u64, app: Box<dyn App>) -> Self {
        let ip = [10, 1 + (number >> 16) as u8, (number >> 8) as u8, number as u8];
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = seed;
        let mut device = Pipe::default();
        let mut iface = Interface::new(config, &mut device, Instant::from_micros(now));
        iface.update_ip_addrs(|a| a.push(IpCidr::new(Ipv4Address::from(ip).into(), 8)).unwrap());
        // A test's few clients live as long as the process.
        let buffer = |n: usize| SocketBuffer::new(Box::leak(vec![0u8; n].into_boxed_slice()));
        let mut socket = Socket::new(buffer(32 << 10), buffer(32 << 10));
        socket.set_nagle_enabled(false);
        socket.set_tsval_generator(seed.is_multiple_of(2).then_some(client_tsval));
        let port = 20_000 + (seed % 40_000) as u16;
        let to = IpEndpoint::new(Ipv4Address::from(SERVER_IP).into(), service);
        socket.connect(iface.context(), to, port).unwrap();
        let storage: &'static mut [SocketStorage<'static>] = Box::leak(Box::new([SocketStorage::EMPTY]));
        let mut sockets = SocketSet::new(storage);
        sockets.add(socket);
        let (incoming, outgoing) = (Vec::new(), VecDeque::new());
        Self { ip, port, iface, device, sockets, app, incoming, outgoing, fin: false, resets: 0, last_ack: [0; 4] }
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
        self.resets += u32::from(frame[14 + 33] & 4);
        let header = 34 + usize::from(frame[46] >> 4) * 4;
        let (pure, again) = (frame[47] & 7 == 0 && frame.len() == header, frame[42..46] == self.last_ack);
        self.last_ack.copy_from_slice(&frame[42..46]);
        // smoltcp forgets a FIN that is all that is out when it has three duplicate ACKs; a real client does not.
        let s = self.socket();
        let fin_out = matches!(s.state(), State::FinWait1 | State::Closing | State::LastAck) && s.send_queue() == 0;
        if fin_out && pure && again {
            return;
        }
        self.device.incoming.push_back(frame[14..].to_vec());
    }

    /// Runs stack and app until both are quiet; returns the frames to send.
    pub fn poll(&mut self, now: i64) -> Vec<Vec<u8>> {
        let t = Instant::from_micros(now);
        loop {
            self.iface.poll(t, &mut self.device, &mut self.sockets);
            let ended = self.ended();
            let socket = self.sockets.get_mut::<Socket<'static>>(SocketHandle::default());
            let mut moved = 0;
            while socket.can_recv() {
                moved += socket
                    .recv(|b| {
                        self.incoming.extend_from_slice(b);
                        (b.len(), b.len())
                    })
                    .unwrap();
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
        std::mem::take(&mut self.device.outgoing)
    }

    pub fn deadline(&mut self, now: i64) -> Option<i64> {
        self.iface.poll_at(Instant::from_micros(now), &self.sockets).map(|t| t.total_micros().max(now + 1))
    }
}
