//! The bare machine: KVM's VM with its memory slots, interrupt chips and notification addresses.

use crate::boot::registers;
use crate::error::VmError;
use crate::interrupts::InterruptChips;
use crate::memory::{Arena, ControlPages, Ram};
use escape_abi::layout::{CONTROL_BASE, slot_address};
use kvm_bindings::kvm_userspace_memory_region;
use kvm_ioctls::{Cap, IoEventAddress, Kvm, NoDatamatch, VcpuFd, VmFd};
use std::sync::Arc;
use vmm_sys_util::eventfd::EventFd;

const RAM_SLOT: u32 = 0;
const CONTROL_SLOT: u32 = 1;
/// Lease `i` is memory slot `FIRST_LEASE_SLOT + i`.
const FIRST_LEASE_SLOT: u32 = 2;

/// Pages that KVM keeps for itself (KVM API documentation, 4.36 and 4.37): where nothing else is, below the firmware's place.
const IDENTITY_MAP: u64 = 0xfffb_c000;
const TASK_STATE: usize = 0xfffb_d000;

/// What this VMM cannot do without.
const CAPABILITIES: [(Cap, &str); 5] = [
    (Cap::Irqchip, "KVM_CAP_IRQCHIP"),
    (Cap::Irqfd, "KVM_CAP_IRQFD"),
    (Cap::Ioeventfd, "KVM_CAP_IOEVENTFD"),
    (Cap::IrqRouting, "KVM_CAP_IRQ_ROUTING"),
    (Cap::ImmediateExit, "KVM_CAP_IMMEDIATE_EXIT"),
];

/// Memory and chips, without devices.
#[derive(Debug)]
pub struct Machine {
    kvm: Kvm,
    vm: VmFd,
    chips: InterruptChips,
    ram: Ram,
    control_pages: Arc<ControlPages>,
    arena: Arc<Arena>,
}

impl Machine {
    /// A machine with this much RAM, control pages, an arena of which nothing is mapped, and interrupt chips.
    pub fn new(ram_bytes: u64, n_slots: u32) -> Result<Self, VmError> {
        let kvm = Kvm::new().map_err(|e| VmError::OpenKvm { source: e.into() })?;
        if let Some((_, name)) = CAPABILITIES.into_iter().find(|(cap, _)| !kvm.check_extension(*cap)) {
            return Err(VmError::Capability(name));
        }
        let vm = kvm.create_vm().map_err(kvm_error("KVM_CREATE_VM"))?;
        let (ram, control_pages) = (Ram::new(ram_bytes)?, Arc::new(ControlPages::new(n_slots)?));
        // Memory before chips: the chips' registration leaves a grace period of some 7 ms under way, and the first
        // memory slot after it would wait for its end.
        let control = control_pages.mapping();
        add_slot(&vm, RAM_SLOT, 0, ram.bytes(), ram.host_address())?;
        add_slot(&vm, CONTROL_SLOT, CONTROL_BASE, control.len() as u64, control.host_address())?;
        vm.create_irq_chip().map_err(kvm_error("KVM_CREATE_IRQCHIP"))?;
        Ok(Self { chips: InterruptChips::of(&vm)?, arena: Arc::new(Arena::new(n_slots)?), kvm, vm, ram, control_pages })
    }

    /// Gives KVM the pages that it needs for real mode on processors of Intel without "unrestricted guest". Before any vCPU.
    pub fn reserve_for_real_mode(&self) -> Result<(), VmError> {
        self.vm.set_identity_map_address(IDENTITY_MAP).map_err(kvm_error("KVM_SET_IDENTITY_MAP_ADDR"))?;
        self.vm.set_tss_address(TASK_STATE).map_err(kvm_error("KVM_SET_TSS_ADDR"))
    }

    /// A vCPU with its CPUID table.
    pub fn create_vcpu(&self, id: u64) -> Result<VcpuFd, VmError> {
        let vcpu = self.vm.create_vcpu(id).map_err(kvm_error("KVM_CREATE_VCPU"))?;
        vcpu.set_cpuid2(&registers::cpuid(&self.kvm, id)?).map_err(kvm_error("KVM_SET_CPUID2"))?;
        Ok(vcpu)
    }

    /// Maps the lease that begins with `first_slot`, whether the guest runs or not. Mapping it again does nothing.
    ///
    /// Costs some 30 us; within the first 7 ms of a VM it waits for the rest of them (see [`Machine::new`]).
    pub fn add_lease(&self, first_slot: u32) -> Result<(), VmError> {
        let lease = self.arena.lease_index(first_slot)?;
        if !self.arena.is_leased(lease) {
            let host_address = self.arena.lease_host_address(lease);
            let (slot, gpa) = (FIRST_LEASE_SLOT + lease, slot_address(first_slot));
            add_slot(&self.vm, slot, gpa, Arena::lease_bytes(), host_address)?;
            self.arena.set_leased(lease);
        }
        Ok(())
    }

    /// Lets a 4-byte guest write at `gpa` (of `value`, if given) signal an eventfd, without an exit to this program.
    pub fn listen(&self, gpa: u64, value: Option<u32>, event: &EventFd) -> Result<(), VmError> {
        let address = IoEventAddress::Mmio(gpa);
        match value {
            Some(value) => self.vm.register_ioevent(event, &address, value),
            None => self.vm.register_ioevent(event, &address, NoDatamatch),
        }
        .map_err(kvm_error("KVM_IOEVENTFD"))
    }

    /// RAM, control pages and interrupt chips as new; leases and the arena's content stay.
    pub fn reset(&self) -> Result<(), VmError> {
        self.ram.clear()?;
        self.control_pages.reset()?;
        self.chips.restore(&self.vm)?;
        Ok(())
    }

    /// Keeps guest memory mapped until the process ends, because a vCPU may still use it.
    pub fn leak_memory(&self) {
        std::mem::forget(self.ram.clone());
        std::mem::forget(Arc::clone(&self.arena));
        std::mem::forget(Arc::clone(&self.control_pages));
    }

    /// KVM's VM, for interrupts.
    pub fn fd(&self) -> &VmFd {
        &self.vm
    }

    /// Ordinary RAM.
    pub fn ram(&self) -> &Ram {
        &self.ram
    }

    /// The control pages.
    pub fn control_pages(&self) -> &Arc<ControlPages> {
        &self.control_pages
    }

    /// The arena.
    pub fn arena(&self) -> &Arc<Arena> {
        &self.arena
    }
}

fn add_slot(vm: &VmFd, slot: u32, gpa: u64, bytes: u64, host_address: u64) -> Result<(), VmError> {
    let region = kvm_userspace_memory_region {
        slot,
        flags: 0,
        guest_phys_addr: gpa,
        memory_size: bytes,
        userspace_addr: host_address,
    };
    // SAFETY: the addresses are those of a mapping that the `Machine` keeps until its vCPU has stopped (else it is
    // leaked), and that the program reaches by volatile and atomic access only. A slot number is used for one range.
    unsafe { vm.set_user_memory_region(region) }.map_err(|source| VmError::MemorySlot { slot, gpa, bytes, source })
}

fn kvm_error(call: &'static str) -> impl FnOnce(kvm_ioctls::Error) -> VmError {
    move |source| VmError::Kvm { call, source }
}
