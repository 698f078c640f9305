//! What the node told the guest on the kernel's command line.

use std::net::Ipv4Addr;

/// The words that concern slices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Words {
    /// The node's id.
    pub node: u32,
    /// The service's address.
    pub ip: Ipv4Addr,
}

impl Words {
    /// Of a command line; `None`: this is no guest of a cell.
    pub fn of(cmdline: &str) -> Option<Self> {
        let value = |name: &str| cmdline.split_ascii_whitespace().rev().find_map(|word| word.strip_prefix(name));
        let node = value("escape.cell=")?.parse().ok()?;
        let ip = value("escape.ip=")?.split('/').next()?.parse().ok()?;
        Some(Self { node, ip })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_cells_guest_has_them() {
        let told = Words::of("quiet escape.cell=2 escape.ip=10.77.0.10/32 escape.http=80\n");
        assert_eq!(told, Some(Words { node: 2, ip: Ipv4Addr::new(10, 77, 0, 10) }));
        assert_eq!(Words::of("quiet escape.ip=10.77.0.10/32"), None);
        assert_eq!(Words::of("escape.cell=x escape.ip=10.77.0.10/32"), None);
    }
}
