//! What slices add to the latency of a request: floor, `none` and `slice`, interleaved in one run.
//!
//! - `none`: a cell of one node with replication off; its output leaves at once.
//! - `slice`: a cell of two nodes; every answer waits until the standby has acknowledged the state behind it.
//! - floor: what a round trip between the two nodes of that cell costs without any of our code.
//!
//! Both cells run all the time, each on its own network; one client connection at a time has a request in flight.

use super::cells::{OWNER, STANDBY, connect, start};
use super::error::BenchError;
use super::floor::{Exchange, Floor};
use super::latency_report::{LatencyCase, LatencyReport, WireSizes};
use super::percentiles::Percentiles;
use super::requests::Requests;
use crate::cell::{CellPlan, LocalCell};
use serde_json::Value;

const NS_PER_US: f64 = 1e3;

/// What is measured, and how often.
#[derive(Clone, Debug)]
pub struct LatencyPlan {
    /// Bytes that a request changes, case by case.
    pub changed_bytes: Vec<usize>,
    /// Requests of one kind before the next kind has its turn.
    pub block: usize,
    /// Blocks of each kind and case.
    pub rounds: usize,
    /// CPUs of the data threads, in turn; empty: the kernel chooses.
    pub cpus: Vec<u16>,
}

impl Default for LatencyPlan {
    /// 512 B and 4 KiB; 30 rounds of 200 requests.
    fn default() -> Self {
        Self { changed_bytes: vec![512, 4096], block: 200, rounds: 30, cpus: Vec::new() }
    }
}

/// Two cells, a connection to each, and the floor.
struct Bed {
    none: Requests,
    slice: Requests,
    floor: Floor,
    // Last: what is connected goes before what it is connected to.
    none_cell: LocalCell,
    slice_cell: LocalCell,
}

/// Measures.
///
/// # Errors
/// What could not be set up, or which answer was wrong.
pub fn measure_latency(plan: &LatencyPlan) -> Result<LatencyReport, BenchError> {
    let mut bed = Bed::make(plan)?;
    let cases = plan.changed_bytes.iter().map(|changed| bed.case(plan, *changed)).collect::<Result<_, _>>()?;
    Ok(LatencyReport { block: plan.block, cpus: plan.cpus.clone(), cases })
}

impl Bed {
    fn make(plan: &LatencyPlan) -> Result<Self, BenchError> {
        let cell = CellPlan { cpus: plan.cpus.clone(), ..CellPlan::new(16) };
        let mut none_cell =
            start("cell without replication", CellPlan { nodes: 1, replication: false, ..cell.clone() })?;
        let mut slice_cell = start("cell with a standby", CellPlan { nodes: 2, ..cell })?;
        let floor = Floor::open(slice_cell.network(), OWNER, STANDBY, &plan.cpus)?;
        let none = connect("cell without replication", &mut none_cell)?;
        let slice = connect("cell with a standby", &mut slice_cell)?;
        Ok(Self { none, slice, floor, none_cell, slice_cell })
    }

    fn case(&mut self, plan: &LatencyPlan, changed: usize) -> Result<LatencyCase, BenchError> {
        let sizes = self.warm_up(plan, changed)?;
        let exchange = Exchange { there: sizes.checkpoint, back: sizes.acknowledgement, count: plan.block };
        let (mut floor, mut none, mut slice) = (Vec::new(), Vec::new(), Vec::new());
        self.floor.run(exchange, &mut Vec::new())?;
        self.stages()?;
        for _ in 0..plan.rounds {
            self.none.dirty(changed, plan.block, &mut none)?;
            self.slice.dirty(changed, plan.block, &mut slice)?;
            self.floor.run(exchange, &mut floor)?;
        }
        let [none_us, slice_us, floor_us] =
            [&mut none, &mut slice, &mut floor].map(|s| Percentiles::of_ns(s, NS_PER_US));
        let [none_stages, owner_stages, standby_stages] = self.stages()?;
        Ok(LatencyCase {
            changed_bytes: changed,
            requests: slice.len(),
            floor_us,
            none_us,
            slice_us,
            added_over_floor: slice_us.added(&none_us, &floor_us),
            wire_bytes: sizes,
            none_stages,
            owner_stages,
            standby_stages,
        })
    }

    /// One block of each, and the sizes of what went over the link meanwhile.
    fn warm_up(&mut self, plan: &LatencyPlan, changed: usize) -> Result<WireSizes, BenchError> {
        self.none.dirty(changed, plan.block, &mut Vec::new())?;
        // The first of another size still change lines that the last of the former left.
        self.slice.dirty(changed, 16, &mut Vec::new())?;
        let before = [self.traffic(OWNER)?, self.traffic(STANDBY)?];
        self.slice.dirty(changed, plan.block, &mut Vec::new())?;
        let after = [self.traffic(OWNER)?, self.traffic(STANDBY)?];
        let mean = |[(m0, b0), (m1, b1)]: [(u64, u64); 2]| {
            let messages = m1.saturating_sub(m0).max(1);
            usize::try_from(b1.saturating_sub(b0).div_ceil(messages)).unwrap_or(0).max(1)
        };
        let [owner, standby] = [[before[0], after[0]], [before[1], after[1]]];
        let checkpoints = owner[1].0.saturating_sub(owner[0].0);
        Ok(WireSizes {
            checkpoint: mean(owner),
            acknowledgement: mean(standby),
            checkpoints_per_request: checkpoints as f64 / plan.block as f64,
        })
    }

    /// Messages and bytes that a node has sent over its commit links.
    fn traffic(&mut self, node: u16) -> Result<(u64, u64), BenchError> {
        let counters = self.slice_cell.ask(node, "counters").map_err(BenchError::setup("counters"))?;
        let links = counters.get("links").ok_or_else(|| BenchError::Answer {
            what: format!("counters of node {node}"),
            detail: "no figures of its links".into(),
        })?;
        let number = |key: &str| links.get(key).and_then(Value::as_u64).unwrap_or(0);
        Ok((number("messages_out"), number("bytes_out")))
    }

    /// What the nodes measured since the last call: the one without replication, owner, standby.
    fn stages(&mut self) -> Result<[Value; 3], BenchError> {
        let none = self.none_cell.ask(OWNER, "stages").map_err(BenchError::setup("stages"))?;
        let owner = self.slice_cell.ask(OWNER, "stages").map_err(BenchError::setup("stages"))?;
        let standby = self.slice_cell.ask(STANDBY, "stages").map_err(BenchError::setup("stages"))?;
        Ok([none, owner, standby])
    }
}
