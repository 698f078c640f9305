//! The loop around one guest by itself.

use super::config::SoloConfig;
use super::console_tail::ConsoleTail;
use super::error::SoloError;
use super::operator_terminal::OperatorTerminal;
use super::stop_signal::StopSignal;
use super::times::{SoloStep, SoloTimes};
use escape_abi::layout::LEASE_SLOTS;
use escape_abi::{GuestMessage, HostMessage};
use escape_vmm::{BootParamsSeed, Console, FrameBuf, GuestExit, RxOutcome, TapSource, Vm, VmConfig};
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
/// Generation of the leases: there is nobody to share the arena with.
const GENERATION: u32 = 1;
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
    stopping: bool,
    started: Instant,
    /// First slots of the leases that the guest does not have yet.
    unleased: StepBy<Range<u32>>,
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
        let n_slots = config.n_slots;
        let mut vm = Vm::new(vm_config(config, tail.clone()))?;
        times.done(SoloStep::Built);
        vm.start()?;
        let started = Instant::now();
        times.done(SoloStep::Started);
        register(&poll, &vm).map_err(SoloError::os("watch the guest's descriptors"))?;
        let mut node = Self {
            vm,
            poll,
            out: FrameBuf::new(),
            into: FrameBuf::new(),
            blocked: false,
            tail,
            times,
            terminal: OperatorTerminal::take(),
            stopping: false,
            started,
            unleased: (0..n_slots).step_by(LEASE_SLOTS as usize),
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
                    TERMINAL => self.on_keys(),
                    _ => {}
                }
            }
            // Events are edges: every source is looked at until it has nothing.
            more = self.turn()?;
            if let Some(exit) = self.vm.poll_exit() {
                return self.ended(exit);
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
        let up = self.times.at(SoloStep::Ready).is_some();
        (!up).then(|| READY_LIMIT.saturating_sub(self.started.elapsed()))
    }

    /// Whether there may be more to do at once.
    fn turn(&mut self) -> Result<bool, SoloError> {
        self.vm.net().clear_tx_kick();
        self.vm.net().clear_rx_kick();
        self.vm.rng().service();
        self.messages();
        let mut more = self.transmit() | self.receive()?;
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

    fn on_keys(&mut self) {
        let mut keys = [0; 256];
        loop {
            match self.terminal.read(&mut keys) {
                Some([]) => return,
                Some(typed) => {
                    let taken = self.vm.console_input(typed);
                    if taken < typed.len() {
                        tracing::debug!(dropped = typed.len() - taken, "the guest does not read its console");
                    }
                }
                None => {
                    // End of input: the guest goes on without.
                    let _ = self.poll.registry().deregister(&mut SourceFd(&OperatorTerminal::fd()));
                    return;
                }
            }
        }
    }

    fn ended(&mut self, exit: GuestExit) -> Result<(), SoloError> {
        if exit == GuestExit::Shutdown { Ok(()) } else { Err(SoloError::Ended { exit, tail: self.tail.text() }) }
    }

    fn check_ready(&self) -> Result<(), SoloError> {
        if self.times.at(SoloStep::Ready).is_some() || self.started.elapsed() < READY_LIMIT {
            return Ok(());
        }
        Err(SoloError::NotReady {
            limit_ms: READY_LIMIT.as_millis(),
            exits: format!("{:?}", self.vm.metrics().exits),
            tail: self.tail.text(),
        })
    }
}

fn vm_config(config: SoloConfig, tail: ConsoleTail) -> VmConfig {
    VmConfig {
        ram_bytes: u64::from(config.ram_mib) << 20,
        n_slots: config.n_slots,
        params: BootParamsSeed {
            image_id: config.image_id,
            node: 0,
            ip: config.service.ip.octets(),
            mac: config.service.mac,
            http_port: config.service.http_port,
            stream_port: config.service.stream_port,
            idle_timeout_s: config.service.idle_timeout_s,
            cmdline: config.cmdline,
        },
        image: config.image,
        tap: config.tap.map(TapSource::Name),
        mirror: None,
        console: Console::new(Box::new(tail)),
    }
}

fn register(poll: &Poll, vm: &Vm) -> std::io::Result<()> {
    let fds = vm.fds();
    let all = [Some(fds.tx_kick), Some(fds.rx_kick), Some(fds.rng_kick), Some(fds.doorbell), Some(fds.exit), fds.tap];
    for fd in all.into_iter().flatten() {
        let fd: RawFd = fd;
        poll.registry().register(&mut SourceFd(&fd), VM, Interest::READABLE)?;
    }
    match poll.registry().register(&mut SourceFd(&OperatorTerminal::fd()), TERMINAL, Interest::READABLE) {
        // A file or /dev/null cannot be watched, and has nothing to say.
        Err(e) if e.raw_os_error() != Some(libc::EPERM) && e.raw_os_error() != Some(libc::EBADF) => Err(e),
        _ => Ok(()),
    }
}
