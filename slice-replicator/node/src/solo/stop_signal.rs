//! SIGTERM and SIGINT as something a poll can wait for.

use super::error::SoloError;
use mio::net::UnixStream;
use mio::{Interest, Registry, Token};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::low_level::pipe;

/// Becomes readable when the process is asked to stop.
#[derive(Debug)]
pub(super) struct StopSignal {
    _readable: UnixStream,
}

impl StopSignal {
    /// Takes both signals for this process.
    pub(super) fn register(registry: &Registry, token: Token) -> Result<Self, SoloError> {
        let failed = || SoloError::os("signals");
        let (readable, writable) = std::os::unix::net::UnixStream::pair().map_err(failed())?;
        readable.set_nonblocking(true).map_err(failed())?;
        pipe::register(SIGTERM, writable.try_clone().map_err(failed())?).map_err(failed())?;
        pipe::register(SIGINT, writable).map_err(failed())?;
        let mut readable = UnixStream::from_std(readable);
        registry.register(&mut readable, token, Interest::READABLE).map_err(failed())?;
        Ok(Self { _readable: readable })
    }
}
