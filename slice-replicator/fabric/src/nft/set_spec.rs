use std::time::Duration;

use super::uapi::*;
use crate::netlink::Encoder;

/// Types of keys and values, numbered as the `nft` program numbers them, so that it can print the set. The kernel
/// knows lengths only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DataType {
    /// IPv4 address, network order.
    Ipv4Address,
    /// Port, network order; occupies a whole register in a concatenation.
    Port,
    /// Packet mark, host order.
    Mark,
    /// Interface index, host order.
    Interface,
}

impl DataType {
    const fn number(self) -> u32 {
        match self {
            Self::Ipv4Address => 7,
            Self::Port => 13,
            Self::Mark => 19,
            Self::Interface => 20,
        }
    }

    const fn bytes(self) -> u32 {
        match self {
            Self::Port => 2,
            Self::Ipv4Address | Self::Mark | Self::Interface => 4,
        }
    }

    const fn is_host_order(self) -> bool {
        matches!(self, Self::Mark | Self::Interface)
    }
}

/// A set, or a map if it has values. Bounded: the kernel refuses what exceeds `size`.
#[derive(Debug, Clone, Copy)]
pub struct SetSpec<'a> {
    /// Name within its table.
    pub name: &'a str,
    /// Fields of the key, one register each.
    pub key: &'a [DataType],
    /// Type of the values, if it is a map.
    pub value: Option<DataType>,
    /// Greatest number of elements.
    pub size: u32,
    /// Whether the packet path may write it.
    pub learned: bool,
    /// Whether elements can expire.
    pub expires: bool,
}

impl SetSpec<'_> {
    /// Length of a key, bytes: concatenated fields are padded to registers.
    fn key_len(&self) -> u32 {
        match self.key {
            [only] => only.bytes(),
            fields => fields.iter().map(|field| field.bytes().next_multiple_of(4)).sum(),
        }
    }

    /// `nft` packs the types of a concatenation into one number, six bits each.
    fn key_type(&self) -> u32 {
        self.key.iter().fold(0, |packed, field| packed << 6 | field.number())
    }

    fn flags(&self) -> u32 {
        let flag = |on: bool, bit: u32| if on { bit } else { 0 };
        flag(self.value.is_some(), NFT_SET_MAP) | flag(self.learned, NFT_SET_EVAL) | flag(self.expires, NFT_SET_TIMEOUT)
    }

    /// Byte orders in the form that `nft` keeps in a set's user data: type, length, 1 = host or 2 = network.
    fn byte_orders(&self) -> Vec<u8> {
        let order = |is_host: bool| if is_host { 1u32 } else { 2u32 };
        let mut user_data = Vec::new();
        // A concatenation has no order of its own.
        let key_order = if let [only] = self.key { order(only.is_host_order()) } else { 0 };
        user_data.extend_from_slice(&[0, 4]);
        user_data.extend_from_slice(&key_order.to_ne_bytes());
        if let Some(value) = self.value {
            user_data.extend_from_slice(&[1, 4]);
            user_data.extend_from_slice(&order(value.is_host_order()).to_ne_bytes());
        }
        user_data
    }

    pub(super) fn encode(&self, table: &str, id: u32, encoder: &mut Encoder) {
        encoder.text(NFTA_SET_TABLE, table);
        encoder.text(NFTA_SET_NAME, self.name);
        encoder.be32(NFTA_SET_FLAGS, self.flags());
        encoder.be32(NFTA_SET_KEY_TYPE, self.key_type());
        encoder.be32(NFTA_SET_KEY_LEN, self.key_len());
        if let Some(value) = self.value {
            encoder.be32(NFTA_SET_DATA_TYPE, value.number());
            encoder.be32(NFTA_SET_DATA_LEN, value.bytes());
        }
        encoder.nested(NFTA_SET_DESC, |m| m.be32(NFTA_SET_DESC_SIZE, self.size));
        encoder.be32(NFTA_SET_ID, id);
        encoder.attribute(NFTA_SET_USERDATA, &self.byte_orders());
    }
}

/// nf_tables counts time in milliseconds; a shorter time becomes one.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_concatenated_key_has_one_register_per_field() {
        let key = [DataType::Ipv4Address, DataType::Port, DataType::Port];
        let pair =
            SetSpec { name: "pair", key: &key, value: Some(DataType::Mark), size: 8, learned: true, expires: false };
        assert_eq!(pair.key_len(), 12);
        assert_eq!(pair.key_type(), 7 << 12 | 13 << 6 | 13);
        assert_eq!(pair.flags(), 0x28);
        let ports = SetSpec { key: &[DataType::Port], value: None, learned: false, ..pair };
        assert_eq!((ports.key_len(), ports.flags()), (2, 0));
    }
}
