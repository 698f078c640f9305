/// How tables and elements are removed that may not be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removal {
    /// The kernel passes over what is not there (Linux 6.3).
    Destroy,
    /// A removal of what is not there is refused, and with it the transaction: older kernels, Debian 12's among them.
    /// Elements are looked for before.
    Delete,
}
