//! The C example compiles without a warning, links with the static library, and says what is missing on a machine that is no guest.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

#[test]
fn the_c_example_compiles_links_and_says_what_is_missing() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let libraries: PathBuf = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let library = libraries.join("libescape_slices.a");
    let program = std::env::temp_dir().join(format!("escape-echo-{}", std::process::id()));
    let mut cc = Command::new("cc");
    cc.args(["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-I"]).arg(here.join("include"));
    cc.arg(here.join("examples/echo.c")).arg(&library).args(["-lpthread", "-ldl", "-lm", "-o"]).arg(&program);
    let compiled = cc.output().unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    let ran = Command::new(&program).arg("7000").output();
    std::fs::remove_file(&program).unwrap();
    let ran = ran.unwrap();
    let said = String::from_utf8_lossy(&ran.stderr);
    assert_eq!(ran.status.code(), Some(1));
    assert!(said.starts_with("echo: the agent at /run/escape-agent.sock: "), "{said}");
}
