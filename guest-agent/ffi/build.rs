//! Generates the C header from the source; the one in `include/` must be the same, which a test checks.

use std::env;
use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=cbindgen.toml");
    let here = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    match cbindgen::generate(&here) {
        Ok(header) => {
            header.write_to_file(out.join("escape_slices.h"));
        }
        Err(error) => println!("cargo::error=the C header: {error}"),
    }
}
