//! The host of a misbehaving guest: VM, valve, capturer, shadow and standby, and a loop like a node's.

use super::screen::Screen;
use super::wire::tcp_payload;
use escape_abi::layout::LEASE_SLOTS;
use escape_abi::message::Flow;
use escape_vmm::commit::quota::HoldLimits;
use escape_vmm::commit::{
    BreachPolicy, CaptureLimits, Capturer, ImageStore, Mode, ProtectedPorts, Rule, SliceId, Valve, ValveConfig,
};
use escape_vmm::{BootParamsSeed, Console, FrameBuf, GuestExit, GuestImage, Vm, VmConfig};
use std::borrow::Cow;
use std::time::{Duration, Instant};

/// Slots of the arena: two leases, of which the guest has the first.
pub const N_SLOTS: u32 = 2 * LEASE_SLOTS;
/// The honest slice's connection.
pub const HONEST: Flow = Flow { ip: [10, 9, 0, 1], port: 4000, service_port: 80 };
/// The bad slice's connection.
pub const BAD: Flow = Flow { ip: [10, 9, 0, 1], port: 4001, service_port: 80 };
/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(10);
const SERVICE_IP: [u8; 4] = [10, 9, 0, 2];

/// A host.
pub struct Host {
    /// The machine.
    pub vm: Vm,
    /// Holds output.
    pub valve: Valve,
    /// Cuts slices.
    pub capturer: Capturer,
    /// Frames that left for the network, in order.
    pub released: Vec<Vec<u8>>,
    /// Slices given up, and why.
    pub quarantined: Vec<(SliceId, String)>,
    /// Bindings refused, and why.
    pub refused_bindings: Vec<String>,
    /// Why the guest stopped, each time.
    pub exits: Vec<GuestExit>,
    /// Most bytes that were ever held.
    pub held_bytes_max: usize,
    /// The longest turn of the loop.
    pub longest_turn: Duration,
    pub(super) shadows: ImageStore,
    pub(super) standby: ImageStore,
    pub(super) generation: u32,
    pub(super) frame: FrameBuf,
    screen: Screen,
    begun: Instant,
}

impl Host {
    /// Boots the guest with this attack; `None`, said loudly, where there is no KVM.
    ///
    /// # Panics
    /// The VM could not be made: the test has failed.
    #[must_use]
    pub fn attacked_by(attack: &str) -> Option<Self> {
        if !std::path::Path::new("/dev/kvm").exists() {
            eprintln!("\n*** SKIPPED: no /dev/kvm on this machine; attack {attack:?} was not made ***\n");
            return None;
        }
        let screen = Screen::default();
        let vm = match Vm::new(vm_config(attack, &screen)) {
            Ok(vm) => vm,
            Err(error) => panic!("attack {attack:?}: no VM: {error}"),
        };
        let (Some(protected_ports), Ok(shadows), Ok(standby)) =
            (ProtectedPorts::new(&[HONEST.service_port]), ImageStore::new(N_SLOTS), ImageStore::new(N_SLOTS))
        else {
            panic!("attack {attack:?}: no commit path")
        };
        let valve = Valve::new(ValveConfig {
            n_slots: N_SLOTS,
            service_ip: SERVICE_IP,
            protected_ports,
            unprotected_output: false,
            mode: Mode::Protect,
            limits: HoldLimits::default(),
            rule: Rule::Generation,
            on_breach: BreachPolicy::Quarantine,
        });
        let mut host = Self {
            vm,
            valve,
            capturer: Capturer::new(CaptureLimits::default()),
            released: Vec::new(),
            quarantined: Vec::new(),
            refused_bindings: Vec::new(),
            exits: Vec::new(),
            held_bytes_max: 0,
            longest_turn: Duration::ZERO,
            shadows,
            standby,
            generation: 1,
            frame: FrameBuf::new(),
            screen,
            begun: Instant::now(),
        };
        host.expect_clients();
        let started = host.vm.add_lease(0).and_then(|()| host.vm.start());
        assert!(started.is_ok(), "attack {attack:?}: {started:?}");
        Some(host)
    }

