//! Boots one guest without a cluster: frames pass straight through, nothing is held, nothing is copied to anybody.
//!
//! ```text
//! boot IMAGE.elf [--tap NAME] [--slots N] [--ram MIB] [--ip A.B.C.D] [--http PORT] [--stream PORT]
//!                [--seconds N] [--cmdline TEXT] [--metrics]
//! ```

use anyhow::{Context, Result, bail};
use escape_abi::layout::LEASE_SLOTS;
use escape_abi::{GuestMessage, HostMessage};
use escape_vmm::{BootParamsSeed, Console, FrameBuf, GuestImage, RxOutcome, TapSource, Vm, VmConfig};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use std::borrow::Cow;
use std::os::fd::RawFd;
use std::time::{Duration, Instant};

/// Frames handled per direction before others have a turn.
const BATCH_FRAMES_MAX: usize = 64;
const MESSAGES_PER_TURN_MAX: usize = 1024;

struct Arguments {
    image: String,
    tap: Option<String>,
    slots: u32,
    ram_mib: u64,
    ip: [u8; 4],
    http: u16,
    stream: u16,
    seconds: Option<u64>,
    cmdline: String,
    metrics: bool,
}

fn arguments() -> Result<Arguments> {
    let mut args = std::env::args().skip(1);
    let mut a = Arguments {
        image: String::new(),
        tap: None,
        slots: 16 * LEASE_SLOTS,
        ram_mib: 64,
        ip: [10, 0, 0, 2],
        http: 80,
        stream: 7777,
        seconds: None,
        cmdline: String::new(),
        metrics: false,
    };
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} wants a value"));
        match arg.as_str() {
            "--tap" => a.tap = Some(value()?),
            "--slots" => a.slots = value()?.parse()?,
            "--ram" => a.ram_mib = value()?.parse()?,
            "--ip" => a.ip = value()?.parse::<std::net::Ipv4Addr>()?.octets(),
            "--http" => a.http = value()?.parse()?,
            "--stream" => a.stream = value()?.parse()?,
            "--seconds" => a.seconds = Some(value()?.parse()?),
            "--cmdline" => a.cmdline = value()?,
            "--metrics" => a.metrics = true,
            _ if a.image.is_empty() && !arg.starts_with('-') => a.image = arg,
            _ => bail!("unknown argument {arg}"),
        }
    }
    if a.image.is_empty() {
        bail!("which image? usage: boot IMAGE.elf [--tap NAME] ...");
    }
    Ok(a)
}

fn main() -> Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let started = Instant::now();
    let a = arguments()?;
    let image = std::fs::read(&a.image).with_context(|| a.image.clone())?;
    let mut vm = Vm::new(VmConfig {
        ram_bytes: a.ram_mib << 20,
        n_slots: a.slots,
        guest: GuestImage::Freestanding {
            params: BootParamsSeed {
                node: 1,
                image_id: 1,
                idle_timeout_s: 0,
                slice_per_client: false,
                ip: a.ip,
                mac: [2, 0, 0, 0, 0, 1],
                http_port: a.http,
                stream_port: a.stream,
                cmdline: a.cmdline.clone(),
            },
            image: Cow::Owned(image),
        },
        tap: a.tap.clone().map(TapSource::Name),
        mirror: None,
        console: Console::new(Box::new(std::io::stdout())),
        virtio_console: Console::none(),
    })?;
    vm.start()?;
    for first_slot in (0..a.slots).step_by(LEASE_SLOTS as usize) {
        vm.add_lease(first_slot)?;
        vm.control().send(HostMessage::Lease { first_slot, generation: 1 });
    }
    vm.control().notify();
    tracing::info!("started after {:?}", started.elapsed());
    let end = a.seconds.map(|s| Instant::now() + Duration::from_secs(s));
    let result = Loop::new(vm)?.run(end);
    match result {
        Ok(vm) if a.metrics => println!("{:#?}", vm.metrics()),
        Ok(_) => {}
        Err(e) => bail!(e),
    }
    Ok(())
}

/// The I/O thread.
struct Loop {
    vm: Vm,
    poll: Poll,
    out: FrameBuf,
    into: FrameBuf,
    /// A frame is in `into` for which the guest has no buffer yet.
    waiting: bool,
}

impl Loop {
    fn new(vm: Vm) -> Result<Self> {
        let poll = Poll::new()?;
        let fds = vm.fds();
        let all =
            [Some(fds.tx_kick), Some(fds.rx_kick), Some(fds.rng_kick), Some(fds.doorbell), Some(fds.exit), fds.tap];
        for fd in all.into_iter().flatten() {
            let fd: RawFd = fd;
            poll.registry().register(&mut SourceFd(&fd), Token(fd as usize), Interest::READABLE)?;
        }
        Ok(Self { vm, poll, out: FrameBuf::new(), into: FrameBuf::new(), waiting: false })
    }

    fn run(mut self, end: Option<Instant>) -> Result<Vm> {
        let mut events = Events::with_capacity(16);
        let mut more = true;
        loop {
            if end.is_some_and(|e| Instant::now() >= e) {
                return Ok(self.vm);
            }
            let idle = end.map(|e| e.saturating_duration_since(Instant::now()));
            match self.poll.poll(&mut events, if more { Some(Duration::ZERO) } else { idle }) {
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
                other => other?,
            }
            // Events are edges: every source is looked at until it has nothing.
            self.vm.net().clear_tx_kick();
            self.vm.net().clear_rx_kick();
            self.vm.rng().service();
            self.messages();
            more = self.transmit() | self.receive()?;
            if let Some(exit) = self.vm.poll_exit() {
                println!("boot: {exit}");
                return Ok(self.vm);
            }
        }
    }

    fn messages(&mut self) {
        self.vm.control().clear_doorbell();
        for _ in 0..MESSAGES_PER_TURN_MAX {
            let Some(message) = self.vm.control().recv() else { break };
            match message {
                GuestMessage::Ready => tracing::info!("the guest is ready"),
                GuestMessage::Close { slot, incarnation } => {
                    self.vm.control().send(HostMessage::SlotFree { slot, incarnation });
                }
                GuestMessage::Poisoned { .. } => tracing::warn!("{message:?}"),
                _ => tracing::debug!("{message:?}"),
            }
        }
        self.vm.control().notify();
    }

    /// Whether there may be more.
    fn transmit(&mut self) -> bool {
        for _ in 0..BATCH_FRAMES_MAX {
            if self.vm.net().take_tx(&mut self.out).is_none() {
                return false;
            }
            // A full or missing tap loses the frame, as any link does.
            let _ = self.vm.net().tap_write(&self.out);
        }
        true
    }

    fn receive(&mut self) -> Result<bool> {
        let mut more = true;
        for _ in 0..BATCH_FRAMES_MAX {
            if !self.waiting {
                match self.vm.net().tap_read(&mut self.into) {
                    Ok(Some(_)) => {}
                    Ok(None) => {
                        more = false;
                        break;
                    }
                    Err(e) if e.kind() == std::io::ErrorKind::Interrupted => break,
                    Err(e) => bail!("reading the tap: {e}"),
                }
            }
            self.waiting = self.vm.net().push_rx(&self.into) == RxOutcome::NoBuffer;
            if self.waiting {
                // The receive kick wakes us; meanwhile the tap's own queue holds the rest.
                more = false;
                break;
            }
        }
        self.vm.net().flush_rx();
        Ok(more)
    }
}
