//! The thread of one vCPU.

use super::bus::Bus;
use super::error::VcpuError;
use super::fault::Injection;
use super::requests::Requests;
use super::{kick_signal, processor_time, runner};
use crate::exit::ExitReport;
use kvm_ioctls::VcpuFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};
use vmm_sys_util::signal::Killable;

/// How long a thread may take to stop. It is out of the guest within microseconds; only a blocking console sink can
/// hold it longer.
pub const STOP_WAIT_MAX: Duration = Duration::from_secs(2);
const RETRY: Duration = Duration::from_millis(5);

/// A vCPU that runs (or has just ended) on its own thread. The vCPU comes back with [`VcpuThread::stop`].
#[derive(Debug)]
pub struct VcpuThread {
    id: u64,
    handle: JoinHandle<()>,
    requests: Arc<Requests>,
    returned: Receiver<VcpuFd>,
}

impl VcpuThread {
    /// Starts the vCPU. When the guest exits, the reason goes to `report` and the thread ends.
    pub fn start(id: u64, mut vcpu: VcpuFd, bus: Arc<Bus>, report: Arc<ExitReport>) -> Result<Self, VcpuError> {
        kick_signal::install()?;
        let requests = Arc::new(Requests::default());
        let (give_back, returned) = sync_channel(1);
        let own = Arc::clone(&requests);
        let handle = Builder::new()
            .name(format!("vcpu{id}"))
            .spawn(move || {
                kick_signal::unblock();
                let end = runner::run(&mut vcpu, id, &bus, &own);
                bus.serial.flush();
                // There is room for the one vCPU; if nobody wants it any more it is closed.
                let _ = give_back.try_send(vcpu);
                if let Some(exit) = end {
                    report.report(exit);
                }
            })
            .map_err(|source| VcpuError::Spawn { vcpu: id, source })?;
        Ok(Self { id, handle, requests, returned })
    }

    /// Stops the thread, wherever it is, and gives the vCPU back. Waits [`STOP_WAIT_MAX`] at most.
    pub fn stop(self) -> Result<VcpuFd, VcpuError> {
        self.requests.stop();
        let deadline = Instant::now() + STOP_WAIT_MAX;
        loop {
            self.kick();
            match self.returned.recv_timeout(RETRY) {
                Ok(vcpu) => {
                    // The thread has nothing left to do but end.
                    let _ = self.handle.join();
                    return Ok(vcpu);
                }
                Err(RecvTimeoutError::Timeout) if Instant::now() < deadline => {}
                Err(_) => return Err(VcpuError::Stuck { vcpu: self.id, waited: STOP_WAIT_MAX }),
            }
        }
    }

    /// Breaks the guest, for a drill.
    pub fn inject(&self, fault: Injection) {
        self.requests.fault(fault);
        self.kick();
    }

    /// Takes the vCPU out of the guest; `true` once it is out (or has ended), within [`STOP_WAIT_MAX`].
    pub fn pause(&self) -> bool {
        self.requests.pause();
        let deadline = Instant::now() + STOP_WAIT_MAX;
        while !self.requests.parked() && !self.handle.is_finished() {
            self.kick();
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_micros(50));
        }
        true
    }

    /// Processor time of the thread, microseconds; `None` once it has ended.
    pub fn processor_us(&self) -> Option<u64> {
        (!self.handle.is_finished()).then(|| processor_time::of_thread_us(&self.handle))?
    }

    /// Lets a paused vCPU go on.
    pub fn resume(&self) {
        self.requests.resume();
    }

    fn kick(&self) {
        // The handle is not joined yet, so the thread's id is valid; a thread that has ended ignores it.
        if let Err(error) = self.handle.kill(kick_signal::number())
            && error.errno() != libc::ESRCH
        {
            tracing::warn!(vcpu = self.id, %error, "cannot signal the vCPU thread");
        }
    }
}
