//! Files of `tcpdump -w`: the classic format, Ethernet, times in micro- or nanoseconds.

/// Bytes of the file's head and of each record's.
const FILE_HEAD: usize = 24;
const RECORD_HEAD: usize = 16;
/// "Ethernet".
const LINK_TYPE_ETHERNET: u32 = 1;

/// The frames of a capture, in order.
#[derive(Clone, Copy, Debug)]
pub struct Pcap<'a> {
    rest: &'a [u8],
    little: bool,
}

impl<'a> Pcap<'a> {
    /// A capture file's bytes. `None`: not such a file, or not of Ethernet frames.
    pub fn new(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(FILE_HEAD)?;
        let little = match head.get(..4)? {
            [0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1] => true,
            [0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d] => false,
            _ => return None,
        };
        (word(head.get(20..24)?, little)? == LINK_TYPE_ETHERNET).then_some(Self { rest, little })
    }
}

impl<'a> Iterator for Pcap<'a> {
    /// A frame, or its length if it was cut short.
    type Item = Result<&'a [u8], usize>;

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.rest.split_at_checked(RECORD_HEAD)?;
        let kept = usize::try_from(word(head.get(8..12)?, self.little)?).ok()?;
        let length = usize::try_from(word(head.get(12..16)?, self.little)?).ok()?;
        let (frame, rest) = rest.split_at_checked(kept)?;
        self.rest = rest;
        Some(if kept == length { Ok(frame) } else { Err(length) })
    }
}

fn word(bytes: &[u8], little: bool) -> Option<u32> {
    let bytes = bytes.try_into().ok()?;
    Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_file() {
        let mut file = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 1, 0, 0, 0];
        for (kept, length, byte) in [(3u32, 3u32, 7u8), (2, 9, 8), (1, 1, 9)] {
            file.extend([0; 8]);
            file.extend(kept.to_le_bytes());
            file.extend(length.to_le_bytes());
            file.extend(vec![byte; kept as usize]);
        }
        let frames: Vec<_> = Pcap::new(&file).into_iter().flatten().collect();
        assert_eq!(frames, [Ok(&[7u8, 7, 7][..]), Err(9), Ok(&[9])]);
        file.pop();
        assert_eq!(Pcap::new(&file).map(Iterator::count), Some(2), "a record that was not written to its end");
        assert!(Pcap::new(&file[1..]).is_none() && Pcap::new(&file[..20]).is_none());
        file[20] = 101;
        assert!(Pcap::new(&file).is_none(), "no Ethernet");
    }
}
