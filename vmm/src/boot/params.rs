//! What the guest is told at boot ([`BootParams`]).

use super::error::BootError;
use escape_abi::BootParams;
use escape_abi::boot::{ABI_VERSION, BOOT_MAGIC};
use escape_abi::layout::BOOT_PARAMS;
use std::mem::offset_of;
use std::time::{SystemTime, UNIX_EPOCH};
use vm_memory::{Bytes, GuestAddress, GuestMemoryMmap};

/// Most bytes of a command line.
const COMMAND_LINE_MAX: usize = 256;

/// The part of the boot parameters that the operator decides; the VMM adds the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BootParamsSeed {
    /// This node's id.
    pub node: u32,
    /// First 8 bytes of the image digest.
    pub image_id: u64,
    /// Seconds after which an idle session is closed; 0 = never.
    pub idle_timeout_s: u32,
    /// Service IPv4 address.
    pub ip: [u8; 4],
    /// Service MAC address, which is also virtio-net's.
    pub mac: [u8; 6],
    /// TCP port of the HTTP session server.
    pub http_port: u16,
    /// TCP port of the checked byte stream.
    pub stream_port: u16,
    /// All connections of a client address are one slice.
    pub slice_per_client: bool,
    /// Command line, at most 256 bytes.
    pub cmdline: String,
}

impl BootParamsSeed {
    /// The whole parameters for a guest of this size.
    pub fn complete(&self, ram_bytes: u64, n_slots: u32, tsc_khz: u64) -> Result<BootParams, BootError> {
        let mut cmdline = [0; COMMAND_LINE_MAX];
        let text = self.cmdline.as_bytes();
        let too_long = BootError::CommandLine { len: text.len(), max: COMMAND_LINE_MAX };
        cmdline.get_mut(..text.len()).ok_or(too_long)?.copy_from_slice(text);
        let wall_us = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros());
        Ok(BootParams {
            magic: BOOT_MAGIC,
            version: ABI_VERSION,
            n_slots,
            tsc_khz,
            ram_bytes,
            image_id: self.image_id,
            wall_us: u64::try_from(wall_us).unwrap_or(0),
            node: self.node,
            idle_timeout_s: self.idle_timeout_s,
            ip: self.ip,
            mac: self.mac,
            http_port: self.http_port,
            stream_port: self.stream_port,
            slice_per_client: u16::from(self.slice_per_client),
            cmdline,
        })
    }
}

/// Writes the parameters to [`BOOT_PARAMS`].
pub fn write(memory: &GuestMemoryMmap, params: &BootParams) -> Result<(), BootError> {
    memory.write_slice(&encode(params), GuestAddress(BOOT_PARAMS)).map_err(|source| BootError::Write {
        what: "boot parameters",
        address: BOOT_PARAMS,
        source,
    })
}

fn encode(p: &BootParams) -> [u8; size_of::<BootParams>()] {
    let mut bytes = [0; size_of::<BootParams>()];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(offset_of!(BootParams, magic), &p.magic.to_le_bytes());
    put(offset_of!(BootParams, version), &p.version.to_le_bytes());
    put(offset_of!(BootParams, n_slots), &p.n_slots.to_le_bytes());
    put(offset_of!(BootParams, tsc_khz), &p.tsc_khz.to_le_bytes());
    put(offset_of!(BootParams, ram_bytes), &p.ram_bytes.to_le_bytes());
    put(offset_of!(BootParams, image_id), &p.image_id.to_le_bytes());
    put(offset_of!(BootParams, wall_us), &p.wall_us.to_le_bytes());
    put(offset_of!(BootParams, node), &p.node.to_le_bytes());
    put(offset_of!(BootParams, idle_timeout_s), &p.idle_timeout_s.to_le_bytes());
    put(offset_of!(BootParams, ip), &p.ip);
    put(offset_of!(BootParams, mac), &p.mac);
    put(offset_of!(BootParams, http_port), &p.http_port.to_le_bytes());
    put(offset_of!(BootParams, stream_port), &p.stream_port.to_le_bytes());
    put(offset_of!(BootParams, slice_per_client), &p.slice_per_client.to_le_bytes());
    put(offset_of!(BootParams, cmdline), &p.cmdline);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_guest_reads_back_what_was_meant() {
        let seed = BootParamsSeed {
            node: 3,
            image_id: 0x1122,
            idle_timeout_s: 60,
            ip: [10, 0, 0, 2],
            mac: [2, 0, 0, 0, 0, 9],
            http_port: 80,
            stream_port: 81,
            slice_per_client: true,
            cmdline: "quiet".into(),
        };
        let params = seed.complete(64 << 20, 128, 2_500_000).unwrap();
        let bytes = encode(&params);
        // SAFETY: every bit pattern is a valid BootParams; the read is unaligned.
        let back = unsafe { bytes.as_ptr().cast::<BootParams>().read_unaligned() };
        assert_eq!(back, params);
    }

    #[test]
    fn long_command_lines_are_refused() {
        let seed = BootParamsSeed { cmdline: "x".repeat(257), ..Default::default() };
        assert!(seed.complete(4 << 20, 64, 1).is_err());
    }
}
