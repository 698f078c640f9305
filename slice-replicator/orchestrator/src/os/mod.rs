//! The two calls to the kernel that the standard library does not offer.

mod clock;
mod priority;

pub use clock::now_us;
pub(crate) use priority::real_time;
