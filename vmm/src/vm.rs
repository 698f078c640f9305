//! A virtual machine: memory, one vCPU, devices, and the guest's life in it.

use crate::boot::{self, BootError, BootParamsSeed, elf, linux, page_tables, registers};
use crate::config::{GuestImage, VmConfig};
use crate::control::Control;
use crate::devices::pci::HostBridge;
use crate::devices::serial::{Console, SerialPort};
use crate::devices::stock::StockDevices;
use crate::devices::virtio::device_state::DeviceModel;
use crate::devices::virtio::mmio::{MmioTransport, QUEUE_NOTIFY};
use crate::devices::virtio::net::{self, Net, Tap};
use crate::devices::virtio::rng::{self, Rng};
use crate::error::VmError;
use crate::exit::{ExitReport, GuestExit};
use crate::interrupts::{Interrupt, Interrupts, Wiring};
use crate::log_limit::LogLimit;
use crate::machine::Machine;
use crate::memory::SlotTable;
use crate::metrics::VmMetrics;
use crate::vcpu::fault::{Injection, SPIN_ADDRESS, SPIN_CODE};
use crate::vcpu::metrics::ExitCounters;
use crate::vcpu::{Bus, Fault, VcpuSeat, VcpuThread};
use escape_abi::layout::{DOORBELL, MMIO_BASE, MMIO_STRIDE, SLOT_SIZE, device};
use kvm_ioctls::VcpuFd;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const BOOT_VCPU: u64 = 0;
/// Looks for a moment at which the guest works on no slice, and the time between two: 20 ms in all.
const UNREFERENCED_TRIES_MAX: u32 = 200;
/// Of these, looks for a moment at which it sleeps too.
const SLEEPING_TRIES: u32 = 150;
const UNREFERENCED_RETRY: Duration = Duration::from_micros(100);

/// Descriptors for the I/O thread's poll loop. They stay the same over restarts and are valid as long as the [`Vm`].
#[derive(Clone, Copy, Debug)]
pub struct VmFds {
    /// The guest has frames: [`Net::clear_tx_kick`], then [`Net::take_tx`].
    pub tx_kick: RawFd,
    /// The guest has new receive buffers: [`Net::clear_rx_kick`], then push again what waited.
    pub rx_kick: RawFd,
    /// The guest wants randomness: [`Rng::service`].
    pub rng_kick: RawFd,
    /// The guest has written messages: [`Control::clear_doorbell`], then [`Control::recv`].
    pub doorbell: RawFd,
    /// The guest has stopped: [`Vm::poll_exit`].
    pub exit: RawFd,
    /// Frames for the guest: [`Net::tap_read`].
    pub tap: Option<RawFd>,
    /// Frames of the ingress mirror: [`Net::mirror_read`].
    pub mirror: Option<RawFd>,
    /// Messages for a guest that no interrupt tells of them: [`Vm::take_wake`], then wake it.
    pub wake: Option<RawFd>,
}

/// A VM. All methods are for one thread, the I/O thread; vCPUs have their own.
#[derive(Debug)]
pub struct Vm {
    // The vCPUs go first: nothing below may vanish while they run. The first one boots the guest.
    vcpus: Vec<VcpuSeat>,
    machine: Machine,
    slots: SlotTable,
    net: Net,
    rng: Rng,
    stock: StockDevices,
    control: Control,
    nudge: Interrupt,
    /// The control ring's, of which KVM tells only guests that have a driver for it.
    wake: Interrupt,
    bus: Arc<Bus>,
    report: Arc<ExitReport>,
    guest: Arc<GuestImage>,
    tsc_khz: u64,
    fds: VmFds,
    boots: u64,
    /// A loop in the image's code, for drills.
    loop_at: u64,
}

