//! Interrupts to the guest: eventfds that KVM turns into messages to the local APIC.
//!
//! Edge-triggered, no acknowledgement beyond the APIC's end-of-interrupt (virtio 1.2, section 4.2.2.1 does not need
//! one; a driver that reads the interrupt status anyway finds it right).

use escape_abi::layout::{device, vector};
use kvm_bindings::{
    KVM_IRQ_ROUTING_IRQCHIP, KVM_IRQ_ROUTING_MSI, KVM_IRQCHIP_IOAPIC, KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE,
    KvmIrqRouting, kvm_irq_routing_entry, kvm_irqchip,
};
use kvm_ioctls::VmFd;
use std::io;
use std::sync::Arc;
use vmm_sys_util::eventfd::{EFD_NONBLOCK, EventFd};

/// Message-signalled interrupts follow the pins of the I/O APIC.
const FIRST_MSI_GSI: u32 = 24;
/// Local APIC 0, fixed delivery (Intel SDM volume 3, section 11.11.1).
const MSI_ADDRESS: u32 = 0xfee0_0000;
/// The pin of the first serial port.
pub const SERIAL_PIN: u32 = 4;
/// The pin of the first virtio device of a Linux guest; the others follow.
pub const DEVICE_PIN0: u32 = 5;

/// How interrupts of virtio devices reach the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wiring {
    /// Straight to vectors of the local APIC, which the freestanding guest has fixed.
    Messages,
    /// By pins of the I/O APIC, which ACPI tells a Linux guest.
    Pins,
}

/// Why interrupts could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum InterruptError {
    /// KVM refused.
    #[error("{call} for {what}: {source}")]
    Kvm {
        /// Which ioctl.
        call: &'static str,
        /// Which interrupt.
        what: &'static str,
        /// KVM's answer.
        source: kvm_ioctls::Error,
    },
    /// No eventfd.
    #[error("eventfd for the interrupt of {what}: {source}")]
    EventFd {
        /// Which interrupt.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The routing table could not be built.
    #[error("the interrupt routing table does not fit")]
    Table,
}

/// One interrupt line into the guest. Clones are the same line.
#[derive(Clone, Debug)]
pub struct Interrupt(Arc<EventFd>);

impl Interrupt {
    /// A line that nobody listens to (until KVM is told of it).
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(EventFd::new(EFD_NONBLOCK)?)))
    }

    /// Raises it. Raising it again before the guest has seen it changes nothing.
    pub fn raise(&self) {
        // The counter cannot overflow: KVM consumes each write.
        let _ = self.0.write(1);
    }

    /// The event behind a line that KVM does not listen to.
    pub fn event(&self) -> &EventFd {
        &self.0
    }

    /// How often it was raised since the last look; for lines that KVM does not listen to.
    pub fn raised(&self) -> u64 {
        self.0.read().unwrap_or(0)
    }
}

impl vm_superio::Trigger for Interrupt {
    type E = io::Error;

    fn trigger(&self) -> io::Result<()> {
        self.raise();
        Ok(())
    }
}

/// All lines of a VM.
#[derive(Clone, Debug)]
pub struct Interrupts {
    /// virtio-net.
    pub net: Interrupt,
    /// virtio-rng.
    pub rng: Interrupt,
    /// The control ring. By pins KVM does not listen to it: such a guest has no driver for it, and is woken in another way.
    pub control: Interrupt,
    /// Nudges. By pins nobody listens.
    pub nudge: Interrupt,
    /// The serial port.
    pub serial: Interrupt,
    /// Devices that only stock guests have, in the order in which they were asked for.
    pub stock: Vec<Interrupt>,
}

