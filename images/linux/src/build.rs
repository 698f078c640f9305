//! From a recipe to an image.

use crate::digests::{DIGESTS, lines};
use crate::error::ImageError;
use crate::initramfs::Initramfs;
use crate::modules::Modules;
use crate::packages::Package;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Permissions of programs and of other files.
const PROGRAM: u32 = 0o755;
const FILE: u32 = 0o644;
/// Directories that the guest mounts something on or writes to.
const DIRECTORIES: [&str; 6] = ["dev", "proc", "run", "sys", "tmp", "mnt"];
/// The names of the modules in the order in which `init` loads them.
const MODULE_ORDER: &str = "lib/modules/order";

/// Command lines of the services, one a line.
const SERVICES: &str = "etc/escape/services";
/// Directories of packages that a guest has use for; no manuals, no message texts.
const PACKAGE_DIRECTORIES: [&str; 9] =
    ["bin", "sbin", "lib", "lib64", "usr/bin", "usr/sbin", "usr/lib", "usr/libexec", "etc"];
/// Where the agent lies.
pub(crate) const AGENT: &str = "bin/escape-agent";
/// Where the sample service lies.
const SESSIONS: &str = "bin/escape-sessions";

/// What an image is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Debian's package with kernel and modules, or one that only names it.
    pub kernel_package: String,
    /// Debian's package with a static busybox.
    pub busybox_package: String,
    /// Modules that `init` loads; those that they need come by themselves.
    pub modules: Vec<String>,
    /// The first program.
    pub init: PathBuf,
    /// The agent, a static ELF program.
    pub agent: Vec<u8>,
    /// The sample service, likewise.
    pub sessions: Vec<u8>,
    /// More of Debian's packages.
    pub packages: Vec<String>,
    /// More files: where they go, from the root, and what they are. They stand above those of packages.
    pub files: Vec<(String, PathBuf)>,
    /// What `init` runs in a cell instead of the sample service.
    pub services: Vec<String>,
    /// Where the kernel goes.
    pub kernel: PathBuf,
    /// Where the initial file system goes.
    pub initrd: PathBuf,
}

/// What was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Built {
    /// The package that the kernel is from.
    pub kernel_package: String,
    /// Bytes of the kernel.
    pub kernel_bytes: usize,
    /// Bytes of the initial file system.
    pub initrd_bytes: usize,
    /// Modules in their order.
    pub modules: Vec<String>,
}

/// Makes the image; `say` hears of each step. Work files lie beside the kernel, in a directory that is removed.
///
/// # Errors
/// [`ImageError`] says what is missing.
pub fn build(recipe: &Recipe, say: &mut dyn FnMut(&str)) -> Result<Built, ImageError> {
    let target = recipe.kernel.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(target).map_err(ImageError::file(target))?;
    let work = WorkDirectory::make(target)?;
    say(&format!("fetching {}", recipe.kernel_package));
    let kernel = Package::fetch(&recipe.kernel_package, &work.0)?;
    say(&format!("fetching {}", recipe.busybox_package));
    let busybox = Package::fetch(&recipe.busybox_package, &work.0)?;
    say("putting the initial file system together");
    let modules = Modules::of(&kernel)?.in_order(&recipe.modules)?;
    let mut root = Initramfs::default();
    DIRECTORIES.iter().for_each(|directory| root.directory(directory));
    for package in &recipe.packages {
        say(&format!("fetching {package}"));
        add_package(&Package::fetch(package, &work.0)?, &mut root)?;
    }
    root.file("init", PROGRAM, read(&recipe.init)?);
    root.file(AGENT, PROGRAM, recipe.agent.clone());
    root.file(SESSIONS, PROGRAM, recipe.sessions.clone());
    root.file("bin/busybox", PROGRAM, busybox_of(&busybox)?);
    let names: Vec<String> = modules.iter().map(|module| module.name.clone()).collect();
    root.file(MODULE_ORDER, FILE, names.iter().flat_map(|name| [name.as_bytes(), b"\n"]).flatten().copied().collect());
    for module in modules {
        root.file(&format!("lib/modules/{}.ko", module.name), FILE, module.content);
    }
    for (to, from) in &recipe.files {
        root.file(to, mode_of(from)?, read(from)?);
    }
    if !recipe.services.is_empty() {
        root.file(SERVICES, FILE, format!("{}\n", recipe.services.join("\n")).into_bytes());
    }
    let (vmlinuz, archive) = (kernel_of(&kernel)?, root.archive()?);
    write(&recipe.kernel, &vmlinuz)?;
    write(&recipe.initrd, &archive)?;
    let digests = lines(&[(file_name(&recipe.kernel), &vmlinuz), (file_name(&recipe.initrd), &archive)]);
    write(&target.join(DIGESTS), digests.as_bytes())?;
    Ok(Built { kernel_package: kernel.name, kernel_bytes: vmlinuz.len(), initrd_bytes: archive.len(), modules: names })
}

/// Programs, libraries and configuration of a package. Links become what they lead to.
fn add_package(package: &Package, root: &mut Initramfs) -> Result<(), ImageError> {
    for directory in PACKAGE_DIRECTORIES {
        for (place, file) in package.contents_below(directory)? {
            root.file(&place, mode_of(&file)?, read(&file)?);
        }
    }
    Ok(())
}

fn mode_of(path: &Path) -> Result<u32, ImageError> {
    let executable = path.metadata().map_err(ImageError::file(path))?.permissions().mode() & 0o111 != 0;
    Ok(if executable { PROGRAM } else { FILE })
}

fn kernel_of(package: &Package) -> Result<Vec<u8>, ImageError> {
    let files = package.files_below("boot")?;
    let kernel = files.iter().find(|path| file_name(path).starts_with("vmlinuz-"));
    read(kernel.ok_or_else(|| package.missing("boot/vmlinuz-*"))?)
}

fn busybox_of(package: &Package) -> Result<Vec<u8>, ImageError> {
    let places = ["bin/busybox", "usr/bin/busybox"].map(|place| package.root.join(place));
    read(places.iter().find(|path| path.is_file()).ok_or_else(|| package.missing("bin/busybox"))?)
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn read(path: &Path) -> Result<Vec<u8>, ImageError> {
    std::fs::read(path).map_err(ImageError::file(path))
}

fn write(path: &Path, content: &[u8]) -> Result<(), ImageError> {
    std::fs::write(path, content).map_err(ImageError::file(path))
}

/// Removed when dropped.
struct WorkDirectory(PathBuf);

impl WorkDirectory {
    fn make(beside: &Path) -> Result<Self, ImageError> {
        // From the root, because programs run in other directories.
        let beside = std::path::absolute(beside).map_err(ImageError::file(beside))?;
        let path = beside.join(format!(".work-{}", std::process::id()));
        std::fs::create_dir_all(&path).map_err(ImageError::file(&path))?;
        Ok(Self(path))
    }
}

impl Drop for WorkDirectory {
    fn drop(&mut self) {
        // What is left if this fails is found by its name.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
