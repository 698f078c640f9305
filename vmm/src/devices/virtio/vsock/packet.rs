//! The head of a packet (virtio 1.2, section 5.10.6).

/// Bytes of a head.
pub const HEAD_BYTES: usize = 44;
/// Most bytes that may follow one: Linux sends no more.
pub const DATA_BYTES_MAX: usize = 64 << 10;
/// A stream's packets.
pub const STREAM: u16 = 1;
/// Flags of [`Op::SHUTDOWN`]: the sender will receive no more, and will send no more.
pub const NO_MORE_RECEIVED: u32 = 1;
/// See [`NO_MORE_RECEIVED`].
pub const NO_MORE_SENT: u32 = 2;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Op(pub u16);

impl Op {
    /// Connects.
    pub const REQUEST: Self = Self(1);
    /// Accepts.
    pub const RESPONSE: Self = Self(2);
    /// Ends at once, or refuses.
    pub const RESET: Self = Self(3);
    /// Ends one direction or both.
    pub const SHUTDOWN: Self = Self(4);
    /// Carries data.
    pub const DATA: Self = Self(5);
    /// Tells room.
    pub const CREDIT: Self = Self(6);
    /// Asks for it.
    pub const CREDIT_REQUEST: Self = Self(7);
}

/// A head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Who sends: context id and port.
    pub source: (u64, u32),
    /// Who receives.
    pub destination: (u64, u32),
    /// Bytes that follow.
    pub len: u32,
    /// [`STREAM`].
    pub kind: u16,
    /// What for.
    pub op: Op,
    /// Of [`Op::SHUTDOWN`].
    pub flags: u32,
    /// The sender's room for what it receives, bytes.
    pub room: u32,
    /// How many bytes have left that room so far, modulo 2^32.
    pub consumed: u32,
}

impl Head {
    /// From its bytes.
    pub fn of(bytes: &[u8; HEAD_BYTES]) -> Self {
        let mut rest = bytes.as_slice();
        let source = (take_u64(&mut rest), take_u64(&mut rest));
        let ports = (take_u32(&mut rest), take_u32(&mut rest));
        Self {
            source: (source.0, ports.0),
            destination: (source.1, ports.1),
            len: take_u32(&mut rest),
            kind: take_u16(&mut rest),
            op: Op(take_u16(&mut rest)),
            flags: take_u32(&mut rest),
            room: take_u32(&mut rest),
            consumed: take_u32(&mut rest),
        }
    }

    /// Its bytes.
    pub fn bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let parts: [&[u8]; 10] = [
            &self.source.0.to_le_bytes(),
            &self.destination.0.to_le_bytes(),
            &self.source.1.to_le_bytes(),
            &self.destination.1.to_le_bytes(),
            &self.len.to_le_bytes(),
            &self.kind.to_le_bytes(),
            &self.op.0.to_le_bytes(),
            &self.flags.to_le_bytes(),
            &self.room.to_le_bytes(),
            &self.consumed.to_le_bytes(),
        ];
        bytes.iter_mut().zip(parts.into_iter().flatten()).for_each(|(to, from)| *to = *from);
        bytes
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (part, behind) = rest.split_first_chunk().map_or(([0; N], &[][..]), |(part, behind)| (*part, behind));
    *rest = behind;
    part
}

fn take_u16(rest: &mut &[u8]) -> u16 {
    u16::from_le_bytes(take(rest))
}

fn take_u32(rest: &mut &[u8]) -> u32 {
    u32::from_le_bytes(take(rest))
}

fn take_u64(rest: &mut &[u8]) -> u64 {
    u64::from_le_bytes(take(rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_what_the_specification_says() {
        let head = Head {
            source: (3, 0x0a0b_0c0d),
            destination: (2, 1024),
            len: 7,
            kind: STREAM,
            op: Op::DATA,
            flags: 3,
            room: 0x1_0000,
            consumed: 9,
        };
        let bytes = head.bytes();
        assert_eq!(Head::of(&bytes), head);
        assert_eq!((bytes[0], bytes[8], bytes[16], bytes[20..22].to_vec()), (3, 2, 0x0d, vec![0, 4]));
        assert_eq!((bytes[24], bytes[28], bytes[30], bytes[32], bytes[38], bytes[40]), (7, 1, 5, 3, 1, 9));
    }
}
