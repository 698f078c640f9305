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
fn the_samples_are_valid() {
    for (sample, kind) in [
        ("docs/replication.toml", "replication"),
        ("images/freestanding.toml", "image"),
        ("docs/drill.toml", "drill"),
        ("tests/drills/cuts.toml", "drill"),
    ] {
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
    let output = escape(&["drill", "no-such-drill"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains("the shipped drills are: kill, ")), (Some(2), true), "{said}");
}

#[test]
fn a_wrong_command_line_is_exit_2() {
    for arguments in [
        &["drill", "--fault", "flood"][..],
        &["drill", "--sessions", "0"],
        &["drill", "--all", "--rounds", "2"],
        &["fly"],
        &[],
    ] {
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

#[test]
fn cell_init_makes_adds_and_refuses() {
    let directory = TemporaryDirectory::new("cell-init");
    let (sample, out) = (repository("docs/replication.toml"), directory.path("cell"));
    let init = |file: &str| escape(&["cell", "init", file, "--out", &out, "--json"]);
    for (new_authority, state) in [(true, "new"), (false, "unchanged")] {
        let output = init(&sample);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let report = json(&output);
        assert_eq!(report["new_authority"], new_authority);
        let processes = report["processes"].as_array().unwrap();
        // Orchestrator, edge, three nodes, operator.
        assert_eq!(processes.len(), 6);
        assert!(processes.iter().all(|process| process["state"] == state), "{report}");
        assert_eq!(processes[2]["command"], "escape node node-1/node.toml");
    }
    let text = std::fs::read_to_string(&sample).unwrap();
    let other = TemporaryFile::with("other-cell.toml", &text.replace("5a1ce5a1-ce5a", "5a1ce5a1-0000"));
    let output = init(other.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains("authority of cell")), (Some(2), true), "{said}");
    // What it refuses is what the check tells.
    let wrong = TemporaryFile::with("wrong-cell.toml", &text.replace("mirror = \"escape1m\"", "mirror = \"escape1\""));
    let checked = String::from_utf8(escape(&["config", "check", wrong.path()]).stdout).unwrap();
    let output = init(wrong.path());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), said.contains(checked.trim())), (Some(2), true), "{said}\n{checked}");
    // For people: what to do next, on which host.
    let told = String::from_utf8(escape(&["cell", "init", &sample, "--out", &directory.path("again")]).stdout).unwrap();
    assert!(told.contains("on beta: escape node node-2/node.toml") && told.contains("next: "), "{told}");
}

/// A directory that is gone with the test.
struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("escape-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
