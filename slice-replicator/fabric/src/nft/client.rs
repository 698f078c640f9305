use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant};

use super::error::NftError;
use super::removal::Removal;
use super::transaction::{Transaction, encode_data};
use super::uapi::*;
use crate::netlink::{Attributes, Encoder, Message, NetlinkError, NetlinkSocket};
use crate::netns::NetNs;

/// How often a set is listed again because a list had doubles.
const LISTINGS_MAX: u32 = 8;

/// What a named counter has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CounterValue {
    /// Frames.
    pub packets: u64,
    /// Bytes, Ethernet headers not included.
    pub bytes: u64,
}

/// One element of a set, in the kernel's layout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetElement {
    /// The key's registers.
    pub key: Vec<u8>,
    /// The value of a map's element, empty for a set.
    pub value: Vec<u8>,
}

/// A connection to nf_tables of one network namespace.
#[derive(Debug)]
pub struct NftClient {
    socket: NetlinkSocket,
    removal: Removal,
}

/// A table that nobody has, to ask the kernel what it knows.
const NO_TABLE: &str = "escape-no-table";

impl NftClient {
    /// Works in the calling thread's namespace.
    pub fn open_here() -> Result<Self, NftError> {
        let socket = NetlinkSocket::open(libc::NETLINK_NETFILTER, 0)?;
        let mut client = Self { socket, removal: Removal::Destroy };
        let mut question = client.begin(NO_TABLE);
        question.destroy_table();
        if let Err(error) = client.commit(question)
            && matches!(error.refusal(), Some(libc::EINVAL | libc::EOPNOTSUPP))
        {
            client.removal = Removal::Delete;
        }
        Ok(client)
    }

    /// How it removes.
    pub const fn removal(&self) -> Removal {
        self.removal
    }

    /// Removes as an older kernel wants it; for tests.
    pub fn set_removal(&mut self, removal: Removal) {
        self.removal = removal;
    }

    /// Works in `namespace`, from whichever thread.
    pub fn open_in(namespace: &NetNs) -> Result<Self, NftError> {
        namespace.enter(Self::open_here)?
    }

    /// Begins a transaction on a table. It must be committed before another one is.
    pub fn begin(&self, table: &str) -> Transaction {
        Transaction::begin(table, self.removal, self.socket.next_sequence())
    }

    /// Applies a transaction wholly or not at all. Returns the time that the kernel took for it (the duration of the
    /// one system call that carries it; the caller's thread is the one that works in it).
    ///
    /// # Errors
    /// The first refusal, with what it concerns; nothing was changed then, unless
    /// [`NftError::outcome_unknown`].
    pub fn commit(&mut self, mut transaction: Transaction) -> Result<Duration, NftError> {
        if transaction.is_empty() {
            return Ok(Duration::ZERO);
        }
        let first = transaction.first_sequence();
        if first != self.socket.next_sequence() {
            return Err(NftError::Stale);
        }
        let last = transaction.last_sequence();
        let count = transaction.finish();
        let what = format!("transaction on table {}", transaction.table());
        let begun = Instant::now();
        self.socket.send(&what, transaction.datagram(), count)?;
        let taken = begun.elapsed();
        // Marks of begin and end carry verdicts on the batch as a whole.
        let verdicts = self.socket.batch_verdicts(&what, last, first..=last.saturating_add(1))?;
        match verdicts.into_iter().find(|(_, code, _)| *code != 0) {
            None => Ok(taken),
            Some((sequence, code, detail)) => Err(NetlinkError::Refused {
                what: format!("table {}: {}", transaction.table(), transaction.label(sequence)),
                source: io::Error::from_raw_os_error(code),
                detail,
            }
            .into()),
        }
    }

    /// All elements of a set, sorted by key. Elements that come or go meanwhile may or may not be among them.
    ///
    /// The kernel lists a hash table piecewise by position, so a table that it resizes meanwhile shows some elements
    /// twice and others not at all. A list with doubles is therefore read again, and what several readings saw is united.
    pub fn elements(&mut self, table: &str, set: &str) -> Result<Vec<SetElement>, NftError> {
        let mut seen = BTreeMap::new();
        for _ in 0..LISTINGS_MAX {
            let listed = self.list_once(table, set)?;
            let keys: BTreeSet<&[u8]> = listed.iter().map(|element| element.key.as_slice()).collect();
            let is_clean = keys.len() == listed.len();
            if is_clean {
                seen.clear();
            }
            seen.extend(listed.into_iter().map(|element| (element.key, element.value)));
            if is_clean {
                break;
            }
        }
        Ok(seen.into_iter().map(|(key, value)| SetElement { key, value }).collect())
    }

