//! What the kernel counts of a process.

use super::error::BenchError;
use std::time::Duration;

/// The unit in which the kernel tells processor time (USER_HZ is 100 on x86-64 for good).
const TICK: Duration = Duration::from_millis(10);

/// Memory of a process that is present, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct PresentMemory {
    /// All of it.
    pub(super) all: u64,
    /// Of it the guest's own: RAM, arena and control pages.
    pub(super) guest: u64,
}

impl PresentMemory {
    /// Of a process.
    pub(super) fn of(process: u32) -> Result<Self, BenchError> {
        let path = format!("/proc/{process}/smaps");
        let text = std::fs::read_to_string(&path).map_err(BenchError::io(path))?;
        Ok(Self::read(&text))
    }

    fn read(smaps: &str) -> Self {
        let (mut all, mut guest, mut is_guest) = (0, 0, false);
        for line in smaps.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("Rss:") => {
                    let kib: u64 = words.next().and_then(|word| word.parse().ok()).unwrap_or(0);
                    all += kib * 1024;
                    guest += if is_guest { kib * 1024 } else { 0 };
                }
                // A mapping: addresses, rights, offset, device, inode, name.
                Some(range) if range.contains('-') => {
                    is_guest = words.nth(4).is_some_and(|name| name.starts_with("/memfd:"));
                }
                _ => {}
            }
        }
        Self { all, guest }
    }
}

/// Processor time of a process so far, user and system.
pub(super) fn processor_time(process: u32) -> Result<Duration, BenchError> {
    let path = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&path).map_err(BenchError::io(path))?;
    // The name, in parentheses, may hold anything; user and system time are the 12th and 13th field behind it.
    let fields = text.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(TICK * u32::try_from(ticks).unwrap_or(u32::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_guests_memory_is_told_apart() {
        let smaps = "7f00-7f10 rw-s 00000000 00:01 12 /memfd:arena (deleted)\nSize: 99 kB\nRss: 8 kB\nPss: 1 kB\n\
                     7f20-7f30 rw-p 00000000 00:00 0\nRss: 4 kB\nVmFlags: rd\n";
        assert_eq!(PresentMemory::read(smaps), PresentMemory { all: 12 * 1024, guest: 8 * 1024 });
    }

    #[test]
    fn of_this_process() {
        let own = std::process::id();
        assert!(PresentMemory::of(own).unwrap().all > 100_000);
        processor_time(own).unwrap();
        assert!(processor_time(0).is_err());
    }
}
