use super::expression::Expression;
use super::removal::Removal;
use super::set_spec::SetSpec;
use super::uapi::*;
use crate::netlink::Encoder;

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_CREATE: u16 = 0x400;
const NLM_F_APPEND: u16 = 0x800;

/// Elements per message: a list of them must fit a 16-bit length (an element takes at most 44 bytes here).
const ELEMENTS_PER_MESSAGE_MAX: usize = 1_000;

/// Who else may change a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableOwnership {
    /// Everybody with CAP_NET_ADMIN; a firewall reload (`flush ruleset`) removes it.
    Shared,
    /// Only the socket that made it, until that is closed; then the table stays, for the next owner (Linux 6.9).
    ExclusiveAndLasting,
}

/// Changes to one table of the `netdev` family, applied by [`super::NftClient::commit`] wholly or not at all.
#[derive(Debug)]
pub struct Transaction {
    table: String,
    removal: Removal,
    encoder: Encoder,
    first_sequence: u32,
    /// What each message does, for error texts; the message with number `first_sequence + 1 + i` has text `i`.
    labels: Vec<String>,
}

impl Transaction {
    pub(super) fn begin(table: &str, removal: Removal, first_sequence: u32) -> Self {
        let mut encoder = Encoder::new();
        batch_mark(&mut encoder, NFNL_MSG_BATCH_BEGIN, NLM_F_REQUEST, first_sequence);
        Self { table: table.to_owned(), removal, encoder, first_sequence, labels: Vec::new() }
    }

    /// Removes the table with all it contains, if it exists.
    pub fn destroy_table(&mut self) {
        let kind = match self.removal {
            Removal::Destroy => DESTROY_TABLE,
            // So that it is there to be deleted.
            Removal::Delete => {
                self.add_table(TableOwnership::Shared);
                DELETE_TABLE
            }
        };
        self.change("removal of the table".into(), kind, 0, |m, table| m.text(NFTA_TABLE_NAME, table));
    }

    /// Makes the table.
    pub fn add_table(&mut self, ownership: TableOwnership) {
        let flags = match ownership {
            TableOwnership::Shared => 0,
            TableOwnership::ExclusiveAndLasting => NFT_TABLE_F_OWNER | NFT_TABLE_F_PERSIST,
        };
        self.change("the table".into(), NEW_TABLE, NLM_F_CREATE, |m, table| {
            m.text(NFTA_TABLE_NAME, table);
            m.be32(NFTA_TABLE_FLAGS, flags);
        });
    }

    /// Makes a chain that is entered by rules only.
    pub fn add_chain(&mut self, name: &str) {
        self.change(format!("chain {name}"), NEW_CHAIN, NLM_F_CREATE, |m, table| {
            m.text(NFTA_CHAIN_TABLE, table);
            m.text(NFTA_CHAIN_NAME, name);
        });
    }

    /// Makes a chain that every frame received from one of the `devices` enters, and that drops what its rules do not
    /// decide.
    pub fn add_ingress_chain(&mut self, name: &str, devices: &[&str]) {
        self.change(format!("ingress chain {name} on {devices:?}"), NEW_CHAIN, NLM_F_CREATE, |m, table| {
            m.text(NFTA_CHAIN_TABLE, table);
            m.text(NFTA_CHAIN_NAME, name);
            m.text(NFTA_CHAIN_TYPE, "filter");
            m.be32(NFTA_CHAIN_POLICY, NF_DROP);
            m.nested(NFTA_CHAIN_HOOK, |m| {
                m.be32(NFTA_HOOK_HOOKNUM, NF_NETDEV_INGRESS);
                m.be32(NFTA_HOOK_PRIORITY, 0);
                m.nested(NFTA_HOOK_DEVS, |m| devices.iter().for_each(|device| m.text(NFTA_DEVICE_NAME, device)));
            });
        });
    }

    /// Removes a chain with its rules.
    pub fn delete_chain(&mut self, name: &str) {
        self.change(format!("removal of chain {name}"), DEL_CHAIN, 0, |m, table| {
            m.text(NFTA_CHAIN_TABLE, table);
            m.text(NFTA_CHAIN_NAME, name);
        });
    }

