//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::drill::{Break, Fault};
use crate::exit::EXIT_CODES_HELP;
use crate::operator::Session;

/// Sessions that outlive their machine.
#[derive(Clone, Debug, Parser)]
#[command(name = "escape", version, about, after_help = EXIT_CODES_HELP, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Boot one guest by itself, without a cell
    Boot {
        /// The image file (TOML); samples with every default are images/freestanding.toml and images/linux/debian.toml
        image: PathBuf,
        /// At the end, print when each step of the boot was done (JSON, the last line)
        #[arg(long)]
        times: bool,
    },
    /// Connect standard input and output to a port of a Linux guest, through its `vsock` socket
    #[command(after_help = EXIT_CODES_HELP)]
    Connect {
        /// The socket that the image file names as `vsock`
        socket: PathBuf,
        /// The guest's port; the agent has a shell on 1023 and a report on 1024
        #[arg(default_value_t = 1023)]
        port: u32,
    },
    /// Run one node of a cell
    Node(PartArgs),
    /// Run the edge of a cell: it steers client flows to nodes
    Edge(PartArgs),
    /// Run the orchestrator of a cell
    Orchestrator(PartArgs),
    /// Say how a cell is: its nodes, groups and slices, and the last failover
    #[command(after_help = EXIT_CODES_HELP)]
    Status(StatusArgs),
    /// Move a live session to the node that stands by for it, which that one then does for it
    #[command(after_help = EXIT_CODES_HELP)]
    Move(MoveArgs),
    /// Start a cell on this machine, break a node under load, and judge what the clients saw
    #[command(after_help = EXIT_CODES_HELP)]
    Drill(DrillArgs),
    /// Measure
    Bench {
        /// What to measure
        #[command(subcommand)]
        what: Bench,
    },
    /// Check what this machine lacks, and say how to mend it
    #[command(after_help = EXIT_CODES_HELP)]
    Doctor {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make what the processes of a cell need
    Cell {
        /// What to make
        #[command(subcommand)]
        what: Cell,
    },
    /// Make and look at images of Linux guests
    Image {
        /// What to do
        #[command(subcommand)]
        what: Image,
    },
    /// Look at configuration files
    Config {
        /// What to do with them
        #[command(subcommand)]
        what: Config,
    },
}

