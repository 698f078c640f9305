//! The drills that come with the command.

use std::path::Path;

use super::drill_file::DrillFile;
use super::problem::ConfigErrors;

/// Names and texts, in the order in which `escape drill --all` holds them.
const SHIPPED: [(&str, &str); 13] = [
    ("kill", include_str!("../../../../tests/drills/kill.toml")),
    ("stop", include_str!("../../../../tests/drills/stop.toml")),
    ("standby", include_str!("../../../../tests/drills/standby.toml")),
    ("double", include_str!("../../../../tests/drills/double.toml")),
    ("rolling", include_str!("../../../../tests/drills/rolling.toml")),
    ("guest", include_str!("../../../../tests/drills/guest.toml")),
    ("cuts", include_str!("../../../../tests/drills/cuts.toml")),
    ("orchestrator", include_str!("../../../../tests/drills/orchestrator.toml")),
    ("store-away", include_str!("../../../../tests/drills/store-away.toml")),
    ("owner-and-standby", include_str!("../../../../tests/drills/owner-and-standby.toml")),
    ("both-paused", include_str!("../../../../tests/drills/both-paused.toml")),
    ("every-fault", include_str!("../../../../tests/drills/every-fault.toml")),
    ("soak", include_str!("../../../../tests/drills/soak.toml")),
];

/// Names of the shipped drills.
pub fn shipped_drills() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// A shipped drill; none has another name.
pub fn shipped_drill(name: &str) -> Option<Result<DrillFile, ConfigErrors>> {
    let (_, text) = SHIPPED.iter().find(|(shipped, _)| *shipped == name)?;
    Some(DrillFile::parse(Path::new(name), text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_shipped_drill_is_valid_and_has_a_title_of_its_own() {
        let mut titles: Vec<String> =
            shipped_drills().map(|name| shipped_drill(name).unwrap().unwrap_or_else(|e| panic!("{e}")).title).collect();
        titles.sort();
        titles.dedup();
        assert_eq!(titles.len(), SHIPPED.len());
        assert!(shipped_drill("no-such-drill").is_none());
    }

    #[test]
    fn every_file_of_the_directory_is_shipped() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/drills");
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<String> = files.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
        let mut shipped: Vec<&str> = shipped_drills().collect();
        names.sort();
        shipped.sort_unstable();
        assert_eq!(names, shipped);
    }
}
