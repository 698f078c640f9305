//! What a frame costs in virtio-net, without tap and without guest: a driver in the same process makes the rings.
//!
//! Prints the median and the 99th percentile, in nanoseconds per frame, of taking frames from the guest and of giving
//! them to it, in batches of 16.

use anyhow::{Context, Result};
use escape_vmm::devices::virtio::mmio::MmioTransport;
use escape_vmm::devices::virtio::net::{FrameBuf, Net, config};
use escape_vmm::interrupts::Interrupt;
use std::sync::Arc;
use std::time::Instant;
use virtio_queue::desc::RawDescriptor;
use virtio_queue::desc::split::Descriptor;
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

const BATCH: u16 = 16;
const ROUNDS: usize = 20_000;
const QUEUE_SIZE: u16 = 256;
const RX: u64 = 0x1_0000;
const TX: u64 = 0x2_0000;
const AVAIL: u64 = 0x2000;
const USED: u64 = 0x4000;
const BUFFERS: u64 = 0x10_0000;
const WRITE: u16 = 2;
/// VERSION_1 and RING_EVENT_IDX.
const FEATURES: u64 = 1 << 32 | 1 << 29;

fn bring_up(t: &MmioTransport) {
    let write = |offset, value: u64| t.write(offset, &(value as u32).to_le_bytes());
    write(0x70, 3);
    for half in 0..2 {
        write(0x24, half);
        write(0x20, FEATURES >> (32 * half));
    }
    write(0x70, 11);
    for (index, at) in [(0, RX), (1, TX)] {
        write(0x30, index);
        write(0x38, u64::from(QUEUE_SIZE));
        write(0x80, at);
        write(0x90, at + AVAIL);
        write(0xa0, at + USED);
        write(0x44, 1);
    }
    write(0x70, 15);
}

/// Makes `BATCH` more chains available.
fn offer(memory: &GuestMemoryMmap, ring: u64, index: &mut u16) -> Result<()> {
    for _ in 0..BATCH {
        let slot = *index % QUEUE_SIZE;
        memory.write_obj(slot, GuestAddress(ring + AVAIL + 4 + 2 * u64::from(slot)))?;
        *index = index.wrapping_add(1);
    }
    memory.write_obj(*index, GuestAddress(ring + AVAIL + 2))?;
    Ok(())
}

fn report(what: &str, mut ns: Vec<f64>) {
    ns.sort_by(f64::total_cmp);
    println!("{what:28} p50 {:6.0} ns/frame   p99 {:6.0} ns/frame", ns[ns.len() / 2], ns[ns.len() * 99 / 100]);
}

fn main() -> Result<()> {
    let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x40_0000)])?;
    let transport =
        Arc::new(MmioTransport::new(config::model([2, 0, 0, 0, 0, 1], true), memory.clone(), Interrupt::new()?)?);
    bring_up(&transport);
    let mut net = Net::new(transport, None, None);
    anyhow::ensure!(net.is_up(), "the device did not start");
    let mut buf = FrameBuf::new();
    for payload in [64u32, 1460] {
        let len = 12 + 14 + 40 + payload;
        for i in 0..QUEUE_SIZE {
            let at = BUFFERS + u64::from(i) * 0x1000;
            let tx = Descriptor::new(at, len, 0, 0);
            let rx = Descriptor::new(at, 2048, WRITE, 0);
            memory.write_obj(RawDescriptor::from(tx), GuestAddress(TX + 16 * u64::from(i)))?;
            memory.write_obj(RawDescriptor::from(rx), GuestAddress(RX + 16 * u64::from(i)))?;
        }
        let frame = vec![0; len as usize];
        let (mut tx_index, mut rx_index) = (0u16, 0u16);
        memory.read_obj::<u16>(GuestAddress(TX + USED + 2)).map(|i| tx_index = i)?;
        memory.read_obj::<u16>(GuestAddress(RX + USED + 2)).map(|i| rx_index = i)?;
        let (mut out, mut into) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
        for _ in 0..ROUNDS {
            offer(&memory, TX, &mut tx_index)?;
            let start = Instant::now();
            for _ in 0..BATCH {
                net.take_tx(&mut buf).context("a frame is missing")?;
            }
            out.push(start.elapsed().as_nanos() as f64 / f64::from(BATCH));

            offer(&memory, RX, &mut rx_index)?;
            let start = Instant::now();
            for _ in 0..BATCH {
                net.push_rx(&frame);
            }
            into.push(start.elapsed().as_nanos() as f64 / f64::from(BATCH));
        }
        report(&format!("from the guest, {payload} B"), out);
        report(&format!("to the guest, {payload} B"), into);
    }
    Ok(())
}