    /// Of these keys those that a transaction can remove: all, or those that are there now ([`Removal::Delete`]), each once.
    pub fn removable<K: AsRef<[u8]> + Clone + Ord>(
        &mut self,
        table: &str,
        set: &str,
        keys: &[K],
    ) -> Result<Vec<K>, NftError> {
        if self.removal == Removal::Destroy {
            return Ok(keys.to_vec());
        }
        let mut there = Vec::new();
        for key in BTreeSet::from_iter(keys) {
            if self.has_element(table, set, key.as_ref())? {
                there.push(key.clone());
            }
        }
        Ok(there)
    }

    fn has_element(&mut self, table: &str, set: &str, key: &[u8]) -> Result<bool, NftError> {
        let what = format!("an element of set {set} of table {table}");
        let answer = self.socket.ask(&what, NFNL_SUBSYS_NFTABLES << 8 | GET_SET_ELEMENT, |m| {
            netdev_header(m);
            m.text(NFTA_SET_ELEM_LIST_TABLE, table);
            m.text(NFTA_SET_ELEM_LIST_SET, set);
            m.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                m.nested(NFTA_LIST_ELEM, |m| encode_data(m, NFTA_SET_ELEM_KEY, key));
            });
        });
        match answer.map_err(NftError::from) {
            Ok(_) => Ok(true),
            Err(error) if error.refusal() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn list_once(&mut self, table: &str, set: &str) -> Result<Vec<SetElement>, NftError> {
        let what = format!("elements of set {set} of table {table}");
        let answers = self.socket.dump(&what, NFNL_SUBSYS_NFTABLES << 8 | GET_SET_ELEMENT, |m| {
            netdev_header(m);
            m.text(NFTA_SET_ELEM_LIST_TABLE, table);
            m.text(NFTA_SET_ELEM_LIST_SET, set);
        })?;
        Ok(answers.iter().filter(|answer| is_table_message(answer, NEW_SET_ELEMENT)).flat_map(parse_elements).collect())
    }

    /// All named counters of a table.
    pub fn counters(&mut self, table: &str) -> Result<BTreeMap<String, CounterValue>, NftError> {
        let what = format!("counters of table {table}");
        let answers = self.socket.dump(&what, NFNL_SUBSYS_NFTABLES << 8 | GET_OBJECT, |m| {
            netdev_header(m);
            m.text(NFTA_OBJ_TABLE, table);
            m.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        })?;
        let objects = answers.iter().filter(|answer| is_table_message(answer, NEW_OBJECT));
        Ok(objects.filter_map(parse_counter).collect())
    }
}

fn netdev_header(encoder: &mut Encoder) {
    encoder.raw(&[FAMILY_NETDEV, 0, 0, 0]);
}

fn is_table_message(message: &Message, kind: u16) -> bool {
    message.kind == NFNL_SUBSYS_NFTABLES << 8 | kind
}

fn parse_elements(message: &Message) -> impl Iterator<Item = SetElement> {
    let list = message.attributes(GEN_HEADER_LEN).nested(NFTA_SET_ELEM_LIST_ELEMENTS);
    let elements = list.unwrap_or(Attributes::new(&[]));
    elements.filter(|(number, _)| *number == NFTA_LIST_ELEM).filter_map(|(_, element)| {
        let element = Attributes::new(element);
        let key = element.nested(NFTA_SET_ELEM_KEY)?.find(NFTA_DATA_VALUE)?.to_vec();
        let value = element.nested(NFTA_SET_ELEM_DATA).and_then(|data| data.find(NFTA_DATA_VALUE));
        Some(SetElement { key, value: value.unwrap_or_default().to_vec() })
    })
}

fn parse_counter(message: &Message) -> Option<(String, CounterValue)> {
    let attributes = message.attributes(GEN_HEADER_LEN);
    let name = attributes.text(NFTA_OBJ_NAME)?.to_owned();
    let data = attributes.nested(NFTA_OBJ_DATA)?;
    let value = CounterValue { packets: data.be64(NFTA_COUNTER_PACKETS)?, bytes: data.be64(NFTA_COUNTER_BYTES)? };
    Some((name, value))
}
