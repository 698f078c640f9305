//! `[build]` of an image file: what `escape image build` makes kernel and initial file system of.

use super::rules::Rules;
use serde::{Deserialize, Serialize};
use std::path::{Component, Path, PathBuf};

/// Modules of the devices that there are.
const MODULES: [&str; 8] = [
    "virtio_mmio",
    "virtio_net",
    "virtio_rng",
    "virtio_blk",
    "virtio_console",
    "vmw_vsock_virtio_transport",
    "dax_hmem",
    "device_dax",
];
/// Most modules of an image.
const MODULES_MAX: usize = 256;
/// Most of `packages`, of `files`, and of `services`.
const LIST_MAX: usize = 256;
/// Longest command line of a service, bytes.
const SERVICE_BYTES_MAX: usize = 4_096;

/// `[build]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinuxBuild {
    /// Debian's package with kernel and modules, or one that only names it.
    pub kernel_package: String,
    /// Debian's package with a static busybox.
    pub busybox_package: String,
    /// Modules to load.
    pub modules: Vec<String>,
    /// Path of the first program.
    pub init: PathBuf,
    /// More of Debian's packages: their programs, libraries and configuration.
    pub packages: Vec<String>,
    /// More files.
    pub files: Vec<LinuxImageFile>,
    /// What the guest runs in a cell instead of the sample service: command lines for a shell, each started again when it ends.
    pub services: Vec<String>,
}

/// One of `files`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinuxImageFile {
    /// Path of a file here; it may be run in the guest if it may be run here.
    pub from: PathBuf,
    /// Path in the guest, from the root, without the first `/`.
    pub to: String,
}

impl Default for LinuxBuild {
    fn default() -> Self {
        Self {
            kernel_package: "linux-image-cloud-amd64".into(),
            busybox_package: "busybox-static".into(),
            modules: MODULES.map(str::to_owned).into(),
            init: "init".into(),
            packages: Vec::new(),
            files: Vec::new(),
            services: Vec::new(),
        }
    }
}

impl LinuxBuild {
    pub(super) fn check(&self, rules: &mut Rules<'_>) {
        let Self { kernel_package, busybox_package, modules, packages, files, services, .. } = self;
        let at = |key: &str| ["build".into(), key.into()];
        for (key, package) in [("kernel_package", kernel_package), ("busybox_package", busybox_package)] {
            rules.require(is_package(package), &at(key), || format!("{package:?} is no name of a Debian package"));
        }
        let are_names = modules.len() <= MODULES_MAX && modules.iter().all(|m| is_module(m));
        rules.require(are_names, &at("modules"), || {
            format!("must be at most {MODULES_MAX} names of letters, digits, '_' and '-'")
        });
        let are_packages = packages.len() <= LIST_MAX && packages.iter().all(|p| is_package(p));
        rules.require(are_packages, &at("packages"), || format!("must be at most {LIST_MAX} names of Debian packages"));
        let are_places = files.len() <= LIST_MAX && files.iter().all(|file| is_place(&file.to));
        rules.require(are_places, &at("files"), || {
            format!("must be at most {LIST_MAX} files, each `to` a path like \"usr/bin/server\"")
        });
        let is_service = |s: &String| !s.trim().is_empty() && s.len() <= SERVICE_BYTES_MAX && !s.contains(['\0', '\n']);
        rules.require(services.len() <= LIST_MAX && services.iter().all(is_service), &at("services"), || {
            format!("must be at most {LIST_MAX} command lines, each one line of at most {SERVICE_BYTES_MAX} bytes")
        });
    }
}

/// A path below the root, said without detours.
fn is_place(path: &str) -> bool {
    !path.is_empty()
        && !path.ends_with('/')
        && !path.contains('\0')
        && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// Debian policy, section 5.6.1.
fn is_package(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    begins
        && name.len() >= 2
        && name.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || b"+-.".contains(&c))
}

fn is_module(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"_-".contains(&c))
}