impl Vm {
    /// Builds the machine: memory, interrupts, devices, vCPU. Nothing runs yet and no lease is mapped.
    pub fn new(config: VmConfig) -> Result<Self, VmError> {
        let machine = Machine::new(config.ram_bytes, config.n_slots)?;
        let wiring = match config.guest {
            GuestImage::Freestanding { .. } => Wiring::Messages,
            GuestImage::Linux(_) => Wiring::Pins,
        };
        let vcpus = create_vcpus(&machine, config.guest.vcpus())?;
        let tsc_khz = vcpus.first().and_then(VcpuSeat::at_rest).map_or(Ok(0), VcpuFd::get_tsc_khz);
        let tsc_khz = tsc_khz.map_err(|source| VmError::Kvm { call: "KVM_GET_TSC_KHZ", source })?;
        let plan = config.guest.stock_devices()?;
        let models = plan.models();
        let numbers: Vec<u64> = models.iter().map(|(number, _)| *number).collect();
        let interrupts = Interrupts::new(machine.fd(), wiring, &numbers)?;
        let tap = config.tap.map(Tap::open).transpose()?;
        let mirror = config.mirror.map(Tap::open).transpose()?;
        let report = Arc::new(ExitReport::new().map_err(io_error("eventfd of the exit report"))?);
        let net_model = net::config::model(config.guest.mac(), tap.is_some());
        let bus = bus(&machine, &interrupts, net_model, models, config.console)?;
        let stock = plan.attach(&bus.stock, machine.ram().memory(), config.virtio_console)?;
        let (net_transport, rng_transport) = (&bus.net, &bus.rng);
        let fds = VmFds {
            tx_kick: kick_fd(net_transport, net::config::TRANSMIT_QUEUE),
            rx_kick: kick_fd(net_transport, net::config::RECEIVE_QUEUE),
            rng_kick: kick_fd(rng_transport, rng::config::REQUEST_QUEUE),
            doorbell: bus.doorbell.as_raw_fd(),
            exit: report.event().as_raw_fd(),
            tap: tap.as_ref().map(Tap::raw_fd),
            mirror: mirror.as_ref().map(Tap::raw_fd),
            wake: (wiring == Wiring::Pins).then(|| interrupts.control.event().as_raw_fd()),
        };
        let control_pages = machine.control_pages();
        Ok(Self {
            vcpus,
            slots: SlotTable::new(Arc::clone(control_pages), Arc::clone(machine.arena())),
            net: Net::new(Arc::clone(net_transport), tap, mirror),
            rng: Rng::new(Arc::clone(rng_transport)).map_err(io_error("/dev/urandom"))?,
            control: Control::new(Arc::clone(control_pages), interrupts.control.clone(), Arc::clone(&bus.doorbell)),
            nudge: interrupts.nudge,
            wake: interrupts.control.clone(),
            machine,
            bus: Arc::new(bus),
            report,
            stock,
            guest: Arc::new(config.guest),
            tsc_khz: u64::from(tsc_khz),
            fds,
            boots: 0,
            loop_at: SPIN_ADDRESS,
        })
    }

    /// Maps the lease that begins with `first_slot` into the guest, running or not. Mapping it again does nothing.
    pub fn add_lease(&mut self, first_slot: u32) -> Result<(), VmError> {
        self.machine.add_lease(first_slot)
    }

    /// Loads the image and runs the guest.
    pub fn start(&mut self) -> Result<(), VmError> {
        if self.vcpus.iter().any(VcpuSeat::is_lost) {
            return Err(VmError::VcpuLost);
        }
        if self.vcpus.iter().any(|seat| seat.thread().is_some()) {
            return Err(VmError::WrongTime("already running"));
        }
        self.prepare()?;
        for seat in &mut self.vcpus {
            seat.run(&self.bus, &self.report)?;
        }
        self.boots += 1;
        Ok(())
    }

    /// Memory and registers for the first instruction. The arena keeps its content; everything else is as new.
    fn prepare(&mut self) -> Result<(), VmError> {
        if self.boots > 0 {
            self.machine.reset()?;
            self.bus.reset();
            self.net.reset();
            self.control.reset();
            self.vcpus.iter().try_for_each(VcpuSeat::restore)?;
        }
        self.report.take();
        match &*Arc::clone(&self.guest) {
            GuestImage::Freestanding { image, params } => self.load_freestanding(image, params),
            GuestImage::Linux(guest) => {
                let of_stock = self.bus.stock.iter().map(|(number, _)| *number);
                let devices: Vec<u64> = [device::NET, device::RNG].into_iter().chain(of_stock).collect();
                let place = linux::Place {
                    memory: self.machine.ram().memory(),
                    ram_bytes: self.machine.ram().bytes(),
                    arena_bytes: u64::from(guest.slots) * SLOT_SIZE as u64,
                    control_bytes: if guest.slots == 0 { 0 } else { self.machine.control_pages().layout().bytes },
                    devices: &devices,
                };
                Ok(linux::load(guest, &place, self.boot_vcpu()?)?)
            }
        }
    }

    /// The vCPU that enters the guest first, at rest.
    fn boot_vcpu(&self) -> Result<&VcpuFd, VmError> {
        self.vcpus.first().and_then(VcpuSeat::at_rest).ok_or(VmError::VcpuLost)
    }

