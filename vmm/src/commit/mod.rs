//! The commit path: hold, capture, send, release.
