//! How long a failover takes at the edge.
#![allow(clippy::unwrap_used)]

mod bed;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use bed::frames::{ACK, from_client};
use bed::{Bed, PORT, can_run, on_new_and_old_kernels, spread};
use escape_fabric::fabric::{Fabric, Flow, GroupPlace};

const FLOWS: u32 = 10_000;
/// A flip must not come near the goal of a whole failover (p50 10 ms), on the slowest machine that tests run on.
const FLIP_LIMIT: Duration = Duration::from_millis(50);

fn flows(groups: u32) -> Vec<(Flow, u32)> {
    let flow = |n: u32| Flow::new(Ipv4Addr::from(0x0a01_0000 + n / 50), 1_000 + (n % 50) as u16, PORT);
    (0..FLOWS).map(|n| (flow(n), n % groups)).collect()
}

/// Flips all groups between nodes to and fro, and looks after each flip where a frame goes.
fn flip_many_times(bed: &mut Bed, fabric: &mut Fabric, groups: u32, rounds: u16) -> (Vec<Duration>, Vec<Duration>) {
    let sample = flows(groups)[0].0;
    let (mut kernel, mut whole) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let (owner, mirror) = (round % 3, (round + 1) % 3);
        let place = |group| GroupPlace { group, owner: Some(owner), mirror: Some(mirror) };
        let places: Vec<_> = (0..groups).map(place).collect();
        let begun = Instant::now();
        kernel.push(fabric.apply(&places).unwrap());
        whole.push(begun.elapsed());
        let frame = from_client(&sample, ACK);
        bed.uplink.send(&frame);
        bed.nodes[usize::from(owner)].data.must_receive(&frame);
        bed.nodes[usize::from(mirror)].mirror.must_receive(&frame);
    }
    (kernel, whole)
}

#[test]
fn groups_flip_in_one_transaction_whatever_the_number_of_flows() {
    on_new_and_old_kernels(|removal| {
        for groups in [16, 48] {
            let mut bed = Bed::removing(3, removal);
            let mut fabric = bed.install();
            let told = fabric.set_flows(&flows(groups)).expect("flows told");
            let begun = Instant::now();
            let again = fabric.set_flows(&flows(groups)).expect("flows told again");
            let whole = begun.elapsed();
            eprintln!("{FLOWS} flows in one transaction: {told:?} in the kernel, told again: {again:?} of {whole:?}");
            assert_eq!(fabric.flows().unwrap().len(), FLOWS as usize);

            let (kernel, whole) = flip_many_times(&mut bed, &mut fabric, groups, 60);
            eprintln!("flip of {groups} groups, {FLOWS} flows known: kernel {}", spread(kernel.clone()));
            eprintln!("                                        apply() {}", spread(whole));
            let mut sorted = kernel;
            sorted.sort_unstable();
            assert!(sorted[sorted.len() / 2] < FLIP_LIMIT, "half of the flips took longer than {FLIP_LIMIT:?}");
        }
    });
}

/// The kernel's hash table is moved to another size behind our back, and a walk over it meanwhile misses elements.
#[test]
fn a_list_of_flows_is_whole_right_after_great_changes() {
    if !can_run() {
        return;
    }
    let bed = Bed::new(1);
    let mut fabric = bed.install();
    let mut flows = flows(16);
    flows.sort_unstable();
    let keys: Vec<_> = flows.iter().map(|(flow, _)| *flow).collect();
    for round in 0..10 {
        fabric.set_flows(&flows).unwrap();
        assert!(fabric.flows().unwrap() == flows, "list of round {round} after adding");
        fabric.del_flows(&keys[10..]).unwrap();
        assert_eq!(fabric.flows().unwrap(), flows[..10], "list of round {round} after removing");
    }
}
