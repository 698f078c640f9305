//! What the VMM tells the guest at boot, at [`crate::layout::BOOT_PARAMS`].

/// "ESCAPBOO" little-endian.
pub const BOOT_MAGIC: u64 = u64::from_le_bytes(*b"ESCAPBOO");
/// Version of everything in this crate; the guest refuses to run on another.
pub const ABI_VERSION: u32 = 2;

/// Boot parameters. Filled by the VMM before the first instruction, never changed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct BootParams {
    /// [`BOOT_MAGIC`].
    pub magic: u64,
    /// [`ABI_VERSION`].
    pub version: u32,
    /// Slots that the cell's arena has in all.
    pub n_slots: u32,
    /// Frequency of RDTSC, kHz.
    pub tsc_khz: u64,
    /// Bytes of ordinary RAM from guest-physical 0.
    pub ram_bytes: u64,
    /// First 8 bytes of the image digest: written into every slot, checked at plug.
    pub image_id: u64,
    /// Wall clock at boot, microseconds since 1970 (information only).
    pub wall_us: u64,
    /// This node's id (shown by `GET /session`).
    pub node: u32,
    /// Seconds without a request after which an idle session is closed; 0 = never.
    pub idle_timeout_s: u32,
    /// Service IPv4 address, shared by all guests of the cell.
    pub ip: [u8; 4],
    /// Service MAC address, shared by all guests of the cell.
    pub mac: [u8; 6],
    /// TCP port of the HTTP session server.
    pub http_port: u16,
    /// TCP port of the checked byte stream.
    pub stream_port: u16,
    /// 1: all connections of a client address are one slice; 0: each is a slice of its own.
    pub slice_per_client: u16,
    /// Command line, UTF-8, zero-padded.
    pub cmdline: [u8; 256],
}
