//! A firewall in front of the clients that keeps track of their connections (T34): it lets in what belongs to one that they have opened, and
//! drops what its table finds impossible for it, windows and numbers included.

use super::process::enter;
use anyhow::{Context, Result, ensure};
use escape_fabric::netns::NetNs;
use serde_json::Value;
use std::io::Write;
use std::process::{Command, Stdio};

/// What it lets through, and what it counts.
const RULES: &str = "
table inet lab {
    counter established {}
    counter impossible {}
    counter unknown {}
    chain to_clients {
        type filter hook input priority filter; policy accept;
        ct state established,related counter name established accept
        ct state invalid counter name impossible drop
        meta l4proto tcp counter name unknown drop
    }
    chain from_clients {
        type filter hook output priority filter; policy accept;
        ct state invalid counter name impossible drop
    }
}
";

/// The firewall; it goes with its namespace.
#[derive(Debug)]
pub struct Firewall;

/// Frames so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Judged {
    /// Let in.
    pub established: u64,
    /// Dropped, either way: of a connection that is known, and impossible for it.
    pub impossible: u64,
    /// Dropped: of no connection that is known.
    pub unknown: u64,
}

impl Firewall {
    /// Stands in front of these clients from now on. `None`: this machine has no `nft`, or its kernel does not track connections.
    pub fn before(clients: &NetNs) -> Result<Option<Self>> {
        let mut nft = Command::new("nft");
        nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        enter(&mut nft, clients, &[]);
        let mut nft = match nft.spawn() {
            Ok(nft) => nft,
            Err(error) => {
                println!("lab: no firewall that tracks connections here: nft: {error}");
                return Ok(None);
            }
        };
        // What is wrong with the pipe, the program says.
        let _ = nft.stdin.take().context("nft's input")?.write_all(RULES.as_bytes());
        let said = nft.wait_with_output().context("nft")?;
        if !said.status.success() {
            println!("lab: no firewall that tracks connections here: {}", String::from_utf8_lossy(&said.stderr).trim());
        }
        Ok(said.status.success().then_some(Self))
    }

    /// What it has judged.
    pub fn judged(&self, clients: &NetNs) -> Result<Judged> {
        let mut nft = Command::new("nft");
        nft.args(["-j", "list", "counters", "table", "inet", "lab"]);
        enter(&mut nft, clients, &[]);
        let said = nft.output().context("nft")?;
        ensure!(said.status.success(), "nft: {}", String::from_utf8_lossy(&said.stderr));
        let told: Value = serde_json::from_slice(&said.stdout).context("what nft says")?;
        let packets = |name: &str| {
            let counters = told.get("nftables").and_then(Value::as_array).into_iter().flatten();
            let mut counters = counters.filter_map(|object| object.get("counter"));
            let counter = counters.find(|counter| counter.get("name").and_then(Value::as_str) == Some(name));
            counter.and_then(|counter| counter.get("packets")).and_then(Value::as_u64).context(name.to_owned())
        };
        Ok(Judged {
            established: packets("established")?,
            impossible: packets("impossible")?,
            unknown: packets("unknown")?,
        })
    }
}