    /// Its thread.
    fn boot_thread(&self) -> Option<&VcpuThread> {
        self.vcpus.first().and_then(VcpuSeat::thread)
    }

    fn load_freestanding(&mut self, image: &[u8], params: &BootParamsSeed) -> Result<(), VmError> {
        let (ram, n_slots) = (self.machine.ram(), self.machine.arena().n_slots());
        let entry = elf::load(image, ram.memory(), ram.bytes())?;
        self.loop_at = elf::find_loop(image, &SPIN_CODE).unwrap_or(SPIN_ADDRESS);
        page_tables::build(ram.memory(), ram.bytes(), n_slots)?;
        let params = params.complete(ram.bytes(), n_slots, self.tsc_khz)?;
        boot::params::write(ram.memory(), &params)?;
        let spin = ram.memory().write_slice(&SPIN_CODE, GuestAddress(SPIN_ADDRESS));
        spin.map_err(|source| BootError::Write { what: "the loop of drills", address: SPIN_ADDRESS, source })?;
        registers::enter_long_mode(self.boot_vcpu()?, BOOT_VCPU, entry)?;
        Ok(())
    }

    /// Stops the guest if it runs and boots it again: RAM, control pages (words and holds included) and devices are as
    /// new, leases and the arena's content stay.
    pub fn restart(&mut self) -> Result<(), VmError> {
        self.halt()?;
        self.start()
    }

    /// Stops the guest; waits two seconds at most. The VM can be started again.
    pub fn stop(&mut self) {
        if let Err(error) = self.halt() {
            tracing::error!(%error, "stopping the guest");
        }
    }

    fn halt(&mut self) -> Result<(), VmError> {
        let halted: Vec<_> = self.vcpus.iter_mut().map(VcpuSeat::halt).collect();
        halted.into_iter().collect::<Result<(), _>>()?;
        if self.vcpus.iter().any(VcpuSeat::is_lost) { Err(VmError::VcpuLost) } else { Ok(()) }
    }

    /// Where the guest's first processor stands, while it is stopped.
    pub fn instruction_pointer(&self) -> Option<u64> {
        self.boot_vcpu().ok()?.get_regs().ok().map(|regs| regs.rip)
    }

    /// Why the guest stopped, if it did; once per stop.
    pub fn poll_exit(&mut self) -> Option<GuestExit> {
        self.report.take()
    }

    /// Takes the guest's processors away until [`Vm::resume`]; `false` if one would not come out within two seconds.
    pub fn pause(&mut self) -> bool {
        self.vcpus.iter().filter_map(VcpuSeat::thread).all(VcpuThread::pause)
    }

    /// Gives them back.
    pub fn resume(&mut self) {
        self.vcpus.iter().filter_map(VcpuSeat::thread).for_each(VcpuThread::resume);
    }

    /// Tells a guest that uses its processor without a sign of life to break off what it is at, if it goes on for long.
    pub fn nudge(&self) {
        self.nudge.raise();
    }

    /// Whether the guest is to be woken for its messages; true once for each time.
    pub fn take_wake(&self) -> bool {
        self.fds.wake.is_some() && self.wake.raised() > 0
    }

    /// Processor time that the guest's present life has used, microseconds; `None` when it does not run.
    pub fn processor_us(&self) -> Option<u64> {
        self.vcpus.iter().map(|seat| seat.thread()?.processor_us()).sum()
    }

    /// Breaks the guest, for drills. A hang is made while the guest works on no slice: under a reference it would be that
    /// slice's loop, which ends the slice and leaves the guest alive.
    ///
    /// # Errors
    /// [`VmError::AtWork`]: no such moment was found; to be tried again after the I/O thread has done its other work.
    pub fn inject_fault(&mut self, fault: Fault) -> Result<(), VmError> {
        let Some(thread) = self.boot_thread() else { return Err(VmError::WrongTime("not running")) };
        let injection = Injection { fault, loop_at: self.loop_at };
        if fault == Fault::Crash {
            thread.inject(injection);
            return Ok(());
        }
        if !self.pause_unreferenced(thread) {
            return Err(VmError::AtWork);
        }
        // While the vCPU is paused: it obeys before it enters the guest again.
        thread.inject(injection);
        thread.resume();
        Ok(())
    }

