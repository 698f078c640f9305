//! Turns the kernel's error numbers into what a person can do about them.

/// What usually causes `error` when interfaces, namespaces or nf_tables are changed, and the remedy; empty if the
/// error speaks for itself.
pub(crate) fn advice(error: &std::io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; CAP_NET_ADMIN is needed in this network namespace",
        Some(libc::EEXIST) => "; something of that name or key exists already",
        Some(libc::ENOENT) => "; no such object here, or the kernel lacks this nf_tables expression",
        Some(libc::ENODEV) => "; no such interface in this network namespace",
        Some(libc::EBUSY) => "; it is in use by another process or entry",
        Some(libc::EOPNOTSUPP) => "; this kernel, or this interface, does not support it",
        Some(libc::ENFILE) => "; the set is full",
        Some(libc::ENOBUFS) => "; the socket buffer is too small for this message",
        Some(libc::EMSGSIZE) => "; the batch is larger than the socket's send buffer",
        Some(libc::EINVAL) => "; the kernel refuses an attribute, it may be too old for it",
        _ => "",
    }
}
