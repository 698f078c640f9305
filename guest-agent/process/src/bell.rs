//! What a process waits on: the agent's socket, and what was taken from it already.

use crate::ProcessError;
use crate::channel::Channel;
use rustix::event::{EventfdFlags, epoll, eventfd};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A descriptor that is readable while the agent's socket is, or while it rings.
#[derive(Debug)]
pub(crate) struct Bell {
    both: OwnedFd,
    event: OwnedFd,
    rings: bool,
}

impl Bell {
    pub(crate) fn of(agent: &Channel) -> Result<Self, ProcessError> {
        let call = ProcessError::call;
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).map_err(call("eventfd"))?;
        let both = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(call("epoll_create"))?;
        for one in [agent.as_fd(), event.as_fd()] {
            epoll::add(&both, one, epoll::EventData::new_u64(0), epoll::EventFlags::IN).map_err(call("epoll_ctl"))?;
        }
        Ok(Self { both, event, rings: false })
    }

    /// Rings from now on, or not.
    pub(crate) fn set(&mut self, rings: bool) -> Result<(), ProcessError> {
        if self.rings == rings {
            return Ok(());
        }
        self.rings = rings;
        let mut count = 1u64.to_ne_bytes();
        if rings {
            rustix::io::write(&self.event, &count).map(drop).map_err(ProcessError::call("ringing"))
        } else {
            rustix::io::read(&self.event, &mut count[..]).map(drop).map_err(ProcessError::call("ringing"))
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.both.as_fd()
    }
}
