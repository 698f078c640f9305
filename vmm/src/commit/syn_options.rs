//! The options of a SYN: what a connection's two sides offer each other (RFC 9293, section 3.2; RFC 7323; RFC 2018).

use super::frame::{ETHERNET_HEADER_LEN, VNET_HEADER_LEN};
use super::segment::Segment;
use escape_abi::OpeningNumbers;
use escape_abi::message::opening_flag;

/// Largest segment of a peer that names none (RFC 9293, section 3.7.1).
const MSS_DEFAULT: u16 = 536;
/// Largest window scale (RFC 7323, section 2.3).
const SCALE_MAX: u8 = 14;
/// A TCP header starts here: frames with IP options are unparsable.
const TCP_AT: usize = VNET_HEADER_LEN + ETHERNET_HEADER_LEN + 20;
const TCP_HEADER_LEN: usize = 20;

const END: u8 = 0;
const PADDING: u8 = 1;
const MSS: u8 = 2;
const SCALE: u8 = 3;
const SACK: u8 = 4;
const TIMESTAMPS: u8 = 8;

/// What one SYN offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynOptions {
    /// Largest segment that its sender takes.
    pub mss: Option<u16>,
    /// Scale of its sender's windows.
    pub scale: Option<u8>,
    /// Selective acknowledgements.
    pub sack: bool,
    /// Its sender's clock.
    pub clock: Option<u32>,
    /// Its window, never scaled.
    pub window: u16,
}

impl SynOptions {
    /// Of a frame (virtio-net header first) that was found to be this segment. Options that contradict themselves end the list: what
    /// was not understood was not offered.
    pub fn of(frame: &[u8], segment: &Segment) -> Self {
        let mut options = Self { window: segment.window, ..Self::default() };
        let header = usize::from(frame.get(TCP_AT + 12).copied().unwrap_or(0) >> 4) * 4;
        let mut rest = frame.get(TCP_AT + TCP_HEADER_LEN..TCP_AT + header).unwrap_or_default();
        while let Some((kind, behind)) = rest.split_first() {
            match *kind {
                END => break,
                PADDING => rest = behind,
                kind => {
                    let Some((value, behind)) = behind
                        .split_first()
                        .and_then(|(len, behind)| behind.split_at_checked(usize::from(*len).checked_sub(2)?))
                    else {
                        break;
                    };
                    options.take(kind, value);
                    rest = behind;
                }
            }
        }
        options
    }

    fn take(&mut self, kind: u8, value: &[u8]) {
        match (kind, value) {
            (MSS, [a, b]) => self.mss = Some(u16::from_be_bytes([*a, *b])),
            (SCALE, [scale]) => self.scale = Some((*scale).min(SCALE_MAX)),
            (SACK, []) => self.sack = true,
            (TIMESTAMPS, [a, b, c, d, ..]) => self.clock = Some(u32::from_be_bytes([*a, *b, *c, *d])),
            _ => {}
        }
    }

    /// What a client's SYN and the service's answer to it agree on: what both offer.
    pub fn agree(&self, answer: &Self, iss: u32, irs: u32) -> OpeningNumbers {
        let scales = self.scale.zip(answer.scale);
        let clock = self.clock.and(answer.clock);
        let (scale_of_client, scale_of_service) = scales.unwrap_or_default();
        let flags = [
            (self.sack && answer.sack, opening_flag::SACK),
            (scales.is_some(), opening_flag::SCALE),
            (clock.is_some(), opening_flag::TIMESTAMPS),
        ];
        OpeningNumbers {
            iss,
            irs,
            clock: clock.unwrap_or(0),
            mss: self.mss.unwrap_or(MSS_DEFAULT).max(1),
            window: self.window,
            scale_of_client,
            scale_of_service,
            flags: flags.into_iter().filter(|(is, _)| *is).map(|(_, flag)| flag).sum(),
            reserved: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::frame::{Frame, Source, parse};
    use super::super::segment::TcpFlags;
    use super::super::test_frames::FrameBuilder;
    use super::*;
    use proptest::prelude::*;

    fn offered(options: &[u8]) -> SynOptions {
        let frame = FrameBuilder::default().flags(TcpFlags::SYN).window(64_240).options(options).sent_by_client();
        match parse(&frame, Source::Client) {
            Frame::Tcp(segment) => SynOptions::of(&frame, &segment),
            other => panic!("{other:?}"),
        }
    }

    /// The SYN of a Linux client, and of one that offers nothing.
    const LINUX: [u8; 20] = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0x11, 0x22, 0x33, 0x44, 0, 0, 0, 0, 1, 3, 3, 7];

    #[test]
    fn what_both_offer_is_agreed_on() {
        let linux = offered(&LINUX);
        let all = SynOptions { mss: Some(1460), scale: Some(7), sack: true, clock: Some(0x1122_3344), window: 64_240 };
        assert_eq!(linux, all);
        let ours = SynOptions { scale: Some(9), clock: Some(5), ..linux };
        let both = linux.agree(&ours, 100, 200);
        assert_eq!((both.iss, both.irs, both.mss, both.clock, both.flags), (100, 200, 1460, 5, 7));
        assert_eq!((both.scale_of_client, both.scale_of_service, both.window), (7, 9, 64_240));
        let plain = offered(&[]).agree(&ours, 1, 2);
        assert_eq!((plain.mss, plain.clock, plain.flags), (536, 0, 0));
        assert_eq!((plain.scale_of_client, plain.scale_of_service), (0, 0));
    }

    #[test]
    fn lists_that_end_early_or_lie_offer_what_was_understood() {
        assert_eq!(offered(&[2, 4, 5, 0xb4, 3, 3, 15, 0]).scale, Some(14));
        for options in [[2, 4, 5, 0xb4, 3, 9, 7, 0], [2, 4, 5, 0xb4, 3, 0, 7, 0], [2, 4, 5, 0xb4, 3, 1, 7, 0]] {
            assert_eq!((offered(&options).mss, offered(&options).scale), (Some(1460), None), "{options:?}");
        }
        assert_eq!(offered(&[0, 2, 4, 5]).mss, None);
    }

    proptest! {
        #[test]
        fn no_options_make_it_panic(words in 0usize..10, fill in proptest::collection::vec(any::<u8>(), 40)) {
            let _ = offered(&fill[..4 * words]);
        }
    }
}
