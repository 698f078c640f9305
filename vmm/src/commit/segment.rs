//! A parsed TCP segment: what the commit path needs to know of a frame.

use escape_abi::message::Flow;

/// Flag bits of the TCP header (RFC 9293, section 3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number is valid.
    pub const ACK: u8 = 0x10;

    /// FIN is set.
    pub const fn fin(self) -> bool {
        self.0 & Self::FIN != 0
    }
    /// SYN is set.
    pub const fn syn(self) -> bool {
        self.0 & Self::SYN != 0
    }
    /// RST is set.
    pub const fn rst(self) -> bool {
        self.0 & Self::RST != 0
    }
    /// ACK is set.
    pub const fn ack(self) -> bool {
        self.0 & Self::ACK != 0
    }
    /// A connection request and nothing else: SYN without ACK, RST and FIN.
    pub const fn pure_syn(self) -> bool {
        self.0 & (Self::SYN | Self::ACK | Self::RST | Self::FIN) == Self::SYN
    }
}

/// A TCP segment over IPv4, named from the service's point of view whichever side sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Client address and port, service port.
    pub flow: Flow,
    /// The service's address in this frame.
    pub service_ip: [u8; 4],
    /// Ethernet source of the frame.
    pub source_mac: [u8; 6],
    /// Sequence number of the first byte (of the SYN, if set).
    pub seq: u32,
    /// Acknowledgement number; meaningless unless [`TcpFlags::ack`].
    pub ack: u32,
    /// Flags.
    pub flags: TcpFlags,
    /// Window field, unscaled.
    pub window: u16,
    /// Bytes of payload.
    pub payload_len: u16,
}

impl Segment {
    /// Sequence space that the segment occupies: payload, and one each for SYN and FIN.
    pub const fn seq_len(&self) -> u32 {
        self.payload_len as u32 + self.flags.syn() as u32 + self.flags.fin() as u32
    }
    /// Sequence number after the segment's last.
    pub const fn seq_end(&self) -> u32 {
        self.seq.wrapping_add(self.seq_len())
    }
    /// FIN or RST: frames that end a connection and are never dropped for a data quota.
    pub const fn ends_connection(&self) -> bool {
        self.flags.fin() || self.flags.rst()
    }
    /// Nothing but an acknowledgement: no sequence space, no RST.
    pub const fn pure_ack(&self) -> bool {
        self.flags.ack() && !self.flags.rst() && self.seq_len() == 0
    }
}
