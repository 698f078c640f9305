//! All checks, in the order in which a user would stumble.

use std::fmt::Write;

use serde::Serialize;

use super::check::{Check, Status};
use super::{kvm, network, privileges, resources};

/// What was found on this machine.
#[derive(Clone, Debug, Serialize)]
pub struct Diagnosis {
    /// Whether nothing that is needed is missing.
    pub fit: bool,
    /// Every check.
    pub checks: Vec<Check>,
}

impl Diagnosis {
    /// Looks at this machine. Nothing is changed, nothing is left behind.
    pub fn make() -> Self {
        Self::of(vec![
            kvm::device(),
            kvm::capabilities(),
            kvm::guests(),
            network::tun(),
            privileges::capabilities(),
            network::namespace(),
            network::nf_tables(),
            privileges::real_time(),
            resources::cores(),
            resources::memory(),
            resources::open_files(),
        ])
    }

    fn of(checks: Vec<Check>) -> Self {
        let fit = checks.iter().all(|check| check.status != Status::Missing);
        Self { fit, checks }
    }

    /// Whether nothing that is needed is missing.
    pub fn is_fit(&self) -> bool {
        self.fit
    }

    /// The table for people.
    pub fn table(&self) -> String {
        let width = self.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
        let mut text = String::new();
        // Writing to a String cannot fail.
        for check in &self.checks {
            let status = match check.status {
                Status::Fine => "fine   ",
                Status::Limited => "limited",
                Status::Missing => "MISSING",
            };
            let _ = writeln!(text, "{status}  {:<width$}  {}", check.name, check.found);
            if !check.advice.is_empty() {
                let _ = writeln!(text, "         {:<width$}  → {}", "", check.advice);
            }
        }
        let missing = self.checks.iter().filter(|check| check.status == Status::Missing).count();
        let _ = match missing {
            0 => writeln!(text, "\nThis machine can run a cell."),
            count => writeln!(text, "\n{count} needed thing(s) missing."),
        };
        text
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_missing_makes_a_machine_unfit() {
        assert!(Diagnosis::of(vec![Check::fine("a", "b"), Check::limited("c", "d", "e")]).is_fit());
        let unfit = Diagnosis::of(vec![Check::fine("a", "b"), Check::missing("long name", "gone", "mend it")]);
        assert!(!unfit.is_fit());
        assert!(unfit.table().contains("MISSING  long name  gone"));
        assert!(unfit.table().contains("→ mend it"));
    }

    #[test]
    fn this_machine_gets_an_answer_to_every_check() {
        let diagnosis = Diagnosis::make();
        assert!(diagnosis.checks.iter().all(|check| !check.found.is_empty()), "{diagnosis:?}");
        let unmended = |check: &&Check| check.status != Status::Fine && check.advice.is_empty();
        assert_eq!(diagnosis.checks.iter().find(unmended), None, "what is wrong needs advice");
        let json = serde_json::to_value(&diagnosis).unwrap();
        assert_eq!(json["checks"].as_array().unwrap().len(), diagnosis.checks.len());
    }
}
