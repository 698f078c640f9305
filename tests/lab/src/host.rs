//! The machine on which `escape boot` runs.

use crate::console::Console;
use anyhow::{Context, Result, ensure};
use std::fmt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Host's and guest's ends of the tap.
pub const HOST_ADDRESS: &str = "10.99.0.1";
const GUEST_ADDRESS: &str = "10.99.0.20/24";
const TAP: &str = "labtap";

/// Where the emulated host has its copy of the disk.
const DISK_IN_HOST: &str = "/run/lab-disk";
/// The guest's vsock there, and on this machine.
const VSOCK_IN_HOST: &str = "/run/lab-vsock";

/// What the disk begins with.
pub const DISK_BEGINS: &str = "a disk of the lab";
/// Its size, bytes.
const DISK_BYTES: usize = 1 << 20;

fn disk_content() -> Vec<u8> {
    let mut content = DISK_BEGINS.as_bytes().to_vec();
    content.resize(DISK_BYTES, 0);
    content
}

/// What the host is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This machine.
    This,
    /// A machine emulated in software, with SVM.
    Emulated,
}

impl Kind {
    /// This machine if it has KVM on VMX or SVM.
    pub fn of_this_machine() -> Self {
        let flags = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let extended = flags.split_whitespace().any(|flag| flag == "vmx" || flag == "svm");
        if extended && Path::new("/dev/kvm").exists() { Self::This } else { Self::Emulated }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::This => "this machine",
            Self::Emulated => "an emulated machine with SVM",
        })
    }
}

/// The console over which the guest is driven.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Keys {
    /// The serial port.
    Serial,
    /// virtio-console.
    Virtio,
}

/// What a host is made of.
#[derive(Clone, Copy, Debug)]
pub struct Parts<'a> {
    /// The `escape` program.
    pub escape: &'a Path,
    /// Directories of the guest's image and the host's.
    pub guest: &'a Path,
    /// See `guest`.
    pub host: &'a Path,
    /// The guest's console.
    pub keys: Keys,
}

/// A host with one guest. Both end when it is dropped.
#[derive(Debug)]
pub struct Host {
    process: Child,
    console: Console,
    directory: PathBuf,
}

impl Host {
    /// Starts the host; it boots the guest at once.
    pub fn start(kind: Kind, parts: Parts<'_>, verbose: bool) -> Result<Self> {
        let directory = std::env::temp_dir().join(format!("escape-lab-{}", std::process::id()));
        std::fs::create_dir_all(&directory).context("a directory for the lab")?;
        let escape = absolute(parts.escape)?;
        let image = directory.join("guest.toml");
        let disk = directory.join("disk.raw");
        std::fs::write(&disk, disk_content()).context("the guest's disk")?;
        // The emulated host sees this machine's files read-only: it copies the disk that is written.
        let written = if kind == Kind::Emulated { PathBuf::from(DISK_IN_HOST) } else { directory.join("written.raw") };
        if kind == Kind::This {
            std::fs::copy(&disk, &written).context("the guest's disk")?;
        }
        let vsock = if kind == Kind::Emulated { PathBuf::from(VSOCK_IN_HOST) } else { directory.join("vsock") };
        std::fs::write(&image, guest_file(parts, &written, &disk, &vsock)?).context("the guest's image file")?;
        let command = match kind {
            Kind::This => on_this_machine(&escape, &image, &vsock),
            Kind::Emulated => emulated(&escape, &image, &disk, parts.host)?,
        };
        let (process, console) = with_console(command, verbose)?;
        Ok(Self { process, console, directory })
    }

