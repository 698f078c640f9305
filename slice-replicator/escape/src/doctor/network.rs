//! Taps, namespaces, steering.

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

/// Whether nf_tables can be spoken to. Steering by `fwd` and `dup` is tried out by the fabric when it is installed.
pub fn nf_tables() -> Check {
    let name = "nf_tables";
    match kernel_calls::try_nf_tables() {
        Ok(()) => Check::fine(name, "answers in a namespace of its own"),
        Err(error) => Check::missing(
            name,
            format!("does not answer: {error}"),
            "modprobe nf_tables nft_fwd_netdev nft_dup_netdev; the kernel needs CONFIG_NF_TABLES_NETDEV; CAP_NET_ADMIN is needed",
        ),
    }
}
