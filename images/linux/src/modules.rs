//! Kernel modules, with those that they need before them.

use crate::error::ImageError;
use crate::packages::Package;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A module's own list of those that it needs, in its `.modinfo` section.
const DEPENDS: &[u8] = b"\0depends=";

/// A module of the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    /// With `_` for `-`, as the kernel names it.
    pub(crate) name: String,
    /// Its content.
    pub(crate) content: Vec<u8>,
}

/// The modules of a kernel package, by name.
pub(crate) struct Modules<'a> {
    package: &'a Package,
    paths: BTreeMap<String, PathBuf>,
}

impl<'a> Modules<'a> {
    pub(crate) fn of(package: &'a Package) -> Result<Self, ImageError> {
        let files = package.files_below("lib/modules")?.into_iter();
        let paths = files.filter_map(|path| Some((name_of(&path)?, path))).collect();
        Ok(Self { package, paths })
    }

    /// The wanted modules, each behind all that it needs, in the order in which they can be loaded.
    pub(crate) fn in_order(&self, wanted: &[String]) -> Result<Vec<Module>, ImageError> {
        let (mut order, mut begun) = (Vec::new(), BTreeSet::new());
        for name in wanted {
            self.add(&canonical(name), &mut order, &mut begun)?;
        }
        Ok(order)
    }

    fn add(&self, name: &str, order: &mut Vec<Module>, begun: &mut BTreeSet<String>) -> Result<(), ImageError> {
        if !begun.insert(name.to_owned()) {
            return Ok(());
        }
        let path = self.paths.get(name).ok_or_else(|| self.package.missing(format!("module {name}")))?;
        if path.extension().is_some_and(|e| e != "ko") {
            return Err(ImageError::PackedModule { path: path.clone() });
        }
        let content = std::fs::read(path).map_err(ImageError::file(path))?;
        for needed in needs(&content) {
            self.add(&needed, order, begun)?;
        }
        order.push(Module { name: name.to_owned(), content });
        Ok(())
    }
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// `virtio-net.ko` and `virtio-net.ko.xz` are `virtio_net`.
fn name_of(path: &Path) -> Option<String> {
    let (name, rest) = path.file_name()?.to_str()?.split_once(".ko")?;
    (rest.is_empty() || rest.starts_with('.')).then(|| canonical(name))
}

/// Names of the modules that this one says it needs.
fn needs(content: &[u8]) -> Vec<String> {
    let Some(at) = content.windows(DEPENDS.len()).position(|window| window == DEPENDS) else { return Vec::new() };
    let list =
        content.get(at + DEPENDS.len()..).unwrap_or_default().split(|byte| *byte == 0).next().unwrap_or_default();
    let names = list.split(|byte| *byte == b',').filter(|name| !name.is_empty());
    names.map(|name| canonical(&String::from_utf8_lossy(name))).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_module_comes_behind_what_it_needs_and_once() {
        let root = std::env::temp_dir().join(format!("escape-modules-{}", std::process::id()));
        let directory = root.join("lib/modules/6.1/kernel");
        std::fs::create_dir_all(&directory).unwrap();
        for (file, content) in [
            ("virtio-net.ko", "elf\0depends=virtio,net_failover\0x"),
            ("net_failover.ko", "elf\0depends=failover\0"),
            ("failover.ko", "elf\0depends=\0"),
            ("virtio.ko", "elf\0license=GPL\0"),
            ("packed.ko.xz", ""),
        ] {
            std::fs::write(directory.join(file), content).unwrap();
        }
        let package = Package { name: "linux-image-6.1".into(), root: root.clone() };
        let modules = Modules::of(&package).unwrap();
        let names = |wanted: &[&str]| {
            let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
            modules.in_order(&wanted).map(|m| m.into_iter().map(|m| m.name).collect::<Vec<_>>())
        };
        let order = names(&["virtio_net", "failover"]).unwrap();
        assert_eq!(order, ["virtio", "failover", "net_failover", "virtio_net"]);
        assert_eq!(names(&["none"]).unwrap_err().to_string(), "package linux-image-6.1 has no module none");
        assert!(matches!(names(&["packed"]), Err(ImageError::PackedModule { .. })));
        std::fs::remove_dir_all(root).unwrap();
    }
}
