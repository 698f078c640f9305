//! A vCPU's state as KVM created it, to come back to when the guest is started again.

use super::error::VcpuError;
use kvm_bindings::{
    Msrs, kvm_debugregs, kvm_fpu, kvm_lapic_state, kvm_mp_state, kvm_msr_entry, kvm_regs, kvm_sregs, kvm_vcpu_events,
    kvm_xcrs,
};
use kvm_ioctls::VcpuFd;

/// The deadline of the TSC timer: 0 disarms it.
const MSR_IA32_TSC_DEADLINE: u32 = 0x6e0;
const MSR_STAR: u32 = 0xc000_0081;
const MSR_LSTAR: u32 = 0xc000_0082;
const MSR_CSTAR: u32 = 0xc000_0083;
const MSR_SYSCALL_MASK: u32 = 0xc000_0084;
const MSR_KERNEL_GS_BASE: u32 = 0xc000_0102;

/// Everything that a guest can change in a vCPU and that the next guest would see.
pub struct PristineVcpu {
    id: u64,
    regs: kvm_regs,
    sregs: kvm_sregs,
    lapic: kvm_lapic_state,
    fpu: kvm_fpu,
    xcrs: kvm_xcrs,
    debug: kvm_debugregs,
    events: kvm_vcpu_events,
    runnable: kvm_mp_state,
}

impl PristineVcpu {
    /// Reads the state of a vCPU that has not run yet.
    pub fn of(vcpu: &VcpuFd, id: u64) -> Result<Self, VcpuError> {
        let failed = |call| move |source| VcpuError::Kvm { call, vcpu: id, source };
        Ok(Self {
            id,
            regs: vcpu.get_regs().map_err(failed("KVM_GET_REGS"))?,
            sregs: vcpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?,
            lapic: vcpu.get_lapic().map_err(failed("KVM_GET_LAPIC"))?,
            fpu: vcpu.get_fpu().map_err(failed("KVM_GET_FPU"))?,
            xcrs: vcpu.get_xcrs().map_err(failed("KVM_GET_XCRS"))?,
            debug: vcpu.get_debug_regs().map_err(failed("KVM_GET_DEBUGREGS"))?,
            events: vcpu.get_vcpu_events().map_err(failed("KVM_GET_VCPU_EVENTS"))?,
            runnable: vcpu.get_mp_state().map_err(failed("KVM_GET_MP_STATE"))?,
        })
    }

    /// Puts the vCPU back into this state. Order as KVM wants it: system registers (with the APIC base) before the
    /// APIC, events last.
    pub fn restore(&self, vcpu: &VcpuFd) -> Result<(), VcpuError> {
        let failed = |call| move |source| VcpuError::Kvm { call, vcpu: self.id, source };
        vcpu.set_mp_state(self.runnable).map_err(failed("KVM_SET_MP_STATE"))?;
        vcpu.set_sregs(&self.sregs).map_err(failed("KVM_SET_SREGS"))?;
        vcpu.set_regs(&self.regs).map_err(failed("KVM_SET_REGS"))?;
        // A processor without XSAVE has none, and KVM refuses to set none.
        if self.xcrs.nr_xcrs > 0 {
            vcpu.set_xcrs(&self.xcrs).map_err(failed("KVM_SET_XCRS"))?;
        }
        vcpu.set_fpu(&self.fpu).map_err(failed("KVM_SET_FPU"))?;
        self.clear_msrs(vcpu)?;
        vcpu.set_lapic(&self.lapic).map_err(failed("KVM_SET_LAPIC"))?;
        vcpu.set_debug_regs(&self.debug).map_err(failed("KVM_SET_DEBUGREGS"))?;
        vcpu.set_vcpu_events(&self.events).map_err(failed("KVM_SET_VCPU_EVENTS"))
    }

    fn clear_msrs(&self, vcpu: &VcpuFd) -> Result<(), VcpuError> {
        let zero = [MSR_IA32_TSC_DEADLINE, MSR_STAR, MSR_LSTAR, MSR_CSTAR, MSR_SYSCALL_MASK, MSR_KERNEL_GS_BASE]
            .map(|index| kvm_msr_entry { index, ..Default::default() });
        for entry in zero {
            // KVM sets none of the list if it does not know the first; so one at a time, and unknown ones do not matter.
            if let Ok(list) = Msrs::from_entries(&[entry])
                && let Err(error) = vcpu.set_msrs(&list)
            {
                tracing::debug!("vCPU {}: clearing MSR {:#x}: {error}", self.id, entry.index);
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for PristineVcpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PristineVcpu").field("id", &self.id).finish_non_exhaustive()
    }
}
