//! The boot vCPU's first state: 64-bit mode, identity map, RSI = `boot_params` (boot protocol, "64-bit boot protocol").

use super::error::LinuxError;
use super::low_memory::{GDT, GDT_AT, PAGE_TABLES_AT};
use super::zero_page::ZERO_PAGE;
use crate::boot::registers::segment;
use kvm_bindings::{Msrs, kvm_fpu, kvm_msr_entry, kvm_regs};
use kvm_ioctls::VcpuFd;

/// PG NE ET PE.
const CR0: u64 = 0x8000_0031;
/// PAE.
const CR4: u64 = 0x20;
/// LMA LME.
const EFER: u64 = 0x500;
/// Reserved bit 1 alone: interrupts off.
const RFLAGS: u64 = 2;
/// The kernel sets up its own at once.
const FIRST_STACK: u64 = 0x8ff0;
/// Memory types: enabled, write-back where nothing else is said. Without it a kernel maps memory that it does not know as uncached.
const MTRR_DEF_TYPE: (u32, u64) = (0x2ff, 0x806);
/// Fast string instructions.
const MISC_ENABLE: (u32, u64) = (0x1a0, 1);

/// Sets all registers for entry at `entry`.
pub fn enter(vcpu: &VcpuFd, entry: u64) -> Result<(), LinuxError> {
    let failed = |call| move |source| LinuxError::Vcpu { call, source };
    let mut sregs = vcpu.get_sregs().map_err(failed("KVM_GET_SREGS"))?;
    (sregs.cr0, sregs.cr3, sregs.cr4, sregs.efer) = (CR0, PAGE_TABLES_AT, CR4, EFER);
    sregs.cs = segment(0x10, true);
    sregs.ss = segment(0x18, false);
    (sregs.ds, sregs.es, sregs.fs, sregs.gs) = (sregs.ss, sregs.ss, sregs.ss, sregs.ss);
    (sregs.gdt.base, sregs.gdt.limit) = (GDT_AT, size_of_val(&GDT) as u16 - 1);
    (sregs.idt.base, sregs.idt.limit) = (0, 0);
    vcpu.set_sregs(&sregs).map_err(failed("KVM_SET_SREGS"))?;
    let regs = kvm_regs { rip: entry, rsi: ZERO_PAGE, rsp: FIRST_STACK, rflags: RFLAGS, ..Default::default() };
    vcpu.set_regs(&regs).map_err(failed("KVM_SET_REGS"))?;
    let fpu = kvm_fpu { fcw: 0x37f, mxcsr: 0x1f80, ..Default::default() };
    vcpu.set_fpu(&fpu).map_err(failed("KVM_SET_FPU"))?;
    set_msrs(vcpu)
}

fn set_msrs(vcpu: &VcpuFd) -> Result<(), LinuxError> {
    let entries = [MTRR_DEF_TYPE, MISC_ENABLE].map(|(index, data)| kvm_msr_entry { index, data, ..Default::default() });
    let wanted = entries.len();
    let list = Msrs::from_entries(&entries).map_err(|_| LinuxError::Msrs { set: 0, wanted })?;
    let set = vcpu.set_msrs(&list).map_err(|source| LinuxError::Vcpu { call: "KVM_SET_MSRS", source })?;
    if set == wanted { Ok(()) } else { Err(LinuxError::Msrs { set, wanted }) }
}
