//! Made once, private, added to, and never written over what belongs to somebody else.
#![allow(clippy::unwrap_used)]

use super::*;
use escape_node::NodeConfig;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

const SAMPLE: &str = include_str!("../../../../docs/replication.toml");

/// A directory that is gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("escape-cell-directory-{}-{name}", std::process::id()));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn cell(&self) -> PathBuf {
        self.0.join("cell")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn file(text: &str) -> ReplicationFile {
    ReplicationFile::parse(Path::new("cell.toml"), text).unwrap()
}

/// Every file under a directory with its text.
fn texts(directory: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        if entry.path().is_dir() {
            found.extend(texts(&entry.path()));
        } else {
            found.insert(entry.path(), fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

fn states(report: &InitReport) -> Vec<(&str, State)> {
    report.processes.iter().map(|process| (process.process.as_str(), process.state)).collect()
}

#[test]
fn everything_is_there_private_and_fits_together() {
    let scratch = Scratch::new("new");
    let report = init(&file(SAMPLE), &scratch.cell()).unwrap();
    assert!(report.new_authority);
    let names: Vec<&str> = report.processes.iter().map(|process| process.process.as_str()).collect();
    assert_eq!(names, ["orchestrator", "edge", "node-1", "node-2", "node-3", "operator"]);
    let written = texts(&scratch.cell());
    assert_eq!(written.len(), 7, "authority and six configurations: {written:?}");
    for path in written.keys() {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(path), mode(path.parent().unwrap())), (0o600, 0o700), "{path:?}");
    }
    let authority = ClusterAuthority::from_toml(&written[&scratch.cell().join("authority")]).unwrap();
    let secret = authority.key.lines().nth(1).unwrap();
    for process in &report.processes {
        let text = &written[&process.configuration];
        assert!(!text.contains(secret), "the authority's key went to {}", process.process);
    }
    let node: NodeConfig = toml::from_str(&written[&report.processes[3].configuration]).unwrap();
    node.check().unwrap();
    node.secrets.identity().unwrap();
    assert_eq!((node.id, node.host.as_str(), node.secrets.cell.as_str()), (2, "beta", file(SAMPLE).cell.uuid.as_str()));
}

#[test]
fn a_second_time_changes_nothing_and_a_later_node_is_added() {
    let scratch = Scratch::new("again");
    init(&file(SAMPLE), &scratch.cell()).unwrap();
    let before = texts(&scratch.cell());
    let again = init(&file(SAMPLE), &scratch.cell()).unwrap();
    assert!(!again.new_authority && again.processes.iter().all(|process| process.state == State::Unchanged));
    assert_eq!(texts(&scratch.cell()), before);

    let more = format!("{SAMPLE}\n[[nodes]]\nid = 4\nhost = \"delta\"\ncontrol = \"127.0.0.1:7414\"\n");
    let report = init(&file(&more), &scratch.cell()).unwrap();
    // The others must send it heartbeats, the edge must know its port; the orchestrator learns of it when it joins.
    let (same, new, other) = (State::Unchanged, State::New, State::Changed);
    let expected = [
        ("orchestrator", same),
        ("edge", other),
        ("node-1", other),
        ("node-2", other),
        ("node-3", other),
        ("node-4", new),
        ("operator", same),
    ];
    assert_eq!(states(&report), expected);
    let after = texts(&scratch.cell());
    let secrets = |texts: &BTreeMap<PathBuf, String>, process: &ProcessReport| {
        let configuration: toml::Table = texts[&process.configuration].parse().unwrap();
        configuration["secrets"].clone()
    };
    for process in report.processes.iter().filter(|process| process.state != State::New) {
        assert_eq!(secrets(&before, process), secrets(&after, process), "{} has a new identity", process.process);
    }
    let first: NodeConfig = toml::from_str(&after[&report.processes[2].configuration]).unwrap();
    assert!(first.beats_to.contains(&"127.0.0.1:7414".parse().unwrap()));

    let fewer = init(&file(SAMPLE), &scratch.cell()).unwrap();
    assert_eq!(fewer.no_longer_named, ["node-4"]);
    assert!(scratch.cell().join("node-4/node.toml").exists(), "what is there stays");
}

#[test]
fn what_belongs_to_others_is_not_touched() {
    let scratch = Scratch::new("others");
    let cell = scratch.cell();
    fs::create_dir(&cell).unwrap();
    fs::write(cell.join("letter"), "dear").unwrap();
    let error = init(&file(SAMPLE), &cell).unwrap_err();
    assert!(matches!(error, CellDirectoryError::NotACell { .. }), "{error}");
    fs::remove_file(cell.join("letter")).unwrap();

    init(&file(SAMPLE), &cell).unwrap();
    let before = texts(&cell);
    let other = init(&file(&SAMPLE.replace("5a1ce5a1-ce5a", "5a1ce5a1-0000")), &cell).unwrap_err();
    assert!(matches!(other, CellDirectoryError::OtherCell { .. }), "{other}");

    // An identity of another authority, or of another process, in a known place.
    let foreign = scratch.0.join("foreign");
    init(&file(SAMPLE), &foreign).unwrap();
    let place = cell.join("node-3/node.toml");
    for text in [
        fs::read_to_string(foreign.join("node-3/node.toml")).unwrap(),
        before[&cell.join("node-2/node.toml")].clone(),
        "id = 3".into(),
    ] {
        fs::write(&place, &text).unwrap();
        let error = init(&file(&SAMPLE.replace("held_ms = 10000", "held_ms = 9000")), &cell).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{}: ", place.display())), "{error}");
        let mut expected = before.clone();
        expected.insert(place.clone(), text);
        assert_eq!(texts(&cell), expected, "something was written");
    }
}
