//! A vCPU and where it is.

use super::bus::Bus;
use super::error::VcpuError;
use super::pristine::PristineVcpu;
use super::thread::VcpuThread;
use crate::exit::ExitReport;
use kvm_ioctls::VcpuFd;
use std::sync::Arc;

/// A vCPU with its first state: at rest here, or running on its thread.
#[derive(Debug)]
pub struct VcpuSeat {
    id: u64,
    place: Place,
    pristine: PristineVcpu,
}

#[derive(Debug)]
enum Place {
    AtRest(VcpuFd),
    Running(VcpuThread),
    /// With a thread that could not be stopped, or was not started.
    Lost,
}

impl VcpuSeat {
    /// A vCPU that has not run yet.
    pub fn new(id: u64, vcpu: VcpuFd) -> Result<Self, VcpuError> {
        Ok(Self { id, pristine: PristineVcpu::of(&vcpu, id)?, place: Place::AtRest(vcpu) })
    }

    /// The vCPU, while it does not run.
    pub const fn at_rest(&self) -> Option<&VcpuFd> {
        match &self.place {
            Place::AtRest(vcpu) => Some(vcpu),
            _ => None,
        }
    }

    /// Its thread, while it runs or has just ended.
    pub const fn thread(&self) -> Option<&VcpuThread> {
        match &self.place {
            Place::Running(thread) => Some(thread),
            _ => None,
        }
    }

    /// Nothing helps any more but a new VM.
    pub const fn is_lost(&self) -> bool {
        matches!(self.place, Place::Lost)
    }

    /// Puts a vCPU at rest back into its first state.
    pub fn restore(&self) -> Result<(), VcpuError> {
        self.at_rest().map_or(Ok(()), |vcpu| self.pristine.restore(vcpu))
    }

    /// Starts the vCPU, if it is at rest.
    pub fn run(&mut self, bus: &Arc<Bus>, report: &Arc<ExitReport>) -> Result<(), VcpuError> {
        match std::mem::replace(&mut self.place, Place::Lost) {
            Place::AtRest(vcpu) => {
                let thread = VcpuThread::start(self.id, vcpu, Arc::clone(bus), Arc::clone(report))?;
                self.place = Place::Running(thread);
            }
            other => self.place = other,
        }
        Ok(())
    }

    /// Stops the vCPU, if it runs.
    pub fn halt(&mut self) -> Result<(), VcpuError> {
        match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Running(thread) => self.place = Place::AtRest(thread.stop()?),
            other => self.place = other,
        }
        Ok(())
    }
}
