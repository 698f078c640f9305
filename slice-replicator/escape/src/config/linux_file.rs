//! The image file of a Linux guest: what `escape boot` boots, and what `escape image build` makes it of.

use std::path::{Path, PathBuf};

use escape_abi::layout::{LEASE_SLOTS, SLOTS_MAX};
use escape_vmm::boot::linux::VCPUS_MAX;
use escape_vmm::devices::virtio::blk::DISKS_MAX;
use escape_vmm::devices::virtio::vsock::config::FIRST_GUEST_CID;
use serde::{Deserialize, Serialize};

use super::image_file::{check_mac, check_ram, check_tap};
use super::linux_build::LinuxBuild;
use super::mac_address::MacAddress;
use super::problem::{self, ConfigErrors};
use super::rules::Rules;
use super::sections::Service;

/// Longest command line that x86 kernels take (COMMAND_LINE_SIZE less its zero).
const CMDLINE_MAX: usize = 2_047;
/// Longest path of a unix socket, less the zero and what is behind it for a port.
const SOCKET_BYTES_MAX: usize = 107 - "_4294967295".len();

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinuxFile {
    /// Path of a bzImage or an ELF kernel.
    pub kernel: PathBuf,
    /// Path of the initial file system; empty: none.
    pub initrd: PathBuf,
    /// The kernel's command line.
    pub cmdline: String,
    /// RAM, MiB.
    pub ram_mib: u32,
    /// Processors.
    pub vcpus: u8,
    /// Slots of the arena, 256 KiB each, that the guest sees as `/dev/dax0.0`; a multiple of 64. 0: it sees none.
    pub slots: u32,
    /// The tap interface; made if it does not exist. Empty: the guest has no network.
    pub tap: String,
    /// The guest's MAC address.
    pub mac: MacAddress,
    /// Raw disks: `vda`, `vdb` and so on.
    pub disks: Vec<LinuxDisk>,
    /// Where keys go that are typed.
    pub keys: Keys,
    /// A unix socket for streams between host and guest; empty: no virtio-vsock.
    pub vsock: PathBuf,
    /// The guest's context id there.
    pub vsock_cid: u32,
    /// What the two files are made of.
    pub build: LinuxBuild,
}

/// One of a guest's two consoles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keys {
    /// The serial port, `ttyS0`.
    #[default]
    Serial,
    /// The virtio console, `hvc0`.
    Virtio,
}

/// One of `disks`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinuxDisk {
    /// Path of a raw file or a block device.
    pub path: PathBuf,
    /// The guest may not write.
    #[serde(default)]
    pub read_only: bool,
}

impl Default for LinuxFile {
    fn default() -> Self {
        Self {
            kernel: "debian/vmlinuz".into(),
            initrd: "debian/initrd.cpio".into(),
            cmdline: "console=ttyS0 quiet cryptomgr.notests random.trust_cpu=on panic=-1 reboot=k".into(),
            ram_mib: 256,
            vcpus: 1,
            slots: 64,
            tap: String::new(),
            mac: Service::default().mac,
            disks: Vec::new(),
            keys: Keys::Serial,
            vsock: PathBuf::new(),
            vsock_cid: FIRST_GUEST_CID,
            build: LinuxBuild::default(),
        }
    }
}

impl LinuxFile {
    /// Reads and checks a file. Its paths begin at the file's directory.
    pub fn read(file: &Path) -> Result<Self, ConfigErrors> {
        let mut parsed = Self::parse(file, &problem::read(file)?)?;
        let beside = file.parent().unwrap_or(Path::new(""));
        let disks = parsed.disks.iter_mut().map(|disk| &mut disk.path);
        let files = parsed.build.files.iter_mut().map(|file| &mut file.from);
        for path in [&mut parsed.kernel, &mut parsed.initrd, &mut parsed.vsock, &mut parsed.build.init]
            .into_iter()
            .chain(disks)
            .chain(files)
        {
            if !path.as_os_str().is_empty() {
                *path = beside.join(&*path);
            }
        }
        Ok(parsed)
    }

