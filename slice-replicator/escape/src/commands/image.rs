//! `escape image build` and `escape image inspect`: guest images of Debian's packages.

use std::path::Path;

use escape_linux_image::{DIGESTS, InitramfsFacts, Recipe, build as build_image, look_into, sha256_hex};
use escape_vmm::boot::linux::KernelFacts;
use serde::Serialize;

use super::CommandError;
use super::parts::part;
use crate::config::LinuxFile;
use crate::exit::Exit;

/// Modules without which a guest has no devices here; a kernel may have them built in, which its file does not say.
const WANTED_MODULES: [&str; 2] = ["virtio_mmio", "virtio_net"];

/// Makes kernel and initial file system.
pub fn build(file: &Path) -> Result<Exit, CommandError> {
    let LinuxFile { kernel, initrd, build, .. } = LinuxFile::read(file)?;
    let recipe = Recipe {
        kernel_package: build.kernel_package,
        busybox_package: build.busybox_package,
        modules: build.modules,
        init: build.init,
        agent: escape_images::agent().to_vec(),
        sessions: escape_images::sessions().to_vec(),
        packages: build.packages,
        files: build.files.into_iter().map(|file| (file.to, file.from)).collect(),
        services: build.services,
        kernel,
        initrd,
    };
    let built = build_image(&recipe, &mut |step| eprintln!("[image] {step}")).map_err(|e| part("image", &e))?;
    println!("{} of {}, {} bytes", recipe.kernel.display(), built.kernel_package, built.kernel_bytes);
    println!("{}, {} bytes, modules {}", recipe.initrd.display(), built.initrd_bytes, built.modules.join(" "));
    Ok(Exit::Done)
}

/// What an image is and what it lacks.
#[derive(Debug, Serialize)]
struct Inspection {
    kernel: KernelInspection,
    initrd: Option<InitrdInspection>,
    /// Digests beside the image: as the files are now?
    digests: Digests,
    lacks: Vec<String>,
}

#[derive(Debug, Serialize)]
struct KernelInspection {
    kind: &'static str,
    version: Option<String>,
    bytes: usize,
    sha256: String,
}

#[derive(Debug, Serialize)]
struct InitrdInspection {
    bytes: usize,
    sha256: String,
    #[serde(flatten)]
    facts: Option<InitramfsFacts>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Digests {
    Right,
    Wrong,
    Missing,
}

/// Says what the image is. Exit code 1 if it lacks something.
pub fn inspect(file: &Path, json: bool) -> Result<Exit, CommandError> {
    let inspection = look(&LinuxFile::read(file)?)?;
    if json {
        println!("{}", serde_json::to_string_pretty(&inspection)?);
    } else {
        print(&inspection);
    }
    Ok(if inspection.lacks.is_empty() { Exit::Done } else { Exit::Broken })
}

fn look(file: &LinuxFile) -> Result<Inspection, CommandError> {
    let kernel = read(&file.kernel)?;
    let facts = KernelFacts::of(&kernel).map_err(|e| part("image", &e))?;
    let mut sums = vec![(file.kernel.as_path(), sha256_hex(&kernel))];
    let mut lacks = Vec::new();
    let mut initrd = None;
    if file.initrd.as_os_str().is_empty() {
        lacks.push("no initial file system: the kernel must find a root file system by itself".into());
    } else {
        let archive = read(&file.initrd)?;
        // A packed one cannot be looked into; the kernel unpacks it.
        let facts = look_into(&archive).ok();
        lacks.extend(facts.as_ref().map_or_else(Vec::new, lacks_of));
        let sha256 = sha256_hex(&archive);
        sums.push((file.initrd.as_path(), sha256.clone()));
        initrd = Some(InitrdInspection { bytes: archive.len(), sha256, facts });
    }
    if !file.cmdline.split_whitespace().any(|word| word.starts_with("console=ttyS0")) {
        lacks.push("no console=ttyS0 on the command line: the guest will say nothing".into());
    }
    let digests = compare(file.kernel.parent().unwrap_or(Path::new("")), &sums);
    if digests == Digests::Wrong {
        lacks.push(format!("the files are not those of {DIGESTS}: build the image again"));
    }
    let kernel = KernelInspection {
        kind: match facts.kind {
            escape_vmm::boot::linux::KernelKind::BzImage => "bzImage",
            escape_vmm::boot::linux::KernelKind::Elf => "ELF",
        },
        version: facts.version,
        bytes: kernel.len(),
        sha256: sha256_hex(&kernel),
    };
    Ok(Inspection { kernel, initrd, digests, lacks })
}

fn lacks_of(facts: &InitramfsFacts) -> Vec<String> {
    let mut lacks = Vec::new();
    if !facts.has_init {
        lacks.push("no /init that can be run".to_owned());
    }
    if !facts.has_busybox {
        lacks.push("no /bin/busybox that can be run".to_owned());
    }
    if !facts.has_agent {
        lacks.push("no /bin/escape-agent that can be run".to_owned());
    }
    let missing = WANTED_MODULES.iter().filter(|wanted| !facts.modules.iter().any(|module| module == *wanted));
    lacks.extend(missing.map(|module| format!("no module {module}, unless the kernel has it built in")));
    lacks
}

/// Compares with the digests that were written when the image was made.
fn compare(directory: &Path, sums: &[(&Path, String)]) -> Digests {
    let Ok(text) = std::fs::read_to_string(directory.join(DIGESTS)) else { return Digests::Missing };
    let is_told = |(path, sum): &(&Path, String)| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        text.lines().any(|line| line.split_once("  ") == Some((sum.as_str(), name)))
    };
    if sums.iter().all(is_told) { Digests::Right } else { Digests::Wrong }
}

fn print(inspection: &Inspection) {
    let Inspection { kernel, initrd, digests, lacks } = inspection;
    let version = kernel.version.as_deref().unwrap_or("version not told");
    println!("kernel   {}, {version}, {} bytes, sha256 {}", kernel.kind, kernel.bytes, kernel.sha256);
    if let Some(initrd) = initrd {
        println!("initrd   {} bytes, sha256 {}", initrd.bytes, initrd.sha256);
        match &initrd.facts {
            Some(facts) => println!("         {} entries, modules {}", facts.entries, facts.modules.join(" ")),
            None => println!("         packed, or no cpio archive: not looked into"),
        }
    }
    match digests {
        Digests::Right => println!("digests  as written in {DIGESTS}"),
        Digests::Wrong => println!("digests  others than in {DIGESTS}"),
        Digests::Missing => println!("digests  no {DIGESTS} beside it"),
    }
    for lack in lacks {
        println!("lacks    {lack}");
    }
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|source| CommandError::Read { path: path.to_owned(), source })
}