    /// Pauses the vCPU at a moment without references; false: there was none, and it runs. Best at one at which it sleeps: a guest that is
    /// about to take a reference, or has just put one back, is at that slice already, and breaks off that slice alone.
    fn pause_unreferenced(&self, thread: &VcpuThread) -> bool {
        for tries in 0..UNREFERENCED_TRIES_MAX {
            let at_rest = || self.control.is_asleep() || tries >= SLEEPING_TRIES;
            if thread.pause() && self.slots.references() == 0 && at_rest() {
                return true;
            }
            thread.resume();
            std::thread::sleep(UNREFERENCED_RETRY);
        }
        false
    }

    /// Types into the guest's console; returns how many bytes it took.
    pub fn console_input(&mut self, bytes: &[u8]) -> usize {
        self.bus.serial.input(bytes)
    }

    /// Descriptors for the poll loop.
    pub fn fds(&self) -> VmFds {
        self.fds
    }

    /// The network device.
    pub fn net(&mut self) -> &mut Net {
        &mut self.net
    }

    /// The entropy device.
    pub fn rng(&mut self) -> &mut Rng {
        &mut self.rng
    }

    /// The devices that only a stock guest has.
    pub fn stock(&mut self) -> &mut StockDevices {
        &mut self.stock
    }

    /// The control rings.
    pub fn control(&mut self) -> &mut Control {
        &mut self.control
    }

    /// Slot words and slot memory; clone it where it is needed.
    pub fn slots(&self) -> &SlotTable {
        &self.slots
    }

    /// All counters.
    pub fn metrics(&self) -> VmMetrics {
        VmMetrics {
            net: self.net.metrics(),
            net_transport: self.bus.net.metrics(),
            rng: self.rng.metrics(),
            rng_transport: self.bus.rng.metrics(),
            stock: self.stock.metrics(),
            control: self.control.metrics(),
            exits: self.bus.counters.read(),
            leases: self.machine.arena().leases() as u64,
            boots: self.boots,
            console_dropped_bytes: self.bus.serial.dropped_bytes(),
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop();
        if self.vcpus.iter().any(VcpuSeat::is_lost) {
            self.machine.leak_memory();
        }
    }
}

/// The devices as the vCPU reaches them, with their notifications connected.
fn bus(
    machine: &Machine,
    lines: &Interrupts,
    net: DeviceModel,
    stock: Vec<(u64, DeviceModel)>,
    console: Console,
) -> Result<Bus, VmError> {
    let transport = |index: u64, model, line: &Interrupt| {
        let transport = MmioTransport::new(model, machine.ram().memory().clone(), line.clone())
            .map_err(io_error("eventfds of a virtio device"))?;
        // Queue notifications arrive as eventfds and cost the guest no exit to this program.
        let notify = MMIO_BASE + index * MMIO_STRIDE + QUEUE_NOTIFY;
        for (queue, kick) in (0u32..).zip(transport.kicks()) {
            machine.listen(notify, Some(queue), kick)?;
        }
        Ok::<_, VmError>(Arc::new(transport))
    };
    let doorbell = EventFd::new(EFD_NONBLOCK).map_err(io_error("eventfd of the doorbell"))?;
    machine.listen(DOORBELL, None, &doorbell)?;
    let place = |((number, model), line)| transport(number, model, line).map(|device| (number, device));
    Ok(Bus {
        stock: stock.into_iter().zip(&lines.stock).map(place).collect::<Result<_, _>>()?,
        serial: Arc::new(SerialPort::new(lines.serial.clone(), console)),
        pci: HostBridge::default(),
        net: transport(device::NET, net, &lines.net)?,
        rng: transport(device::RNG, rng::config::model(), &lines.rng)?,
        doorbell: Arc::new(doorbell),
        counters: ExitCounters::default(),
        log_limit: LogLimit::new(),
    })
}

fn create_vcpus(machine: &Machine, count: u8) -> Result<Vec<VcpuSeat>, VmError> {
    if count > 1 {
        // Processors after the first one begin in real mode.
        machine.reserve_for_real_mode()?;
    }
    let ids = BOOT_VCPU..BOOT_VCPU + u64::from(count.max(1));
    ids.map(|id| Ok(VcpuSeat::new(id, machine.create_vcpu(id)?)?)).collect()
}

fn io_error(what: &'static str) -> impl Fn(io::Error) -> VmError {
    move |source| VmError::Io { what, source }
}

fn kick_fd(transport: &MmioTransport, queue: usize) -> RawFd {
    transport.kicks().get(queue).map_or(-1, AsRawFd::as_raw_fd)
}
