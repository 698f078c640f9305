//! Faults for failover drills, done to a vCPU between two runs.

use super::error::VcpuError;
use kvm_bindings::{KVM_MP_STATE_RUNNABLE, kvm_mp_state};
use kvm_ioctls::VcpuFd;

/// What a drill does to a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A real crash that no handler of the guest survives: execution at an unmapped address, no interrupt table.
    Crash,
    /// The guest runs on but does nothing any more: an endless loop of one instruction.
    Spin,
}

/// A fault, and where the guest's code has a loop of one instruction ([`crate::boot::elf::find_loop`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Injection {
    /// What to do.
    pub fault: Fault,
    /// Where the loop is.
    pub loop_at: u64,
}

/// Where the loop is if the image has none: below the page tables, where neither image nor boot parameters are. A guest
/// that makes its RAM no-execute crashes there instead of hanging.
pub const SPIN_ADDRESS: u64 = 0xf000;
/// `jmp $`
pub const SPIN_CODE: [u8; 2] = [0xeb, 0xfe];
/// Mapped nowhere (`boot::page_tables`).
const UNMAPPED_ADDRESS: u64 = 0x7000_0000_0000;

/// Injects the fault; the vCPU must not be in the guest.
pub fn inject(vcpu: &VcpuFd, id: u64, injection: Injection) -> Result<(), VcpuError> {
    let failed = |call| move |source| VcpuError::Kvm { call, vcpu: id, source };
    let mut regs = vcpu.get_regs().map_err(failed("KVM_GET_REGS"))?;
    let Injection { fault, loop_at } = injection;
    regs.rip = match fault {
        Fault::Crash => UNMAPPED_ADDRESS,
        Fault::Spin => loop_at,
    };
    if fault == Fault::Crash {
        let mut sregs = vcpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
        sregs.idt.limit = 0;
        vcpu.set_sregs(&sregs).map_err(failed("KVM_SET_SREGS"))?;
    }
    vcpu.set_regs(&regs).map_err(failed("KVM_SET_REGS"))?;
    // It may be halted.
    vcpu.set_mp_state(kvm_mp_state { mp_state: KVM_MP_STATE_RUNNABLE }).map_err(failed("KVM_SET_MP_STATE"))
}
