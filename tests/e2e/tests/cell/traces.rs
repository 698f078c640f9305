//! What a program could leave behind on this machine.

use std::collections::BTreeSet;
use std::path::Path;

/// Names that exist now: interfaces of this network namespace, named namespaces, shared memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traces(BTreeSet<String>);

impl Traces {
    /// What is there.
    pub fn now() -> Self {
        let mut names = BTreeSet::new();
        for place in ["/sys/class/net", "/run/netns", "/dev/shm"] {
            names.extend(entries(Path::new(place)).into_iter().map(|name| format!("{place}/{name}")));
        }
        Self(names)
    }

    /// What is there now and was not there then.
    pub fn since(&self) -> Vec<String> {
        Self::now().0.difference(&self.0).cloned().collect()
    }
}

/// Names in a directory; none if there is no such directory.
pub fn entries(directory: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Living processes whose environment has this variable: children inherit it, and theirs too. Those that have ended and
/// only wait to be collected hold nothing any more and do not count.
pub fn processes_with(variable: &str) -> Vec<u32> {
    let ids = entries(Path::new("/proc")).into_iter().filter_map(|name| name.parse().ok());
    ids.filter(|id| has(*id, variable) && !has_ended(*id)).collect()
}

fn has(id: u32, variable: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes())
}

fn has_ended(id: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.starts_with(['Z', 'X']) || rest.is_empty())
}
