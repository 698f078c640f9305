//! Kernel files: told by what they begin with, not by their name.

use super::error::LinuxError;
use linux_loader::loader::bootparam::setup_header;
use linux_loader::loader::{BzImage, Elf, KernelLoader};
use std::io::Cursor;
use vm_memory::{GuestAddress, GuestMemoryMmap};

/// Where the kernel is loaded, and the lowest address that it may use.
const KERNEL_AT: u64 = 0x10_0000;
/// The 64-bit entry of a bzImage, behind its load address (boot protocol 2.12).
const ENTRY_64: u64 = 0x200;
/// "HdrS", and where it lies.
const BOOT_MAGIC: (usize, &[u8]) = (0x202, b"HdrS");
const BOOT_VERSION_AT: usize = 0x206;
const BOOT_VERSION_MIN: u16 = 0x20c;
const XLOADFLAGS_AT: usize = 0x236;
/// The kernel has a 64-bit entry.
const XLF_KERNEL_64: u16 = 1;
/// Pointer to the version's text, less 0x200.
const VERSION_TEXT_AT: usize = 0x20e;
const VERSION_TEXT_MAX: usize = 128;
/// ELF header: type of machine.
const ELF_MACHINE_AT: usize = 18;
const EM_X86_64: u16 = 62;
/// Longest command line of a kernel that does not say so.
const CMDLINE_MAX: usize = 2047;
/// Memory that an ELF kernel gets to unpack itself and begin with, beyond its segments.
const ELF_SLACK: u64 = 16 << 20;

/// What a kernel file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelKind {
    /// A bzImage: packed, with a setup header.
    BzImage,
    /// An ELF kernel.
    Elf,
}

/// What can be said of a kernel file without loading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelFacts {
    /// What it is.
    pub kind: KernelKind,
    /// Release and builder, as the bzImage says; an ELF kernel does not.
    pub version: Option<String>,
}

impl KernelFacts {
    /// Looks at the file.
    ///
    /// # Errors
    /// [`LinuxError::NoKernel`] says what it is instead.
    pub fn of(kernel: &[u8]) -> Result<Self, LinuxError> {
        if kernel.starts_with(b"\x7fELF") {
            return match u16_at(kernel, ELF_MACHINE_AT) {
                Some(EM_X86_64) => Ok(Self { kind: KernelKind::Elf, version: None }),
                machine => Err(no_kernel(format!("an ELF file of another machine ({machine:?})"))),
            };
        }
        let (at, magic) = BOOT_MAGIC;
        if kernel.get(at..).is_none_or(|rest| !rest.starts_with(magic)) {
            return Err(no_kernel(other(kernel)));
        }
        let version = u16_at(kernel, BOOT_VERSION_AT).unwrap_or(0);
        let entry_64 = u16_at(kernel, XLOADFLAGS_AT).is_some_and(|flags| flags & XLF_KERNEL_64 != 0);
        if version < BOOT_VERSION_MIN || !entry_64 {
            return Err(no_kernel(format!("a bzImage without a 64-bit entry (boot protocol {version:#x})")));
        }
        Ok(Self { kind: KernelKind::BzImage, version: version_text(kernel) })
    }
}

/// A kernel in guest memory.
pub struct Loaded {
    /// The first instruction.
    pub entry: u64,
    /// End of the memory that it uses before it knows any.
    pub end: u64,
    /// What it wants to have in `boot_params`.
    pub header: setup_header,
    /// Longest command line.
    pub cmdline_max: usize,
}

/// Loads a kernel of either kind.
pub fn load(kernel: &[u8], memory: &GuestMemoryMmap) -> Result<Loaded, LinuxError> {
    let facts = KernelFacts::of(kernel)?;
    let lowest = Some(GuestAddress(KERNEL_AT));
    let mut file = Cursor::new(kernel);
    match facts.kind {
        KernelKind::BzImage => {
            let loaded = BzImage::load(memory, None, &mut file, lowest)?;
            let header = loaded.setup_header.unwrap_or_default();
            let begin = loaded.kernel_load.0;
            Ok(Loaded {
                entry: begin + ENTRY_64,
                end: loaded.kernel_end.max(header.pref_address.max(begin) + u64::from(header.init_size)),
                cmdline_max: usize::try_from(header.cmdline_size).unwrap_or(CMDLINE_MAX),
                header,
            })
        }
        KernelKind::Elf => {
            let loaded = Elf::load(memory, None, &mut file, lowest)?;
            let header = setup_header {
                boot_flag: 0xaa55,
                header: u32::from_le_bytes(*b"HdrS"),
                version: 0x20f,
                kernel_alignment: 0x20_0000,
                ..Default::default()
            };
            let (entry, end) = (loaded.kernel_load.0, loaded.kernel_end + ELF_SLACK);
            Ok(Loaded { entry, end, header, cmdline_max: CMDLINE_MAX })
        }
    }
}

