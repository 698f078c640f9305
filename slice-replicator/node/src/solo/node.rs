//! The loop around one guest by itself.

use super::config::{KeysTo, SoloConfig};
use super::console_tail::ConsoleTail;
use super::error::SoloError;
use super::operator_terminal::OperatorTerminal;
use super::stop_signal::StopSignal;
use super::times::{SoloStep, SoloTimes};
use escape_abi::layout::LEASE_SLOTS;
use escape_abi::{GuestMessage, HostMessage};
use escape_vmm::{Console, FrameBuf, GuestExit, GuestImage, RxOutcome, TapSource, Vm, VmConfig};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::iter::StepBy;
use std::ops::Range;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Frames handled per direction before others have a turn.
const FRAMES_PER_TURN_MAX: usize = 64;
/// Messages of the guest taken per turn.
const MESSAGES_PER_TURN_MAX: usize = 1024;
/// A guest that has not said that it is ready by then has failed to boot.
const READY_LIMIT: Duration = Duration::from_secs(5);
/// A Linux kernel that has said nothing by then does not boot.
const SILENCE_LIMIT: Duration = Duration::from_secs(60);
/// A Linux kernel's first words come without an event: looked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Generation of the leases: there is nobody to share the arena with.
const GENERATION: u32 = 1;
/// The serial port takes 64 bytes at a time and does not say when it has room: tried again this often.
const TYPE_AGAIN: Duration = Duration::from_millis(5);
/// Keys that it has not taken for so long are dropped.
const TYPING_LIMIT: Duration = Duration::from_secs(1);
const VM: Token = Token(0);
const STOP: Token = Token(1);
const TERMINAL: Token = Token(2);

/// One guest by itself.
#[derive(Debug)]
pub struct SoloNode {
    vm: Vm,
    poll: Poll,
    out: FrameBuf,
    into: FrameBuf,
    /// A frame is in `into` for which the guest has no buffer yet; the tap's own queue holds those behind it.
    blocked: bool,
    tail: ConsoleTail,
    times: SoloTimes,
    terminal: OperatorTerminal,
    /// The terminal may have keys.
    keys_wait: bool,
    /// Keys that the serial port has not taken yet, and when it took the last one.
    typed: Vec<u8>,
    typed_at: Instant,
    keys: KeysTo,
    stopping: bool,
    started: Instant,
    /// First slots of the leases that the guest does not have yet.
    unleased: StepBy<Range<u32>>,
    /// It says that it is up by its first word on the console, not by a message.
    is_linux: bool,
    _stop: StopSignal,
}

impl SoloNode {
    /// Builds the machine and starts the guest.
    ///
    /// # Errors
    /// What this machine refused; the message says what to do about it.
    pub fn start(config: SoloConfig, mut times: SoloTimes) -> Result<Self, SoloError> {
        let poll = Poll::new().map_err(SoloError::os("epoll"))?;
        let stop = StopSignal::register(poll.registry(), STOP)?;
        let tail = ConsoleTail::default();
        let is_linux = matches!(config.guest, GuestImage::Linux(_));
        // A Linux guest is told of its arena at its start, so all of it is there.
        let (n_slots, slots_of_linux) = match &config.guest {
            GuestImage::Linux(guest) => (0, guest.slots),
            GuestImage::Freestanding { .. } => (config.n_slots, 0),
        };
        let keys = config.keys;
        let mut vm = Vm::new(vm_config(config, tail.clone()))?;
        for first_slot in (0..slots_of_linux).step_by(LEASE_SLOTS as usize) {
            vm.add_lease(first_slot)?;
        }
        times.done(SoloStep::Built);
        vm.start()?;
        let started = Instant::now();
        times.done(SoloStep::Started);
        register(&poll, &mut vm).map_err(SoloError::os("watch the guest's descriptors"))?;
        let mut node = Self {
            vm,
            poll,
            out: FrameBuf::new(),
            into: FrameBuf::new(),
            blocked: false,
            tail,
            times,
            terminal: OperatorTerminal::take(),
            keys_wait: false,
            typed: Vec::new(),
            typed_at: started,
            keys,
            stopping: false,
            started,
            unleased: (0..n_slots).step_by(LEASE_SLOTS as usize),
            is_linux,
            _stop: stop,
        };
        // The first lease waits for KVM to settle (some milliseconds): the guest boots meanwhile.
        node.add_lease()?;
        node.times.done(SoloStep::Leased);
        Ok(node)
    }

