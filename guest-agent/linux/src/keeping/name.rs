//! Names of what is kept.

/// What a descriptor is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The memory in which it is written what is in which slot.
    Book,
    /// Where processes call.
    Listener,
    /// A process, by the agent's number for it.
    Process(u64),
    /// The connection of the slice in a slot.
    Connection(u32),
}

/// Bits of a number beside its kind.
const KIND_AT: u32 = 60;

impl Name {
    /// As a word.
    pub const fn to_word(self) -> u64 {
        match self {
            Self::Book => 1 << KIND_AT,
            Self::Listener => 2 << KIND_AT,
            Self::Process(id) => 3 << KIND_AT | id & ((1 << KIND_AT) - 1),
            Self::Connection(slot) => 4 << KIND_AT | slot as u64,
        }
    }

    /// Of a word.
    pub fn of_word(word: u64) -> Option<Self> {
        let number = word & ((1 << KIND_AT) - 1);
        match word >> KIND_AT {
            1 => Some(Self::Book),
            2 => Some(Self::Listener),
            3 => Some(Self::Process(number)),
            4 => u32::try_from(number).ok().map(Self::Connection),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words_and_other_words_are_none() {
        for name in [Name::Book, Name::Listener, Name::Process(0), Name::Process(1 << 40), Name::Connection(u32::MAX)] {
            assert_eq!(Name::of_word(name.to_word()), Some(name));
        }
        assert_eq!((Name::of_word(7), Name::of_word(4 << 60 | 1 << 32)), (None, None));
    }
}
