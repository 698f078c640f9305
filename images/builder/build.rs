//! Builds the freestanding guest images, and the programs of Linux guests, with a cargo of their own and leaves them in `OUT_DIR`.
//!
//! A build of its own, because an image is not the host's code: other features (no member of the workspace may link `std`
//! into it), other profile, no sanitizer or coverage flags, no clippy in the compiler's place. Its target directory lies
//! in `OUT_DIR`, so the two cargos never wait for each other.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// Programs of one package; each becomes a file of its name in `OUT_DIR`.
struct Set {
    package: &'static str,
    programs: &'static [&'static str],
    features: &'static [&'static str],
    /// For the compiler.
    flags: &'static [&'static str],
}

/// What is built.
const SETS: &[Set] = &[
    Set {
        package: "escape-freestanding",
        programs: &["escape-freestanding", "escape-hostile"],
        features: &["image"],
        flags: &[],
    },
    // A program of a Linux guest that has no libraries.
    Set {
        package: "escape-services",
        programs: &["escape-sessions"],
        features: &[],
        flags: &["-Ctarget-feature=+crt-static"],
    },
    Set {
        package: "escape-agent",
        programs: &["escape-agent"],
        features: &[],
        flags: &["-Ctarget-feature=+crt-static"],
    },
];
/// What the images run on, whatever the host builds for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// What the images are built of, below the workspace's root.
const SOURCES: &[&str] =
    &["images/freestanding", "images/session", "images/services", "guest-agent", "Cargo.toml", "Cargo.lock"];
/// Flags of the release profile, as cargo reads them from its environment. Symbols stay, so that an address in a fault
/// message can be looked up.
const PROFILE: &[(&str, &str)] = &[
    ("CARGO_PROFILE_RELEASE_OPT_LEVEL", "3"),
    ("CARGO_PROFILE_RELEASE_PANIC", "abort"),
    ("CARGO_PROFILE_RELEASE_LTO", "fat"),
    ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
    ("CARGO_PROFILE_RELEASE_DEBUG", "0"),
    ("CARGO_PROFILE_RELEASE_STRIP", "debuginfo"),
    ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
];
/// Settings of cargo itself that the inner one shares with the outer one: where packages come from, offline or not, and
/// the tokens of parallelism.
const SHARED: &[&str] = &[
    "CARGO_HOME",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_HTTP_",
    "CARGO_SOURCE_",
    "CARGO_REGISTR",
    "CARGO_TERM_",
    "CARGO_RESOLVER_",
];

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(cause) => {
            println!("cargo::error=guest images: {cause}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    let out = path_of("OUT_DIR")?;
    let here = path_of("CARGO_MANIFEST_DIR")?;
    let root = here.ancestors().nth(2).ok_or("this package is not at images/builder of the workspace")?;
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", root.join(source).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let target_dir = out.join("guest-target");
    for set in SETS {
        let mut cargo = inner_cargo(set, root, &target_dir)?;
        let status = cargo.status().map_err(|error| format!("cannot start {:?}: {error}", cargo.get_program()))?;
        if !status.success() {
            let package = set.package;
            return Err(format!("`cargo build -p {package}` for {TARGET} failed ({status}); its messages are above"));
        }
        for program in set.programs {
            let built = target_dir.join(TARGET).join("release").join(program);
            replace(&built, &out.join(program))?;
        }
    }
    Ok(())
}

/// The command that builds a set.
fn inner_cargo(set: &Set, root: &Path, target_dir: &Path) -> Result<Command, String> {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root).arg("build").args(["--release", "--package", set.package]);
    cargo.args(["--target", TARGET]).arg("--target-dir").arg(target_dir);
    for feature in set.features {
        cargo.args(["--features", feature]);
    }
    for program in set.programs {
        cargo.args(["--bin", program]);
    }
    for (name, _) in env::vars_os() {
        if !is_shared(&name) {
            cargo.env_remove(name);
        }
    }
    cargo.envs(PROFILE.iter().copied());
    // Set even where there were no flags: it also outweighs flags of configuration files.
    cargo.env("CARGO_ENCODED_RUSTFLAGS", flags(set, root)?);
    Ok(cargo)
}

/// An environment variable that the inner cargo may see.
fn is_shared(name: &OsString) -> bool {
    let Some(name) = name.to_str() else { return true };
    if name.starts_with("CARGO") {
        return SHARED.iter().any(|shared| name.starts_with(shared));
    }
    // Compiler wrappers and flags of the outer build (clippy, coverage, caches), and what cargo tells build scripts. RUSTC
    // itself stays, so that both use the same compiler.
    let foreign =
        ["RUSTFLAGS", "RUSTDOCFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "CLIPPY_ARGS", "LLVM_PROFILE_FILE"];
    let of_build_script = ["TARGET", "HOST", "OPT_LEVEL", "DEBUG", "PROFILE", "OUT_DIR", "NUM_JOBS", "RUSTC_LINKER"];
    !foreign.contains(&name) && !of_build_script.contains(&name)
}

/// Compiler flags, separated as `CARGO_ENCODED_RUSTFLAGS` wants them: paths of the machine do not reach the image, so that
/// equal sources give equal images wherever they are built. All guests of a cell run the same image.
fn flags(set: &Set, root: &Path) -> Result<OsString, String> {
    let mut flags = OsString::from("--remap-path-prefix=");
    flags.push(root);
    flags.push("=/escape-capsule");
    let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")));
    if let Some(home) = home {
        flags.push("\u{1f}--remap-path-prefix=");
        flags.push(home);
        flags.push("=/cargo");
    }
    for flag in set.flags {
        flags.push("\u{1f}");
        flags.push(flag);
    }
    Ok(flags)
}

/// Copies a file if it differs, by a rename: whoever reads it sees the old or the new one.
fn replace(from: &Path, to: &Path) -> Result<(), String> {
    let new = fs::read(from).map_err(|error| format!("cannot read {}: {error}", from.display()))?;
    if fs::read(to).is_ok_and(|old| old == new) {
        return Ok(());
    }
    let part = to.with_extension("part");
    let written = fs::write(&part, new).and_then(|()| fs::rename(&part, to));
    written.map_err(|error| format!("cannot write {}: {error}", to.display()))
}

fn path_of(variable: &str) -> Result<PathBuf, String> {
    env::var_os(variable).map(PathBuf::from).ok_or_else(|| format!("{variable} is not set: not run by cargo"))
}