impl Interrupts {
    /// Creates the lines and routes them: as messages, device `i` to vector `DEVICE0 + i`; by pins, to pin `DEVICE_PIN0 + i`.
    /// `stock`: numbers of the devices that only a stock guest has, which has pins.
    /// The control ring goes to `CONTROL`, nudges to `NUDGE`. The interrupt chips must exist.
    pub fn new(vm: &VmFd, wiring: Wiring, stock: &[u64]) -> Result<Self, InterruptError> {
        let messages = [
            ("virtio-net", u32::from(vector::DEVICE0) + device::NET as u32),
            ("virtio-rng", u32::from(vector::DEVICE0) + device::RNG as u32),
            ("control", u32::from(vector::CONTROL)),
            ("nudge", u32::from(vector::NUDGE)),
        ];
        let stock_pins = stock.iter().map(|device| DEVICE_PIN0 + *device as u32);
        let mut table = vec![pin_route(SERIAL_PIN)];
        if wiring == Wiring::Pins {
            table.extend([device::NET, device::RNG].map(|device| pin_route(DEVICE_PIN0 + device as u32)));
            table.extend(stock_pins.clone().map(pin_route));
        }
        table.extend((FIRST_MSI_GSI..).zip(messages).map(|(gsi, (_, data))| message_route(gsi, data)));
        let routing = KvmIrqRouting::from_entries(&table).map_err(|_| InterruptError::Table)?;
        vm.set_gsi_routing(&routing).map_err(|source| InterruptError::Kvm {
            call: "KVM_SET_GSI_ROUTING",
            what: "all",
            source,
        })?;
        let line = |index: u32, what| connect(vm, FIRST_MSI_GSI + index, what);
        let of_device = |index: u32, what| match wiring {
            Wiring::Messages => line(index, what),
            Wiring::Pins => connect(vm, DEVICE_PIN0 + index, what),
        };
        // Vectors that only a guest made for this VMM has a handler for.
        let of_image = |index: u32, what| match wiring {
            Wiring::Messages => line(index, what),
            Wiring::Pins => Interrupt::new().map_err(|source| InterruptError::EventFd { what, source }),
        };
        Ok(Self {
            net: of_device(device::NET as u32, "virtio-net")?,
            rng: of_device(device::RNG as u32, "virtio-rng")?,
            control: of_image(2, "control")?,
            nudge: of_image(3, "nudge")?,
            serial: connect(vm, SERIAL_PIN, "serial")?,
            stock: stock_pins.map(|pin| connect(vm, pin, "a stock guest's device")).collect::<Result<_, _>>()?,
        })
    }
}

fn connect(vm: &VmFd, gsi: u32, what: &'static str) -> Result<Interrupt, InterruptError> {
    let line = Interrupt::new().map_err(|source| InterruptError::EventFd { what, source })?;
    vm.register_irqfd(&line.0, gsi).map_err(|source| InterruptError::Kvm { call: "KVM_IRQFD", what, source })?;
    Ok(line)
}

fn message_route(gsi: u32, data: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi, type_: KVM_IRQ_ROUTING_MSI, ..Default::default() };
    entry.u.msi.address_lo = MSI_ADDRESS;
    entry.u.msi.data = data;
    entry
}

fn pin_route(pin: u32) -> kvm_irq_routing_entry {
    let mut entry = kvm_irq_routing_entry { gsi: pin, type_: KVM_IRQ_ROUTING_IRQCHIP, ..Default::default() };
    entry.u.irqchip.irqchip = KVM_IRQCHIP_IOAPIC;
    entry.u.irqchip.pin = pin;
    entry
}

/// The state of the two PICs and the I/O APIC before any guest ran, to come back to when one is started again.
#[derive(Debug)]
pub struct InterruptChips(Vec<kvm_irqchip>);

impl InterruptChips {
    /// Reads it.
    pub fn of(vm: &VmFd) -> Result<Self, InterruptError> {
        let chips = [KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC];
        let read = |chip_id| {
            let mut chip = kvm_irqchip { chip_id, ..Default::default() };
            vm.get_irqchip(&mut chip).map(|()| chip).map_err(chip_error("KVM_GET_IRQCHIP"))
        };
        Ok(Self(chips.into_iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Writes it back.
    pub fn restore(&self, vm: &VmFd) -> Result<(), InterruptError> {
        self.0.iter().try_for_each(|chip| vm.set_irqchip(chip).map_err(chip_error("KVM_SET_IRQCHIP")))
    }
}

fn chip_error(call: &'static str) -> impl Fn(kvm_ioctls::Error) -> InterruptError {
    move |source| InterruptError::Kvm { call, what: "the interrupt chips", source }
}
