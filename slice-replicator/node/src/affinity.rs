//! On which CPU the data thread runs.

use std::sync::OnceLock;

/// The CPUs that this process may use, as they were before the first pinning.
static ALLOWED: OnceLock<libc::cpu_set_t> = OnceLock::new();

/// Ties the calling thread to a CPU; goes on without where that is not possible. Threads that it starts inherit it:
/// see [`unpinned`].
pub(crate) fn pin_to(cpu: Option<u16>) {
    let Some(cpu) = cpu else { return };
    ALLOWED.get_or_init(current);
    let mut set = empty();
    if usize::from(cpu) < libc::CPU_SETSIZE as usize {
        // SAFETY: `set` is a valid cpu_set_t and the index lies in it.
        unsafe { libc::CPU_SET(usize::from(cpu), &mut set) };
    }
    apply(&set, cpu);
}

/// Starts threads from a pinned one: what `work` starts runs anywhere.
pub(crate) fn unpinned<R>(cpu: Option<u16>, work: impl FnOnce() -> R) -> R {
    let (Some(pinned), Some(allowed)) = (cpu, ALLOWED.get()) else { return work() };
    apply(allowed, pinned);
    let result = work();
    pin_to(cpu);
    result
}

fn apply(set: &libc::cpu_set_t, cpu: u16) {
    // SAFETY: pid 0 is the calling thread; `set` is valid for the duration of the call.
    if unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), set) } != 0 {
        tracing::warn!(cpu, error = %std::io::Error::last_os_error(), "the data thread stays where the kernel puts it");
    }
}

fn current() -> libc::cpu_set_t {
    let mut set = empty();
    // SAFETY: pid 0 is the calling thread; `set` is writable for the duration of the call.
    if unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) } != 0 {
        tracing::warn!(error = %std::io::Error::last_os_error(), "asking for this process's CPUs");
    }
    set
}

fn empty() -> libc::cpu_set_t {
    // SAFETY: cpu_set_t is plain integers; all zero is the empty set.
    unsafe { std::mem::zeroed() }
}
