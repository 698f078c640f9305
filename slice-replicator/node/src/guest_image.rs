//! What the node's guest runs.

use crate::config::{Interface, NodeConfig};
use crate::error::NodeError;
use escape_vmm::boot::linux::LinuxGuest;
use escape_vmm::{BootParamsSeed, Console, GuestImage, TapSource, VmConfig};
use std::borrow::Cow;
use std::os::fd::{FromRawFd, OwnedFd};

/// An image, and its digest: nodes with other digests are not let into the cell.
pub(crate) struct CellImage {
    pub guest: GuestImage,
    pub digest: [u8; 32],
    ram_mib: u32,
}

impl CellImage {
    /// Reads what the configuration names.
    pub(crate) fn read(config: &NodeConfig) -> Result<Self, NodeError> {
        match &config.linux {
            Some(linux) => Ok(Self::linux(config, linux)),
            None => Self::freestanding(config),
        }
    }

    fn freestanding(config: &NodeConfig) -> Result<Self, NodeError> {
        let image: Cow<'static, [u8]> = match &config.image {
            None => escape_images::freestanding().into(),
            Some(path) => match std::fs::read(path) {
                Ok(image) => image.into(),
                Err(source) => return Err(NodeError::Image { path: path.clone(), source }),
            },
        };
        let digest = escape_images::digest(&image);
        let params = BootParamsSeed {
            image_id: escape_images::image_id(&image),
            node: u32::from(config.id),
            ip: config.service.ip.octets(),
            mac: config.service.mac,
            http_port: config.service.http_port,
            stream_port: config.service.stream_port,
            idle_timeout_s: config.service.idle_timeout_s,
            slice_per_client: config.service.slice_per_client,
            cmdline: config.cmdline.clone(),
        };
        Ok(Self { guest: GuestImage::Freestanding { image, params }, digest, ram_mib: config.ram_mib })
    }

    /// The cell says what a guest's own file does not know: slots, address, ports, and who it is.
    fn linux(config: &NodeConfig, linux: &LinuxGuest) -> Self {
        let parts = [&linux.kernel, &linux.initrd, linux.cmdline.as_bytes()];
        let digest = escape_images::digest(&parts.map(escape_images::digest).concat());
        let service = &config.service;
        let cmdline = format!(
            "{} {} escape.cell={} escape.ip={}/32 escape.http={} escape.stream={}",
            linux.cmdline, config.cmdline, config.id, service.ip, service.http_port, service.stream_port
        );
        let guest = LinuxGuest { cmdline, mac: service.mac, slots: config.n_slots, ..linux.clone() };
        Self { guest: GuestImage::Linux(guest), digest, ram_mib: config.ram_mib }
    }

    /// The machine for it.
    pub(crate) fn machine(
        self,
        n_slots: u32,
        tap: &Interface,
        mirror: Option<&Interface>,
    ) -> Result<VmConfig, NodeError> {
        Ok(VmConfig {
            ram_bytes: u64::from(self.ram_mib) << 20,
            n_slots,
            guest: self.guest,
            tap: Some(tap_source(tap)?),
            mirror: mirror.map(tap_source).transpose()?,
            console: Console::new(Box::new(std::io::stderr())),
            virtio_console: Console::none(),
        })
    }
}

fn tap_source(interface: &Interface) -> Result<TapSource, NodeError> {
    match interface {
        Interface::Name(name) => {
            warn_if_missing(name);
            Ok(TapSource::Name(name.clone()))
        }
        Interface::Fd(fd) if *fd > 2 => {
            // The inherited descriptor itself stays open: a node that starts over finds it again.
            // SAFETY: takes no pointers; a number that is no descriptor is refused by the kernel.
            let own = unsafe { libc::fcntl(*fd, libc::F_DUPFD_CLOEXEC, 3) };
            if own < 0 {
                let source = std::io::Error::last_os_error();
                return Err(NodeError::Os { what: "duplicate an inherited tap descriptor", source });
            }
            // SAFETY: the descriptor was just made and is owned by nobody else.
            Ok(TapSource::Inherited(unsafe { OwnedFd::from_raw_fd(own) }))
        }
        Interface::Fd(fd) => Err(NodeError::Config(format!("descriptor {fd} cannot be a tap"))),
    }
}

/// A tap that is only made now is bridged to nothing: clients' frames will not come.
fn warn_if_missing(name: &str) {
    let known = std::ffi::CString::new(name).is_ok_and(|name| {
        // SAFETY: the name is a C string, which the call only reads.
        unsafe { libc::if_nametoindex(name.as_ptr()) != 0 }
    });
    if !known {
        tracing::warn!(tap = name, "there is no such interface: it is made now and gone with this process");
    }
}
