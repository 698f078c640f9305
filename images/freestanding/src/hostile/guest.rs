//! What every attack starts from: devices, rings, and two slices.

use crate::slice::Slice;
use crate::wire::Wire;
use escape_abi::layout::{CONTROL_BASE, DOORBELL};
use escape_abi::message::Flow;
use escape_abi::{ControlHeader, GuestMessage, HostMessage};
use escape_freestanding::BootParams;
use escape_freestanding::control::Control;
use escape_freestanding::machine::{interrupts, ring0};
use escape_freestanding::runtime::clock::Clock;

/// Client of both slices; the host half plays it.
const CLIENT_IP: [u8; 4] = [10, 9, 0, 1];
/// Its port to the honest slice.
const HONEST_PORT: u16 = 4000;
/// Its port to the bad slice.
const BAD_PORT: u16 = 4001;
/// A commit takes the host a few milliseconds at the worst; this is many of them.
const COMMIT_US: i64 = 50_000;

/// The guest.
pub struct Guest {
    /// Boot parameters.
    pub params: &'static BootParams,
    /// Both rings.
    pub control: Control,
    /// The network device.
    pub wire: Wire,
    /// Keeps every rule.
    pub honest: Slice,
    /// Breaks them.
    pub bad: Slice,
    /// The lease: first slot and generation.
    pub lease: (u32, u32),
}

impl Guest {
    /// Brings up the devices, waits for a lease, binds both slices.
    pub fn start(params: &'static BootParams) -> Option<Self> {
        let mut control = attach(params)?;
        let wire = Wire::start()?;
        let _ = control.guest_ring.send(GuestMessage::Ready);
        ring_doorbell();
        let lease = wait_for_lease(&mut control);
        let slice = |nth: u32, port| {
            let flow = Flow { ip: CLIENT_IP, port, service_port: params.http_port };
            Slice::new(params, lease.0 + nth, incarnation(lease.1, nth), flow)
        };
        let (honest, bad) = (slice(0, HONEST_PORT), slice(1, BAD_PORT));
        let mut guest = Self { params, control, wire, honest, bad, lease };
        guest.send(guest.honest.binding());
        guest.send(guest.bad.binding());
        Some(guest)
    }

    /// The honest slice changes its state and says so, by the rules.
    pub fn honest_says(&mut self, text: &[u8]) {
        let frame = self.honest.say(text);
        self.wire.send(&frame);
    }

    /// The bad slice does the same.
    pub fn bad_says(&mut self, text: &[u8]) {
        let frame = self.bad.say(text);
        self.wire.send(&frame);
    }

    /// Gives the host time to commit what was said: the guest cannot see it.
    pub fn let_the_host_commit(&mut self) {
        self.wire.wait_below(1);
        let Some(clock) = Clock::start(self.params.tsc_khz) else { return };
        while clock.now_us() < COMMIT_US {
            core::hint::spin_loop();
        }
    }

    /// Sends a message and rings; waits for room.
    pub fn send(&mut self, message: GuestMessage) {
        while !self.control.guest_ring.send(message) {
            ring_doorbell();
            core::hint::spin_loop();
        }
        ring_doorbell();
    }

    /// The control pages as they lie in memory.
    pub fn header(&self) -> &'static ControlHeader {
        // SAFETY: the VMM maps the control pages there for ever; everything in the header that changes is atomic.
        unsafe { &*(CONTROL_BASE as *const ControlHeader) }
    }

    /// Looks at the rings' indices anew, after an attack has written them behind the ring's back.
    pub fn attach_again(&mut self) {
        if let Some(control) = attach(self.params) {
            self.control = control;
        }
    }

    /// Sleeps for ever, but answers pings.
    pub fn rest(&mut self) -> ! {
        self.control.heartbeat.set_asleep(true);
        loop {
            let seen = interrupts::count();
            self.control.heartbeat.beat();
            while self.control.host_ring.receive().is_some() {}
            ring0::halt_unless_interrupted_since(seen);
        }
    }
}

/// The incarnation of the `nth` slice of a lease.
pub const fn incarnation(generation: u32, nth: u32) -> u64 {
    (generation as u64) << 32 | (nth as u64 + 1)
}

/// Tells the host that messages wait.
pub fn ring_doorbell() {
    // SAFETY: the doorbell's address by the layout, mapped by the VMM's tables; it touches no memory.
    unsafe { (DOORBELL as *mut u32).write_volatile(1) };
}

fn attach(params: &BootParams) -> Option<Control> {
    // SAFETY: the VMM maps the control pages for the arena that it states; a value made before is not used any more.
    unsafe { Control::attach(CONTROL_BASE as *mut u8, params.n_slots) }
}

fn wait_for_lease(control: &mut Control) -> (u32, u32) {
    control.heartbeat.set_asleep(true);
    loop {
        let seen = interrupts::count();
        control.heartbeat.beat();
        while let Some(message) = control.host_ring.receive() {
            if let HostMessage::Lease { first_slot, generation } = message {
                control.heartbeat.set_asleep(false);
                return (first_slot, generation);
            }
        }
        ring0::halt_unless_interrupted_since(seen);
    }
}