    /// The guest's console, and what the host says around it.
    pub fn console(&mut self) -> &mut Console {
        &mut self.console
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Starts a program that ends with this one, and whose input and output are a console.
pub fn with_console(mut command: Command, verbose: bool) -> Result<(Child, Console)> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // SAFETY: only a system call that is safe between fork and exec; the child dies with this program.
    unsafe {
        command.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let mut process = command.spawn().with_context(|| format!("starting {command:?}"))?;
    let (keys, words) = (process.stdin.take(), process.stdout.take());
    let (keys, words) = keys.zip(words).context("pipes of the host")?;
    Ok((process, Console::of(keys, words, verbose)))
}

/// A built image.
pub struct Image {
    /// Path of the kernel.
    pub kernel: PathBuf,
    /// Path of the initial file system.
    pub initrd: PathBuf,
}

impl Image {
    /// Where `escape image build` has put it.
    pub fn in_directory(directory: &Path) -> Result<Self> {
        let built = || format!("{0}: no image: `escape image build {0}.toml` makes it", directory.display());
        let directory = std::fs::canonicalize(directory).with_context(built)?;
        let (kernel, initrd) = (directory.join("vmlinuz"), directory.join("initrd.cpio"));
        ensure!(kernel.is_file() && initrd.is_file(), built());
        Ok(Self { kernel, initrd })
    }
}

/// The guest's image file with the lab's tap and address; paths from the root, because the host reads it from elsewhere.
fn guest_file(parts: Parts<'_>, written: &Path, read_only: &Path, vsock: &Path) -> Result<String> {
    let Image { kernel, initrd } = Image::in_directory(parts.guest)?;
    let (keys, console) = match parts.keys {
        Keys::Serial => ("serial", "console=ttyS0"),
        Keys::Virtio => ("virtio", "console=ttyS0 console=hvc0"),
    };
    Ok(format!(
        "keys = \"{keys}\"\nkernel = {kernel:?}\ninitrd = {initrd:?}\nvcpus = 2\ntap = \"{TAP}\"\nvsock = {vsock:?}\ndisks = [{{ path = {written:?} }}, {{ path = {read_only:?}, \
         read_only = true }}]\ncmdline = \"{console} quiet cryptomgr.notests \
         mitigations=off random.trust_cpu=on no_timer_check panic=-1 reboot=k escape.ip={GUEST_ADDRESS}\"\n"
    ))
}

/// In a network namespace of its own, which ends with it.
fn on_this_machine(escape: &Path, image: &Path, vsock: &Path) -> Command {
    let script = format!(
        "(until ip link show {TAP} > /dev/null 2>&1; do sleep 0.1; done; ip address add {HOST_ADDRESS}/24 dev {TAP}; \
         ip link set {TAP} up) & (until [ -e \"$2\" ]; do sleep 0.1; done; for turn in $(seq 120); do \
         report=$(\"$0\" connect \"$2\" 1024 < /dev/null 2> /dev/null) && break; sleep 1; done; echo \"lab: the agent says $report\"; \
         echo 'echo \"shell of $(uname -s) by vsock: $((6 * 7))\"' | \"$0\" connect \"$2\" 1023 | sed 's/^/lab: /') & echo 'lab: the host is up'; \"$0\" boot \"$1\"; echo \"lab: escape ended with $?\""
    );
    let mut command = Command::new("unshare");
    command.args(["--net", "sh", "-c", &script]).arg(escape).arg(image).arg(vsock);
    command
}

fn emulated(escape: &Path, image: &Path, disk: &Path, host: &Path) -> Result<Command> {
    let words = format!("lab.escape={} lab.image={} lab.disk={}", escape.display(), image.display(), disk.display());
    Ok(emulator(&Image::in_directory(host)?, HOST_MIB, &words))
}

/// Memory of an emulated host with one guest, MiB.
pub const HOST_MIB: u32 = 1024;

/// Words for an emulated host's kernel. With virtual machines in it the emulator now and then loses a timer's interrupt; a kernel that asks for
/// each next one by itself then sleeps until something else wakes it, or for ever, with timers of 5 ms outstanding. So it ticks.
const STEADY_CLOCK: &str = "nohz=off highres=off";

/// The emulator of a host with so much memory, MiB; its first program is told these words.
pub fn emulator(Image { kernel, initrd }: &Image, memory: u32, words: &str) -> Command {
    let append = format!(
        "console=ttyS0 panic=-1 quiet cryptomgr.notests mitigations=off no_timer_check tsc=reliable random.trust_cpu=on \
         {STEADY_CLOCK} {words}"
    );
    let mut command = Command::new("qemu-system-x86_64");
    // Without XSAVE, which this emulation of SVM gets wrong; one processor, for two are slower on two cores.
    command.args(["-accel", "tcg,thread=multi,tb-size=256", "-cpu", "max,+svm,-xsave", "-smp", "1"]);
    command.arg("-m").arg(memory.to_string());
    command.args(["-machine", "q35", "-nodefaults", "-nographic", "-no-reboot", "-serial", "stdio"]);
    command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd).arg("-append").arg(append);
    command.args(["-fsdev", "local,id=root,path=/,security_model=none,multidevs=remap,readonly=on"]);
    command.args(["-device", "virtio-9p-pci,fsdev=root,mount_tag=root"]);
    command
}

pub fn absolute(path: &Path) -> Result<PathBuf> {
    std::fs::canonicalize(path).with_context(|| path.display().to_string())
}
