//! How much machine there is.

use std::fs;
use std::thread;

use rustix::process::Resource;

use super::check::Check;

/// Cores that a node's I/O thread, its guest and its neighbours want at least.
const CORES: usize = 2;
/// Memory for a drill of three nodes with 1,000 sessions, KiB.
const MEMORY_KIB: u64 = 2 << 20;
/// Descriptors of a drill of 1,000 sessions.
const OPEN_FILES: u64 = 4_096;

/// Whether there are cores enough.
pub fn cores() -> Check {
    let name = "processor cores";
    let count = thread::available_parallelism().map_or(1, usize::from);
    if count >= CORES {
        return Check::fine(name, count.to_string());
    }
    Check::limited(
        name,
        count.to_string(),
        format!("with fewer than {CORES} guests and I/O threads wait for each other"),
    )
}

/// Whether there is memory enough.
pub fn memory() -> Check {
    memory_of(&fs::read_to_string("/proc/meminfo").unwrap_or_default())
}

fn memory_of(meminfo: &str) -> Check {
    let name = "memory";
    let field = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let Some(kib) = field.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok()) else {
        return Check::limited(name, "/proc/meminfo does not say", "mount /proc");
    };
    let found = format!("{} MiB available", kib >> 10);
    if kib >= MEMORY_KIB {
        return Check::fine(name, found);
    }
    Check::limited(name, found, format!("a drill of 1,000 sessions wants {} MiB", MEMORY_KIB >> 10))
}

/// Whether enough files can be open.
pub fn open_files() -> Check {
    let name = "open files";
    let Some(limit) = rustix::process::getrlimit(Resource::Nofile).maximum else {
        return Check::fine(name, "no limit");
    };
    let found = format!("at most {limit}");
    if limit >= OPEN_FILES {
        return Check::fine(name, found);
    }
    let advice = format!("raise the hard limit to {OPEN_FILES} or one per session and 300 (ulimit -Hn, LimitNOFILE=)");
    Check::limited(name, found, advice)
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn memory_is_read_in_kib() {
        assert_eq!(memory_of("MemTotal: 9 kB\nMemAvailable:    4194304 kB\n").found, "4096 MiB available");
        assert_eq!(memory_of("MemAvailable: 1000 kB\n").status, Status::Limited);
        assert_eq!(memory_of("").status, Status::Limited);
    }
}
