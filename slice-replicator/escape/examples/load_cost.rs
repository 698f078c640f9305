//! What the load generator itself costs: processor time per request, against the fake service of the tests.
//! `cargo run --release -p escape --example load_cost [SESSIONS [REQUESTS_PER_SECOND [SECONDS]]]`
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/fake_service.rs"]
mod fake_service;
#[path = "../tests/support/misbehaviour.rs"]
mod misbehaviour;

use std::time::Duration;

use escape::load::{LoadHandle, LoadPlan};

fn main() {
    let numbers: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let number = |index: usize, default: u64| numbers.get(index).copied().unwrap_or(default);
    let mut service = fake_service::FakeService::start(misbehaviour::Misbehaviour::None, true);
    let plan = LoadPlan {
        requests_per_second: number(1, 5) as f64,
        ..LoadPlan::new(service.http, service.stream, number(0, 1_000) as usize, 1)
    };
    let load = LoadHandle::start(plan, || Box::new(|| Ok(()))).unwrap();
    load.wait_open(Duration::from_secs(60)).unwrap();
    std::thread::sleep(Duration::from_secs(number(2, 10)));
    let outcome = load.finish().unwrap();
    service.stop();
    println!(
        "{} requests, {:.2} µs of processor each, {} held back, {:?}; latency p50 {} µs, p99 {} µs",
        outcome.requests,
        outcome.cpu_us_per_request(),
        outcome.held_back,
        outcome.tally(),
        outcome.latency_us.value_at_quantile(0.5),
        outcome.latency_us.value_at_quantile(0.99),
    );
}
