//! The 12 bytes before each frame (virtio 1.2, section 5.1.6), believed in no direction.

use super::frame_buf::FRAME_BYTES_MAX;
use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE, VIRTIO_NET_HDR_GSO_TCPV4,
};

/// `struct virtio_net_hdr_v1`.
pub const VNET_HEADER_BYTES: usize = 12;
const ETHERNET_BYTES: usize = 14;
const NEEDS_CSUM: u8 = VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
const DATA_VALID: u8 = VIRTIO_NET_HDR_F_DATA_VALID as u8;
const GSO_NONE: u8 = VIRTIO_NET_HDR_GSO_NONE as u8;
const GSO_TCPV4: u8 = VIRTIO_NET_HDR_GSO_TCPV4 as u8;
/// Smallest size of the segments that a frame may be cut into: what Linux sends at the least (`tcp_min_snd_mss`). Smaller ones would
/// have the host's kernel make tens of thousands of packets of one frame.
const SEGMENT_BYTES_MIN: u16 = 48;
/// Offset of a UDP checksum in its header; a UDP checksum of 0 means "none" and is written as all ones.
const UDP_CHECKSUM_OFFSET: usize = 6;

/// Why a header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VnetHeaderError {
    /// Not even the headers are there.
    #[error("frame shorter than its headers")]
    Short,
    /// Segmentation that was not negotiated, is not of TCP over IPv4, or has impossible numbers.
    #[error("segmentation that was not negotiated or makes no sense")]
    Segmentation,
    /// Longer than a packet may be, and not to be segmented.
    #[error("longer than a packet and not to be segmented")]
    Long,
    /// Unfinished checksum without the feature.
    #[error("unfinished checksum without the feature")]
    NotNegotiated,
    /// The checksum's place is not in the frame's payload.
    #[error("checksum outside the frame")]
    ChecksumRange,
}

/// Where an unfinished checksum is, relative to the start of the Ethernet frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChecksumPlace {
    start: usize,
    offset: usize,
}

/// What the driver may leave to the device on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Unfinished checksums.
    pub csum: bool,
    /// Segmentation of TCP over IPv4.
    pub tso: bool,
}

/// A header from the guest that was made canonical.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sanitized {
    /// Something had to be cleared that a correct driver leaves zero.
    pub cleared: bool,
    /// The frame is to be segmented.
    pub segmented: bool,
}

/// Makes a header from the guest canonical, in place: what was negotiated and makes sense stays, fields without meaning
/// become zero.
pub fn sanitize_transmitted(frame: &mut [u8], offload: Offload) -> Result<Sanitized, VnetHeaderError> {
    let header = read_header(frame)?;
    let place = checksum_place(&header, frame.len())?;
    if place.is_some() && !offload.csum {
        return Err(VnetHeaderError::NotNegotiated);
    }
    let segmented = header[1] != GSO_NONE;
    let segment = u16::from_le_bytes([header[4], header[5]]);
    if segmented && !(offload.tso && header[1] == GSO_TCPV4 && place.is_some() && segment >= SEGMENT_BYTES_MIN) {
        return Err(VnetHeaderError::Segmentation);
    }
    if !segmented && frame.len() > FRAME_BYTES_MAX {
        return Err(VnetHeaderError::Long);
    }
    let mut clean = [0; VNET_HEADER_BYTES];
    if place.is_some() {
        clean[0] = NEEDS_CSUM;
        clean[6..10].copy_from_slice(&header[6..10]);
    }
    if segmented {
        clean[1] = GSO_TCPV4;
        clean[4..6].copy_from_slice(&header[4..6]);
    }
    // hdr_len (bytes 2..4) is a hint that a driver may give.
    let cleared = (0..VNET_HEADER_BYTES).any(|i| !(2..4).contains(&i) && header[i] != clean[i]);
    if let Some(h) = frame.first_chunk_mut::<VNET_HEADER_BYTES>() {
        *h = clean;
    }
    Ok(Sanitized { cleared, segmented })
}

/// The header for a frame that goes to the guest, and the checksum to finish first if the guest does not take
/// unfinished ones.
pub fn prepare_received(
    frame: &[u8],
    guest_csum: bool,
) -> Result<([u8; VNET_HEADER_BYTES], Option<ChecksumPlace>), VnetHeaderError> {
    let header = read_header(frame)?;
    if header[1] != GSO_NONE {
        return Err(VnetHeaderError::Segmentation);
    }
    let place = checksum_place(&header, frame.len())?;
    let mut clean = [0; VNET_HEADER_BYTES];
    // num_buffers is 1 without VIRTIO_NET_F_MRG_RXBUF (section 5.1.6.4.1).
    clean[10] = 1;
    if guest_csum {
        clean[0] = header[0] & (NEEDS_CSUM | DATA_VALID);
        if place.is_some() {
            clean[6..10].copy_from_slice(&header[6..10]);
        }
    }
    Ok((clean, place.filter(|_| !guest_csum)))
}

