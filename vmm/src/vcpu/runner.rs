//! The loop of a vCPU thread: into the guest, handle what brought it out, again.

use super::bus::Bus;
use super::error::VcpuError;
use super::fault::inject;
use super::kick_signal::Target;
use super::requests::{Request, Requests};
use crate::exit::GuestExit;
use kvm_bindings::{KVM_SYSTEM_EVENT_RESET, KVM_SYSTEM_EVENT_SHUTDOWN};
use kvm_ioctls::{VcpuExit, VcpuFd};
use std::sync::atomic::Ordering::Relaxed;

/// Runs until the guest exits (`Some`) or it is asked to stop (`None`).
pub fn run(vcpu: &mut VcpuFd, id: u64, bus: &Bus, requests: &Requests) -> Option<GuestExit> {
    let flag = &raw mut vcpu.get_kvm_run().immediate_exit;
    // SAFETY: the byte lies in the mapping of `kvm_run`, which lives as long as `vcpu`; `target` goes first.
    let target = unsafe { Target::new(flag) };
    loop {
        if requests.any() {
            // Entering the guest now only finishes the access of the last exit, which may bring out another one.
            vcpu.set_kvm_immediate_exit(1);
        }
        match vcpu.run() {
            Ok(exit) => {
                if let Some(end) = handle(exit, bus) {
                    return Some(with_details(end, vcpu));
                }
            }
            Err(e) if e.errno() == libc::EINTR => {
                bus.counters.interrupted.fetch_add(1, Relaxed);
                // Cleared before the requests are read: one that comes later is announced by another signal.
                target.clear();
                if obey(vcpu, id, requests) {
                    return None;
                }
            }
            Err(e) if e.errno() == libc::EAGAIN => {}
            Err(e) => return Some(GuestExit::RunFailed { errno: e.errno() }),
        }
    }
}

/// Does what other threads asked for; `true`: stop. No access of the guest waits for its end here.
fn obey(vcpu: &VcpuFd, id: u64, requests: &Requests) -> bool {
    loop {
        match requests.next() {
            Some(Request::Stop) => return true,
            Some(Request::Fault(fault)) => report(inject(vcpu, id, fault)),
            // It was parked inside `next`.
            Some(Request::Paused) => {}
            None => return false,
        }
    }
}

fn report(result: Result<(), VcpuError>) {
    if let Err(error) = result {
        tracing::error!(%error, "a fault could not be injected");
    }
}

fn handle(exit: VcpuExit<'_>, bus: &Bus) -> Option<GuestExit> {
    match exit {
        VcpuExit::IoOut(port, data) => bus.port_write(port, data),
        VcpuExit::IoIn(port, data) => {
            bus.port_read(port, data);
            None
        }
        VcpuExit::MmioRead(gpa, data) => bus.mmio_read(gpa, data),
        VcpuExit::MmioWrite(gpa, data) => bus.mmio_write(gpa, data),
        VcpuExit::Intr | VcpuExit::IrqWindowOpen => None,
        VcpuExit::Shutdown => Some(GuestExit::TripleFault { rip: 0 }),
        VcpuExit::InternalError => Some(GuestExit::InternalError { suberror: 0, rip: 0 }),
        VcpuExit::FailEntry(reason, _) => Some(GuestExit::FailEntry { reason }),
        VcpuExit::SystemEvent(KVM_SYSTEM_EVENT_SHUTDOWN | KVM_SYSTEM_EVENT_RESET, _) => Some(GuestExit::Shutdown),
        _ => Some(GuestExit::Unknown { reason: 0 }),
    }
}

/// Adds what can only be asked once the exit is no longer borrowed.
fn with_details(end: GuestExit, vcpu: &mut VcpuFd) -> GuestExit {
    let rip = vcpu.get_regs().map_or(0, |r| r.rip);
    match end {
        GuestExit::TripleFault { .. } => GuestExit::TripleFault { rip },
        GuestExit::InternalError { .. } => {
            // SAFETY: the exit reason was KVM_EXIT_INTERNAL_ERROR, for which KVM fills in this member of the union.
            let suberror = unsafe { vcpu.get_kvm_run().__bindgen_anon_1.internal.suberror };
            GuestExit::InternalError { suberror, rip }
        }
        GuestExit::Unknown { .. } => GuestExit::Unknown { reason: vcpu.get_kvm_run().exit_reason },
        other => other,
    }
}
