//! A virtual machine: memory, one vCPU, devices, and the guest's life in it.

use crate::boot::{self, elf, page_tables, registers};
use crate::config::VmConfig;
use crate::control::Control;
use crate::devices::serial::SerialPort;
use crate::devices::virtio::mmio::{MmioTransport, QUEUE_NOTIFY};
use crate::devices::virtio::net::{self, Net, Tap};
use crate::devices::virtio::rng::{self, Rng};
use crate::error::VmError;
use crate::exit::{ExitReport, GuestExit};
use crate::interrupts::{InterruptChips, Interrupts};
use crate::log_limit::LogLimit;
use crate::memory::{Arena, ControlPages, Ram, SlotTable};
use crate::metrics::VmMetrics;
use crate::vcpu::fault::{SPIN_ADDRESS, SPIN_CODE};
use crate::vcpu::{Bus, Fault, PristineVcpu, VcpuThread};
use escape_abi::layout::{CONTROL_BASE, DOORBELL, MMIO_BASE, MMIO_STRIDE, device, slot_address};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use std::borrow::Cow;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use vm_memory::{Bytes, GuestAddress};
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

const RAM_SLOT: u32 = 0;
const CONTROL_SLOT: u32 = 1;
/// Lease `i` is memory slot `FIRST_LEASE_SLOT + i`.
const FIRST_LEASE_SLOT: u32 = 2;
const BOOT_VCPU: u64 = 0;

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
}

/// Where the one vCPU is.
#[derive(Debug)]
enum VcpuPlace {
    Idle(VcpuFd),
    Running(VcpuThread),
    Lost,
}

/// A VM. All methods are for one thread, the I/O thread; vCPUs have their own.
#[derive(Debug)]
pub struct Vm {
    // The vCPU goes first: nothing below may vanish while it runs.
    vcpu: VcpuPlace,
    pristine: PristineVcpu,
    chips: InterruptChips,
    vm: VmFd,
    ram: Ram,
    control_pages: Arc<ControlPages>,
    arena: Arc<Arena>,
    slots: SlotTable,
    net: Net,
    rng: Rng,
    control: Control,
    net_transport: Arc<MmioTransport>,
    rng_transport: Arc<MmioTransport>,
    serial: Arc<SerialPort>,
    bus: Arc<Bus>,
    report: Arc<ExitReport>,
    image: Cow<'static, [u8]>,
    params: boot::BootParamsSeed,
    tsc_khz: u64,
    fds: VmFds,
    boots: u64,
}

