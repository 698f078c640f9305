//! What this process may do.

use std::fs;

use super::check::Check;
use super::kernel_calls;

/// Capability numbers, include/uapi/linux/capability.h.
const WANTED: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

/// Whether the process has the capabilities for interfaces and namespaces.
pub fn capabilities() -> Check {
    capabilities_of(&fs::read_to_string("/proc/self/status").unwrap_or_default())
}

fn capabilities_of(status: &str) -> Check {
    let name = "capabilities";
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let Some(effective) = effective.and_then(|digits| u64::from_str_radix(digits.trim(), 16).ok()) else {
        return Check::missing(name, "/proc/self/status names none", "mount /proc");
    };
    let lacking: Vec<&str> =
        WANTED.iter().filter(|(number, _)| effective >> number & 1 == 0).map(|&(_, name)| name).collect();
    if lacking.is_empty() {
        return Check::fine(name, "CAP_NET_ADMIN, CAP_SYS_ADMIN");
    }
    let advice = "run as root (sudo escape …), or in a container with --cap-add NET_ADMIN --cap-add SYS_ADMIN";
    Check::missing(name, format!("without {}", lacking.join(", ")), advice)
}

/// Whether the heartbeat thread may have real-time priority.
pub fn real_time() -> Check {
    let name = "real-time priority";
    match kernel_calls::try_real_time() {
        Ok(()) => Check::fine(name, "SCHED_FIFO is allowed"),
        Err(error) => Check::limited(
            name,
            format!("SCHED_FIFO is refused: {error}; heartbeats may be late under load and a node be taken for dead"),
            "allow CAP_SYS_NICE or LimitRTPRIO=10, or raise suspect_after_ms",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn lacking_capabilities_are_named() {
        assert_eq!(capabilities_of("CapEff:\t000001ffffffffff\n").status, Status::Fine);
        let check = capabilities_of("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\n");
        assert_eq!((check.status, check.found.as_str()), (Status::Missing, "without CAP_SYS_ADMIN"));
        assert_eq!(capabilities_of("").status, Status::Missing);
    }
}
