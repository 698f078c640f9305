//! A guest that never says that it is up: nothing else would miss it.

use super::cells_run_here;
use super::hosts_cell::HostsCell;
use super::hosts_network::HostsNetwork;
use super::tidy::Directory;
use std::thread;
use std::time::{Duration, Instant};

/// Time that the guest has to boot.
const BOOT_MS: u32 = 300;
const LIMIT: Duration = Duration::from_secs(20);

/// Its node says where it stands, and starts it again: twice is often enough.
pub fn is_told_and_started_again() {
    if !cells_run_here("a guest that does not boot") {
        return;
    }
    let directory = Directory::new("boot");
    let image = directory.file("standing-still");
    let (image_bytes, entry) = standing_still();
    std::fs::write(&image, image_bytes).unwrap();
    let network = HostsNetwork::new(1);
    let cell = HostsCell::start_first_node(&directory, &network, &image, BOOT_MS);
    let begun = Instant::now();
    let wanted = format!("not up 0.3 s after its start; its processor stands at {entry:#x}");
    loop {
        let events = std::fs::read_to_string(cell.events()).unwrap_or_default();
        let told = events.lines().filter(|line| line.contains("guest-down") && line.contains(&wanted)).count();
        if told >= 2 {
            return;
        }
        assert!(begun.elapsed() < LIMIT, "{wanted:?} was told {told} times: {events}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// The guest's image, with a jump to itself where it begins; and where that is.
fn standing_still() -> (Vec<u8>, u64) {
    let mut image = escape_images::freestanding().to_vec();
    let word = |at: usize| u64::from_le_bytes(image[at..at + 8].try_into().unwrap());
    let (entry, table) = (word(24), word(32) as usize);
    let count = usize::from(u16::from_le_bytes(image[56..58].try_into().unwrap()));
    // Of each segment: its place in the file, its address, its length.
    let segments = (0..count).map(|n| table + 56 * n).map(|at| (word(at + 8), word(at + 16), word(at + 32)));
    let within = |(_, address, bytes): &(u64, u64, u64)| (*address..address + bytes).contains(&entry);
    let (offset, address, _) = segments.clone().find(within).unwrap();
    let at = usize::try_from(offset + entry - address).unwrap();
    image[at..at + 2].copy_from_slice(&[0xeb, 0xfe]);
    (image, entry)
}
