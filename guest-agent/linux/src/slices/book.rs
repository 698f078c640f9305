//! What is in which slot, in memory that outlives the agent.
//!
//! Written by the agent alone, one word after the other, and read by its successor: whatever instruction was the last, the words before
//! it are there. A record counts by its first word, which is written last.

use crate::error::AgentError;
use escape_abi::message::Flow;
use escape_capsule::SliceKey;
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

const MAGIC: u64 = 0x4553_4341_5045_0001;
/// Words before the first record.
const HEADER: usize = 16;
/// Words of a record.
const RECORD: usize = 8;
/// Places in the header.
mod at {
    pub const MAGIC: usize = 0;
    pub const N_SLOTS: usize = 1;
    pub const MADE: usize = 2;
    pub const READY: usize = 3;
    pub const TRIED: usize = 4;
    /// 0: nobody; 1: the host; otherwise 2 more than a process's number.
    pub const AT_WORK: usize = 5;
    pub const WORDS: usize = 6;
}
/// Places in a record.
const STATE: usize = 0;
const INCARNATION: usize = 1;
const FLOW: usize = 2;
const PROCESS: usize = 3;
/// Generation of the slot's lease, and 1 more; 0: none.
const LEASE: usize = 4;
/// Beside the phase in a record's first word.
const TOLD: u64 = 1 << 8;

/// How far a slice is, without what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// No slice.
    Free = 0,
    /// No slice, and the host has not let the slot go.
    Gone = 1,
    /// As [`super::places::Stage`] says; the same for those that follow.
    Opening = 2,
    /// A process serves it.
    Running = 3,
    /// Given to a process.
    Plugging = 4,
    /// Its client is asked.
    Asking = 5,
    /// No process for it.
    Unserved = 6,
    /// The agent ends it.
    Closing = 7,
    /// It has ended.
    Over = 8,
}

impl Phase {
    const ALL: [Self; 9] = [
        Self::Free,
        Self::Gone,
        Self::Opening,
        Self::Running,
        Self::Plugging,
        Self::Asking,
        Self::Unserved,
        Self::Closing,
        Self::Over,
    ];
}

/// One slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// How far its slice is.
    pub phase: Phase,
    /// The host knows that it is plugged.
    pub told: bool,
    /// The slice.
    pub key: SliceKey,
    /// Its connection.
    pub flow: Flow,
    /// Its process, where it has one.
    pub process: u64,
}

/// Who said what the agent was at work on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// The host.
    Host,
    /// A process.
    Process(u64),
}

/// The book.
#[derive(Debug)]
pub struct Book {
    words: &'static [AtomicU64],
    memory: OwnedFd,
    n_slots: u32,
}

impl Book {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel has no memory.
    pub fn new(n_slots: u32) -> Result<Self, AgentError> {
        let memory = memfd_create("escape-agent", MemfdFlags::CLOEXEC).map_err(|e| AgentError::Book(e.into()))?;
        ftruncate(&memory, bytes_of(n_slots) as u64).map_err(|e| AgentError::Book(e.into()))?;
        let book = Self::map(memory, n_slots)?;
        book.set(at::N_SLOTS, n_slots.into());
        book.set(at::MAGIC, MAGIC);
        Ok(book)
    }

    /// A former agent's.
    ///
    /// # Errors
    /// It is none of an arena of this size.
    pub fn of(memory: OwnedFd, n_slots: u32) -> Result<Self, AgentError> {
        let wrong = || AgentError::Book(std::io::ErrorKind::InvalidData.into());
        let bytes = rustix::fs::fstat(&memory).map_err(|e| AgentError::Book(e.into()))?.st_size;
        if usize::try_from(bytes) != Ok(bytes_of(n_slots)) {
            return Err(wrong());
        }
        let book = Self::map(memory, n_slots)?;
        if book.get(at::MAGIC) == MAGIC && book.get(at::N_SLOTS) == u64::from(n_slots) {
            Ok(book)
        } else {
            Err(wrong())
        }
    }

