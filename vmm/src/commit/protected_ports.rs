//! The service ports whose connections are slices.

/// Ports whose TCP traffic is protected: held at the valve, mirrored, gated. At most [`ProtectedPorts::PORTS_MAX`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtectedPorts {
    sorted: Vec<u16>,
}

impl ProtectedPorts {
    /// Most ports that a service may protect.
    pub const PORTS_MAX: usize = 64;

    /// The set of `ports`; beyond [`Self::PORTS_MAX`] different ones, `None`.
    pub fn new(ports: &[u16]) -> Option<Self> {
        let mut sorted = ports.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        (sorted.len() <= Self::PORTS_MAX).then_some(Self { sorted })
    }

    /// Is this service port protected?
    pub fn contains(&self, port: u16) -> bool {
        self.sorted.binary_search(&port).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_what_it_was_given_and_no_more() {
        let ports = ProtectedPorts::new(&[9000, 80, 80]);
        assert!(ports.as_ref().is_some_and(|p| p.contains(80) && p.contains(9000) && !p.contains(81)));
        let many: Vec<u16> = (0..=64).collect();
        assert_eq!(ProtectedPorts::new(&many), None);
    }
}
