//! The session server image.
#![no_std]
#![no_main]

use escape_freestanding::{image, serve};

image!(main = serve::run, recover = serve::recover);
