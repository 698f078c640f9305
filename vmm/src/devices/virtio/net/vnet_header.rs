//! The 12 bytes before each frame (virtio 1.2, section 5.1.6), believed in no direction.

use virtio_bindings::bindings::virtio_net::{
    VIRTIO_NET_HDR_F_DATA_VALID, VIRTIO_NET_HDR_F_NEEDS_CSUM, VIRTIO_NET_HDR_GSO_NONE,
};

/// `struct virtio_net_hdr_v1`.
pub const VNET_HEADER_BYTES: usize = 12;
const ETHERNET_BYTES: usize = 14;
const NEEDS_CSUM: u8 = VIRTIO_NET_HDR_F_NEEDS_CSUM as u8;
const DATA_VALID: u8 = VIRTIO_NET_HDR_F_DATA_VALID as u8;
/// Offset of a UDP checksum in its header; a UDP checksum of 0 means "none" and is written as all ones.
const UDP_CHECKSUM_OFFSET: usize = 6;

/// Why a header was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VnetHeaderError {
    /// Not even the headers are there.
    #[error("frame shorter than its headers")]
    Short,
    /// Segmentation was never offered.
    #[error("segmentation asked for but not negotiated")]
    Segmentation,
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

/// Makes a header from the guest canonical, in place: what was negotiated and makes sense stays, fields without meaning
/// become zero. `Ok(true)` if something had to be cleared that a correct driver leaves zero.
pub fn sanitize_transmitted(frame: &mut [u8], csum: bool) -> Result<bool, VnetHeaderError> {
    let header = read_header(frame)?;
    let place = checksum_place(&header, frame.len())?;
    if place.is_some() && !csum {
        return Err(VnetHeaderError::NotNegotiated);
    }
    let mut clean = [0; VNET_HEADER_BYTES];
    if place.is_some() {
        clean[0] = NEEDS_CSUM;
        clean[6..10].copy_from_slice(&header[6..10]);
    }
    // hdr_len (bytes 2..4) is a hint that a driver may give.
    let cleared = (0..VNET_HEADER_BYTES).any(|i| !(2..4).contains(&i) && header[i] != clean[i]);
    if let Some(h) = frame.first_chunk_mut::<VNET_HEADER_BYTES>() {
        *h = clean;
    }
    Ok(cleared)
}

/// The header for a frame that goes to the guest, and the checksum to finish first if the guest does not take
/// unfinished ones.
pub fn prepare_received(
    frame: &[u8],
    guest_csum: bool,
) -> Result<([u8; VNET_HEADER_BYTES], Option<ChecksumPlace>), VnetHeaderError> {
    let header = read_header(frame)?;
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
    if u32::from(header[1]) != VIRTIO_NET_HDR_GSO_NONE {
        return Err(VnetHeaderError::Segmentation);
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
        // header, checksums negotiated, result, header afterwards
        type Case = ([u8; 12], bool, Result<bool, VnetHeaderError>, [u8; 12]);
        let table: [Case; 13] = [
            (zero, false, Ok(false), zero),
            (hint, true, Ok(false), zero),
            (ok, true, Ok(false), ok),
            (ok, false, Err(NotNegotiated), ok),
            (segmented, true, Err(Segmentation), segmented),
            ([0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], true, Err(Segmentation), [0, 0x81, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            (unknown, true, Ok(true), zero),
            (checksum(2, 34, 16), true, Ok(true), zero),
            (checksum(0, 34, 16), true, Ok(true), zero),
            (checksum(1, 13, 16), true, Err(ChecksumRange), checksum(1, 13, 16)),
            (checksum(1, 34, 39), true, Err(ChecksumRange), checksum(1, 34, 39)),
            (checksum(1, 34, 38), true, Ok(false), checksum(1, 34, 38)),
            (checksum(1, 0xffff, 0xffff), true, Err(ChecksumRange), checksum(1, 0xffff, 0xffff)),
        ];
        for (header, negotiated, want, after) in table {
            let mut f = frame(header, 60);
            assert_eq!(sanitize_transmitted(&mut f, negotiated), want, "{header:?}");
            assert_eq!(f[..12], after, "{header:?}");
            assert_eq!(f[12..], frame(header, 60)[12..], "the frame itself is not touched");
        }
    }

    #[test]
    fn short_frames_are_no_frames() {
        for len in 0..26 {
            assert_eq!(sanitize_transmitted(&mut vec![0; len], true), Err(VnetHeaderError::Short));
            assert_eq!(prepare_received(&vec![0; len], true), Err(VnetHeaderError::Short));
        }
        assert_eq!(sanitize_transmitted(&mut [0; 26], true), Ok(false));
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
