//! A reading of everything that a process counts.

use crate::table::{Metric, TABLE};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt::Write;

/// Values of metrics at one moment. Cheap to make: nothing is put into text before somebody asks.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reading {
    values: Vec<(Metric, Cow<'static, str>, f64)>,
}

impl Reading {
    /// A metric without label.
    pub fn set(&mut self, metric: Metric, value: f64) {
        self.values.push((metric, Cow::Borrowed(""), value));
    }

    /// The same for a whole number; beyond 2^53 the nearest that Prometheus knows.
    pub fn count(&mut self, metric: Metric, value: u64) {
        self.set(metric, value as f64);
    }

    /// The same for a duration that is counted in microseconds and told in seconds.
    pub fn micros(&mut self, metric: Metric, us: u64) {
        self.set(metric, us as f64 / 1e6);
    }

    /// One series of a metric with a label.
    pub fn count_of(&mut self, metric: Metric, label: impl Into<Cow<'static, str>>, value: u64) {
        self.values.push((metric, label.into(), value as f64));
    }

    /// Metrics that have a value.
    pub fn metrics(&self) -> impl Iterator<Item = Metric> {
        self.values.iter().map(|(metric, ..)| *metric)
    }

    /// In Prometheus' text format, version 0.0.4, in the order of the table.
    pub fn exposition(&self) -> String {
        let mut text = String::with_capacity(64 * self.values.len());
        for line in TABLE {
            let mut series = self.values.iter().filter(|(metric, ..)| *metric == line.metric).peekable();
            if series.peek().is_none() {
                continue;
            }
            // Writing to a String cannot fail.
            let _ = writeln!(text, "# HELP {0} {1}\n# TYPE {0} {2}", line.name, line.help, line.kind.name());
            for (_, label, value) in series {
                let _ = match line.label {
                    None => writeln!(text, "{} {value}", line.name),
                    Some(key) => writeln!(text, "{}{{{key}=\"{}\"}} {value}", line.name, escaped(label)),
                };
            }
        }
        text
    }

    /// As an object: a number by name, or for a metric with a label an object of numbers.
    pub fn to_json(&self) -> Value {
        let mut all = Map::new();
        for line in TABLE {
            let series = self.values.iter().filter(|(metric, ..)| *metric == line.metric);
            for (_, label, value) in series {
                match line.label {
                    None => {
                        all.insert(line.name.into(), number(*value));
                    }
                    Some(_) => {
                        let labels = all.entry(line.name).or_insert_with(|| Map::new().into());
                        if let Value::Object(labels) = labels {
                            labels.insert(label.to_string(), number(*value));
                        }
                    }
                }
            }
        }
        all.into()
    }
}

/// Whole numbers without a point.
fn number(value: f64) -> Value {
    if value.fract() == 0.0 && (0.0..9e15).contains(&value) { (value as u64).into() } else { value.into() }
}

fn escaped(label: &str) -> Cow<'_, str> {
    if !label.contains(['\\', '"', '\n']) {
        return Cow::Borrowed(label);
    }
    Cow::Owned(label.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn reading() -> Reading {
        let mut reading = Reading::default();
        reading.count_of(Metric::EdgeFramesSent, "1", 7);
        reading.count_of(Metric::EdgeFramesSent, "a\"b\\c\nd", 8);
        reading.micros(Metric::NodeHeldAge, 1_500_000);
        reading.count(Metric::NodeTurns, 12);
        reading
    }

    #[test]
    fn the_text_is_what_prometheus_reads() {
        let text = reading().exposition();
        let turns = "# TYPE escape_node_turns_total counter\nescape_node_turns_total 12\n";
        assert!(text.contains(turns), "{text}");
        assert!(text.contains("\nescape_node_held_age_seconds 1.5\n"), "{text}");
        assert!(text.contains("escape_edge_frames_sent_total{node=\"1\"} 7\n"), "{text}");
        assert!(text.contains("{node=\"a\\\"b\\\\c\\nd\"} 8\n"), "{text}");
        assert_eq!(text.matches("# TYPE escape_edge_frames_sent_total").count(), 1);
    }

    #[test]
    fn the_same_as_json() {
        let json = reading().to_json();
        assert_eq!(json["escape_node_turns_total"], json!(12));
        assert_eq!(json["escape_node_held_age_seconds"], json!(1.5));
        assert_eq!(json["escape_edge_frames_sent_total"]["1"], json!(7));
    }
}