impl Vm {
    /// Builds the machine: memory, interrupts, devices, vCPU. Nothing runs yet and no lease is mapped.
    pub fn new(config: VmConfig) -> Result<Self, VmError> {
        let kvm = Kvm::new().map_err(|e| VmError::OpenKvm { source: e.into() })?;
        let vm = kvm.create_vm().map_err(kvm_error("KVM_CREATE_VM"))?;
        vm.create_irq_chip().map_err(kvm_error("KVM_CREATE_IRQCHIP"))?;
        let ram = Ram::new(config.ram_bytes)?;
        let arena = Arc::new(Arena::new(config.n_slots)?);
        let control_pages = Arc::new(ControlPages::new(config.n_slots)?);
        add_slot(&vm, RAM_SLOT, 0, ram.bytes(), ram.host_address())?;
        let control_memory = control_pages.mapping();
        add_slot(&vm, CONTROL_SLOT, CONTROL_BASE, control_memory.len() as u64, control_memory.host_address())?;
        let vcpu = vm.create_vcpu(BOOT_VCPU).map_err(kvm_error("KVM_CREATE_VCPU"))?;
        vcpu.set_cpuid2(&registers::cpuid(&kvm, BOOT_VCPU)?).map_err(kvm_error("KVM_SET_CPUID2"))?;
        let tsc_khz = u64::from(vcpu.get_tsc_khz().map_err(kvm_error("KVM_GET_TSC_KHZ"))?);
        let interrupts = Interrupts::new(&vm)?;

        let tap = config.tap.map(Tap::open).transpose()?;
        let mirror = config.mirror.map(Tap::open).transpose()?;
        let net_model = net::config::model(config.params.mac, tap.is_some());
        let transport = |model, interrupt: &_| {
            MmioTransport::new(model, ram.memory().clone(), Clone::clone(interrupt))
                .map(Arc::new)
                .map_err(io_error("eventfds of a virtio device"))
        };
        let net_transport = transport(net_model, &interrupts.net)?;
        let rng_transport = transport(rng::config::model(), &interrupts.rng)?;
        listen_for_notifications(&vm, device::NET, &net_transport)?;
        listen_for_notifications(&vm, device::RNG, &rng_transport)?;
        let doorbell = Arc::new(EventFd::new(EFD_NONBLOCK).map_err(io_error("eventfd of the doorbell"))?);
        vm.register_ioevent(&doorbell, &IoEventAddress::Mmio(DOORBELL), NoDatamatch)
            .map_err(kvm_error("KVM_IOEVENTFD (doorbell)"))?;

        let serial = Arc::new(SerialPort::new(interrupts.serial.clone(), config.console));
        let report = Arc::new(ExitReport::new().map_err(io_error("eventfd of the exit report"))?);
        let bus = Arc::new(Bus {
            serial: Arc::clone(&serial),
            virtio: vec![Arc::clone(&net_transport), Arc::clone(&rng_transport)],
            doorbell: Arc::clone(&doorbell),
            counters: Default::default(),
            log_limit: LogLimit::new(),
        });
        let fds = VmFds {
            tx_kick: kick_fd(&net_transport, net::config::TRANSMIT_QUEUE),
            rx_kick: kick_fd(&net_transport, net::config::RECEIVE_QUEUE),
            rng_kick: kick_fd(&rng_transport, rng::config::REQUEST_QUEUE),
            doorbell: doorbell.as_raw_fd(),
            exit: report.event().as_raw_fd(),
            tap: tap.as_ref().map(Tap::raw_fd),
            mirror: mirror.as_ref().map(Tap::raw_fd),
        };
        Ok(Self {
            pristine: PristineVcpu::of(&vcpu, BOOT_VCPU)?,
            chips: InterruptChips::of(&vm)?,
            vcpu: VcpuPlace::Idle(vcpu),
            slots: SlotTable::new(Arc::clone(&control_pages), Arc::clone(&arena)),
            net: Net::new(Arc::clone(&net_transport), tap, mirror),
            rng: Rng::new(Arc::clone(&rng_transport)).map_err(io_error("/dev/urandom"))?,
            control: Control::new(Arc::clone(&control_pages), interrupts.control.clone(), doorbell),
            vm,
            ram,
            control_pages,
            arena,
            net_transport,
            rng_transport,
            serial,
            bus,
            report,
            image: config.image,
            params: config.params,
            tsc_khz,
            fds,
            boots: 0,
        })
    }

    /// Maps the lease that begins with `first_slot` into the guest, running or not. Mapping it again does nothing.
    pub fn add_lease(&mut self, first_slot: u32) -> Result<(), VmError> {
        let lease = self.arena.lease_index(first_slot)?;
        if self.arena.is_leased(lease) {
            return Ok(());
        }
        let host = self.arena.lease_host_address(lease);
        add_slot(&self.vm, FIRST_LEASE_SLOT + lease, slot_address(first_slot), Arena::lease_bytes(), host)?;
        self.arena.set_leased(lease);
        Ok(())
    }

    /// Loads the image and runs the guest.
    pub fn start(&mut self) -> Result<(), VmError> {
        let vcpu = match std::mem::replace(&mut self.vcpu, VcpuPlace::Lost) {
            VcpuPlace::Idle(vcpu) => vcpu,
            running @ VcpuPlace::Running(_) => {
                self.vcpu = running;
                return Err(VmError::WrongTime("already running"));
            }
            VcpuPlace::Lost => return Err(VmError::VcpuLost),
        };
        if let Err(error) = self.prepare(&vcpu) {
            self.vcpu = VcpuPlace::Idle(vcpu);
            return Err(error);
        }
        let thread = VcpuThread::start(BOOT_VCPU, vcpu, Arc::clone(&self.bus), Arc::clone(&self.report))?;
        self.vcpu = VcpuPlace::Running(thread);
        self.boots += 1;
        Ok(())
    }

