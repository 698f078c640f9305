//! How a guest without an interrupt for the control ring is told of messages.

/// The host's virtio-vsock port that the agent of a Linux guest calls; each byte on that stream says that the host's ring has
/// something, or that a ping waits.
pub const WAKE_PORT: u32 = 1025;
