//! A real client that nobody here wrote: `curl` keeps its transfer while the node that serves it is killed.

use super::cells_run_here;
use super::tidy::Directory;
use escape::cell::{CellPlan, LocalCell};
use escape::drill::{Cell, Fault};
use escape::load::pattern;
use escape_fabric::netns::enter_fd;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of a transfer.
const BYTES: u64 = 48 << 20;
/// Bytes per second, so that the kill comes in the middle.
const RATE: u32 = 16 << 20;
/// Bytes after which the node is killed.
const KILL_AFTER: u64 = BYTES / 3;
/// How long a transfer may take; without a fault it takes 3 s.
const TRANSFER_MAX: Duration = Duration::from_secs(30);
const SETTLE_MAX: Duration = Duration::from_secs(20);

/// A large download, with the kill in the middle.
pub fn keeps_its_download() {
    let directory = Directory::new("download");
    let (to, url) = (directory.file("body"), format!("/bytes?n={BYTES}"));
    let arguments = |base: &str| vec!["-o".into(), to.display().to_string(), format!("{base}{url}")];
    let Some(taken) = transfer("the download", &directory, arguments, |_| file_len(&to)) else { return };
    assert_eq!(file_len(&to), BYTES, "the whole body");
    assert_eq!(digest_of(&to), digest_of_pattern(), "the downloaded bytes are the pattern's");
    println!("download: {BYTES} bytes in {taken:?} across the kill of its node, digests equal");
}

/// A large upload, with the kill in the middle; the service tells the digest of what it received.
pub fn keeps_its_upload() {
    let directory = Directory::new("upload");
    let (from, reply) = (directory.file("pattern"), directory.file("reply"));
    write_pattern(&from);
    let arguments = |base: &str| {
        let [from, to] = [&from, &reply].map(|path| path.display().to_string());
        vec!["-T".into(), from, "-o".into(), to, format!("{base}/bytes")]
    };
    // How much curl has sent shows in nothing but its progress; its rate is known.
    let sent = |since: Duration| (since.as_secs_f64() * f64::from(RATE)) as u64;
    let Some(taken) = transfer("the upload", &directory, arguments, sent) else { return };
    let said = std::fs::read_to_string(&reply).unwrap();
    let said: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    let told = |key: &str| said.get(key).cloned().unwrap_or_else(|| panic!("no {key} in {said}"));
    assert_eq!(told("bytes"), BYTES, "{said}");
    assert_eq!(told("blake3"), digest_of_pattern().to_hex().as_str(), "the service received the pattern");
    println!("upload: {BYTES} bytes in {taken:?} across the kill of its node, digests equal");
}

/// Runs `curl` for `/session` and then for the transfer on the same connection, and kills the node that serves it once
/// `progress` says that enough bytes went by. `None` where that cannot be tested.
fn transfer(
    what: &str,
    directory: &Directory,
    arguments: impl Fn(&str) -> Vec<String>,
    progress: impl Fn(Duration) -> u64,
) -> Option<Duration> {
    if !cells_run_here(what) {
        return None;
    }
    if Command::new("curl").arg("--version").stdout(Stdio::null()).status().is_err() {
        eprintln!("\n*** SKIPPED: no curl on this machine; {what} was not tested ***\n");
        return None;
    }
    let mut cell = LocalCell::start(CellPlan::new(20)).unwrap();
    cell.wait_ready(SETTLE_MAX).unwrap();
    let base = format!("http://{}", cell.service_addresses().http);
    let session = directory.file("session");
    let mut curl = start_curl(&cell, &base, &session, arguments(&base));
    let begun = Instant::now();
    let node = wait_for(&mut curl, what, || {
        let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(&session).ok()?).ok()?;
        facts.get("node")?.as_u64()
    });
    wait_for(&mut curl, what, || (progress(begun.elapsed()) >= KILL_AFTER).then_some(()));
    cell.inject(u16::try_from(node).unwrap(), Fault::Kill).unwrap();
    println!("{what}: node {node} killed {:?} after the start", begun.elapsed());
    let (status, said) = end_of(&mut curl, what);
    let taken = begun.elapsed();
    cell.shutdown();
    assert_eq!(status, Some(0), "{what}: curl: {said}");
    assert!(said.contains("connections: 1 0"), "{what}: one connection, used twice: {said}");
    Some(taken)
}

fn start_curl(cell: &LocalCell, base: &str, session: &Path, transfer: Vec<String>) -> Child {
    let clients = cell.network().clients.try_clone().unwrap();
    let mut curl = Command::new("curl");
    // At each transfer's end: how many connections it opened, and its error if there was one.
    let rate = RATE.to_string();
    let told = ["-sS", "--limit-rate", &rate, "-w", "%{stderr}connections: %{num_connects} "];
    curl.args(told).arg("-o").arg(session).arg(format!("{base}/session"));
    curl.arg("--next").args(told).args(transfer);
    curl.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    // SAFETY: between fork and exec only setns and prctl are called, with values made before the fork.
    unsafe {
        curl.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            enter_fd(clients.as_fd().as_raw_fd())
        });
    }
    curl.spawn().unwrap()
}

/// Waits for something while `curl` runs.
fn wait_for<T>(curl: &mut Child, what: &str, mut wanted: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = wanted() {
            return found;
        }
        if let Some(status) = curl.try_wait().unwrap() {
            panic!("{what}: curl ended too early, {status}: {}", said_by(curl));
        }
        if begun.elapsed() > TRANSFER_MAX {
            let _ = curl.kill();
            panic!("{what}: too slow: {}", said_by(curl));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Exit code of `curl` and what it said.
fn end_of(curl: &mut Child, what: &str) -> (Option<i32>, String) {
    let begun = Instant::now();
    while begun.elapsed() < TRANSFER_MAX {
        if let Some(status) = curl.try_wait().unwrap() {
            return (status.code(), said_by(curl));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let _ = curl.kill();
    panic!("{what}: curl did not end within {TRANSFER_MAX:?}: {}", said_by(curl));
}

fn said_by(curl: &mut Child) -> String {
    let mut said = String::new();
    if let Some(mut stderr) = curl.stderr.take() {
        let _ = stderr.read_to_string(&mut said);
    }
    said.split_whitespace().collect::<Vec<_>>().join(" ").replace(" connections:", "")
}

fn file_len(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |file| file.len())
}

fn digest_of(path: &Path) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    std::io::copy(&mut File::open(path).unwrap(), &mut HashWriter(&mut hasher)).unwrap();
    hasher.finalize()
}

fn digest_of_pattern() -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    each_block(|block| {
        hasher.update(block);
    });
    hasher.finalize()
}

fn write_pattern(path: &Path) {
    let mut file = File::create(path).unwrap();
    each_block(|block| file.write_all(block).unwrap());
}

/// The pattern in blocks.
fn each_block(mut with: impl FnMut(&[u8])) {
    let mut block = vec![0; 1 << 20];
    for at in (0..BYTES).step_by(block.len()) {
        pattern::fill(at, &mut block);
        with(&block);
    }
}

struct HashWriter<'a>(&'a mut blake3::Hasher);

impl Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
