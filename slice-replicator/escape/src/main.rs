//! The `escape` command.
fn main() {}
