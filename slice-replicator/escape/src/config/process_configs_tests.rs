//! File defaults are code defaults, the documents tell the same numbers, and every key arrives.
#![allow(clippy::unwrap_used)]

use super::*;
use escape_link::ClusterAuthority;
use escape_proto::{NodeId, Role};

const SAMPLE: &str = include_str!("../../../../docs/replication.toml");
const LIMITS: &str = include_str!("../../../../docs/limits.md");

fn parse(text: &str) -> ReplicationFile {
    ReplicationFile::parse(Path::new("cell.toml"), text).unwrap()
}

fn secrets(role: Role) -> ClusterSecrets {
    ClusterAuthority::new("test").unwrap().issue(role).unwrap()
}

fn first_node(file: &ReplicationFile) -> NodeConfig {
    let node = file.nodes.first().unwrap();
    file.node_config(node, secrets(Role::Node(NodeId(node.id))))
}

/// As TOML, which is how processes read them.
fn orchestrator(file: &ReplicationFile) -> toml::Table {
    toml::Table::try_from(file.orchestrator_config(secrets(Role::Orchestrator))).unwrap()
}

fn edge(file: &ReplicationFile) -> toml::Table {
    toml::Table::try_from(file.edge_config(secrets(Role::Edge))).unwrap()
}

#[test]
fn the_files_defaults_are_the_codes_defaults() {
    let file = parse(SAMPLE);
    let node = first_node(&file);
    node.check().unwrap();
    assert_eq!(node.quotas, QuotaConfig::default());
    assert_eq!(node.timing, TimingConfig::default());
    let orchestrator = file.orchestrator_config(secrets(Role::Orchestrator));
    assert_eq!(orchestrator.timing, DetectionTiming::default());
    // What these two processes do where their files say nothing.
    for (config, keys) in [
        (
            self::orchestrator(&file),
            &["groups_per_node", "leases_per_join_max", "claim_ms", "slice_crashes_per_minute"][..],
        ),
        (edge(&file), &["learned_expiry_s"]),
    ] {
        let mut short = config.clone();
        keys.iter().for_each(|key| assert!(short.remove(*key).is_some(), "{key}"));
        let again = match config.contains_key("store") {
            true => toml::Table::try_from(short.try_into::<OrchestratorProcessConfig>().unwrap()).unwrap(),
            false => toml::Table::try_from(short.try_into::<EdgeProcessConfig>().unwrap()).unwrap(),
        };
        assert_eq!(again, config);
    }
}

#[test]
fn the_page_of_limits_tells_the_same_numbers() {
    let quotas = parse(SAMPLE).quotas;
    assert_eq!(quotas.link_mbit, 10_000);
    let hold = QuotaConfig::default().hold_limits();
    let (kib, mib, s) = (quotas.held_kib_per_slice, quotas.held_mib_per_node, quotas.held_ms / 1000);
    for told in [
        format!("{kib} KiB or {} frames, {mib} MiB, {s} s", hold.slice_frames_max),
        format!("one window per flow, {} MiB per node", quotas.mirror_mib_per_node),
        format!("{} % of 10,000 Mbit/s", quotas.bulk_percent),
    ] {
        assert!(LIMITS.contains(&told), "docs/limits.md does not say {told:?}");
    }
}

/// The sample with one line in the place of the line that has this key.
fn with(line: &str) -> ReplicationFile {
    let key = line.split(" = ").next().unwrap();
    let is_it = |old: &&str| old.trim_start_matches("# ").split(" = ").next() == Some(key);
    let old = SAMPLE.lines().find(is_it).unwrap_or_else(|| panic!("no {key} in the sample"));
    parse(&SAMPLE.replacen(&format!("\n{old}\n"), &format!("\n{line}\n"), 1))
}

