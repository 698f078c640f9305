//! The report for people.

use std::fmt::Write;

use super::drill_result::DrillResult;
use super::evidence::Evidence;
use super::options::DrillOptions;
use super::verdict::{GAP_GOAL_P50_MS, GAP_GOAL_P99_MS, Verdict};

/// The whole report as text.
pub fn tell(result: &DrillResult, options: &DrillOptions) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (number, round) in result.rounds.iter().enumerate() {
        let _ = tell_round(&mut text, number + 1, round, options);
    }
    let _ = tell_verdict(&mut text, &Verdict::of(&result.rounds));
    let _ = tell_load(&mut text, result, options);
    text
}

fn tell_round(text: &mut String, number: usize, round: &Evidence, options: &DrillOptions) -> std::fmt::Result {
    let load = &round.load;
    writeln!(text, "Round {number}: {} of node {}", options.fault, round.node)?;
    writeln!(
        text,
        "  {} of {} sessions on it; {} requests in flight ({} of them its own), {} frames held",
        load.on_failed_node, round.sessions, load.in_flight, load.in_flight_on_failed_node, round.held_frames
    )?;
    if !round.moment_found || load.in_flight < options.wanted_in_flight() {
        let wanted = options.wanted_in_flight();
        writeln!(text, "  note: fewer than {wanted} requests were in flight, or no frame was held: a weak test")?;
    }
    for step in &round.timeline.steps {
        writeln!(text, "  {:>10.3} ms  {} (node {})", step.t_ms, step.event.words(), step.node)?;
    }
    match (round.timeline.detect_ms, &round.timeline.detected_by) {
        (Some(ms), Some(by)) => writeln!(text, "  detected after {ms:.1} ms by {by}")?,
        _ => writeln!(text, "  no failover was seen")?,
    }
    let (waited, gaps) = round.gaps_of_waiting();
    writeln!(
        text,
        "  {waited} sessions had a request due before the first was served again: they waited p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
        gaps.p50, gaps.p99, gaps.max
    )?;
    match &round.reprotection {
        Some((found, ms)) => writeln!(
            text,
            "  {} slices protected again {ms:.0} ms after the fault; a slice rested on one copy for at most {:.0} ms\n",
            found.slices,
            found.unprotected.as_secs_f64() * 1e3
        ),
        None => writeln!(text, "  not protected again within the limit\n"),
    }
}

fn tell_verdict(text: &mut String, verdict: &Verdict) -> std::fmt::Result {
    for finding in &verdict.findings {
        let kept = if finding.kept { "kept  " } else { "BROKEN" };
        writeln!(text, "  {kept}  {:<36} {}", finding.promise.to_string(), finding.numbers)?;
    }
    let goal = if verdict.gap_goal_met { "met   " } else { "missed" };
    let gap = verdict.gap;
    writeln!(
        text,
        "  {goal}  {:<36} p50 {:.1} ms (goal {GAP_GOAL_P50_MS}), p99 {:.1} ms (goal {GAP_GOAL_P99_MS}), max {:.1} ms",
        "gap after detection", gap.p50, gap.p99, gap.max
    )
}

fn tell_load(text: &mut String, result: &DrillResult, options: &DrillOptions) -> std::fmt::Result {
    let load = &result.load;
    let latency = |quantile| load.latency_us.value_at_quantile(quantile) as f64 / 1e3;
    writeln!(
        text,
        "\n{} requests, latency from the scheduled sending p50 {:.2} ms, p99 {:.2} ms; generator {:.1} µs of processor per request",
        load.requests,
        latency(0.5),
        latency(0.99),
        load.cpu_us_per_request()
    )?;
    if load.held_back + load.churn_held_back > 0 {
        let (requests, sessions) = (load.held_back, load.churn_held_back);
        writeln!(
            text,
            "note: the load was not offered in full: {requests} requests, {sessions} short sessions held back"
        )?;
    }
    for violation in load.described.iter().take(VIOLATIONS_SHOWN) {
        writeln!(text, "  {violation}")?;
    }
    if load.described.len() > VIOLATIONS_SHOWN {
        writeln!(text, "  and more")?;
    }
    writeln!(text, "seed {}", options.seed)?;
    let word = if Verdict::of(&result.rounds).is_pass() { "PASS" } else { "FAIL" };
    writeln!(text, "verdict: {word}")
}

/// Violations told in words.
const VIOLATIONS_SHOWN: usize = 10;
