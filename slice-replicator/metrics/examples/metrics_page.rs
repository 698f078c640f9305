//! Prints `docs/metrics.md`.

fn main() {
    print!("{}", escape_metrics::page());
}
