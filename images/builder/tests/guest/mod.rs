//! The image in a VM without network: the test is its host and its wire.

use crate::wire::Segment;
use escape_abi::layout::LEASE_SLOTS;
use escape_abi::{GuestMessage, HostMessage};
use escape_vmm::{BootParamsSeed, Console, FrameBuf, GuestExit, GuestImage, RxOutcome, Vm, VmConfig};
use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub const N_SLOTS: u32 = LEASE_SLOTS;
pub const HTTP_PORT: u16 = 80;
pub const GUEST_IP: [u8; 4] = [10, 0, 0, 2];
pub const GUEST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of the virtio header before each frame.
const VNET: usize = 12;

/// What a guest has said and sent so far, in order.
#[derive(Debug)]
pub enum Event {
    /// A message on the control ring.
    Message(GuestMessage),
    /// An Ethernet frame.
    Frame(Vec<u8>),
}

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A guest and its host.
pub struct Guest {
    pub vm: Vm,
    screen: Screen,
    frame: FrameBuf,
}

impl Guest {
    /// A running guest with one lease that has said that it is ready; `None` (said loudly) where there is no KVM.
    pub fn booted() -> Option<Self> {
        if !std::path::Path::new("/dev/kvm").exists() {
            eprintln!("\n*** SKIPPED: no /dev/kvm on this machine; nothing was tested ***\n");
            return None;
        }
        let screen = Screen::default();
        let vm = Vm::new(VmConfig {
            ram_bytes: 32 << 20,
            n_slots: N_SLOTS,
            guest: GuestImage::Freestanding {
                params: BootParamsSeed {
                    node: 7,
                    image_id: escape_images::image_id(escape_images::freestanding()),
                    ip: GUEST_IP,
                    mac: GUEST_MAC,
                    http_port: HTTP_PORT,
                    stream_port: 7777,
                    ..Default::default()
                },
                image: Cow::Borrowed(escape_images::freestanding()),
            },
            tap: None,
            mirror: None,
            console: Console::new(Box::new(screen.clone())),
            virtio_console: Console::none(),
        });
        let mut guest = Self { vm: vm.unwrap(), screen, frame: FrameBuf::new() };
        guest.vm.start().unwrap();
        guest.vm.add_lease(0).unwrap();
        guest.lease_once_ready();
        Some(guest)
    }

    /// Waits for `Ready` and gives the guest its lease.
    pub fn lease_once_ready(&mut self) {
        self.wait("Ready", |event| matches!(event, Event::Message(GuestMessage::Ready)).then_some(()));
        self.vm.control().send(HostMessage::Lease { first_slot: 0, generation: 1 });
        self.vm.control().notify();
    }

    /// Puts an Ethernet frame on the wire to the guest.
    pub fn deliver(&mut self, frame: &[u8]) {
        let mut bytes = vec![0; VNET];
        bytes.extend(frame);
        let start = Instant::now();
        while self.vm.net().push_rx(&bytes) != RxOutcome::Done {
            assert!(start.elapsed() < PATIENCE, "the guest takes no frames; its console: {}", self.console());
            std::thread::sleep(Duration::from_micros(100));
        }
        self.vm.net().flush_rx();
    }

    /// The next thing that the guest says or sends, if it is there. Messages come before frames, as a host reads them.
    pub fn next_event(&mut self) -> Option<Event> {
        self.vm.rng().service();
        self.vm.net().clear_tx_kick();
        self.vm.control().clear_doorbell();
        if let Some(message) = self.vm.control().recv() {
            return Some(Event::Message(message));
        }
        self.vm.net().take_tx(&mut self.frame)?;
        Some(Event::Frame(self.frame[VNET..].to_vec()))
    }

    /// The first thing that the guest says or sends of which `wanted` makes something; what comes before is dropped.
    pub fn wait<T>(&mut self, what: &str, mut wanted: impl FnMut(Event) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            match self.next_event() {
                Some(event) => {
                    if let Some(found) = wanted(event) {
                        return found;
                    }
                }
                None => {
                    let exit = self.vm.poll_exit();
                    assert!(exit.is_none(), "{what}: the guest ended: {exit:?}; console: {}", self.console());
                    assert!(start.elapsed() < PATIENCE, "{what} did not come; console: {}", self.console());
                    std::thread::sleep(Duration::from_micros(50));
                }
            }
        }
    }

    /// The next TCP segment that the guest sends to `port`.
    pub fn segment_to(&mut self, port: u16) -> Segment {
        self.wait("a segment", |event| match event {
            Event::Frame(frame) => Segment::parse(&frame).filter(|s| s.to_port == port),
            Event::Message(_) => None,
        })
    }

    /// Waits for the guest's end.
    pub fn wait_exit(&mut self) -> GuestExit {
        let start = Instant::now();
        loop {
            if let Some(exit) = self.vm.poll_exit() {
                return exit;
            }
            assert!(start.elapsed() < PATIENCE, "the guest did not end; console: {}", self.console());
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    /// What the guest has printed.
    pub fn console(&self) -> String {
        String::from_utf8_lossy(&self.screen.0.lock().unwrap()).into_owned()
    }
}
