//! The floor: a blocking TCP ping-pong over the path of the replication link, with the sizes of a checkpoint and its
//! acknowledgement.
//!
//! It is what a commit costs if owner and standby do nothing but pass bytes. Its two threads live in the namespaces of
//! the owner and the standby, on the CPUs of their data threads.

use super::error::BenchError;
use crate::cell::{CellNetwork, CellSetupError, node_ip};
use escape_fabric::netns::NetNs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PORT: u16 = 7499;
const WAIT_MAX: Duration = Duration::from_secs(5);

/// A block of round trips.
#[derive(Clone, Copy, Debug)]
pub(super) struct Exchange {
    /// Bytes there: a checkpoint.
    pub(super) there: usize,
    /// Bytes back: an acknowledgement.
    pub(super) back: usize,
    /// Round trips.
    pub(super) count: usize,
}

/// Two threads that play owner and standby. They end when this is dropped.
#[derive(Debug)]
pub(super) struct Floor {
    exchanges: Option<SyncSender<Exchange>>,
    results: Receiver<std::io::Result<Vec<u64>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Floor {
    /// Connects owner and standby; `cpus` as the cell's plan has them.
    pub(super) fn open(network: &CellNetwork, owner: u16, standby: u16, cpus: &[u16]) -> Result<Self, BenchError> {
        let namespace = |node: u16| {
            let port = network.nodes.get(usize::from(node)).ok_or(CellSetupError::NoNode(node));
            port.map(|p| &p.namespace).map_err(BenchError::setup("floor"))
        };
        let cpu = |node: u16| cpus.get(usize::from(node) % cpus.len().max(1)).copied();
        let address = SocketAddr::from((node_ip(standby), PORT));
        let listener = within(namespace(standby)?, || TcpListener::bind(address))?;
        let near = within(namespace(owner)?, || TcpStream::connect_timeout(&address, WAIT_MAX))?;
        let (far, _) = listener.accept().map_err(BenchError::io("floor: accept"))?;
        for stream in [&near, &far] {
            stream.set_nodelay(true).map_err(BenchError::io("floor: TCP_NODELAY"))?;
        }
        near.set_read_timeout(Some(WAIT_MAX)).map_err(BenchError::io("floor: timeout"))?;
        let (exchanges, wanted) = sync_channel(1);
        let (done, results) = sync_channel(1);
        let (sizes, to_standby) = sync_channel(1);
        let threads = vec![
            start("floor owner", cpu(owner), move || {
                for exchange in wanted {
                    if sizes.send(exchange).is_err() || done.send(ping(&near, exchange)).is_err() {
                        return;
                    }
                }
            })?,
            start("floor standby", cpu(standby), move || {
                for exchange in to_standby {
                    // The owner's side tells of the error.
                    let _ = pong(&far, exchange);
                }
            })?,
        ];
        Ok(Self { exchanges: Some(exchanges), results, threads })
    }

    /// Carries out one block; appends the nanoseconds of each round trip.
    pub(super) fn run(&mut self, exchange: Exchange, into: &mut Vec<u64>) -> Result<(), BenchError> {
        let gone = || BenchError::Answer { what: "floor".into(), detail: "its thread ended".into() };
        self.exchanges.as_ref().ok_or_else(gone)?.send(exchange).map_err(|_| gone())?;
        let times = self.results.recv().map_err(|_| gone())?.map_err(BenchError::io("floor: ping-pong"))?;
        into.extend(times);
        Ok(())
    }
}

impl Drop for Floor {
    fn drop(&mut self) {
        self.exchanges = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn within<R: Send>(namespace: &NetNs, work: impl FnOnce() -> std::io::Result<R> + Send) -> Result<R, BenchError> {
    let entered = namespace.enter(work).map_err(CellSetupError::from).map_err(BenchError::setup("floor"))?;
    entered.map_err(BenchError::io("floor: connection between the nodes' namespaces"))
}

fn start(name: &str, cpu: Option<u16>, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, BenchError> {
    let pinned = move || {
        if let Some(cpu) = cpu {
            let mut set = rustix::thread::CpuSet::new();
            set.set(usize::from(cpu));
            // Not pinned is a worse floor, not a wrong one.
            let _ = rustix::thread::sched_setaffinity(None, &set);
        }
        work();
    };
    std::thread::Builder::new().name(name.into()).spawn(pinned).map_err(BenchError::io("floor: thread"))
}

fn ping(mut stream: &TcpStream, exchange: Exchange) -> std::io::Result<Vec<u64>> {
    let (request, mut reply) = (vec![7; exchange.there], vec![0; exchange.back]);
    let mut times = Vec::with_capacity(exchange.count);
    for _ in 0..exchange.count {
        let begun = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut reply)?;
        times.push(u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

fn pong(mut stream: &TcpStream, exchange: Exchange) -> std::io::Result<()> {
    let (mut request, reply) = (vec![0; exchange.there], vec![9; exchange.back]);
    for _ in 0..exchange.count {
        stream.read_exact(&mut request)?;
        stream.write_all(&reply)?;
    }
    Ok(())
}
