//! Things that can only be learned by trying them, each on a thread of its own that ends at once: nothing it did to
//! itself outlives it.

#![allow(unsafe_code, reason = "two system calls without a safe wrapper, each argued below")]

use std::io;
use std::thread;

/// nf_tables message "get all tables": `NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETTABLE`, linux/netfilter/nf_tables.h.
const GET_TABLES: u16 = 10 << 8 | 1;

/// Makes a network namespace and drops it.
pub fn try_network_namespace() -> io::Result<()> {
    on_own_thread(unshare_network)
}

/// Lets a thread have real-time priority for a moment.
pub fn try_real_time() -> io::Result<()> {
    on_own_thread(|| {
        let parameters = libc::sched_param { sched_priority: 1 };
        // SAFETY: 0 is the calling thread, which ends right after; `parameters` is a valid sched_param for the call.
        let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    })
}

/// Asks nf_tables for its tables, in a namespace of its own where there are none.
pub fn try_nf_tables() -> io::Result<()> {
    on_own_thread(|| {
        unshare_network()?;
        let domain = socket2::Domain::from(libc::AF_NETLINK);
        let protocol = socket2::Protocol::from(libc::NETLINK_NETFILTER);
        let socket = socket2::Socket::new(domain, socket2::Type::from(libc::SOCK_RAW), Some(protocol))?;
        socket.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
        socket.send(&get_tables_request())?;
        let mut answer = [0u8; 64];
        let length = io::Read::read(&mut &socket, &mut answer)?;
        read_answer(answer.get(..length).unwrap_or_default())
    })
}

/// struct nlmsghdr (netlink(7)) and struct nfgenmsg (linux/netfilter/nfnetlink.h), 20 bytes, family NFPROTO_NETDEV.
fn get_tables_request() -> [u8; 20] {
    let mut message = [0u8; 20];
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    message[0..4].copy_from_slice(&20u32.to_ne_bytes());
    message[4..6].copy_from_slice(&GET_TABLES.to_ne_bytes());
    message[6..8].copy_from_slice(&flags.to_ne_bytes());
    message[8..12].copy_from_slice(&1u32.to_ne_bytes());
    message[16] = 5;
    message
}

/// The end of an empty list is success; an error message carries its negated errno.
fn read_answer(answer: &[u8]) -> io::Result<()> {
    let word = |at: usize| answer.get(at..at + 4).and_then(|bytes| Some(i32::from_ne_bytes(bytes.try_into().ok()?)));
    let kind = answer.get(4..6).and_then(|bytes| Some(u16::from_ne_bytes(bytes.try_into().ok()?)));
    match (kind.map(i32::from), word(16)) {
        (Some(libc::NLMSG_DONE), _) => Ok(()),
        (Some(libc::NLMSG_ERROR), Some(code)) if code < 0 => Err(io::Error::from_raw_os_error(-code)),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an unexpected answer")),
    }
}

fn unshare_network() -> io::Result<()> {
    // SAFETY: the call touches no memory; it gives the calling thread alone another network namespace.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn on_own_thread(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    thread::Builder::new().spawn(work)?.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_the_kernel_are_told_apart() {
        let message = |kind: i32, code: i32| {
            let mut bytes = get_tables_request();
            bytes[4..6].copy_from_slice(&(kind as u16).to_ne_bytes());
            bytes[16..20].copy_from_slice(&code.to_ne_bytes());
            bytes
        };
        assert!(read_answer(&message(libc::NLMSG_DONE, 0)).is_ok());
        let refused = read_answer(&message(libc::NLMSG_ERROR, -libc::EPERM)).map_err(|error| error.raw_os_error());
        assert_eq!(refused, Err(Some(libc::EPERM)));
        assert!(read_answer(&[]).is_err());
    }

    #[test]
    fn a_probe_leaves_this_thread_where_it_was() {
        let namespace = || std::fs::read_link("/proc/thread-self/ns/net").ok();
        let before = namespace();
        // Refused without privileges; then too nothing may change.
        let _ = (try_network_namespace(), try_real_time(), try_nf_tables());
        assert_eq!(namespace(), before);
    }
}