/// A line in the file, a key of the process's configuration, and the value that it must begin with.
type Arrival = (&'static str, &'static str, &'static str);

fn arrive(arrivals: &[Arrival], configuration: impl Fn(&ReplicationFile) -> toml::Table) {
    for (line, path, value) in arrivals {
        let found = at(&configuration(&with(line)), path);
        assert!(found.starts_with(value), "{line}: {path} = {found}");
    }
}

#[test]
fn every_key_arrives_at_the_node() {
    let node = |file: &ReplicationFile| toml::Table::try_from(first_node(file)).unwrap();
    let arrivals = [
        ("image = \"/srv/guest\"", "image", "\"/srv/guest\""),
        ("ram_mib = 128", "ram_mib", "128"),
        ("slots = 32768", "n_slots", "32768"),
        ("leases_per_node = 3", "leases", "3"),
        ("ip = \"10.1.2.3\"", "service.ip", "\"10.1.2.3\""),
        ("mac = \"02:00:00:00:00:09\"", "service.mac", "[2, 0, 0, 0, 0, 9]"),
        ("http_port = 81", "service.http_port", "81"),
        ("stream_port = 82", "service.stream_port", "82"),
        ("idle_timeout_s = 7", "service.idle_timeout_s", "7"),
        ("slice_per = \"client\"", "service.slice_per_client", "true"),
        ("heartbeat_ms = 4", "timing.heartbeat_ms", "4"),
        ("suspect_after_ms = 50", "timing.suspect_after_ms", "50"),
        ("progress_timeout_ms = 200", "timing.progress_timeout_ms", "200"),
        ("guest_timeout_ms = 90", "timing.guest_timeout_ms", "90"),
        ("guest_boot_ms = 5000", "timing.guest_boot_ms", "5000"),
        ("max_staleness_ms = 10", "timing.max_staleness_ms", "10"),
        ("pause_limit_ms = 30", "timing.pause_limit_ms", "30"),
        ("held_kib_per_slice = 256", "quotas.held_kib_per_slice", "256"),
        ("held_mib_per_node = 32", "quotas.held_mib_per_node", "32"),
        ("held_ms = 2000", "quotas.held_ms", "2000"),
        ("mirror_mib_per_node = 16", "quotas.mirror_mib_per_node", "16"),
        ("link_mbit = 1000", "quotas.link_mbit", "1000"),
        ("bulk_percent = 10", "quotas.bulk_percent", "10"),
        ("orchestrator = \"10.0.0.1:1\"", "orchestrator", "\"10.0.0.1:1\""),
        (
            "orchestrator_heartbeat = \"10.0.0.1:1\"",
            "beats_to",
            "[\"10.0.0.1:1\", \"127.0.0.1:7412\", \"127.0.0.1:7413\"]",
        ),
        ("edge = \"10.0.0.1:1\"", "edge", "\"10.0.0.1:1\""),
        ("id = 7", "id", "7"),
        ("host = \"delta\"", "host", "\"delta\""),
        ("control = \"10.0.0.1:1\"", "listen", "\"10.0.0.1:1\""),
        ("heartbeat = \"10.0.0.1:1\"", "beat_listen", "\"10.0.0.1:1\""),
        ("tap = \"t9\"", "tap.name", "\"t9\""),
        ("mirror = \"m9\"", "mirror.name", "\"m9\""),
        ("metrics = \"10.0.0.1:1\"", "metrics", "\"10.0.0.1:1\""),
        ("cpu = 1", "cpu", "1"),
    ];
    arrive(&arrivals, node);
}

#[test]
fn every_key_arrives_at_the_orchestrator() {
    let arrivals = [
        ("store = \"/srv/s\"", "store.path", "\"/srv/s\""),
        ("events = \"/srv/e\"", "events.path", "\"/srv/e\""),
        ("orchestrator_metrics = \"10.0.0.1:1\"", "metrics", "\"10.0.0.1:1\""),
        ("groups_per_node = 8", "groups_per_node", "8"),
        ("leases_per_node = 3", "leases_per_join_max", "3"),
        ("claim_ms = 5000", "claim_ms", "5000"),
        ("slice_crashes_per_minute = 9", "slice_crashes_per_minute", "9"),
        ("slots = 32768", "n_slots", "32768"),
        ("suspect_after_ms = 50", "timing.suspect_after_ms", "50"),
        ("progress_timeout_ms = 200", "timing.progress_timeout_ms", "200"),
        ("orchestrator = \"10.0.0.1:1\"", "listen", "\"10.0.0.1:1\""),
        ("orchestrator_heartbeat = \"10.0.0.1:1\"", "beat_listen", "\"10.0.0.1:1\""),
    ];
    arrive(&arrivals, orchestrator);
}

#[test]
fn every_key_arrives_at_the_edge() {
    let arrivals = [
        ("uplink = \"eth7\"", "uplink", "\"eth7\""),
        ("learned_expiry_s = 5", "learned_expiry_s", "5"),
        ("events = \"/srv/e\"", "events.path", "\"/srv/e\""),
        ("edge_metrics = \"10.0.0.1:1\"", "metrics", "\"10.0.0.1:1\""),
        ("edge = \"10.0.0.1:1\"", "listen", "\"10.0.0.1:1\""),
        ("http_port = 81", "tcp_ports", "[81, 9000]"),
        ("slice_per = \"client\"", "slice_per_client", "true"),
        ("edge_port = \"p9\"", "ports", "[{ data = \"p9\", mirror = \"node1m\", node = 1 }"),
        ("edge_mirror = \"p9\"", "ports", "[{ data = \"node1\", mirror = \"p9\", node = 1 }"),
    ];
    arrive(&arrivals, edge);
}

/// The value at `a.b`, as TOML writes it.
fn at(table: &toml::Table, path: &str) -> String {
    let mut value = toml::Value::Table(table.clone());
    for key in path.split('.') {
        value = value.get(key).cloned().unwrap_or_else(|| panic!("no {path} in {table}"));
    }
    value.to_string()
}
