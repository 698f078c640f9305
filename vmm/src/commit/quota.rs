//! Who may hold how much output.
//!
//! Policy when a limit is reached: the slice loses its *own newest data frame*; TCP sends it again. The shared transmit
//! queue is never stopped, another slice never pays, and FIN and RST have a reserve of their own so that a connection
//! can always end. A frame that has waited too long is dropped from the head of its own queue (invariant I7).

use super::verdict::DropCause;

/// Limits on held output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldLimits {
    /// Held data frames of one slice.
    pub slice_frames_max: usize,
    /// Bytes of buffers that one slice's held frames may occupy.
    pub slice_bytes_max: usize,
    /// Held FIN and RST frames of one slice, beyond the two limits above.
    pub slice_endings_max: usize,
    /// Bytes of buffers that all held frames of the guest may occupy; FIN and RST may go 1/8 beyond.
    pub vm_bytes_max: usize,
    /// Longest time that a data frame waits, microseconds.
    pub hold_age_us_max: u64,
}

impl Default for HoldLimits {
    /// 256 frames and 512 KiB a slice (twice what a window of 64 KiB needs in the worst packing), 64 MiB a guest, 10 s.
    fn default() -> Self {
        Self {
            slice_frames_max: 256,
            slice_bytes_max: 512 << 10,
            slice_endings_max: 4,
            vm_bytes_max: 64 << 20,
            hold_age_us_max: 10_000_000,
        }
    }
}

/// What a slice holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeldLoad {
    /// Frames that are neither FIN nor RST.
    pub data_frames: usize,
    /// FIN and RST frames.
    pub endings: usize,
    /// Bytes of buffers, all frames.
    pub bytes: usize,
}

impl HoldLimits {
    /// May a slice with `slice` held, in a guest with `vm_bytes` held, hold one more frame of `cost` bytes?
    pub fn admit(&self, slice: &HeldLoad, vm_bytes: usize, cost: usize, ending: bool) -> Result<(), DropCause> {
        let vm_after = vm_bytes.saturating_add(cost);
        if ending {
            if slice.endings >= self.slice_endings_max || vm_after > self.pool_bytes_max() {
                return Err(DropCause::EndingQuota);
            }
            return Ok(());
        }
        if slice.data_frames >= self.slice_frames_max || slice.bytes.saturating_add(cost) > self.slice_bytes_max {
            return Err(DropCause::SliceQuota);
        }
        if vm_after > self.vm_bytes_max { Err(DropCause::VmQuota) } else { Ok(()) }
    }

    /// Bytes of the pool that serves these limits: the guest's limit and the reserve for FIN and RST.
    pub fn pool_bytes_max(&self) -> usize {
        self.vm_bytes_max.saturating_add(self.vm_bytes_max / 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: HoldLimits = HoldLimits {
        slice_frames_max: 2,
        slice_bytes_max: 100,
        slice_endings_max: 1,
        vm_bytes_max: 160,
        hold_age_us_max: 1,
    };

    #[test]
    fn data_stops_at_each_limit_and_endings_have_a_reserve() {
        let load = |data_frames, endings, bytes| HeldLoad { data_frames, endings, bytes };
        assert_eq!(LIMITS.admit(&load(1, 0, 50), 50, 50, false), Ok(()));
        assert_eq!(LIMITS.admit(&load(2, 0, 50), 50, 50, false), Err(DropCause::SliceQuota));
        assert_eq!(LIMITS.admit(&load(1, 0, 51), 51, 50, false), Err(DropCause::SliceQuota));
        assert_eq!(LIMITS.admit(&load(0, 0, 0), 111, 50, false), Err(DropCause::VmQuota));
        assert_eq!(LIMITS.admit(&load(2, 0, 100), 130, 50, true), Ok(()));
        assert_eq!(LIMITS.admit(&load(2, 1, 100), 130, 50, true), Err(DropCause::EndingQuota));
        assert_eq!(LIMITS.admit(&load(2, 0, 100), 131, 50, true), Err(DropCause::EndingQuota));
    }
}
