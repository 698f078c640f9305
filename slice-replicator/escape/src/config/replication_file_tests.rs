//! The sample states every default; every rule names its line.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::line_index::{LineIndex, PathStep};

const SAMPLE: &str = include_str!("../../../../docs/replication.toml");

const MINIMAL: &str = r#"
[cell]
uuid = "5a1ce5a1-ce5a-41ce-85a1-ce5a1ce5a1ce"
[[nodes]]
id = 1
host = "alpha"
control = "127.0.0.1:7411"
[[nodes]]
id = 2
host = "beta"
control = "127.0.0.1:7412"
[[nodes]]
id = 3
host = "gamma"
control = "127.0.0.1:7413"
"#;

fn parse(text: &str) -> Result<ReplicationFile, ConfigErrors> {
    ReplicationFile::parse(Path::new("cell.toml"), text)
}

#[test]
fn the_sample_says_what_is_the_default_anyway() {
    assert_eq!(parse(SAMPLE).unwrap(), parse(MINIMAL).unwrap());
    let parsed = parse(MINIMAL).unwrap();
    assert_eq!((parsed.timings, parsed.quotas, parsed.service), Default::default());
    assert_eq!((parsed.control, parsed.edge), Default::default());
}

#[test]
fn the_sample_states_every_key() {
    let mut all = parse(MINIMAL).unwrap();
    all.nodes[0].cpu = Some(0);
    let somewhere = Some("127.0.0.1:9400".parse().unwrap());
    (all.nodes[0].metrics, all.control.orchestrator_metrics, all.control.edge_metrics) =
        (somewhere, somewhere, somewhere);
    let all: toml::Table = toml::Table::try_from(all).unwrap();
    // What has no default is a comment there.
    let sample = SAMPLE.replace("# cpu", "cpu").replace("# metrics", "metrics").replace("# orch", "orch");
    let sample = sample.replace("# edge_metrics", "edge_metrics");
    let lines = LineIndex::new(&sample);
    for (section, value) in &all {
        let first = value.as_array().and_then(|nodes| nodes.first());
        for key in first.unwrap_or(value).as_table().into_iter().flat_map(|table| table.keys()) {
            let mut path: Vec<PathStep> = vec![section.as_str().into(), key.as_str().into()];
            if first.is_some() {
                path.insert(1, 0.into());
            }
            assert!(lines.line_of(&path).is_some(), "{section}.{key} is not in the sample");
        }
    }
}

#[test]
fn unknown_keys_and_wrong_types_have_a_line() {
    let errors = parse(&MINIMAL.replace("[[nodes]]\nid = 2", "[[nodes]]\nidd = 2")).unwrap_err();
    assert_eq!(errors.problems[0].line, Some(9), "{errors}");
    assert!(errors.to_string().contains("idd"), "{errors}");
    let errors = parse(&format!("{MINIMAL}[timings]\nheartbeat_ms = \"3\"\n")).unwrap_err();
    assert_eq!(errors.problems[0].line, Some(17), "{errors}");
    assert!(parse("[cell\n").unwrap_err().problems[0].line.is_some());
}

/// `text` must be refused for exactly one reason, which names `key` and the given line and says `message`.
fn refused(text: &str, key: &str, line: usize, message: &str) {
    let errors = parse(text).unwrap_err();
    assert_eq!(errors.problems.len(), 1, "{errors}");
    let problem = &errors.problems[0];
    assert_eq!((problem.key.as_str(), problem.line), (key, Some(line)), "{errors}");
    assert!(problem.message.contains(message), "{errors}");
}

