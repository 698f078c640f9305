//! Bytes of a record in the file.

use escape_engine::store::{Entry, Key};

/// Bytes of the checksum in front of a record.
const CHECKSUM: usize = 16;

/// The name of a record in the file.
pub(crate) fn pack_key(key: Key) -> Result<Vec<u8>, String> {
    postcard::to_allocvec(&key).map_err(|e| e.to_string())
}

/// What is written under the postcard form of `entry.record.key()`.
pub(crate) fn pack(entry: &Entry) -> Result<(Vec<u8>, Vec<u8>), String> {
    let key = pack_key(entry.record.key())?;
    let body = postcard::to_allocvec(entry).map_err(|e| e.to_string())?;
    let mut value = checksum(&key, &body).to_vec();
    value.extend_from_slice(&body);
    Ok((key, value))
}

/// Reads what [`pack`] wrote; anything else is refused with what is wrong with it.
pub(crate) fn unpack(key: &[u8], value: &[u8]) -> Result<Entry, String> {
    let name: Key = whole(key).ok_or_else(|| format!("unreadable key {key:02x?}"))?;
    let (sum, body) = value.split_at_checked(CHECKSUM).ok_or_else(|| format!("record {name:?} is cut short"))?;
    if sum != checksum(key, body) {
        return Err(format!("record {name:?} has a wrong checksum"));
    }
    let entry: Entry = whole(body).ok_or_else(|| format!("record {name:?} is unreadable"))?;
    if entry.record.key() != name {
        return Err(format!("record {:?} lies at the place of {name:?}", entry.record.key()));
    }
    Ok(entry)
}

/// Decodes bytes that hold exactly one value.
fn whole<T: for<'de> serde::Deserialize<'de>>(bytes: &[u8]) -> Option<T> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Some(value),
        _ => None,
    }
}

fn checksum(key: &[u8], body: &[u8]) -> [u8; CHECKSUM] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(key.len() as u64).to_le_bytes());
    hasher.update(key);
    hasher.update(body);
    let mut sum = [0; CHECKSUM];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use escape_engine::store::Record;
    use escape_proto::{GroupId, GroupRecord, Incarnation, Member, NodeId, Revision};

    #[test]
    fn every_changed_byte_of_a_record_is_noticed() {
        let owner = Member { node: NodeId(1), inc: Incarnation(1) };
        let record = Record::Group(GroupRecord::fresh(GroupId(7), owner));
        let entry = Entry { version: Revision(3), record };
        let (key, value) = pack(&entry).unwrap();
        assert_eq!(unpack(&key, &value).unwrap(), entry);
        for i in 0..value.len() {
            let mut bad = value.clone();
            bad[i] ^= 4;
            assert!(unpack(&key, &bad).is_err(), "byte {i}");
            assert!(unpack(&key, &value[..i]).is_err(), "cut at {i}");
        }
        for i in 0..key.len() {
            let mut bad = key.clone();
            bad[i] ^= 1;
            assert!(unpack(&bad, &value).is_err(), "key byte {i}");
        }
    }
}
