//! `POST /fault`: a request that breaks the guest while it works on this slice. It exists only in guests whose boot command line
//! has the word `faults=on`: for drills.

/// How the guest is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FaultKind {
    /// A panic.
    Panic,
    /// A loop without end.
    Loop,
    /// A read where nothing is mapped: an exception of the processor.
    Null,
}

/// An address in the first page, which is mapped nowhere.
const NOT_MAPPED: usize = 8;

impl FaultKind {
    /// The kind that a query asks for.
    pub(crate) fn of_query(query: &str) -> Option<Self> {
        match query.strip_prefix("kind=")? {
            "panic" => Some(Self::Panic),
            "loop" => Some(Self::Loop),
            "null" => Some(Self::Null),
            _ => None,
        }
    }

    /// Does it.
    pub(crate) fn happen(self) -> ! {
        match self {
            Self::Panic => panic!("asked for by POST /fault"),
            Self::Loop => loop {
                core::hint::spin_loop();
            },
            Self::Null => {
                // SAFETY: nothing is mapped there: the read ends in an exception, which is what was asked for.
                unsafe { core::ptr::without_provenance::<u8>(NOT_MAPPED).read_volatile() };
                unreachable!("the first page is mapped")
            }
        }
    }
}

/// Whether a boot command line, zero-padded words, asks for this route.
pub(crate) fn wanted(command_line: &[u8]) -> bool {
    command_line.split(|byte| matches!(byte, 0 | b' ')).any(|word| word == b"faults=on")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_by_its_word() {
        for (line, want) in [
            (&b"faults=on\0\0"[..], true),
            (b"quiet faults=on", true),
            (b"", false),
            (b"faults=off", false),
            (b"nofaults=on", false),
            (b"faults=only", false),
        ] {
            assert_eq!(wanted(line), want, "{line:?}");
        }
        assert_eq!(FaultKind::of_query("kind=loop"), Some(FaultKind::Loop));
        assert_eq!(FaultKind::of_query("kind=loops"), None);
        assert_eq!(FaultKind::of_query("loop"), None);
    }
}
