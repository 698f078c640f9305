//! The command as a script sees it: exit codes and what goes where.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn escape(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_escape")).args(arguments).output().unwrap()
}

fn repository(path: &str) -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path).display().to_string()
}

fn json(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A file that is gone with the test.
struct TemporaryFile(PathBuf);

impl TemporaryFile {
    fn with(name: &str, text: &str) -> Self {
        let path = std::env::temp_dir().join(format!("escape-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        Self(path)
    }

    fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn both_samples_are_valid() {
    for (sample, kind) in [("docs/replication.toml", "replication"), ("images/freestanding.toml", "image")] {
        let output = escape(&["config", "check", &repository(sample), "--json"]);
        assert_eq!(output.status.code(), Some(0), "{sample}");
        let report = json(&output);
        assert_eq!((report["valid"].as_bool(), report["kind"].as_str()), (Some(true), Some(kind)));
    }
}

#[test]
fn a_wrong_file_is_exit_2_with_file_and_line() {
    let text = std::fs::read_to_string(repository("images/freestanding.toml")).unwrap();
    let file = TemporaryFile::with("wrong.toml", &text.replace("ram_mib = 64", "ram_mib = 9000"));
    let output = escape(&["config", "check", file.path()]);
    assert_eq!(output.status.code(), Some(2));
    let line = text.lines().position(|line| line.starts_with("ram_mib")).unwrap() + 1;
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with(&format!("{}:{line}: ram_mib: 9000 is out of range", file.path())), "{said}");
    let report = json(&escape(&["config", "check", file.path(), "--json"]));
    assert_eq!((report["valid"].as_bool(), report["problems"][0]["line"].as_u64()), (Some(false), Some(line as u64)));
}

#[test]
fn a_file_that_is_not_there_is_exit_2() {
    assert_eq!(escape(&["config", "check", "/no/such/file.toml"]).status.code(), Some(2));
    assert_eq!(escape(&["boot", "/no/such/file.toml"]).status.code(), Some(2));
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for arguments in [&["drill", "--fault", "flood"][..], &["drill", "--sessions", "0"], &["fly"], &[]] {
        let output = escape(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_tells_the_exit_codes() {
    for arguments in [&["--help"][..], &["drill", "--help"], &["doctor", "--help"]] {
        let output = escape(arguments);
        assert_eq!(output.status.code(), Some(0));
        assert!(String::from_utf8(output.stdout).unwrap().contains("Exit codes:"), "{arguments:?}");
    }
}

#[test]
fn the_doctor_says_the_same_by_exit_code_and_json() {
    let output = escape(&["doctor", "--json"]);
    let report = json(&output);
    let missing = report["checks"].as_array().unwrap().iter().any(|check| check["status"] == "missing");
    assert_eq!(output.status.code(), Some(if missing { 3 } else { 0 }));
    assert_eq!(report["fit"].as_bool(), Some(!missing));
}
