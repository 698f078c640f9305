//! One check.

use serde::Serialize;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// All is well.
    Fine,
    /// It works, but something is slower or impossible that need not be.
    Limited,
    /// Needed and not there.
    Missing,
}

/// What was looked at and what was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it ended.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do; empty if nothing.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

impl Check {
    /// All is well.
    pub fn fine(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Fine, found: found.into(), advice: String::new() }
    }

    /// It works, with a limit.
    pub fn limited(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Limited, found: found.into(), advice: advice.into() }
    }

    /// Needed and not there.
    pub fn missing(name: &'static str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { name, status: Status::Missing, found: found.into(), advice: advice.into() }
    }
}