    /// Memory and registers for the first instruction. The arena keeps its content; everything else is as new.
    fn prepare(&mut self, vcpu: &VcpuFd) -> Result<(), VmError> {
        if self.boots > 0 {
            self.ram.clear()?;
            self.control_pages.reset()?;
            self.net_transport.reset();
            self.rng_transport.reset();
            self.serial.reset();
            self.net.reset();
            self.control.reset();
            self.chips.restore(&self.vm)?;
            self.pristine.restore(vcpu)?;
        }
        self.report.take();
        let memory = self.ram.memory();
        let n_slots = self.arena.n_slots();
        let entry = elf::load(&self.image, memory, self.ram.bytes())?;
        page_tables::build(memory, self.ram.bytes(), n_slots)?;
        let params = self.params.complete(self.ram.bytes(), n_slots, self.tsc_khz)?;
        boot::params::write(memory, &params)?;
        memory.write_slice(&SPIN_CODE, GuestAddress(SPIN_ADDRESS)).map_err(|source| boot::BootError::Write {
            what: "the spin loop of drills",
            address: SPIN_ADDRESS,
            source,
        })?;
        registers::enter_long_mode(vcpu, BOOT_VCPU, entry)?;
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
        match std::mem::replace(&mut self.vcpu, VcpuPlace::Lost) {
            VcpuPlace::Running(thread) => self.vcpu = VcpuPlace::Idle(thread.stop()?),
            idle @ VcpuPlace::Idle(_) => self.vcpu = idle,
            VcpuPlace::Lost => return Err(VmError::VcpuLost),
        }
        Ok(())
    }

    /// Why the guest stopped, if it did; once per stop.
    pub fn poll_exit(&mut self) -> Option<GuestExit> {
        self.report.take()
    }

    /// Takes the guest's processor away until [`Vm::resume`]; `false` if it would not come out within two seconds.
    pub fn pause(&mut self) -> bool {
        match &self.vcpu {
            VcpuPlace::Running(thread) => thread.pause(),
            _ => true,
        }
    }

    /// Gives it back.
    pub fn resume(&mut self) {
        if let VcpuPlace::Running(thread) = &self.vcpu {
            thread.resume();
        }
    }

    /// Breaks the guest, for drills.
    pub fn inject_fault(&mut self, fault: Fault) -> Result<(), VmError> {
        match &self.vcpu {
            VcpuPlace::Running(thread) => {
                thread.inject(fault);
                Ok(())
            }
            _ => Err(VmError::WrongTime("not running")),
        }
    }

    /// Types into the guest's console; returns how many bytes it took.
    pub fn console_input(&mut self, bytes: &[u8]) -> usize {
        self.serial.input(bytes)
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
            net_transport: self.net_transport.metrics(),
            rng: self.rng.metrics(),
            rng_transport: self.rng_transport.metrics(),
            control: self.control.metrics(),
            exits: self.bus.counters.read(),
            leases: self.arena.leases() as u64,
            boots: self.boots,
            console_dropped_bytes: self.serial.dropped_bytes(),
        }
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        self.stop();
        if matches!(self.vcpu, VcpuPlace::Lost) {
            // Its thread may still be in the guest: the memory must outlive it, so it is given up for good.
            std::mem::forget(self.ram.clone());
            std::mem::forget(Arc::clone(&self.arena));
            std::mem::forget(Arc::clone(&self.control_pages));
        }
    }
}

fn kvm_error(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> VmError {
    move |source| VmError::Kvm { call, source }
}

fn io_error(what: &'static str) -> impl FnOnce(io::Error) -> VmError {
    move |source| VmError::Io { what, source }
}

fn add_slot(vm: &VmFd, slot: u32, gpa: u64, bytes: u64, host_address: u64) -> Result<(), VmError> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: gpa,
        memory_size: bytes,
        userspace_addr: host_address,
    };
    // SAFETY: the addresses are those of a mapping that the `Vm` owns and drops after its vCPU has stopped, and that
    // this program reaches by volatile and atomic access only. Each slot number is used for one range.
    unsafe { vm.set_user_memory_region(region) }
        .map_err(|source| VmError::MemorySlot { slot, gpa, bytes, source })
}

/// Queue notifications arrive as eventfds and cost the guest no exit to this program.
fn listen_for_notifications(vm: &VmFd, index: u64, transport: &MmioTransport) -> Result<(), VmError> {
    let address = IoEventAddress::Mmio(MMIO_BASE + index * MMIO_STRIDE + QUEUE_NOTIFY);
    for (queue, kick) in (0u32..).zip(transport.kicks()) {
        vm.register_ioevent(kick, &address, queue).map_err(kvm_error("KVM_IOEVENTFD (queue)"))?;
    }
    Ok(())
}

fn kick_fd(transport: &MmioTransport, queue: usize) -> RawFd {
    transport.kicks().get(queue).map_or(-1, AsRawFd::as_raw_fd)
}