    /// Appends a rule to a chain.
    pub fn add_rule(&mut self, chain: &str, steps: &[Expression<'_>]) {
        let number = self.labels.len();
        let label = format!("rule of chain {chain} (change {number} of the transaction)");
        self.change(label, NEW_RULE, NLM_F_CREATE | NLM_F_APPEND, |m, table| {
            m.text(NFTA_RULE_TABLE, table);
            m.text(NFTA_RULE_CHAIN, chain);
            m.nested(NFTA_RULE_EXPRESSIONS, |m| steps.iter().for_each(|step| step.encode(m)));
        });
    }

    /// Makes a set or map.
    pub fn add_set(&mut self, set: &SetSpec<'_>) {
        let id = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.change(format!("set {}", set.name), NEW_SET, NLM_F_CREATE, |m, table| set.encode(table, id, m));
    }

    /// Makes a named counter, at zero.
    pub fn add_counter(&mut self, name: &str) {
        self.change(format!("counter {name}"), NEW_OBJECT, NLM_F_CREATE, |m, table| {
            m.text(NFTA_OBJ_TABLE, table);
            m.text(NFTA_OBJ_NAME, name);
            m.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
            m.nested(NFTA_OBJ_DATA, |m| {
                m.be64(NFTA_COUNTER_BYTES, 0);
                m.be64(NFTA_COUNTER_PACKETS, 0);
            });
        });
    }

    /// Removes a counter which no rule uses any more.
    pub fn delete_counter(&mut self, name: &str) {
        self.change(format!("removal of counter {name}"), DEL_OBJECT, 0, |m, table| {
            m.text(NFTA_OBJ_TABLE, table);
            m.text(NFTA_OBJ_NAME, name);
            m.be32(NFTA_OBJ_TYPE, NFT_OBJECT_COUNTER);
        });
    }

    /// Adds elements: keys, and values if it is a map (empty otherwise). A key that is there with another value fails.
    pub fn add_elements<K: AsRef<[u8]>, V: AsRef<[u8]>>(&mut self, set: &str, elements: &[(K, V)]) {
        self.elements("new entries of", set, NEW_SET_ELEMENT, NLM_F_CREATE, elements, |m, (key, value)| {
            encode_data(m, NFTA_SET_ELEM_KEY, key.as_ref());
            if !value.as_ref().is_empty() {
                encode_data(m, NFTA_SET_ELEM_DATA, value.as_ref());
            }
        });
    }

    /// Removes the elements with these keys. Those that are not there are passed over, or make the kernel refuse the whole
    /// ([`Removal::Delete`]): whoever does not know it asks [`super::NftClient::removable`] before.
    pub fn remove_elements<K: AsRef<[u8]>>(&mut self, set: &str, keys: &[K]) {
        let kind = match self.removal {
            Removal::Destroy => DESTROY_SET_ELEMENT,
            Removal::Delete => DELETE_SET_ELEMENT,
        };
        self.elements("removal from", set, kind, 0, keys, |m, key| {
            encode_data(m, NFTA_SET_ELEM_KEY, key.as_ref());
        });
    }

    fn elements<E>(
        &mut self,
        verb: &str,
        set: &str,
        kind: u16,
        flags: u16,
        elements: &[E],
        encode: impl Fn(&mut Encoder, &E),
    ) {
        for some in elements.chunks(ELEMENTS_PER_MESSAGE_MAX) {
            self.change(format!("{verb} set {set} ({} keys)", some.len()), kind, flags, |m, table| {
                m.text(NFTA_SET_ELEM_LIST_TABLE, table);
                m.text(NFTA_SET_ELEM_LIST_SET, set);
                m.nested(NFTA_SET_ELEM_LIST_ELEMENTS, |m| {
                    some.iter().for_each(|element| m.nested(NFTA_LIST_ELEM, |m| encode(m, element)));
                });
            });
        }
    }

    fn change(&mut self, label: String, kind: u16, flags: u16, body: impl FnOnce(&mut Encoder, &str)) {
        self.labels.push(label);
        let sequence = self.last_sequence();
        let kind = NFNL_SUBSYS_NFTABLES << 8 | kind;
        // Every change asks for its verdict, so that the last one, whatever it is, ends the wait.
        let flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let table = self.table.as_str();
        self.encoder.message(kind, flags, sequence, |m| {
            m.raw(&[FAMILY_NETDEV, 0, 0, 0]);
            body(m, table);
        });
    }

    /// Whether nothing was asked for.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Name of the table.
    pub fn table(&self) -> &str {
        &self.table
    }

    pub(super) const fn first_sequence(&self) -> u32 {
        self.first_sequence
    }

    /// Number of the last change (that of the begin mark if there is none).
    pub(super) fn last_sequence(&self) -> u32 {
        self.first_sequence.saturating_add(u32::try_from(self.labels.len()).unwrap_or(u32::MAX))
    }

    /// What the message with this number does.
    pub(super) fn label(&self, sequence: u32) -> &str {
        let position = sequence.checked_sub(self.first_sequence).and_then(|after| after.checked_sub(1));
        let label = position.and_then(|at| usize::try_from(at).ok()).and_then(|at| self.labels.get(at));
        label.map_or("the transaction as a whole", String::as_str)
    }

    /// Writes the end mark and returns the number of messages in the batch.
    pub(super) fn finish(&mut self) -> u32 {
        let end = self.last_sequence().saturating_add(1);
        batch_mark(&mut self.encoder, NFNL_MSG_BATCH_END, NLM_F_REQUEST, end);
        end.saturating_sub(self.first_sequence).saturating_add(1)
    }

    pub(super) const fn datagram(&self) -> &Encoder {
        &self.encoder
    }
}

/// Begin and end of a batch name the subsystem instead of a family.
fn batch_mark(encoder: &mut Encoder, kind: u16, flags: u16, sequence: u32) {
    let [high, low] = NFNL_SUBSYS_NFTABLES.to_be_bytes();
    encoder.message(kind, flags, sequence, |m| m.raw(&[0, 0, high, low]));
}

pub(super) fn encode_data(encoder: &mut Encoder, number: u16, value: &[u8]) {
    encoder.nested(number, |m| m.attribute(NFTA_DATA_VALUE, value));
}
