//! The main loop.

use super::idle::Idle;
use super::platform::Platform;
use super::timer::LazyTimer;
use super::{FRAMES_PER_TURN_MAX, MESSAGES_PER_TURN_MAX, PoisonBudget};
use crate::control::{Control, Heartbeat, HostRing};
use crate::machine::{interrupts, lapic, ring0};
use crate::runtime::clock::Clock;
use crate::runtime::{crash, log};
use crate::virtio::net::Receiver;
use crate::virtio::{entropy, net};
use escape_abi::layout::{ARENA_BASE, CONTROL_BASE};
use escape_abi::{BootParams, GuestMessage};
use escape_session::{Host, Memory, Server};

/// Everything that the session server image owns.
pub(super) struct Guest {
    server: Server<Platform>,
    receiver: Receiver,
    host_ring: HostRing,
    heartbeat: Heartbeat,
    clock: Clock,
    idle: Idle,
    timer: LazyTimer,
    deadline_us: Option<i64>,
    poisonings: PoisonBudget,
}

impl Guest {
    /// Brings up devices and server; on failure says why and with which crash code to end.
    pub(super) fn start(params: &'static BootParams) -> Result<Self, u32> {
        let clock = Clock::start(params.tsc_khz).ok_or(crash::BAD_PARAMETERS)?;
        // SAFETY: the VMM maps the control pages for the arena that it states; this is called once.
        let control = unsafe { Control::attach(CONTROL_BASE as *mut u8, params.n_slots) };
        let Some(Control { heartbeat, host_ring, guest_ring }) = control else {
            log!("boot: the control pages are not those of an arena of {} slots", params.n_slots);
            return Err(crash::BAD_CONTROL);
        };
        let seed = entropy::read::<32>(&clock).map_err(|error| {
            log!("boot: entropy device: {error}");
            crash::NO_ENTROPY
        })?;
        let (receiver, transmitter) = net::start().map_err(|error| {
            log!("boot: network device: {error}");
            crash::DEVICE
        })?;
        let host = Platform::new(clock, transmitter, guest_ring);
        // SAFETY: words, holds and slot metadata of the control pages, and the arena, are the server's alone; slots are
        // touched only as the host leases or plugs them.
        let memory = unsafe { Memory::new(CONTROL_BASE as *mut u8, ARENA_BASE as *mut u8, params.n_slots) };
        let mut server = Server::new(params, fold(&seed), memory, host);
        // The receiver passes only frames whose checksums are right.
        server.trust_rx_checksums(true);
        let idle = Idle::new(clock.now_us());
        let poisonings = PoisonBudget::new();
        let timer = LazyTimer::default();
        Ok(Self { server, receiver, host_ring, heartbeat, clock, idle, timer, deadline_us: None, poisonings })
    }

    /// Tells the host that connections are taken.
    pub(super) fn announce(&mut self) {
        // The ring is empty at boot and holds thousands.
        let _ = self.server.host().send(GuestMessage::Ready);
        self.server.host().flush();
    }

    /// Serves for ever. Also the place where the guest goes on after a poisoned slice.
    pub(super) fn serve(&mut self) -> ! {
        // What the interrupted turn had produced.
        self.deadline_us = self.server.on_timers();
        self.server.host().flush();
        loop {
            let worked = self.turn();
            let now_us = self.clock.now_us();
            if worked {
                self.idle.worked(now_us);
            } else if self.is_due(now_us) || self.idle.keeps_polling(now_us) {
                core::hint::spin_loop();
            } else {
                self.sleep();
            }
        }
    }

    /// The slice whose reference was held when the turn was interrupted is given up. False if there was none, so that
    /// the fault is the guest's; ends the guest if there were too many.
    pub(super) fn poison_referenced(&mut self, cause: u32) -> bool {
        let Some(slot) = self.server.referenced() else { return false };
        if !self.poisonings.take(self.clock.now_us()) {
            log!("fault: too many poisoned slices");
            crash::end(crash::POISON_BUDGET);
        }
        self.server.poison(slot, cause);
        true
    }

    /// Does what there is to do; false if there was nothing.
    fn turn(&mut self) -> bool {
        self.heartbeat.beat();
        interrupts::forget_nudges();
        let mut worked = self.messages();
        worked |= self.frames();
        if worked || self.is_due(self.clock.now_us()) {
            self.deadline_us = self.server.on_timers();
            self.server.host().flush();
        }
        worked
    }

    fn messages(&mut self) -> bool {
        let mut count = 0;
        while count < MESSAGES_PER_TURN_MAX
            && let Some(message) = self.host_ring.receive()
        {
            self.server.on_message(message);
            self.server.host().publish();
            count += 1;
        }
        count > 0
    }

    fn frames(&mut self) -> bool {
        let mut count = 0;
        while count < FRAMES_PER_TURN_MAX
            && let Some(frame) = self.receiver.next_frame()
        {
            self.server.on_frame(frame);
            self.server.host().publish();
            count += 1;
        }
        if count > 0 {
            self.receiver.give_back();
        }
        count > 0
    }

    fn is_due(&self, now_us: i64) -> bool {
        self.deadline_us.is_some_and(|deadline| deadline <= now_us)
    }

    /// Halts until something happens. Nothing is lost: what comes before the flags are set is seen by the second look,
    /// what comes after raises an interrupt, and an interrupt between the count and the halt prevents the halt.
    fn sleep(&mut self) {
        let seen = interrupts::count();
        self.heartbeat.set_asleep(true);
        self.receiver.want_interrupts(true);
        let waits = self.receiver.has_frames() || self.host_ring.has_entries() || self.heartbeat.is_asked();
        if !waits {
            let since_us = self.clock.now_us();
            let ticks = self.timer.ticks_for(since_us, self.deadline_us, interrupts::timer_count());
            if let Some(ticks) = ticks {
                lapic::start_timer(ticks);
            }
            ring0::halt_unless_interrupted_since(seen);
            self.idle.woke(since_us, self.clock.now_us());
        }
        self.receiver.want_interrupts(false);
        self.heartbeat.set_asleep(false);
    }
}

/// The seed of the server's generator: all the entropy, folded.
fn fold(random: &[u8; 32]) -> u64 {
    random.as_chunks().0.iter().fold(0, |seed, chunk| seed ^ u64::from_le_bytes(*chunk))
}