    /// Gives the guest one more lease, if there is one. Costs 30 µs, and some milliseconds on a busy machine.
    fn add_lease(&mut self) -> Result<(), SoloError> {
        if let Some(first_slot) = self.unleased.next() {
            self.vm.add_lease(first_slot)?;
            self.vm.control().send(HostMessage::Lease { first_slot, generation: GENERATION });
        }
        Ok(())
    }

    /// When the steps of the boot were done.
    pub const fn times(&self) -> &SoloTimes {
        &self.times
    }

    /// Serves until the process is asked to stop or the guest ends.
    ///
    /// # Errors
    /// The guest crashed or did not come up.
    pub fn run(&mut self) -> Result<(), SoloError> {
        let ended = self.serve();
        self.vm.stop();
        // A console that cannot be written to any more has said all it can.
        let _ = self.tail.end_line();
        ended
    }

    fn serve(&mut self) -> Result<(), SoloError> {
        let mut events = Events::with_capacity(16);
        let mut more = true;
        while !self.stopping {
            match self.poll.poll(&mut events, self.patience(more)) {
                Err(e) if e.kind() != std::io::ErrorKind::Interrupted => return Err(SoloError::os("epoll")(e)),
                _ => {}
            }
            for event in &events {
                match event.token() {
                    STOP => self.stopping = true,
                    TERMINAL => self.keys_wait = true,
                    _ => {}
                }
            }
            // Events are edges: every source is looked at until it has nothing.
            more = self.turn()?;
            match self.vm.poll_exit() {
                // A freestanding guest has no business with it.
                Some(GuestExit::Reset) if self.is_linux => self.boot_again()?,
                Some(exit) => return self.ended(exit),
                None => {}
            }
            self.check_ready()?;
        }
        Ok(())
    }

    /// How long to wait for events; for ever once the guest is up.
    fn patience(&self, more: bool) -> Option<Duration> {
        if more {
            return Some(Duration::ZERO);
        }
        if !self.typed.is_empty() {
            return Some(TYPE_AGAIN);
        }
        let up = self.times.at(SoloStep::Ready).is_some();
        let left = self.ready_limit().saturating_sub(self.started.elapsed());
        (!up).then(|| if self.is_linux { left.min(LOOK_EVERY) } else { left })
    }

    const fn ready_limit(&self) -> Duration {
        if self.is_linux { SILENCE_LIMIT } else { READY_LIMIT }
    }

    /// The guest asked for a reset.
    fn boot_again(&mut self) -> Result<(), SoloError> {
        tracing::info!("the guest asked for a reset: it is booted again");
        self.vm.restart()?;
        self.blocked = false;
        Ok(())
    }

    /// Whether there may be more to do at once.
    fn turn(&mut self) -> Result<bool, SoloError> {
        self.vm.net().clear_tx_kick();
        self.vm.net().clear_rx_kick();
        self.vm.rng().service();
        let more_of_stock = self.vm.stock().service();
        self.messages();
        self.type_some();
        let mut more = more_of_stock | self.transmit() | self.receive()?;
        if !more && self.times.at(SoloStep::FirstFrameOut).is_some() && self.unleased.len() > 0 {
            // One at a time between others' turns: the first session needs only the first.
            self.add_lease()?;
            more = true;
        }
        self.vm.net().flush_rx();
        self.vm.control().notify();
        Ok(more)
    }

