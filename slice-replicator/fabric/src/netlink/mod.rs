//! A small netlink: messages are encoded and read by hand, requests are acknowledged one by one, and every wait ends.
//!
//! Source: `include/uapi/linux/netlink.h`, RFC 3549.

mod attributes;
mod encoder;
mod error;
mod socket;

pub use attributes::Attributes;
pub use encoder::Encoder;
pub use error::NetlinkError;
pub use socket::{Message, NetlinkSocket};

/// Length of `struct nlmsghdr`.
pub(crate) const HEADER_LEN: usize = 16;

/// The next multiple of 4: messages and attributes are padded to it.
pub(crate) const fn aligned(length: usize) -> usize {
    length.next_multiple_of(4)
}
