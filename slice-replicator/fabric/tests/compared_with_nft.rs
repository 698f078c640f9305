//! The kernel's copy of the table, as the `nft` program prints it: a second reader of what the encoder wrote.
#![allow(clippy::unwrap_used)]

mod bed;

use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use bed::{Bed, CLIENT, PORT, can_run};
use escape_fabric::fabric::{Flow, GroupPlace};
use escape_fabric::netns::{NetNs, enter_fd};

/// Runs `nft` in a namespace; `None` if this machine has none.
fn nft(namespace: &NetNs, arguments: &[&str]) -> Option<Output> {
    let fd = namespace.as_fd().as_raw_fd();
    let mut command = Command::new("nft");
    command.args(arguments);
    // SAFETY: enter_fd makes one system call and nothing else, which is allowed between fork and exec.
    unsafe { command.pre_exec(move || enter_fd(fd)) };
    match command.output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: the program `nft` (package nftables) is not installed");
            None
        }
        Err(error) => panic!("nft: {error}"),
    }
}

#[test]
fn the_table_reads_as_it_was_meant() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(2);
    let mut fabric = bed.install();
    fabric.apply(&[GroupPlace { group: 4, owner: Some(0), mirror: Some(1) }]).unwrap();
    fabric.set_flows(&[(Flow::new(CLIENT, 4_000, PORT), 4)]).unwrap();
    fabric.set_buckets(&[(17, 4)]).unwrap();
    let Some(output) = nft(&bed.namespace, &["--numeric", "list", "table", "netdev", "escape"]) else { return };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let wanted = [
        "size 65536",
        "elements = { 10.9.0.2 . 4000 . 8080 : 0x00000005 }",
        "elements = { 0x00000011 : 0x00000005 }",
        "elements = { 0x00000005 : \"data0\" }",
        "elements = { 0x00000005 : \"mirror1\" }",
        "elements = { 0x00000005 . \"data0\" }",
        "type filter hook ingress device \"uplink\" priority 0; policy drop;",
        "type filter hook ingress devices = { data0, mirror0 } priority 0; policy drop;",
        "th sport . th dport map @pair goto steer",
        "th sport . th dport mod 4096 seed 0x5eed1234 map @bucket goto learn",
        ": meta mark } counter name \"placed\" goto steer",
        "counter name \"mirrored\" dup to meta mark map @mirror",
        "counter name \"steered\" fwd to meta mark map @owner",
        "counter name \"dropped_of_node_0\" drop",
        "meta mark . iif @may_send counter name \"sent_by_node_0\" fwd to \"uplink\"",
    ];
    let missing: Vec<_> = wanted.iter().filter(|line| !text.contains(**line)).collect();
    assert!(missing.is_empty(), "missing {missing:#?} in\n{text}");
}

/// The same steps, written for `nft`. Sets and seed are those of [`Bed`].
const WRITTEN_FOR_NFT: &str = "table netdev escape {
    map pair { type ipv4_addr . inet_service . inet_service : mark; flags dynamic; size 65536; }
    map bucket { type mark : mark; size 4096; }
    map owner { type mark : iface_index; size 4096; }
    map mirror { type mark : iface_index; size 4096; }
    set may_send { type mark . iface_index; size 4096; }
    set service_ports { type inet_service; size 1000; }
    chain steer {
        dup to meta mark map @mirror
        fwd to meta mark map @owner
    }
    chain learn { update @pair { ip saddr . tcp sport . tcp dport : meta mark } goto steer; }
    chain place {
        meta mark set ip saddr . tcp sport . tcp dport map @pair goto steer
        ip frag-off & 0x3fff == 0
        ip frag-off & 0x3fff != 0 drop
        tcp flags & (fin|syn|rst|ack) == syn tcp dport @service_ports goto learn
        tcp dport @service_ports drop
        ip daddr != 10.9.0.1 drop
        ip protocol icmp drop
        ip protocol != tcp drop
        ether type arp accept
    }
    chain permit {
        meta mark set ip daddr . tcp dport . tcp sport map @pair meta mark . iif @may_send
        ether saddr 02:ec:00:00:00:01
        ip saddr 10.9.0.1
    }
}";

/// The steps of each rule in a `--debug=netlink` listing. Left out: register numbers, which chain a rule goes on in,
/// counters, and the checks of protocol and interface type that `nft` puts before a field and the fabric makes otherwise.
fn rules(listing: &str) -> Vec<Vec<String>> {
    let mut rules: Vec<Vec<String>> = Vec::new();
    let mut skip_comparison = false;
    for line in listing.lines() {
        let step = line.trim();
        if step.starts_with("netdev escape ") {
            rules.push(Vec::new());
        } else if step.starts_with("[ ") && !step.starts_with("[ objref") {
            let implied = ["protocol", "l4proto", "iiftype"].map(|key| format!("[ meta load {key} "));
            let is_implied = implied.iter().any(|start| step.starts_with(start.as_str()));
            let is_its_comparison = skip_comparison && step.starts_with("[ cmp eq");
            if !is_implied && !is_its_comparison {
                rules.extend(rules.is_empty().then(Vec::new));
                rules.last_mut().unwrap().push(without_names(step));
            }
            skip_comparison = is_implied;
        }
    }
    rules.retain(|rule| !rule.is_empty());
    rules
}

fn without_names(step: &str) -> String {
    let step = step.split(" -> ").next().unwrap();
    let mut words = Vec::new();
    let mut after_register = false;
    for word in step.split([' ', '(']) {
        words.push(if after_register { "#" } else { word });
        after_register = matches!(word, "reg" | "dreg" | "reg_key" | "sreg_data" | "sreg_dev");
    }
    words.join(" ")
}

#[test]
fn each_rule_of_nft_is_part_of_one_of_ours() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(1);
    let _fabric = bed.install();
    let list = ["--debug=netlink", "list", "table", "netdev", "escape"];
    let Some(ours) = nft(&bed.namespace, &list) else { return };
    let other = NetNs::create().unwrap();
    let made = nft(&other, &[WRITTEN_FOR_NFT]).unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let theirs = nft(&other, &list).unwrap();
    let (ours, theirs) =
        (rules(&String::from_utf8_lossy(&ours.stdout)), rules(&String::from_utf8_lossy(&theirs.stdout)));
    assert_eq!(theirs.len(), 15, "{theirs:#?}");
    for rule in &theirs {
        let known = ours.iter().any(|our| our.windows(rule.len()).any(|steps| steps == rule));
        assert!(known, "not among ours: {rule:#?}\n{ours:#?}");
    }
}
