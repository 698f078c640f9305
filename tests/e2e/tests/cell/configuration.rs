//! Wrong configuration files: the message tells file, line and key, the exit code is 2, and nothing is started.

use super::escape;
use super::tidy::Directory;
use escape_link::ClusterAuthority;
use escape_node::NodeConfig;
use escape_proto::{NodeId, Role};
use std::path::Path;

/// Exit code for wrong files: an interface for scripts.
const WRONG: i32 = 2;

/// Unknown keys and impossible values, for `escape config check` and for `escape node`.
pub fn wrong_files() {
    let directory = Directory::new("configuration");
    let mut refused = 0;
    let sample = include_str!("../../../../docs/replication.toml");
    refused +=
        told(&directory, &["config", "check"], &format!("{sample}\nspeed_of_light = 3\n"), "speed_of_light", true);
    let first_key = sample.lines().find(|line| line.starts_with(|c: char| c.is_ascii_lowercase())).unwrap();
    let key = first_key.split('=').next().unwrap().trim();
    let wrong_type = sample.replacen(first_key, &format!("{key} = [[{{}}]]"), 1);
    refused += told(&directory, &["config", "check"], &wrong_type, "invalid type", true);
    refused += told(&directory, &["config", "check"], "= this is no TOML\n", "", true);

    let node = node_config();
    refused += told(&directory, &["node"], &format!("speed_of_light = 3\n{node}"), "speed_of_light", true);
    for (right, wrong, key, tells_line) in [
        ("id = 1", "id = 70000", "70000", true),
        ("id = 1", "id = \"one\"", "one", true),
        ("id = 1", "id = 1\nid = 1", "duplicate key", true),
        ("id = 1", "id = 40", "id: 40 is out of range (0 to 31)", false),
        ("n_slots = 192", "n_slots = 100", "n_slots: 100 is impossible (a multiple of 64 up to 65536)", false),
        ("n_slots = 192", "n_slots = 4294967295", "n_slots", false),
        ("ram_mib = 64", "ram_mib = 1", "ram_mib: 1 is impossible", false),
        ("http_port = 80", "http_port = 7777", "ports 7777 and 7777 must differ", false),
        ("http_port = 80", "http_port = 80000", "80000", true),
        ("suspect_after_ms = 12", "suspect_after_ms = 3", "suspect_after_ms (3) must exceed heartbeat_ms (3)", false),
        (
            "n_slots = 192\nleases = 1\nram_mib = 64\n\n[service]",
            "replication = false\nn_slots = 192\nleases = 1\nram_mib = 64\n\n[service]\nslice_per_client = true",
            "slice_per_client needs replication",
            false,
        ),
        ("listen = \"127.0.0.1:7400\"", "listen = \"nowhere\"", "socket address", true),
    ] {
        assert!(node.contains(right), "{right:?} is not in\n{node}");
        refused += told(&directory, &["node"], &node.replacen(right, wrong, 1), key, tells_line);
    }
    assert_eq!(escape(&["node", "/no/such/file.toml"]).output().unwrap().status.code(), Some(WRONG));
    println!("{refused} wrong files refused");
}

/// The command refuses this text and says why and where; returns 1, for counting.
fn told(directory: &Directory, command: &[&str], text: &str, key: &str, tells_line: bool) -> u32 {
    let file = directory.file("wrong.toml");
    std::fs::write(&file, text).unwrap();
    let output = escape(command).arg(&file).output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert_eq!(output.status.code(), Some(WRONG), "{command:?}: {said}");
    assert!(said.contains(key), "{command:?} does not name {key:?}: {said}");
    assert!(said.contains(file.to_str().unwrap()), "{command:?} does not name the file: {said}");
    assert!(!said.contains("panicked"), "{said}");
    assert!(!tells_line || names_a_line(&said, &file), "{command:?} tells no line: {said}");
    1
}

/// `FILE:LINE:` as compilers write it, or `line LINE`.
fn names_a_line(said: &str, file: &Path) -> bool {
    let number_follows = |after: &str| {
        said.match_indices(after).any(|(at, found)| said[at + found.len()..].starts_with(|c: char| c.is_ascii_digit()))
    };
    number_follows(&format!("{}:", file.display())) || number_follows("line ")
}

/// A node's configuration in which nothing is wrong.
fn node_config() -> String {
    let secrets = ClusterAuthority::new("e2e").unwrap().issue(Role::Node(NodeId(1))).unwrap();
    let text = format!("{NODE}\n[secrets]\n{}", toml::to_string(&secrets).unwrap());
    let config: NodeConfig = toml::from_str(&text).unwrap();
    config.check().unwrap();
    text
}

const NODE: &str = r#"
id = 1
host = "host-1"
listen = "127.0.0.1:7400"
orchestrator = "127.0.0.1:7402"
edge = "127.0.0.1:7403"
beat_listen = "127.0.0.1:7401"
beats_to = []
tap = { name = "none0" }
n_slots = 192
leases = 1
ram_mib = 64

[service]
ip = "10.0.0.1"
mac = [2, 0, 0, 0, 0, 1]
http_port = 80
stream_port = 7777
idle_timeout_s = 0

[timing]
heartbeat_ms = 3
suspect_after_ms = 12
"#;
