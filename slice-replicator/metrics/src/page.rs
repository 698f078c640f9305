//! The table as a page for people.

use crate::definition::Part;
use crate::table::TABLE;
use std::fmt::Write;

const HEAD: &str = "\
# Metrics

Each process tells what it counts in Prometheus' text format, where its configuration says `metrics = \"ADDRESS:PORT\"` (in the
replication file `orchestrator_metrics` and `edge_metrics` in `[control]`, `metrics` of a node). Off by default. Whoever reaches
the address may read; nothing can be changed there.
```
curl http://127.0.0.1:9400/metrics
```
Values are a quarter of a second old at most (the edge's: a second), and a thread of its own answers: asking takes no time of
the threads that work. Eight questions are served at once, each for two seconds at most; a ninth ends the oldest. Counters begin
anew with their process. The same values are in the answer to `counters` on a node's standard input. This page is made from the
table that defines them (`cargo run -p escape-metrics --example metrics_page`).
";

/// `docs/metrics.md`.
pub fn page() -> String {
    let mut text = HEAD.to_owned();
    section(&mut text, "Every process", |parts| parts.len() == Part::ALL.len());
    for part in Part::ALL {
        section(&mut text, &capitalised(part.name()), |parts| parts.len() < Part::ALL.len() && parts.contains(&part));
    }
    text
}

fn section(text: &mut String, title: &str, belongs: impl Fn(&[Part]) -> bool) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n## {title}\n| name | kind | label | what |\n|---|---|---|---|");
    for line in TABLE.iter().filter(|line| belongs(line.parts)) {
        let label = line.label.map(|label| format!("`{label}`")).unwrap_or_default();
        let _ = writeln!(text, "| `{}` | {} | {label} | {} |", line.name, line.kind.name(), line.help);
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_the_repository_is_this_one() {
        let written = include_str!("../../../docs/metrics.md");
        assert!(written == page(), "docs/metrics.md: make it anew with the command that it names");
    }
}