#[test]
fn every_rule_names_key_line_and_reason() {
    let with = |section: &str| format!("{MINIMAL}{section}\n");
    let cell = |line: &str| MINIMAL.replace("[[nodes]]\nid = 1", &format!("{line}\n[[nodes]]\nid = 1"));
    refused(&MINIMAL.replace("5a1ce5a1-", ""), "cell.uuid", 3, "UUID");
    refused(
        &MINIMAL.replace("5a1ce5a1-ce5a-41ce-85a1-ce5a1ce5a1ce", "00000000-0000-0000-0000-000000000000"),
        "cell.uuid",
        3,
        "zero",
    );
    refused(&cell("ram_mib = 2"), "cell.ram_mib", 4, "16 to 2030");
    refused(&cell("ram_mib = 65"), "cell.ram_mib", 4, "even");
    refused(&cell("slots = 16385"), "cell.slots", 4, "multiple of 64");
    refused(&cell("slots = 65600"), "cell.slots", 4, "out of range");
    refused(&cell("leases_per_node = 100"), "cell.leases_per_node", 4, "19200 slots");
    refused(&cell("groups_per_node = 0"), "cell.groups_per_node", 4, "1 to 64");
    refused(&cell("image = \"\""), "cell.image", 4, "freestanding");
    refused(&with("[service]\nip = \"127.0.0.1\""), "service.ip", 17, "cannot be");
    refused(&with("[service]\nmac = \"01:00:00:00:00:01\""), "service.mac", 17, "unicast");
    refused(&with("[service]\nhttp_port = 0"), "service.http_port", 17, "1 to 65535");
    refused(&with("[service]\nstream_port = 80"), "service.stream_port", 17, "HTTP port too");
    refused(&with("[timings]\nheartbeat_ms = 0"), "timings.heartbeat_ms", 17, "1 to 1000");
    refused(&with("[timings]\nheartbeat_ms = 21"), "timings.suspect_after_ms", 16, "two heartbeats");
    refused(&with("[timings]\nprogress_timeout_ms = 39"), "timings.progress_timeout_ms", 17, "suspect_after_ms (40)");
    refused(&with("[timings]\npause_limit_ms = 41"), "timings.pause_limit_ms", 17, "more than");
    refused(&with("[quotas]\nlink_mbit = 9"), "quotas.link_mbit", 17, "10 to");
    refused(&with("[quotas]\nbulk_percent = 0"), "quotas.bulk_percent", 17, "1 to 90");
    refused(&with("[quotas]\nheld_ms = 1"), "quotas.held_ms", 17, "50 to");
    refused(&MINIMAL.replace("5a1ce5a1-", "5A1CE5A1-"), "cell.uuid", 3, "a-f small");
    refused(&with("[timings]\nguest_timeout_ms = 9"), "timings.guest_timeout_ms", 17, "10 to");
    refused(&MINIMAL.replace("id = 2", "id = 1"), "nodes[1].id", 9, "twice");
    refused(&MINIMAL.replace("id = 2", "id = 32"), "nodes[1].id", 9, "more than 31");
    let one_host = MINIMAL.replace("beta", "alpha").replace("gamma", "alpha");
    refused(&one_host, "nodes", 4, "one host");
    let one_node = MINIMAL.split("[[nodes]]\nid = 2").next().unwrap();
    refused(one_node, "nodes", 4, "2 to 16");
}

#[test]
fn places_can_be_called_and_nothing_is_used_twice() {
    let with = |section: &str| format!("{MINIMAL}{section}\n");
    refused(&with("[control]\nedge = \"127.0.0.1:7400\""), "control.edge", 17, "by the orchestrator too");
    refused(&with("[control]\nedge = \"0.0.0.0:7401\""), "control.edge", 17, "could call");
    refused(&with("[control]\norchestrator = \"10.0.0.1:0\""), "control.orchestrator", 17, "port");
    refused(&with("[control]\nstore = \"\""), "control.store", 17, "file");
    refused(&MINIMAL.replace("7412", "7411"), "nodes[1].control", 11, "node 1 too");
    // The nodes' link ports may be those of others' heartbeats, but two cannot receive heartbeats on one port.
    refused(&with("heartbeat = \"127.0.0.1:7411\""), "nodes[2].heartbeat", 16, "node 1 too");
    assert!(parse(&with("heartbeat = \"127.0.0.1:7401\"")).is_ok());
    refused(&with("heartbeat = \"[fd00::1]:7401\""), "nodes[2].heartbeat", 16, "IPv4");
    refused(&MINIMAL.replace("beta", " "), "nodes[1].host", 10, "host");
    refused(&MINIMAL.replace("beta", "alpha "), "nodes[1].host", 10, "letters");
    refused(&with("[edge]\nuplink = \"no such name!\""), "edge.uplink", 17, "not usable");
    refused(&with("[edge]\nuplink = \"node2m\""), "nodes[1].edge_mirror", 8, "uplink");
    refused(&with("[edge]\nlearned_expiry_s = 86401"), "edge.learned_expiry_s", 17, "86400");
    refused(&with("tap = \"escape3m\""), "nodes[2].mirror", 12, "node 3 too");
    refused(&with("edge_port = \"node1\""), "nodes[2].edge_port", 16, "node 1 too");
    refused(&with("mirror = \"\""), "nodes[2].mirror", 16, "not usable");
    refused(&with("cpu = 1024"), "nodes[2].cpu", 16, "0 to 1023");
    refused(&with("metrics = \"127.0.0.1:7413\""), "nodes[2].metrics", 16, "node 3 too");
    refused(&with("metrics = \"0.0.0.0:9400\""), "nodes[2].metrics", 16, "could call");
    let both = "[control]\norchestrator_metrics = \"127.0.0.1:9400\"\nedge_metrics = \"127.0.0.1:9400\"";
    refused(&with(both), "control.edge_metrics", 18, "orchestrator_metrics too");
    // On another host this is another address.
    assert!(parse(&with("metrics = \"127.0.0.1:7412\"")).is_ok());
    // Names of interfaces are a host's own.
    assert!(parse(&with("tap = \"escape1\"")).is_ok());
}

#[test]
fn all_broken_rules_are_told_at_once() {
    let text = format!("{MINIMAL}[timings]\nheartbeat_ms = 0\nmax_staleness_ms = 0\n[quotas]\nbulk_percent = 99\n");
    assert_eq!(parse(&text).unwrap_err().problems.len(), 3);
}