    fn map(memory: OwnedFd, n_slots: u32) -> Result<Self, AgentError> {
        let bytes = bytes_of(n_slots);
        let (protection, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping at a place of the kernel's choice; nothing else is touched.
        let base = unsafe { mmap(std::ptr::null_mut(), bytes, protection, flags, &memory, 0) };
        let base = base.map_err(|e| AgentError::Book(e.into()))?;
        // SAFETY: just mapped with so many bytes, aligned to a page, and never unmapped; the file has that size, and any bytes are words.
        let words = unsafe { std::slice::from_raw_parts(base.cast::<AtomicU64>(), bytes / size_of::<u64>()) };
        Ok(Self { words, memory, n_slots })
    }

    fn get(&self, at: usize) -> u64 {
        self.words.get(at).map_or(0, |word| word.load(Ordering::Acquire))
    }

    fn set(&self, at: usize, value: u64) {
        #[cfg(test)]
        super::crash::step();
        self.store(at, value);
    }

    fn store(&self, at: usize, value: u64) {
        if let Some(word) = self.words.get(at) {
            word.store(value, Ordering::Release);
        }
    }

    /// Slots that it has.
    pub const fn n_slots(&self) -> u32 {
        self.n_slots
    }

    /// Slices made so far.
    pub fn made(&self) -> u32 {
        u32::try_from(self.get(at::MADE)).unwrap_or(u32::MAX)
    }

    /// One more is about to be made.
    pub fn set_made(&self, made: u32) {
        self.set(at::MADE, made.into());
    }

    /// The host was told that the guest is ready; returns what it was before.
    pub fn set_ready(&self) -> bool {
        let was = self.get(at::READY) != 0;
        self.set(at::READY, 1);
        was
    }

    /// Generation of a slot's lease.
    pub fn lease(&self, slot: u32) -> Option<u32> {
        self.get(record_at(slot) + LEASE).checked_sub(1).and_then(|generation| u32::try_from(generation).ok())
    }

    /// A slot has this lease.
    pub fn set_lease(&self, slot: u32, generation: u32) {
        self.set(record_at(slot) + LEASE, u64::from(generation) + 1);
    }

    /// Notes what is in a slot.
    pub fn write(&self, record: &Record) {
        let base = record_at(record.key.slot);
        let state = record.phase as u64 | if record.told { TOLD } else { 0 };
        for (at, value) in
            [(INCARNATION, record.key.incarnation), (FLOW, record.flow.to_word()), (PROCESS, record.process)]
        {
            // What stays the same is not written: the first word counts for it already.
            if self.get(base + at) != value {
                self.set(base + at, value);
            }
        }
        self.set(base + STATE, state);
    }

    /// Notes that no slice is in a slot.
    pub fn clear(&self, slot: u32, phase: Phase) {
        self.set(record_at(slot) + STATE, phase as u64);
    }

    /// What is in a slot.
    pub fn record(&self, slot: u32) -> Record {
        let base = record_at(slot);
        let state = self.get(base + STATE);
        let phase = Phase::ALL.into_iter().find(|phase| *phase as u64 == state & 0xff).unwrap_or(Phase::Gone);
        Record {
            phase,
            told: state & TOLD != 0,
            key: SliceKey { slot, incarnation: self.get(base + INCARNATION) },
            flow: Flow::from_word(self.get(base + FLOW)),
            process: self.get(base + PROCESS),
        }
    }

    /// The agent begins with what somebody has said. (What it has taken and not noted yet would be lost with it: nine stores.)
    pub fn begin(&self, speaker: Speaker, words: [u64; 8]) {
        for (at, word) in words.into_iter().enumerate() {
            self.store(at::WORDS + at, word);
        }
        let speaker = match speaker {
            Speaker::Host => 1,
            Speaker::Process(id) => id.saturating_add(2),
        };
        self.store(at::AT_WORK, speaker);
    }

    /// It is done with it.
    pub fn done(&self) {
        self.set(at::AT_WORK, 0);
        if self.get(at::TRIED) != 0 {
            self.set(at::TRIED, 0);
        }
    }

    /// What a former agent was at work on when it ended; whether that was its own predecessor's: an agent that ends by it again must not try it
    /// for ever.
    pub fn left_at_work(&self) -> Option<(Speaker, [u64; 8], bool)> {
        let speaker = match self.get(at::AT_WORK) {
            0 => return None,
            1 => Speaker::Host,
            process => Speaker::Process(process - 2),
        };
        let tried = self.get(at::TRIED) != 0;
        self.set(at::TRIED, 1);
        Some((speaker, std::array::from_fn(|at| self.get(at::WORDS + at)), tried))
    }
}

impl AsFd for Book {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }
}

const fn bytes_of(n_slots: u32) -> usize {
    (HEADER + n_slots as usize * RECORD) * size_of::<u64>()
}

const fn record_at(slot: u32) -> usize {
    HEADER + slot as usize * RECORD
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_reads_what_was_written_and_only_of_its_own_arena() {
        let book = Book::new(64).unwrap();
        let key = SliceKey { slot: 63, incarnation: 5 << 32 | 1 };
        let flow = Flow { ip: [10, 1, 2, 3], port: 40_000, service_port: 80 };
        let record = Record { phase: Phase::Running, told: true, key, flow, process: 9 };
        book.write(&record);
        book.set_lease(63, 0);
        book.set_made(4);
        book.begin(Speaker::Process(0), [1, 2, 3, 4, 5, 6, 7, 8]);
        assert!(Book::of(book.as_fd().try_clone_to_owned().unwrap(), 128).is_err());
        let next = Book::of(book.as_fd().try_clone_to_owned().unwrap(), 64).unwrap();
        assert_eq!((next.record(63), next.lease(63), next.lease(62), next.made()), (record, Some(0), None, 4));
        assert_eq!(next.record(62).phase, Phase::Free);
        assert_eq!((book.set_ready(), next.set_ready()), (false, true));
        for tried in [false, true] {
            assert_eq!(next.left_at_work(), Some((Speaker::Process(0), [1, 2, 3, 4, 5, 6, 7, 8], tried)));
        }
        next.begin(Speaker::Host, [0; 8]);
        next.done();
        assert_eq!(next.left_at_work(), None);
        next.clear(63, Phase::Gone);
        assert_eq!(next.record(63).phase, Phase::Gone);
    }
}