    /// Checks a text; `file` is only for the messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let parsed: Self = problem::deserialize(file, text)?;
        let mut rules = Rules::new(file, text);
        parsed.check(&mut rules);
        rules.end()?;
        Ok(parsed)
    }

    fn check(&self, rules: &mut Rules<'_>) {
        rules.require(!self.kernel.as_os_str().is_empty(), &["kernel".into()], || {
            "must be the path of a bzImage or an ELF kernel".into()
        });
        rules.require(
            self.cmdline.len() <= CMDLINE_MAX && !self.cmdline.contains(['\0', '\n']),
            &["cmdline".into()],
            || format!("must be one line of at most {CMDLINE_MAX} bytes"),
        );
        check_ram(self.ram_mib, rules);
        rules.within(self.vcpus, 1..=VCPUS_MAX, "", "vcpus");
        let slots = self.slots.is_multiple_of(LEASE_SLOTS) && self.slots <= SLOTS_MAX;
        rules.require(slots, &["slots".into()], || format!("must be a multiple of {LEASE_SLOTS} up to {SLOTS_MAX}"));
        check_tap(&self.tap, rules);
        check_mac(self.mac, rules);
        rules.require(self.disks.len() <= DISKS_MAX, &["disks".into()], || format!("must be at most {DISKS_MAX}"));
        rules.within(self.vsock_cid, FIRST_GUEST_CID..=u32::MAX - 1, "", "vsock_cid");
        rules.require(self.vsock.as_os_str().len() <= SOCKET_BYTES_MAX, &["vsock".into()], || {
            format!("must be a path of at most {SOCKET_BYTES_MAX} bytes")
        });
        self.build.check(rules);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../../images/linux/debian.toml");

    #[test]
    fn the_sample_states_every_default() {
        assert_eq!(LinuxFile::parse(Path::new("debian.toml"), SAMPLE).unwrap(), LinuxFile::default());
        let stated: toml::Table = SAMPLE.parse().unwrap();
        let all = toml::Table::try_from(LinuxFile::default()).unwrap();
        assert_eq!(stated.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
        let keys =
            |table: &toml::Table| -> Vec<String> { table["build"].as_table().unwrap().keys().cloned().collect() };
        assert_eq!(keys(&stated), keys(&all));
    }

    #[test]
    fn wrong_values_are_told_with_their_line() {
        for (text, key, line) in [
            ("# c\nkernel = \"\"\n", "kernel", 2),
            ("# c\nkernel = \"k\"\nram_mib = 3\n", "ram_mib", 3),
            ("vcpus = 17\n", "vcpus", 1),
            ("# c\ncmdline = \"a\\nb\"\n", "cmdline", 2),
            ("slots = 63\n", "slots", 1),
            ("vsock_cid = 2\n", "vsock_cid", 1),
            ("mac = \"ff:ff:ff:ff:ff:ff\"\n", "mac", 1),
            ("[build]\nkernel_package = \"../x\"\n", "build.kernel_package", 2),
            ("[build]\nbusybox_package = \"-oX\"\n", "build.busybox_package", 2),
            ("[build]\nmodules = [\"../../etc\"]\n", "build.modules", 2),
            ("[build]\npackages = [\"-oX\"]\n", "build.packages", 2),
            ("[build]\nfiles = [{ from = \"x\", to = \"../x\" }]\n", "build.files", 2),
            ("[build]\nfiles = [{ from = \"x\", to = \"/x\" }]\n", "build.files", 2),
            ("[build]\nservices = [\"a\\nb\"]\n", "build.services", 2),
        ] {
            let errors = LinuxFile::parse(Path::new("x.toml"), text).unwrap_err();
            assert_eq!((errors.problems[0].key.as_str(), errors.problems[0].line), (key, Some(line)), "{errors}");
        }
        assert!(
            LinuxFile::parse(Path::new("x.toml"), "kernal = \"x\"").unwrap_err().to_string().contains("x.toml:1: ")
        );
    }

    #[test]
    fn paths_begin_at_the_files_directory() {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/linux/debian.toml");
        let read = LinuxFile::read(&file).unwrap();
        assert_eq!(read.kernel, file.parent().unwrap().join("debian/vmlinuz"));
        assert!(read.build.init.is_file());
    }
}
