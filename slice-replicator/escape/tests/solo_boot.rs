//! `escape boot` with real guests: it serves until it is told to stop, and says why a guest did not come up.
//! Needs /dev/kvm.
#![allow(clippy::unwrap_used)]

use escape_node::solo::{SoloStep, SoloTimes};
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(20);

/// A running `escape boot`, ended with the test.
struct Boot {
    child: Child,
    log: Receiver<String>,
    files: Vec<PathBuf>,
}

impl Boot {
    /// `image`: "freestanding", or the bytes of an ELF file.
    fn start(name: &str, image: Result<&str, &[u8]>, cmdline: &str) -> Self {
        let place = |kind: &str| std::env::temp_dir().join(format!("escape-boot-{}-{name}.{kind}", std::process::id()));
        let (elf, toml) = (place("elf"), place("toml"));
        let mut files = vec![toml.clone()];
        let image = match image {
            Ok(name) => name.to_owned(),
            Err(bytes) => {
                std::fs::write(&elf, bytes).unwrap();
                files.push(elf.clone());
                elf.display().to_string()
            }
        };
        std::fs::write(&toml, format!("image = {image:?}\ntap = \"\"\ncmdline = {cmdline:?}\nram_mib = 16\n")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_escape"))
            .args(["boot", "--times"])
            .arg(&toml)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (line, log) = channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || stderr.lines().map_while(Result::ok).all(|l| line.send(l).is_ok()));
        Self { child, log, files }
    }

    /// Waits until it says something that contains `what`; everything that it said until then.
    fn wait_for(&self, what: &str) -> String {
        let (begun, mut said) = (Instant::now(), String::new());
        while !said.contains(what) {
            let left = LIMIT.saturating_sub(begun.elapsed());
            let line = self.log.recv_timeout(left).unwrap_or_else(|e| panic!("{e} without {what:?}: {said}"));
            said = format!("{said}{line}\n");
        }
        said
    }

    /// Exit code and standard output.
    fn end(&mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < LIMIT, "it goes on");
            std::thread::sleep(Duration::from_millis(5));
        };
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        (status.code(), said)
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
    }
}

#[test]
fn it_serves_until_it_is_told_to_stop() {
    let mut boot = Boot::start("serves", Ok("freestanding"), "");
    boot.wait_for("guest ready");
    let pid = rustix::process::Pid::from_child(&boot.child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let (code, said) = boot.end();
    assert_eq!(code, Some(0), "{said}");
    let times: SoloTimes = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let steps = [SoloStep::Configured, SoloStep::Built, SoloStep::Started, SoloStep::Leased, SoloStep::Ready];
    let at: Vec<u64> = steps.iter().map(|s| times.at(*s).unwrap()).collect();
    assert!(at.is_sorted(), "{times:?}");
}

#[test]
fn a_crash_is_told_with_the_end_of_the_console() {
    let mut boot = Boot::start("crash", Err(escape_images::hostile()), "no-such-attack");
    let said = boot.wait_for("there is no attack");
    assert!(said.contains("the guest reported a crash, code 0x400"), "{said}");
    assert_eq!(boot.end().0, Some(1));
}

#[test]
fn a_guest_that_never_comes_up_is_given_up_after_five_seconds() {
    let mut boot = Boot::start("silent", Err(&endless_loop()), "");
    let begun = Instant::now();
    let said = boot.wait_for("the end of its console");
    assert!(begun.elapsed() >= Duration::from_secs(4), "too early: {said}");
    assert!(said.contains("not said that it is ready within 5000 ms") && said.contains("mmio: 0"), "{said}");
    assert_eq!(boot.end().0, Some(1));
}

#[test]
fn an_image_that_is_no_image_is_told() {
    let mut boot = Boot::start("text", Err(b"#!/bin/sh\n"), "");
    boot.wait_for("escape: boot: ");
    assert_eq!(boot.end().0, Some(1));
}

/// An ELF file whose only instruction jumps to itself.
fn endless_loop() -> Vec<u8> {
    const ENTRY: u64 = 0x10_0000;
    let code = [0xeb, 0xfe];
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    for half in [2u16, 62] {
        elf.extend(half.to_le_bytes());
    }
    elf.extend(1u32.to_le_bytes());
    for word in [ENTRY, 64, 0] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    // One PT_LOAD, readable and executable, right behind its header.
    for word in [1u32, 5] {
        elf.extend(word.to_le_bytes());
    }
    for word in [120, ENTRY, ENTRY, code.len() as u64, code.len() as u64, 0x1000] {
        elf.extend(word.to_le_bytes());
    }
    elf.extend(code);
    elf
}
