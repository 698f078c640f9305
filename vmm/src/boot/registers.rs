//! The vCPU's first state: 64-bit mode with paging, ring 0, interrupts off.
//!
//! These values run unchanged on VMX, SVM and on a KVM that interprets ring 0. CR4 has neither PCIDE nor SMAP nor SMEP:
//! the guest's ring-0 stub lies in user pages.

use super::error::BootError;
use escape_abi::layout::{BOOT_PARAMS, PAGE_TABLES};
use kvm_bindings::{CpuId, KVM_MAX_CPUID_ENTRIES, kvm_regs, kvm_segment};
use kvm_ioctls::{Kvm, VcpuFd};

/// PG AM WP NE ET MP PE.
const CR0: u64 = 0x8005_0033;
/// OSXMMEXCPT OSFXSR PAE.
const CR4: u64 = 0x620;
/// NXE LMA LME SCE.
const EFER: u64 = 0xd01;
/// Reserved bit 1 alone: interrupts off.
const RFLAGS: u64 = 2;
/// A small stack below the image for guests that have not set up their own.
const FIRST_STACK: u64 = 0xf_fff0;

/// Sets segment, control and general registers for entry at `entry`; RDI is [`BOOT_PARAMS`].
pub fn enter_long_mode(vcpu: &VcpuFd, id: u64, entry: u64) -> Result<(), BootError> {
    let failed = |call| move |source| BootError::Vcpu { call, vcpu: id, source };
    let mut sregs = vcpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, PAGE_TABLES, CR4, EFER);
    sregs.cs = segment(0x10, true);
    sregs.ss = segment(0x18, false);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (sregs.ss, sregs.ss, sregs.ss, sregs.ss);
    // The guest loads its own; until then a fault ends in a shutdown exit.
    (sregs.gdt.limit, sregs.idt.limit) = (0, 0);
    vcpu.set_sregs(&sregs).map_err(failed("KVM_SET_SREGS"))?;
    let regs = kvm_regs { rip: entry, rsp: FIRST_STACK, rdi: BOOT_PARAMS, rflags: RFLAGS, ..Default::default() };
    vcpu.set_regs(&regs).map_err(failed("KVM_SET_REGS"))
}

/// The CPUID table for a vCPU: what KVM supports, its APIC id, the TSC deadline timer (which KVM leaves to us), and that there is a
/// hypervisor, without which no kernel looks for KVM's clock.
pub fn cpuid(kvm: &Kvm, id: u64) -> Result<CpuId, BootError> {
    const TSC_DEADLINE: u32 = 1 << 24;
    const HYPERVISOR: u32 = 1 << 31;
    let mut table = kvm.get_supported_cpuid(KVM_MAX_CPUID_ENTRIES).map_err(|source| BootError::Vcpu {
        call: "KVM_GET_SUPPORTED_CPUID",
        vcpu: id,
        source,
    })?;
    let apic_id = u32::try_from(id).unwrap_or(0) & 0xff;
    for entry in table.as_mut_slice() {
        match entry.function {
            1 => {
                entry.ebx = (entry.ebx & 0x00ff_ffff) | apic_id << 24;
                entry.ecx |= TSC_DEADLINE | HYPERVISOR;
            }
            0xb | 0x1f => entry.edx = apic_id,
            _ => {}
        }
    }
    Ok(table)
}

/// A flat segment: 64-bit code, or data.
pub(super) fn segment(selector: u16, code: bool) -> kvm_segment {
    kvm_segment {
        limit: 0xffff_ffff,
        selector,
        type_: if code { 0xb } else { 3 },
        present: 1,
        s: 1,
        l: u8::from(code),
        db: u8::from(!code),
        g: 1,
        ..Default::default()
    }
}
