//! Time units. A slice has a clock of its own (see [`crate::slot::SlotHeader`]); guests' clocks are unrelated.

/// Microseconds of a millisecond.
pub(crate) const MS: i64 = 1_000;
/// Microseconds of a second.
pub(crate) const SECOND: i64 = 1_000_000;
/// Where every slice's clock begins: smoltcp takes the instant 0 to mean "at once".
pub(crate) const CLOCK_START: i64 = SECOND;
