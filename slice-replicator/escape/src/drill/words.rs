//! The report for people.

use std::fmt::Write;

use super::drill_result::DrillResult;
use super::evidence::Evidence;
use super::plan::DrillPlan;
use super::verdict::{GAP_GOAL_P50_MS, GAP_GOAL_P99_MS, Verdict};

/// The whole report as text.
pub fn tell(result: &DrillResult, plan: &DrillPlan) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (number, round) in result.rounds.iter().enumerate() {
        let _ = tell_round(&mut text, number + 1, round, plan);
    }
    let _ = tell_verdict(&mut text, &result.verdict(), &result.rounds);
    let _ = tell_load(&mut text, result, plan);
    text
}

fn tell_round(text: &mut String, number: usize, round: &Evidence, plan: &DrillPlan) -> std::fmt::Result {
    let injuries: Vec<String> = round.injuries.iter().map(ToString::to_string).collect();
    writeln!(text, "Round {number}: {}", injuries.join(", "))?;
    if round.failover_expected {
        tell_moment(text, round, plan.wanted_in_flight())?;
    }
    for step in &round.timeline.steps {
        let node = step.node.map_or(String::new(), |node| format!(" (node {node})"));
        writeln!(text, "  {:>10.3} ms  {}{node}", step.t_ms, step.event.words())?;
    }
    match (round.timeline.detect_ms, &round.timeline.detected_by) {
        (Some(ms), Some(by)) => writeln!(text, "  detected after {ms:.1} ms by {by}")?,
        _ => writeln!(text, "  no failover was seen")?,
    }
    if round.failover_expected {
        let (waited, gaps) = round.gaps_of_waiting();
        writeln!(
            text,
            "  {waited} sessions had a request due before the first was served again: they waited p50 {:.1} ms, p99 {:.1} ms, at most {:.1} ms",
            gaps.p50, gaps.p99, gaps.max
        )?;
    }
    for told in &round.quarantined {
        writeln!(text, "  note: {told}")?;
    }
    if round.lost.groups > 0 {
        writeln!(text, "  {} groups were lost, with them {} sessions", round.lost.groups, round.lost.sessions)?;
    }
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

fn tell_moment(text: &mut String, round: &Evidence, wanted: u64) -> std::fmt::Result {
    let load = &round.load;
    writeln!(
        text,
        "  {} of {} sessions on it; {} requests in flight ({} of them its own), {} frames held",
        load.on_failed_node, round.sessions, load.in_flight, load.in_flight_on_failed_node, round.held_frames
    )?;
    if !round.moment_found || load.in_flight < wanted {
        writeln!(text, "  note: fewer than {wanted} requests were in flight, or no frame was held: a weak test")?;
    }
    Ok(())
}

fn tell_verdict(text: &mut String, verdict: &Verdict, rounds: &[Evidence]) -> std::fmt::Result {
    for finding in &verdict.findings {
        let kept = if finding.kept { "kept  " } else { "BROKEN" };
        writeln!(text, "  {kept}  {:<36} {}", finding.promise.to_string(), finding.numbers)?;
    }
    if !rounds.iter().any(|round| round.failover_expected) {
        return Ok(());
    }
    let goal = if verdict.gap_goal_met { "met   " } else { "missed" };
    let gap = verdict.gap;
    writeln!(
        text,
        "  {goal}  {:<36} p50 {:.1} ms (goal {GAP_GOAL_P50_MS}), p99 {:.1} ms (goal {GAP_GOAL_P99_MS}), max {:.1} ms",
        "gap after detection", gap.p50, gap.p99, gap.max
    )
}

fn tell_load(text: &mut String, result: &DrillResult, plan: &DrillPlan) -> std::fmt::Result {
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
    for (client, told) in &result.told_of {
        writeln!(text, "  client {client}:")?;
        told.iter().try_for_each(|line| writeln!(text, "    {line}"))?;
    }
    writeln!(text, "seed {}", plan.seed)?;
    let word = if result.verdict().is_pass() { "PASS" } else { "FAIL" };
    writeln!(text, "verdict: {word}")
}

/// Violations told in words.
const VIOLATIONS_SHOWN: usize = 10;