/// What to do with an image.
#[derive(Clone, Debug, Subcommand)]
pub enum Image {
    /// Make kernel and initial file system of Debian's packages, with SHA256SUMS beside them
    Build {
        /// The image file (TOML); a sample with every default is images/linux/debian.toml
        file: PathBuf,
    },
    /// Say what an image is and what it lacks (exit code 1 if it lacks something)
    Inspect {
        /// The image file (TOML)
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A part of a cell.
#[derive(Args, Clone, Debug)]
pub struct PartArgs {
    /// This process's configuration (TOML)
    pub config: PathBuf,
}

/// What a drill's file says; without a file, the command line does.
const PLAIN_DRILL_OPTIONS: [&str; 7] =
    ["sessions", "generators", "fault", "rounds", "requests_per_second", "churn", "seconds"];

/// Options of `escape status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// An operator's configuration, from `escape cell init`
    #[arg(default_value = "operator/operator.toml")]
    pub config: PathBuf,
    /// A slice on one copy for longer than this many seconds is a failed check (exit code 1)
    #[arg(long, value_name = "S", default_value_t = 5, value_parser = clap::value_parser!(u64).range(0..=86_400))]
    pub unprotected_limit: u64,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `escape move`.
#[derive(Args, Clone, Debug)]
pub struct MoveArgs {
    /// The session: its client's ADDRESS:PORT, or its slice's SLOT:INCARNATION as the events tell it
    pub session: Session,
    /// The node that it is to be on: refused if that is not its standby (default: its standby, whichever that is)
    #[arg(long, value_name = "ID")]
    pub to: Option<u16>,
    /// An operator's configuration, from `escape cell init`
    #[arg(long, value_name = "FILE", default_value = "operator/operator.toml")]
    pub config: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `escape drill`.
#[derive(Args, Clone, Debug)]
pub struct DrillArgs {
    /// A drill file (TOML; a sample with every default is docs/drill.toml), or the name of a shipped drill
    #[arg(conflicts_with_all = PLAIN_DRILL_OPTIONS)]
    pub file: Option<PathBuf>,
    /// Hold all shipped drills and print one table
    #[arg(long, conflicts_with_all = PLAIN_DRILL_OPTIONS, conflicts_with = "file")]
    pub all: bool,
    /// No fault that is given a time lasts longer, seconds [default: 10 with --all; as its file says otherwise]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub longest: Option<u64>,
    /// Client sessions
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub sessions: u32,
    /// Threads that the sessions are shared out to, at least; there are more where one may not have so many open files
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=16))]
    pub generators: u32,
    /// What happens to a node [default: kill; stop with --break old-epoch, which needs an old owner that wakes up]
    #[arg(long, value_enum)]
    pub fault: Option<Fault>,
    /// Faults, one after the other
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub rounds: u32,
    /// Seed of requests, node and moment [default: from the clock, and printed]
    #[arg(long, value_name = "S")]
    pub seed: Option<u64>,
    /// Requests per second and session
    #[arg(long, value_name = "R", default_value_t = 5.0, value_parser = rate)]
    pub requests_per_second: f64,
    /// Short sessions per second (open, three requests, close) beside the others
    #[arg(long, value_name = "R", default_value_t = 0.0, value_parser = rate)]
    pub churn: f64,
    /// Seconds of load after each fault, once all is well again
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(0..=3_600))]
    pub seconds: u64,
    /// Switch one safeguard off: the drill must then end with "fail"
    #[arg(long = "break", value_enum, value_name = "SAFEGUARD")]
    pub broken: Option<Break>,
    /// Print the report as JSON
    #[arg(long)]
    pub json: bool,
}

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
pub enum Bench {
    /// What slices add to the latency of a request
    Latency {
        /// Rounds; each has 200 requests of every kind
        #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        rounds: u32,
        /// CPUs of the nodes' data threads, in turn, such as 0,1 [default: the kernel chooses]
        #[arg(long, value_name = "LIST", value_delimiter = ',')]
        cpus: Vec<u16>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What a checkpoint puts on the link for the lines that it brings
    Wire {
        /// Seconds of requests
        #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What a session costs in memory, at its owner and at its standby
    Memory {
        /// Sessions
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
        sessions: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Requests per second with slices and without, and the processor time of each
    Throughput {
        /// Sessions
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(10..=10_000))]
        sessions: u32,
        /// Rounds
        #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
        rounds: u32,
        /// Seconds that are counted of each load
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=600))]
        seconds: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Detection, flip, plug and the clients' gap, by the number of sessions
    Failover {
        /// Numbers of sessions, one cell each
        #[arg(
            long,
            value_name = "LIST",
            value_delimiter = ',',
            default_value = "10,100,1000,10000",
            value_parser = clap::value_parser!(u32).range(10..=20_000)
        )]
        sessions: Vec<u32>,
        /// Seconds after which no further cell is started
        #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        seconds: u64,
        /// Seed of requests, node and moment
        #[arg(long, value_name = "S", default_value_t = 1)]
        seed: u64,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// What a client notices of a move of its live session
    Move {
        /// Moves
        #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        moves: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// A kernel's TCP connections: out of their sockets and into new ones
    TcpCapsule {
        /// Connections
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        connections: u32,
        /// Threads that restore them
        #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
        threads: u32,
        /// Bytes of each that its program has not read
        #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(0..=60_000))]
        unread: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// From exec to the guest's first answer
    Boot {
        /// Boots, one after the other
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        runs: u32,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What to make of a replication file.
#[derive(Clone, Debug, Subcommand)]
pub enum Cell {
    /// Make the cell's authority, and for each process a directory with its configuration and keys; add to it what the file
    /// has and it has not
    #[command(after_help = EXIT_CODES_HELP)]
    Init(CellInitArgs),
}

/// Options of `escape cell init`.
#[derive(Args, Clone, Debug)]
pub struct CellInitArgs {
    /// The replication file (TOML); a sample with every default is docs/replication.toml
    pub file: PathBuf,
    /// The cell's directory: it holds the authority and stays on this machine
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What to do with configuration files.
#[derive(Clone, Debug, Subcommand)]
pub enum Config {
    /// Say what is wrong with a file, and where
    #[command(after_help = EXIT_CODES_HELP)]
    Check {
        /// A replication file, an image file or a drill file (told apart by its keys)
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// A rate per second: 0 to a million.
fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1e6).contains(&rate) { Ok(rate) } else { Err("must be between 0 and 1000000".into()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_fault_and_safeguard_has_its_documented_name() {
        for fault in ["kill", "stop", "link", "guest", "spin"] {
            Cli::try_parse_from(["escape", "drill", "--fault", fault]).unwrap();
        }
        let safeguards = [
            "early-release",
            "ack-before-apply",
            "old-epoch",
            "flip-before-gate",
            "cas-before-sync",
            "no-mirror",
            "reuse-slot",
        ];
        for safeguard in safeguards {
            Cli::try_parse_from(["escape", "drill", "--break", safeguard, "--json"]).unwrap();
        }
    }

    #[test]
    fn a_drill_file_and_options_of_a_drill_without_one_exclude_each_other() {
        for right in [&["kill"][..], &["--all", "--json"], &["a.toml", "--seed", "3", "--longest", "5"]] {
            Cli::try_parse_from(["escape", "drill"].iter().chain(right)).unwrap();
        }
        for wrong in [&["kill", "--rounds", "2"][..], &["--all", "--fault", "kill"], &["--all", "kill"]] {
            assert!(Cli::try_parse_from(["escape", "drill"].iter().chain(wrong)).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for bad in [["--sessions", "0"], ["--rounds", "0"], ["--requests-per-second", "-1"], ["--seed", "x"]] {
            assert!(Cli::try_parse_from(["escape", "drill"].into_iter().chain(bad)).is_err(), "{bad:?}");
        }
    }
}
