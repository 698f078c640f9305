//! Taps, namespaces, steering.

use escape_fabric::nft::TableOwnership;
use std::io::ErrorKind;
use std::path::Path;

use super::check::Check;
use super::kernel_calls;
use super::kvm::{open_device, who_may};

/// Whether tap interfaces can be made.
pub fn tun() -> Check {
    let name = "tap interfaces";
    let path = Path::new("/dev/net/tun");
    match open_device(path) {
        Ok(_) => Check::fine(name, "/dev/net/tun can be opened"),
        Err(error) if error.kind() == ErrorKind::NotFound => Check::missing(
            name,
            "/dev/net/tun does not exist",
            "modprobe tun; in a container pass the device in (--device /dev/net/tun)",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let (owner, advice) = who_may(path);
            Check::missing(name, format!("/dev/net/tun: permission denied ({owner})"), advice)
        }
        Err(error) => Check::missing(name, format!("/dev/net/tun: {error}"), "modprobe tun"),
    }
}

/// Whether a network namespace can be made: drills live in their own.
pub fn namespace() -> Check {
    let name = "network namespaces";
    match kernel_calls::try_network_namespace() {
        Ok(()) => Check::fine(name, "one was made and is gone again"),
        Err(error) => Check::missing(
            name,
            format!("cannot be made: {error}"),
            "run as root, or in a container with CAP_SYS_ADMIN (--cap-add SYS_ADMIN)",
        ),
    }
}

/// Whether this machine can steer frames: puts a whole fabric in force, in a namespace of its own.
pub fn nf_tables() -> Check {
    let name = "nf_tables";
    match escape_fabric::fabric::probe() {
        Ok(TableOwnership::ExclusiveAndLasting) => Check::fine(name, "steers frames in a namespace of its own"),
        Ok(TableOwnership::Shared) => Check::limited(
            name,
            "steers frames in a namespace of its own; other programs can change its tables here",
            "keep reloads of a firewall (`flush ruleset`) away from an edge, or use a kernel of at least version 6.9 there",
        ),
        Err(error) => Check::missing(
            name,
            format!("cannot steer frames: {error}"),
            "modprobe nf_tables nft_fwd_netdev nft_dup_netdev nft_hash nft_objref veth; the kernel needs CONFIG_NF_TABLES_NETDEV; CAP_NET_ADMIN \
             is needed",
        ),
    }
}