    /// The SYNs of both connections have come in.
    fn expect_clients(&mut self) {
        let now = self.now();
        for flow in [HONEST, BAD] {
            self.valve.saw_syn(flow, 4999, now);
        }
    }

    /// Microseconds since the host began.
    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    /// Forgets every slice and boots the guest again, with a newer lease.
    ///
    /// # Panics
    /// It cannot be started: the test has failed.
    pub fn restart(&mut self) {
        for slot in 0..N_SLOTS {
            if let Some(slice) = self.valve.bindings().in_slot(slot) {
                self.forget(slice);
            }
        }
        self.generation += 1;
        self.released.clear();
        self.expect_clients();
        let restarted = self.vm.restart();
        assert!(restarted.is_ok(), "the guest cannot be started again: {restarted:?}");
    }

    /// One turn, in a node's order: messages, frames, captures, one notification.
    pub fn turn(&mut self) {
        let begun = Instant::now();
        self.vm.rng().service();
        self.vm.net().clear_tx_kick();
        self.vm.net().clear_rx_kick();
        self.vm.control().clear_doorbell();
        self.take_messages();
        self.take_frames();
        self.held_bytes_max = self.held_bytes_max.max(self.valve.held_bytes());
        self.capture_waiting();
        let now = self.now();
        self.valve.expire(now);
        self.vm.net().flush_rx();
        if self.capturer.take_kick() {
            self.vm.control().kick();
        }
        self.vm.control().notify();
        while let Some(exit) = self.vm.poll_exit() {
            self.exits.push(exit);
        }
        self.longest_turn = self.longest_turn.max(begun.elapsed());
    }

    /// Turns until this is so.
    ///
    /// # Panics
    /// It does not become so in time: the test has failed, and everything known is said.
    pub fn turn_until(&mut self, what: &str, mut is_so: impl FnMut(&Self) -> bool) {
        let begun = Instant::now();
        loop {
            self.turn();
            if is_so(self) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} did not come\n{}", self.told());
            std::thread::sleep(Duration::from_micros(30));
        }
    }

    /// Turns for so long, whatever happens.
    pub fn turn_for(&mut self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.turn();
            std::thread::sleep(Duration::from_micros(30));
        }
    }

    /// Turns until the honest slice has spoken after the attack; the guest must not have ended.
    pub fn wait_for_the_end_of_the_attack(&mut self) {
        self.turn_until("the honest slice's last word", |host| {
            assert!(host.exits.is_empty(), "the guest ended\n{}", host.told());
            host.said(HONEST, b"after")
        });
        assert!(self.said(HONEST, b"before"), "{}", self.told());
    }

    /// A frame with this payload has left on this connection.
    pub fn said(&self, flow: Flow, payload: &[u8]) -> bool {
        self.released.iter().any(|frame| tcp_payload(frame) == Some((flow.port, payload)))
    }

    /// Frames that have left on this connection.
    pub fn frames_of(&self, flow: Flow) -> usize {
        self.released.iter().filter(|frame| tcp_payload(frame).is_some_and(|(port, _)| port == flow.port)).count()
    }

    /// Everything known, for a failed test.
    pub fn told(&self) -> String {
        format!(
            "exits: {:?}\nquarantined: {:?}\nbindings refused: {:?}\nreleased: {}\n{:#?}\n{:#?}\n{:#?}\nconsole:\n{}",
            self.exits,
            self.quarantined,
            self.refused_bindings,
            self.released.len(),
            self.vm.metrics(),
            self.valve.metrics(),
            self.capturer.metrics(),
            self.screen.text()
        )
    }
}

fn vm_config(attack: &str, screen: &Screen) -> VmConfig {
    VmConfig {
        ram_bytes: 32 << 20,
        n_slots: N_SLOTS,
        guest: GuestImage::Freestanding {
            params: BootParamsSeed {
                ip: SERVICE_IP,
                mac: [2, 0, 0, 0, 0, 1],
                http_port: HONEST.service_port,
                stream_port: 7777,
                cmdline: attack.into(),
                ..BootParamsSeed::default()
            },
            image: Cow::Borrowed(escape_images::hostile()),
        },
        tap: None,
        mirror: None,
        console: Console::new(Box::new(screen.clone())),
        virtio_console: Console::none(),
    }
}
