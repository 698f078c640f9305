//! Released frames, read.

use escape_vmm::commit::{Frame, Source, parse};

/// Client port and payload of a frame (virtio-net header first), if it is a TCP segment of the guest.
pub fn tcp_payload(frame: &[u8]) -> Option<(u16, &[u8])> {
    let Frame::Tcp(segment) = parse(frame, Source::Guest) else { return None };
    let from = frame.len().checked_sub(usize::from(segment.payload_len))?;
    Some((segment.flow.port, frame.get(from..)?))
}
