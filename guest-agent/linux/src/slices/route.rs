//! The guest's one route, by rtnetlink (rtnetlink(7)): everything is on its Ethernet, where the host answers for the clients.

use crate::error::AgentError;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::fs;

/// Segments that a new connection may send at once. What a plugged slice has to say again must all go out at once, so that whatever its
/// client acknowledges was sent by this kernel: 64 KiB in segments of 536 bytes.
pub(super) const FIRST_WINDOW: u32 = 128;
/// `RTM_NEWROUTE`, `NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE`.
const NEW_ROUTE: u16 = 24;
const FLAGS: u16 = 0x1 | 0x4 | 0x400 | 0x100;
/// `RTA_OIF`, `RTA_METRICS`, `RTAX_INITCWND`.
const OUT: u16 = 4;
const METRICS: u16 = 8;
const FIRST_WINDOW_METRIC: u16 = 11;
/// `AF_INET`, no prefixes, no service, `RT_TABLE_MAIN`, `RTPROT_BOOT`, `RT_SCOPE_LINK`, `RTN_UNICAST`.
const ROUTE: [u8; 12] = [2, 0, 0, 0, 254, 3, 253, 1, 0, 0, 0, 0];

/// Everything goes by this interface, whose neighbours everybody is.
///
/// # Errors
/// The interface is not there, or the kernel refuses.
pub fn set_default(interface: &str) -> Result<(), AgentError> {
    let error = |source| AgentError::Route { source };
    let index = fs::read_to_string(format!("/sys/class/net/{interface}/ifindex")).map_err(error)?;
    let index: u32 = index.trim().parse().map_err(|_| error(std::io::ErrorKind::InvalidData.into()))?;
    // NETLINK_ROUTE is protocol 0.
    let socket = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
        .map_err(|e| error(e.into()))?;
    rustix::net::send(&socket, &request(index), SendFlags::empty()).map_err(|e| error(e.into()))?;
    let mut answer = [0u8; 512];
    let (_, len) = rustix::net::recv(&socket, &mut answer[..], RecvFlags::empty()).map_err(|e| error(e.into()))?;
    // A header of 16 bytes, and the error: 0, or a negative errno.
    let code = answer.get(..len).and_then(|a| a.get(16..)?.first_chunk::<4>()).map(|code| i32::from_ne_bytes(*code));
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(error(std::io::Error::from_raw_os_error(-code))),
        None => Err(error(std::io::ErrorKind::InvalidData.into())),
    }
}

fn request(interface: u32) -> Vec<u8> {
    let attribute = |kind: u16, value: &[u8]| {
        let len = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        [&len.to_ne_bytes()[..], &kind.to_ne_bytes(), value].concat()
    };
    let metric = attribute(FIRST_WINDOW_METRIC, &FIRST_WINDOW.to_ne_bytes());
    let body = [&ROUTE[..], &attribute(OUT, &interface.to_ne_bytes()), &attribute(METRICS, &metric)].concat();
    let len = u32::try_from(16 + body.len()).unwrap_or(u32::MAX);
    let head = [&len.to_ne_bytes()[..], &NEW_ROUTE.to_ne_bytes(), &FLAGS.to_ne_bytes(), &[0; 8]].concat();
    [head, body].concat()
}
