//! A client and two servers with one address: network namespaces on a bridge. Needs root; skips without.

use escape_fabric::links::{LinkSpec, Links};
use escape_fabric::netns::NetNs;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 1);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 9);
const PREFIX: u8 = 24;
/// No wait is longer.
pub const LIMIT: Duration = Duration::from_secs(10);

/// The network.
pub struct World {
    client: NetNs,
    client_links: Links,
    bridge: u32,
    servers: [NetNs; 2],
    macs: [[u8; 6]; 2],
    /// The servers' ports of the bridge.
    ports: [u32; 2],
}

impl World {
    /// Frames for the service go to server 0. `None`: not allowed here.
    pub fn new() -> Option<Self> {
        let client = match NetNs::create() {
            Ok(namespace) => namespace,
            Err(error) => {
                println!("SKIPPED: {error}");
                return None;
            }
        };
        let servers = [NetNs::create().unwrap(), NetNs::create().unwrap()];
        let mut links = Links::open_in(&client).unwrap();
        let bridge = links.create_bridge(&LinkSpec::named("clients")).unwrap();
        links.add_address(bridge, CLIENT, PREFIX).unwrap();
        let client_mac = links.describe(bridge).unwrap().mac;
        let (mut macs, mut ports) = ([[0; 6]; 2], [0; 2]);
        for (number, server) in servers.iter().enumerate() {
            let name = format!("s{number}");
            let port = links.create_veth(&LinkSpec::named(&name), &LinkSpec::named("net"), server.as_fd()).unwrap();
            links.enslave(port, Some(bridge)).unwrap();
            links.set_up(port).unwrap();
            ports[number] = port;
            let mut inside = Links::open_in(server).unwrap();
            let near = inside.index_of("net").unwrap();
            inside.add_address(near, SERVICE, PREFIX).unwrap();
            inside.set_up(near).unwrap();
            macs[number] = inside.describe(near).unwrap().mac;
        }
        links.set_mac(bridge, client_mac).unwrap();
        links.set_up(bridge).unwrap();
        for server in &servers {
            let mut inside = Links::open_in(server).unwrap();
            let near = inside.index_of("net").unwrap();
            inside.set_neighbour(near, CLIENT, client_mac).unwrap();
        }
        let mut world = Self { client, client_links: links, bridge, servers, macs, ports };
        world.steer_to(0);
        Some(world)
    }

    /// From now on the client's frames go to this server.
    pub fn steer_to(&mut self, server: usize) {
        self.client_links.set_neighbour(self.bridge, SERVICE, self.macs[server]).unwrap();
    }

    /// The client's frames go nowhere.
    pub fn steer_nowhere(&mut self) {
        self.client_links.set_neighbour(self.bridge, SERVICE, [2, 0, 0, 0, 0, 0x77]).unwrap();
    }

    /// Frames of this server go nowhere.
    pub fn cut_off(&mut self, server: usize) {
        self.client_links.set_down(self.ports[server]).unwrap();
    }

    /// Sets something of the client's kernel, below `/proc/sys/net/ipv4`.
    pub fn set_client(&self, name: &str, value: &str) {
        let path = format!("/proc/sys/net/ipv4/{name}");
        self.client.enter(|| std::fs::write(&path, value)).unwrap().unwrap();
    }

    /// Does something on a server.
    pub fn on<R: Send>(&self, server: usize, work: impl FnOnce() -> R + Send) -> R {
        self.servers[server].enter(work).unwrap()
    }

    /// A port of a server's.
    pub fn listen(&self, server: usize, port: u16) -> TcpListener {
        self.on(server, || TcpListener::bind(SocketAddrV4::new(SERVICE, port))).unwrap()
    }

    /// A client's connection, and the server's end.
    pub fn connect(&self, listener: &TcpListener) -> (TcpStream, TcpStream) {
        let address = listener.local_addr().unwrap();
        let client = self.client.enter(|| TcpStream::connect_timeout(&address, LIMIT)).unwrap().unwrap();
        let (server, _) = listener.accept().unwrap();
        for stream in [&client, &server] {
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            stream.set_write_timeout(Some(LIMIT)).unwrap();
        }
        (client, server)
    }
}

/// A socket as a stream.
pub fn stream(socket: OwnedFd) -> TcpStream {
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream
}
