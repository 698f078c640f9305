//! From exec of `escape boot` to the first byte of the guest's first answer.

use super::boot_bed::BootBed;
use super::boot_report::{BootReport, BootRun};
use super::error::BenchError;
use super::first_answer::first_answer;
use crate::cell::{CellProcess, Configuration, Launch};
use escape_fabric::netns::enter_fd;
use escape_node::solo::SoloTimes;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

/// How long a guest may take to end when asked to.
const END_LIMIT: Duration = Duration::from_secs(5);
/// Lines of console before the times.
const LINES_MAX: usize = 1000;

/// Boots a guest `runs` times, one after the other.
///
/// # Errors
/// What could not be set up, or which boot came to nothing.
pub fn measure_boot(runs: u32) -> Result<BootReport, BenchError> {
    let bed = BootBed::make()?;
    // A thread of its own, in the client's namespace: the guest's process enters the other by itself.
    std::thread::scope(|scope| {
        let work = || {
            enter_fd(bed.client.as_fd().as_raw_fd()).map_err(BenchError::io("the client's namespace"))?;
            (0..runs).map(|_| one(&bed)).collect::<Result<Vec<_>, _>>().map(|runs| BootReport::of(&runs))
        };
        scope.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn one(bed: &BootBed) -> Result<BootRun, BenchError> {
    let config = bed.image_file()?;
    let (begun, begun_us) = (Instant::now(), escape_node::now_us());
    let failed = || BenchError::setup("escape boot");
    let launch = Launch {
        name: "guest".into(),
        part: "boot",
        options: &["--times"],
        config: Configuration::Text(config),
        namespace: &bed.host,
        descriptors: Vec::new(),
    };
    let mut guest = CellProcess::start(launch).map_err(failed())?;
    let answer = match first_answer(bed.service()) {
        Ok(answer) => answer,
        Err(error) => {
            // Its own words say more, if it has ended.
            guest.check().map_err(failed())?;
            return Err(error);
        }
    };
    guest.signal(libc::SIGTERM).map_err(failed())?;
    Ok(BootRun {
        connected_us: micros(answer.connected - begun),
        answered_us: micros(answer.answered - begun),
        begun_us,
        times: times_of(&mut guest)?,
    })
}

/// The guest's process ends with a line that tells the times; its console comes before.
fn times_of(guest: &mut CellProcess) -> Result<SoloTimes, BenchError> {
    for _ in 0..LINES_MAX {
        let line = guest.answer(END_LIMIT).map_err(BenchError::setup("end of escape boot"))?;
        if let Ok(times) = serde_json::from_str(&line) {
            return Ok(times);
        }
    }
    Err(BenchError::Answer { what: "the end of escape boot".into(), detail: "no times".into() })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