/// Finishes a checksum in place: the field holds the sum of the pseudo-header (RFC 1071).
pub fn finish_checksum(ethernet: &mut [u8], place: ChecksumPlace) {
    let Some(covered) = ethernet.get_mut(place.start..) else { return };
    let mut sum = 0u64;
    let mut words = covered.chunks_exact(2);
    for word in &mut words {
        sum += u64::from(word[0]) << 8 | u64::from(word[1]);
    }
    sum += words.remainder().first().map_or(0, |last| u64::from(*last) << 8);
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let mut checksum = !(sum as u16);
    if checksum == 0 && place.offset == UDP_CHECKSUM_OFFSET {
        checksum = 0xffff;
    }
    if let Some(field) = covered.get_mut(place.offset..place.offset + 2) {
        field.copy_from_slice(&checksum.to_be_bytes());
    }
}

fn read_header(frame: &[u8]) -> Result<[u8; VNET_HEADER_BYTES], VnetHeaderError> {
    let header = *frame.first_chunk::<VNET_HEADER_BYTES>().ok_or(VnetHeaderError::Short)?;
    if frame.len() < VNET_HEADER_BYTES + ETHERNET_BYTES {
        return Err(VnetHeaderError::Short);
    }
    Ok(header)
}

/// The checksum a header speaks of, checked against the frame.
fn checksum_place(
    header: &[u8; VNET_HEADER_BYTES],
    frame_len: usize,
) -> Result<Option<ChecksumPlace>, VnetHeaderError> {
    if header[0] & NEEDS_CSUM == 0 {
        return Ok(None);
    }
    let start = usize::from(u16::from_le_bytes([header[6], header[7]]));
    let offset = usize::from(u16::from_le_bytes([header[8], header[9]]));
    if start < ETHERNET_BYTES || start + offset + 2 > frame_len - VNET_HEADER_BYTES {
        return Err(VnetHeaderError::ChecksumRange);
    }
    Ok(Some(ChecksumPlace { start, offset }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A frame of `payload` bytes after the Ethernet header, with this virtio-net header.
    fn frame(header: [u8; 12], payload: usize) -> Vec<u8> {
        let mut f = header.to_vec();
        f.extend(vec![0x11; ETHERNET_BYTES + payload]);
        f
    }

    const ALL: Offload = Offload { csum: true, tso: true };

    fn checksum(flags: u8, start: u16, offset: u16) -> [u8; 12] {
        let ([a, b], [c, d]) = (start.to_le_bytes(), offset.to_le_bytes());
        [flags, 0, 0, 0, 0, 0, a, b, c, d, 0, 0]
    }

    #[test]
    fn headers_of_the_guest() {
        use VnetHeaderError::{ChecksumRange, NotNegotiated, Segmentation};
        let zero = [0; 12];
        let hint = [0, 0, 54, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let segmented = [0, 1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0];
        let unknown = [0x84, 0, 0, 0, 9, 9, 1, 1, 1, 1, 7, 7];
        let ok = checksum(1, 34, 16);
        const NONE: Offload = Offload { csum: false, tso: false };
        const CSUM: Offload = Offload { csum: true, tso: false };
        const TSO: Offload = Offload { csum: true, tso: true };
        let segments = |gso: u8, size: u16| {
            let ([a, b], mut header) = (size.to_le_bytes(), ok);
            (header[1], header[4], header[5]) = (gso, a, b);
            header
        };
        let unfinished = |gso: u8, size: u16| {
            let mut header = segments(gso, size);
            header[0] = 0;
            header
        };
        // header, negotiated, cleared and segmented, header afterwards
        type Case = ([u8; 12], Offload, Result<(bool, bool), VnetHeaderError>, [u8; 12]);
        let table: [Case; 20] = [
            (zero, NONE, Ok((false, false)), zero),
            (hint, CSUM, Ok((false, false)), zero),
            (ok, CSUM, Ok((false, false)), ok),
            (ok, NONE, Err(NotNegotiated), ok),
            (segmented, CSUM, Err(Segmentation), segmented),
            ([0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], CSUM, Err(Segmentation), [0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (unknown, CSUM, Ok((true, false)), zero),
            (checksum(2, 34, 16), CSUM, Ok((true, false)), zero),
            (checksum(0, 34, 16), CSUM, Ok((true, false)), zero),
            (checksum(1, 13, 16), CSUM, Err(ChecksumRange), checksum(1, 13, 16)),
            (checksum(1, 34, 39), CSUM, Err(ChecksumRange), checksum(1, 34, 39)),
            (checksum(1, 34, 38), CSUM, Ok((false, false)), checksum(1, 34, 38)),
            (checksum(1, 0xffff, 0xffff), CSUM, Err(ChecksumRange), checksum(1, 0xffff, 0xffff)),
            (segments(1, 1448), TSO, Ok((false, true)), segments(1, 1448)),
            (segments(1, 1448), CSUM, Err(Segmentation), segments(1, 1448)),
            (segments(1, 47), TSO, Err(Segmentation), segments(1, 47)),
            (segments(0x81, 1448), TSO, Err(Segmentation), segments(0x81, 1448)),
            (segments(4, 1448), TSO, Err(Segmentation), segments(4, 1448)),
            (unfinished(1, 1448), TSO, Err(Segmentation), unfinished(1, 1448)),
            (segments(0, 1448), TSO, Ok((true, false)), ok),
        ];
        for (header, negotiated, want, after) in table {
            let mut f = frame(header, 60);
            let want = want.map(|(cleared, segmented)| Sanitized { cleared, segmented });
            assert_eq!(sanitize_transmitted(&mut f, negotiated), want, "{header:?}");
            assert_eq!(f[..12], after, "{header:?}");
            assert_eq!(f[12..], frame(header, 60)[12..], "the frame itself is not touched");
        }
    }

    #[test]
    fn short_frames_are_no_frames() {
        for len in 0..26 {
            assert_eq!(sanitize_transmitted(&mut vec![0; len], ALL), Err(VnetHeaderError::Short));
            assert_eq!(prepare_received(&vec![0; len], true), Err(VnetHeaderError::Short));
        }
        assert_eq!(sanitize_transmitted(&mut [0; 26], ALL), Ok(Sanitized { cleared: false, segmented: false }));
    }

    #[test]
    fn only_what_is_segmented_may_be_longer_than_a_packet() {
        let mut long = frame([0; 12], 1_519);
        assert_eq!(sanitize_transmitted(&mut long, ALL), Err(VnetHeaderError::Long));
        let mut segmented = frame([1, 1, 66, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0], 65_521);
        assert_eq!(sanitize_transmitted(&mut segmented, ALL), Ok(Sanitized { cleared: false, segmented: true }));
        assert_eq!(segmented[..12], [1, 1, 0, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0], "the hint of the header's length goes");
    }

    #[test]
    fn headers_to_the_guest_say_one_buffer_and_only_what_it_takes() {
        let (h, place) = prepare_received(&frame(checksum(3, 34, 16), 60), true).expect("valid");
        assert_eq!((h[0], h[6], h[8], h[10], place), (3, 34, 16, 1, None));
        let (h, place) = prepare_received(&frame(checksum(3, 34, 16), 60), false).expect("valid");
        assert_eq!(h, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
        assert_eq!(place, Some(ChecksumPlace { start: 34, offset: 16 }));
        assert!(prepare_received(&frame([0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 60), true).is_err());
    }

    #[test]
    fn a_finished_checksum_sums_to_all_ones() {
        for len in [20, 21, 60, 61] {
            let mut ethernet: Vec<u8> = (0..34 + len).map(|i| (i * 37 + 11) as u8).collect();
            finish_checksum(&mut ethernet, ChecksumPlace { start: 34, offset: 16 });
            let mut sum = 0u64;
            for (i, byte) in ethernet[34..].iter().enumerate() {
                sum += u64::from(*byte) << (8 * (1 - i % 2));
            }
            // The field held a pseudo-header sum that is now part of the result: compare against a second way.
            let field = u64::from(u16::from_be_bytes([ethernet[50], ethernet[51]]));
            let before = (50 * 37 + 11) as u8;
            let old = u64::from(before) << 8 | u64::from((51 * 37 + 11) as u8);
            let mut total = sum - field + old + field;
            while total >> 16 != 0 {
                total = (total & 0xffff) + (total >> 16);
            }
            assert_eq!(total, 0xffff, "{len}");
        }
        finish_checksum(&mut [0; 20], ChecksumPlace { start: 99, offset: 0 });
    }
}
