//! What the guest is, for programs on the host: one line of JSON.

use crate::error::AgentError;
use crate::vsock::Stream;
use escape_abi::layout::ARENA_BASE;
use std::fs::{self, File};
use std::io::Write;

/// Most characters of a fact.
const FACT_MAX: usize = 100;

/// Tells it.
///
/// # Errors
/// The host went away.
pub fn tell(stream: &Stream) -> Result<(), AgentError> {
    let mut to: File = stream.try_clone().map_err(AgentError::Tell)?.into();
    to.write_all(line().as_bytes()).map_err(AgentError::Tell)
}

fn line() -> String {
    let kernel = fact("/proc/sys/kernel/osrelease");
    let uptime = fact("/proc/uptime");
    let uptime_s = uptime.split(' ').next().and_then(|s| s.parse::<f64>().ok()).unwrap_or(0.0);
    let arena_bytes = escape_process::find_device(ARENA_BASE).map_or(0, |device| device.bytes());
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{{\"kernel\":\"{kernel}\",\"uptime_s\":{uptime_s},\"processors\":{processors},\"arena_bytes\":{arena_bytes}}}\n"
    )
}

/// A file of the kernel's, without what JSON would need to be escaped.
fn fact(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let plain = |c: &char| c.is_ascii_graphic() && !"\"\\".contains(*c) || *c == ' ';
    text.trim().chars().filter(plain).take(FACT_MAX).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_report_is_one_line_of_json() {
        let line = super::line();
        assert!(line.ends_with("}\n") && line.matches('\n').count() == 1);
        let kernel = line.strip_prefix("{\"kernel\":\"").and_then(|rest| rest.split('"').next());
        assert!(kernel.is_some_and(|kernel| kernel.contains('.')), "{line}");
    }
}
