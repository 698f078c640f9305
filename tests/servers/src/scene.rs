//! A network of its own, and a directory with files to serve.

use escape_fabric::links::Links;
use escape_fabric::netns::NetNs;
use std::path::Path;

/// Plays a test in a network namespace with nothing but its loopback interface, with a directory of this name that is gone afterwards.
/// Without the right to make namespaces the test is skipped, and says so.
pub fn on_stage(name: &str, files: &[(&str, &[u8])], play: impl FnOnce(&Path) + Send) {
    let namespace = match NetNs::create() {
        Ok(namespace) => namespace,
        Err(error) => return println!("SKIPPED: {error}"),
    };
    let mut links = Links::open_in(&namespace).unwrap();
    let lo = links.index_of("lo").unwrap();
    links.set_up(lo).unwrap();
    let directory = Removed(std::env::temp_dir().join(format!("escape-{name}-{}", std::process::id())));
    std::fs::create_dir_all(directory.0.join("files")).unwrap();
    for (file, content) in files {
        std::fs::write(directory.0.join("files").join(file), content).unwrap();
    }
    namespace.enter(|| play(&directory.0)).unwrap();
}

/// A directory that is removed whatever happens.
struct Removed(std::path::PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
