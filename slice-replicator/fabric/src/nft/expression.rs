use std::time::Duration;

use super::set_spec::millis;
use super::uapi::*;
use crate::netlink::Encoder;

/// One of the sixteen 4-byte registers. Longer values occupy the following ones too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Register(u32);

impl Register {
    /// Register `number` of 0 to 15 (`NFT_REG32_00` …).
    ///
    /// # Panics
    /// At compile time, if used in constants: `number` above 15.
    pub const fn word(number: u32) -> Self {
        assert!(number < 16, "nf_tables has 16 registers");
        Self(8 + number)
    }
}

/// Where a payload offset counts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayloadBase {
    /// The Ethernet header; a VLAN tag is seen where it was on the wire.
    Ethernet,
    /// The IP header.
    Network,
    /// The TCP or UDP header, IP options skipped; loading fails for fragments but the first.
    Transport,
}

/// Properties of a packet that are not in its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetaKey {
    /// The mark, host order.
    Mark,
    /// Index of the interface it came from, host order.
    InputInterface,
}

/// Where evaluation goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Drop the packet.
    Drop,
    /// Let the packet pass to the kernel's stack.
    Accept,
    /// Go on in a chain, and come back behind this rule if it comes to no decision.
    Jump(&'a str),
    /// Go on in a chain; its end is this chain's end.
    GoTo(&'a str),
}

/// One step of a rule. A step that finds nothing (lookup, comparison, load beyond the packet, full set) ends the rule,
/// and the next rule is tried.
#[derive(Debug, Clone, Copy)]
pub enum Expression<'a> {
    /// Copies packet bytes into registers, zero-padded.
    LoadPayload {
        /// Where the offset counts from.
        base: PayloadBase,
        /// Offset, bytes.
        offset: u32,
        /// Length, bytes.
        len: u32,
        /// First register.
        into: Register,
    },
    /// Copies a property into a register.
    LoadMeta(MetaKey, Register),
    /// Sets the packet's mark from a register.
    StoreMark(Register),
    /// Goes on if a register equals the bytes.
    Equals(Register, &'a [u8]),
    /// Goes on if a register differs from the bytes.
    Differs(Register, &'a [u8]),
    /// Clears the bits that are not in the mask.
    Mask(Register, &'a [u8]),
    /// Goes on if the set has the key; loads the value if it is a map.
    Lookup {
        /// Set or map.
        set: &'a str,
        /// First register of the key.
        key: Register,
        /// Where the value goes, for a map.
        value: Option<Register>,
    },
    /// Jenkins' hash of registers, scaled to `0..modulus`, host order.
    JenkinsHash {
        /// First register.
        from: Register,
        /// Bytes hashed.
        len: u32,
        /// Number of results.
        modulus: u32,
        /// Seed.
        seed: u32,
        /// Where the result goes.
        into: Register,
    },
    /// Writes an element from the packet path; goes on if there was room.
    Learn {
        /// A map that may be learned.
        map: &'a str,
        /// First register of the key.
        key: Register,
        /// Register of the value.
        value: Register,
        /// When it expires; `None` = never.
        expires: Option<Duration>,
    },
    /// Loads four bytes in host order.
    LoadWord(u32, Register),
    /// Sends a copy out of the interface with the index in the register, and goes on.
    Duplicate(Register),
    /// Sends the packet out of the interface with the index in the register: the end.
    Forward(Register),
    /// Counts the packet with a named counter of the table.
    Count(&'a str),
    /// Decides.
    Decide(Verdict<'a>),
}

impl Expression<'_> {
    pub(super) fn encode(&self, encoder: &mut Encoder) {
        encoder.nested(NFTA_LIST_ELEM, |m| {
            m.text(1, self.kernel_name()); // NFTA_EXPR_NAME
            m.nested(2, |m| self.encode_body(m)); // NFTA_EXPR_DATA
        });
    }

    const fn kernel_name(&self) -> &'static str {
        match self {
            Self::LoadPayload { .. } => "payload",
            Self::LoadMeta(..) | Self::StoreMark(_) => "meta",
            Self::Equals(..) | Self::Differs(..) => "cmp",
            Self::Mask(..) => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::JenkinsHash { .. } => "hash",
            Self::Learn { .. } => "dynset",
            Self::LoadWord(..) | Self::Decide(_) => "immediate",
            Self::Duplicate(_) => "dup",
            Self::Forward(_) => "fwd",
            Self::Count(_) => "objref",
        }
    }

    fn encode_body(&self, m: &mut Encoder) {
        match *self {
            Self::LoadPayload { base, offset, len, into } => {
                m.be32(1, into.0); // NFTA_PAYLOAD_DREG
                m.be32(2, base as u32); // NFTA_PAYLOAD_BASE
                m.be32(3, offset); // NFTA_PAYLOAD_OFFSET
                m.be32(4, len); // NFTA_PAYLOAD_LEN
            }
            Self::LoadMeta(key, into) => {
                m.be32(1, into.0); // NFTA_META_DREG
                m.be32(2, key.number()); // NFTA_META_KEY
            }
            Self::StoreMark(from) => {
                m.be32(2, MetaKey::Mark.number()); // NFTA_META_KEY
                m.be32(3, from.0); // NFTA_META_SREG
            }
            Self::Equals(register, value) => encode_comparison(m, register, 0, value),
            Self::Differs(register, value) => encode_comparison(m, register, 1, value),
            Self::Mask(register, mask) => encode_mask(m, register, mask),
            Self::Lookup { set, key, value } => {
                m.text(1, set); // NFTA_LOOKUP_SET
                m.be32(2, key.0); // NFTA_LOOKUP_SREG
                if let Some(value) = value {
                    m.be32(3, value.0); // NFTA_LOOKUP_DREG
                }
            }
            Self::JenkinsHash { from, len, modulus, seed, into } => {
                m.be32(1, from.0); // NFTA_HASH_SREG
                m.be32(2, into.0); // NFTA_HASH_DREG
                m.be32(3, len); // NFTA_HASH_LEN
                m.be32(4, modulus); // NFTA_HASH_MODULUS
                m.be32(5, seed); // NFTA_HASH_SEED
                m.be32(7, 0); // NFTA_HASH_TYPE = NFT_HASH_JENKINS
            }
            Self::Learn { map, key, value, expires } => {
                m.text(1, map); // NFTA_DYNSET_SET_NAME
                m.be32(3, 1); // NFTA_DYNSET_OP = NFT_DYNSET_OP_UPDATE
                m.be32(4, key.0); // NFTA_DYNSET_SREG_KEY
                m.be32(5, value.0); // NFTA_DYNSET_SREG_DATA
                if let Some(expires) = expires {
                    m.be64(6, millis(expires)); // NFTA_DYNSET_TIMEOUT
                }
            }
            Self::LoadWord(word, into) => {
                m.be32(1, into.0); // NFTA_IMMEDIATE_DREG
                m.nested(2, |m| m.attribute(NFTA_DATA_VALUE, &word.to_ne_bytes())); // NFTA_IMMEDIATE_DATA
            }
            Self::Duplicate(interface) => m.be32(2, interface.0), // NFTA_DUP_SREG_DEV
            Self::Forward(interface) => m.be32(1, interface.0),   // NFTA_FWD_SREG_DEV
            Self::Count(counter) => {
                m.be32(1, NFT_OBJECT_COUNTER); // NFTA_OBJREF_IMM_TYPE
                m.text(2, counter); // NFTA_OBJREF_IMM_NAME
            }
            Self::Decide(verdict) => encode_verdict(m, verdict),
        }
    }
}

impl MetaKey {
    const fn number(self) -> u32 {
        match self {
            Self::Mark => 3,           // NFT_META_MARK
            Self::InputInterface => 4, // NFT_META_IIF
        }
    }
}

fn encode_comparison(m: &mut Encoder, register: Register, operation: u32, value: &[u8]) {
    m.be32(1, register.0); // NFTA_CMP_SREG
    m.be32(2, operation); // NFTA_CMP_OP
    m.nested(3, |m| m.attribute(NFTA_DATA_VALUE, value)); // NFTA_CMP_DATA
}

fn encode_mask(m: &mut Encoder, register: Register, mask: &[u8]) {
    m.be32(1, register.0); // NFTA_BITWISE_SREG
    m.be32(2, register.0); // NFTA_BITWISE_DREG
    m.be32(3, u32::try_from(mask.len()).unwrap_or(u32::MAX)); // NFTA_BITWISE_LEN, refused by the kernel above 16
    m.nested(4, |m| m.attribute(NFTA_DATA_VALUE, mask)); // NFTA_BITWISE_MASK
    m.nested(5, |m| m.attribute(NFTA_DATA_VALUE, &vec![0; mask.len()])); // NFTA_BITWISE_XOR
}

fn encode_verdict(m: &mut Encoder, verdict: Verdict<'_>) {
    let (code, chain): (i32, _) = match verdict {
        Verdict::Drop => (0, None),                // NF_DROP
        Verdict::Accept => (1, None),              // NF_ACCEPT
        Verdict::Jump(chain) => (-3, Some(chain)), // NFT_JUMP
        Verdict::GoTo(chain) => (-4, Some(chain)), // NFT_GOTO
    };
    m.be32(1, 0); // NFTA_IMMEDIATE_DREG = NFT_REG_VERDICT
    m.nested(2, |m| {
        m.nested(NFTA_DATA_VERDICT, |m| {
            m.be32(NFTA_VERDICT_CODE, code.cast_unsigned());
            if let Some(chain) = chain {
                m.text(NFTA_VERDICT_CHAIN, chain);
            }
        });
    });
}