fn no_kernel(found: String) -> LinuxError {
    LinuxError::NoKernel { found }
}

/// What else the file may be.
fn other(file: &[u8]) -> String {
    let known: [(&[u8], &str); 7] = [
        (b"\x1f\x8b", "gzip data"),
        (b"\xfd7zXZ", "xz data"),
        (b"\x28\xb5\x2f\xfd", "zstd data"),
        (b"070701", "a cpio archive (an initial file system?)"),
        (b"!<arch>", "a Debian package or another `ar` archive"),
        (b"#!", "a script"),
        (b"MZ", "a PE file of another machine"),
    ];
    match known.iter().find(|(magic, _)| file.starts_with(magic)) {
        Some((_, what)) => (*what).into(),
        None if file.is_empty() => "empty".into(),
        None => format!("unknown data of {} bytes", file.len()),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at.checked_add(2)?)?.try_into().ok()?))
}

fn version_text(kernel: &[u8]) -> Option<String> {
    let at = usize::from(u16_at(kernel, VERSION_TEXT_AT).filter(|at| *at != 0)?) + 0x200;
    let text = kernel.get(at..)?.iter().take(VERSION_TEXT_MAX).take_while(|byte| (0x20..0x7f).contains(*byte));
    let text: String = text.map(|byte| char::from(*byte)).collect();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bz_image(version: u16, xloadflags: u16) -> Vec<u8> {
        let mut kernel = vec![0; 0x2000];
        kernel[0x1f1] = 4; // setup sectors
        kernel[0x202..0x206].copy_from_slice(b"HdrS");
        kernel[0x206..0x208].copy_from_slice(&version.to_le_bytes());
        kernel[0x236..0x238].copy_from_slice(&xloadflags.to_le_bytes());
        kernel[0x20e..0x210].copy_from_slice(&0x300u16.to_le_bytes());
        kernel[0x500..0x50b].copy_from_slice(b"6.1.0 (a@b)");
        kernel
    }

    #[test]
    fn kernels_are_told_by_their_content() {
        let facts = KernelFacts::of(&bz_image(0x20f, 1)).unwrap();
        assert_eq!(facts, KernelFacts { kind: KernelKind::BzImage, version: Some("6.1.0 (a@b)".into()) });
        let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
        elf.resize(64, 0);
        assert!(KernelFacts::of(&elf).is_err());
        elf[18] = 62;
        assert_eq!(KernelFacts::of(&elf).unwrap().kind, KernelKind::Elf);
    }

    #[test]
    fn what_is_no_kernel_is_named() {
        for (file, found) in [
            (&b""[..], "empty"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"070701", "cpio"),
            (b"!<arch>\n", "Debian package"),
            (b"MZ\0\0", "another machine"),
            (b"hello", "unknown data of 5 bytes"),
        ] {
            let error = KernelFacts::of(file).unwrap_err().to_string();
            assert!(error.contains(found) && error.contains("wanted: an x86-64 bzImage"), "{error}");
        }
        for old in [bz_image(0x20b, 1), bz_image(0x20f, 0)] {
            assert!(KernelFacts::of(&old).unwrap_err().to_string().contains("without a 64-bit entry"));
        }
    }

    #[test]
    fn a_kernel_that_is_cut_off_is_refused_and_not_run() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 4 << 20)]).unwrap();
        let mut kernel = bz_image(0x20f, 1);
        kernel.truncate(0x240);
        assert!(load(&kernel, &memory).is_err());
        assert!(load(b"\x7fELF", &memory).is_err());
    }
}
