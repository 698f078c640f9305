//! `escape boot IMAGE.toml`: one guest by itself.

use std::borrow::Cow;
use std::path::Path;

use escape_node::solo::{KeysTo, SoloConfig, SoloNode, SoloTimes};
use escape_vmm::{BootParamsSeed, DiskConfig, GuestImage, LinuxGuest, VsockConfig};

use super::CommandError;
use super::parts::{log_to_stderr, part};
use crate::config::{FREESTANDING, ImageFile, Keys, LinuxFile, is_linux_file};
use crate::exit::Exit;

/// Slots of a guest that does not use them: the least that an arena has.
const SLOTS_MIN: u32 = 64;

/// Boots the image and serves until SIGINT, SIGTERM or the guest's own end.
pub fn run(image: &Path, times: bool) -> Result<Exit, CommandError> {
    log_to_stderr();
    let config =
        if is_linux_file(image) { linux(LinuxFile::read(image)?)? } else { freestanding(ImageFile::read(image)?)? };
    let mut node = SoloNode::start(config, SoloTimes::begin()).map_err(|e| part("boot", &e))?;
    let ended = node.run();
    if times {
        println!("{}", serde_json::to_string(node.times())?);
    }
    ended.map_err(|e| part("boot", &e))?;
    Ok(Exit::Done)
}

fn freestanding(file: ImageFile) -> Result<SoloConfig, CommandError> {
    let image: Cow<'static, [u8]> = if file.image == FREESTANDING {
        escape_images::freestanding().into()
    } else {
        read(Path::new(&file.image))?.into()
    };
    let params = BootParamsSeed {
        image_id: escape_images::image_id(&image),
        node: 0,
        ip: file.ip.octets(),
        mac: file.mac.0,
        http_port: file.http_port,
        stream_port: file.stream_port,
        idle_timeout_s: file.idle_timeout_s,
        slice_per_client: false,
        cmdline: file.cmdline,
    };
    Ok(SoloConfig {
        guest: GuestImage::Freestanding { image, params },
        ram_mib: file.ram_mib,
        n_slots: file.slots,
        tap: name(file.tap),
        keys: KeysTo::Serial,
    })
}

/// A Linux guest as its image file says, with the files that it names.
pub(super) fn linux_guest(file: &LinuxFile) -> Result<LinuxGuest, CommandError> {
    let initrd = if file.initrd.as_os_str().is_empty() { Vec::new() } else { read(&file.initrd)? };
    let disks = file.disks.iter().map(|d| DiskConfig { path: d.path.clone(), read_only: d.read_only }).collect();
    let vsock = VsockConfig { cid: file.vsock_cid, socket: file.vsock.clone() };
    Ok(LinuxGuest {
        kernel: read(&file.kernel)?,
        initrd,
        cmdline: file.cmdline.clone(),
        mac: file.mac.0,
        vcpus: file.vcpus,
        slots: file.slots,
        disks,
        vsock: (!file.vsock.as_os_str().is_empty()).then_some(vsock),
    })
}

fn linux(file: LinuxFile) -> Result<SoloConfig, CommandError> {
    Ok(SoloConfig {
        guest: GuestImage::Linux(linux_guest(&file)?),
        ram_mib: file.ram_mib,
        n_slots: file.slots.max(SLOTS_MIN),
        tap: name(file.tap),
        keys: match file.keys {
            Keys::Serial => KeysTo::Serial,
            Keys::Virtio => KeysTo::Virtio,
        },
    })
}

fn name(tap: String) -> Option<String> {
    (!tap.is_empty()).then_some(tap)
}

fn read(path: &Path) -> Result<Vec<u8>, CommandError> {
    std::fs::read(path).map_err(|source| CommandError::Read { path: path.to_owned(), source })
}