    fn messages(&mut self) {
        self.vm.control().clear_doorbell();
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.vm.control().recv() else { return };
            match message {
                GuestMessage::Ready => {
                    self.times.done(SoloStep::Ready);
                    tracing::info!("guest ready {} ms after its start", self.started.elapsed().as_millis());
                }
                GuestMessage::Close { slot, incarnation } => {
                    self.vm.control().send(HostMessage::SlotFree { slot, incarnation });
                }
                GuestMessage::Poisoned { slot, incarnation, cause } => {
                    tracing::warn!(slot, incarnation, cause, "a session failed in the guest and was given up");
                    self.vm.control().send(HostMessage::Discard { slot, incarnation });
                    self.vm.control().send(HostMessage::SlotFree { slot, incarnation });
                }
                // Bindings, changes and plugs concern a cell.
                _ => {}
            }
        }
    }

    fn transmit(&mut self) -> bool {
        for _ in 0..FRAMES_PER_TURN_MAX {
            if self.vm.net().take_tx(&mut self.out).is_none() {
                return false;
            }
            // A full or missing tap loses the frame, as any link does.
            let _ = self.vm.net().tap_write(&self.out);
            self.times.done(SoloStep::FirstFrameOut);
        }
        true
    }

    fn receive(&mut self) -> Result<bool, SoloError> {
        if self.times.at(SoloStep::Ready).is_none() {
            // What comes before waits in the tap: a SYN that is dropped costs its client a second.
            return Ok(false);
        }
        for _ in 0..FRAMES_PER_TURN_MAX {
            if !self.blocked {
                match self.vm.net().tap_read(&mut self.into) {
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(false),
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Ok(true),
                    Err(e) => return Err(SoloError::os("reading the tap")(e)),
                }
            }
            let outcome = self.vm.net().push_rx(&self.into);
            self.blocked = outcome == RxOutcome::NoBuffer;
            if self.blocked {
                // The receive kick says when there is one.
                return Ok(false);
            }
            if outcome == RxOutcome::Done {
                self.times.done(SoloStep::FirstFrameIn);
            }
        }
        Ok(true)
    }

    /// Types what the guest's serial port takes now; what it does not take waits, and what is behind it waits in the terminal.
    fn type_some(&mut self) {
        loop {
            if self.typed.is_empty() && !self.read_keys() {
                return;
            }
            let taken = match self.keys {
                KeysTo::Serial => self.vm.console_input(&self.typed),
                KeysTo::Virtio => self.vm.stock().type_into_console(&self.typed),
            };
            if taken > 0 {
                self.typed_at = Instant::now();
                self.typed.drain(..taken);
            } else if self.typed_at.elapsed() > TYPING_LIMIT {
                tracing::debug!(dropped = self.typed.len(), "the guest does not read its console");
                self.typed.clear();
            }
            if !self.typed.is_empty() {
                return;
            }
        }
    }

    /// Whether there are keys.
    fn read_keys(&mut self) -> bool {
        let mut keys = [0; 256];
        if !self.keys_wait {
            return false;
        }
        match self.terminal.read(&mut keys) {
            Some([]) => self.keys_wait = false,
            Some(typed) => {
                self.typed.extend_from_slice(typed);
                self.typed_at = Instant::now();
            }
            None => {
                // End of input: the guest goes on without.
                self.keys_wait = false;
                let _ = self.poll.registry().deregister(&mut SourceFd(&OperatorTerminal::fd()));
            }
        }
        !self.typed.is_empty()
    }

    fn ended(&mut self, exit: GuestExit) -> Result<(), SoloError> {
        if exit == GuestExit::Shutdown { Ok(()) } else { Err(SoloError::Ended { exit, tail: self.tail.text() }) }
    }

    fn check_ready(&mut self) -> Result<(), SoloError> {
        if self.is_linux && self.tail.has_text() {
            self.times.done(SoloStep::Ready);
        }
        let limit = self.ready_limit();
        if self.times.at(SoloStep::Ready).is_some() || self.started.elapsed() < limit {
            return Ok(());
        }
        let exits = format!("{:?}", self.vm.metrics().exits);
        if self.is_linux {
            self.vm.stop();
            let at = self.vm.instruction_pointer().unwrap_or(0);
            return Err(SoloError::Silent { limit_s: limit.as_secs(), at, exits });
        }
        Err(SoloError::NotReady { limit_ms: limit.as_millis(), exits, tail: self.tail.text() })
    }
}

fn vm_config(config: SoloConfig, tail: ConsoleTail) -> VmConfig {
    let (console, virtio_console) = match config.guest {
        GuestImage::Freestanding { .. } => (Console::new(Box::new(tail)), Console::none()),
        GuestImage::Linux(_) => (Console::terminal(Box::new(tail.clone())), Console::terminal(Box::new(tail))),
    };
    VmConfig {
        ram_bytes: u64::from(config.ram_mib) << 20,
        n_slots: config.n_slots,
        guest: config.guest,
        tap: config.tap.map(TapSource::Name),
        mirror: None,
        console,
        virtio_console,
    }
}

fn register(poll: &Poll, vm: &mut Vm) -> std::io::Result<()> {
    let fds = vm.fds();
    let all = [Some(fds.tx_kick), Some(fds.rx_kick), Some(fds.rng_kick), Some(fds.doorbell), Some(fds.exit), fds.tap];
    for fd in all.into_iter().flatten().chain(vm.stock().fds()) {
        let fd: RawFd = fd;
        poll.registry().register(&mut SourceFd(&fd), VM, Interest::READABLE)?;
    }
    match poll.registry().register(&mut SourceFd(&OperatorTerminal::fd()), TERMINAL, Interest::READABLE) {
        // A file or /dev/null cannot be watched, and has nothing to say.
        Err(e) if e.raw_os_error() != Some(libc::EPERM) && e.raw_os_error() != Some(libc::EBADF) => Err(e),
        _ => Ok(()),
    }
}
