//! Guest images of Debian's own packages.
//!
//! packages (`apt-get download`, unpacked) → kernel, modules in the order of their needs, busybox, `init` → one cpio archive in which
//! only names and contents count: the same packages make the same bytes.

#![forbid(unsafe_code)]

mod build;
mod digests;
mod error;
mod initramfs;
mod inspect;
mod modules;
mod packages;

pub use build::{Built, Recipe, build};
pub use digests::{DIGESTS, sha256_hex};
pub use error::ImageError;
pub use inspect::{InitramfsFacts, look_into};
