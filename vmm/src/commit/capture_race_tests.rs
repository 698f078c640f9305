//! A thread that plays the guest changes a slot under the reference protocol while another captures it: no image is torn.

use super::capture::{Capture, CaptureLimits, Capturer};
use super::image::ImageStore;
use super::metrics::CaptureMetrics;
use super::slice_id::SliceId;
use super::slot_image::Role;
use super::test_frames::flow;
use super::test_memory::{TestMemory, meta};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

const SLICE: SliceId = SliceId { slot: 0, incarnation: 7 };
const CAPTURES: u64 = 400;
const TIME_MAX: Duration = Duration::from_secs(20);

/// The live ranges of a generation: they move, so that metadata of one and bytes of another would show.
fn live(stamp: u64) -> [(u32, u32); 3] {
    let shift = (stamp % 5) as u32 * 512;
    [(0, 1024), (8192 + shift, 2048), (65_536 + shift, 4096)]
}

/// Writes `stamp` into every word of the slot's live ranges, generation after generation.
fn play_guest(memory: &TestMemory, stop: &AtomicBool, pause: u32) {
    let mut stamp = 0u64;
    while !stop.load(Relaxed) {
        if !memory.get_ref(0) {
            std::thread::yield_now();
            continue;
        }
        stamp += 1;
        for (offset, len) in live(stamp) {
            (offset..offset + len).step_by(8).for_each(|at| memory.store(0, at as usize, stamp));
        }
        let mut published = meta(7, &live(stamp));
        published.requests = stamp;
        memory.put_ref(0, &published);
        (0..pause).for_each(|_| std::hint::spin_loop());
    }
}

fn race(pause: u32) {
    let memory = TestMemory::new(1);
    let stop = AtomicBool::new(false);
    let (Ok(mut images), mut capturer) = (ImageStore::new(1), Capturer::new(CaptureLimits::default())) else {
        panic!("no memory")
    };
    assert!(images.create(SLICE, flow(1), Role::Shadow).is_ok());
    let started = Instant::now();
    let clock = || started.elapsed().as_micros() as u64;
    let mut torn = None;
    std::thread::scope(|scope| {
        scope.spawn(|| play_guest(&memory, &stop, pause));
        // On a busy machine the two threads may take turns for a while: then there is nothing to be torn yet.
        let is_enough = |m: &CaptureMetrics| m.captured >= CAPTURES && m.retries + m.holds > 0;
        while !is_enough(capturer.metrics()) && started.elapsed() < TIME_MAX && torn.is_none() {
            let stamp = match capturer.capture(SLICE, &memory, &mut images, &clock) {
                Ok(Capture::Captured(captured)) => captured.requests,
                // A guest thread that is not scheduled for half a second looks like a hanging slice; that is not the question here.
                _ => continue,
            };
            let bytes = images.bytes(SLICE).unwrap_or_default();
            torn = live(stamp).into_iter().find_map(|(offset, len)| {
                let range = bytes.get(offset as usize..(offset + len) as usize).unwrap_or_default();
                let word = range.chunks(8).position(|word| word != stamp.to_le_bytes())?;
                Some(format!("stamp {stamp}: range at {offset}, word {word}"))
            });
        }
        stop.store(true, Relaxed);
    });
    let metrics = capturer.metrics();
    assert_eq!(torn, None, "torn image");
    assert!(metrics.captured > 20, "{metrics:?} in {:?}", started.elapsed());
    assert!(metrics.retries + metrics.holds > 0, "no race took place: {metrics:?}");
}

#[test]
fn a_restless_guest_never_shows_a_torn_image() {
    race(0);
}

#[test]
fn a_guest_with_pauses_never_shows_a_torn_image() {
    race(300);
}
