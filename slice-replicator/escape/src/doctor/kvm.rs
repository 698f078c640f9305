//! KVM: the device, what it can do, what kinds of guest run.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use kvm_ioctls::{Cap, Kvm};

use super::check::Check;

const DEVICE: &str = "/dev/kvm";

/// Whether the device is there and may be used.
pub fn device() -> Check {
    device_at(Path::new(DEVICE))
}

fn device_at(path: &Path) -> Check {
    let name = "KVM device";
    let shown = path.display();
    match open_device(path) {
        Ok(_) => Check::fine(name, format!("{shown} can be opened")),
        Err(error) if error.kind() == ErrorKind::NotFound => Check::missing(
            name,
            format!("{shown} does not exist"),
            "load the module (modprobe kvm_intel or kvm_amd); in a virtual machine switch nested virtualization on; \
             in a container pass the device in (--device /dev/kvm)",
        ),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let (owner, advice) = who_may(path);
            Check::missing(name, format!("{shown}: permission denied ({owner})"), advice)
        }
        Err(error) => Check::missing(name, format!("{shown}: {error}"), "another hypervisor may hold the processor"),
    }
}

/// Opens a device for reading and writing without waiting for anything.
pub(super) fn open_device(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_CLOEXEC | libc::O_NONBLOCK).open(path)
}

/// Device, user and group, and what would help.
pub(super) fn who_may(path: &Path) -> (String, String) {
    let Ok(metadata) = fs::metadata(path) else {
        return ("owner unknown".into(), "run as root".into());
    };
    let uid = rustix::process::geteuid().as_raw();
    let group = group_name(metadata.gid());
    let owner =
        format!("mode {:o}, owner {}, group {group}, you are user {uid}", metadata.mode() & 0o777, metadata.uid());
    let advice = if metadata.mode() & 0o060 == 0o060 {
        format!("add the user to the group: sudo usermod -aG {group} $USER, then log in again")
    } else {
        format!("let the group in: sudo chgrp kvm {0} && sudo chmod 660 {0}, or run as root", path.display())
    };
    (owner, advice)
}

fn group_name(gid: u32) -> String {
    let groups = fs::read_to_string("/etc/group").unwrap_or_default();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == gid.to_string()).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| gid.to_string())
}

/// Whether KVM offers what the VMM uses.
pub fn capabilities() -> Check {
    let name = "KVM capabilities";
    let kvm = match Kvm::new() {
        Ok(kvm) => kvm,
        Err(error) => return Check::missing(name, format!("cannot be asked: {error}"), "see the KVM device"),
    };
    let version = kvm.get_api_version();
    // KVM_API_VERSION has been 12 since 2007, and the documentation tells programs to refuse any other.
    if version != 12 {
        return Check::missing(name, format!("API version {version}, wanted 12"), "use a mainline kernel's KVM");
    }
    let wanted = [
        (Cap::UserMemory, "user memory"),
        (Cap::Irqchip, "irqchip"),
        (Cap::Irqfd, "irqfd"),
        (Cap::Ioeventfd, "ioeventfd"),
        (Cap::SignalMsi, "MSI"),
        (Cap::ImmediateExit, "immediate exit"),
        (Cap::TscDeadlineTimer, "TSC deadline timer"),
    ];
    let lacking: Vec<&str> =
        wanted.iter().filter(|(cap, _)| !kvm.check_extension(*cap)).map(|&(_, name)| name).collect();
    if lacking.is_empty() {
        let names: Vec<&str> = wanted.iter().map(|&(_, name)| name).collect();
        return Check::fine(name, names.join(", "));
    }
    Check::missing(name, format!("not offered: {}", lacking.join(", ")), "use a kernel of at least version 5.10")
}

/// What kinds of guest can run.
pub fn guests() -> Check {
    guests_of(&fs::read_to_string("/proc/cpuinfo").unwrap_or_default())
}

fn guests_of(cpuinfo: &str) -> Check {
    let name = "guests";
    let flags = cpuinfo.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |wanted: &str| flags.split_whitespace().any(|flag| flag == wanted);
    let found = match (has("vmx"), has("svm")) {
        (true, _) => "VMX",
        (_, true) => "SVM",
        _ => {
            return Check::limited(
                name,
                "the processor shows neither VMX nor SVM: freestanding guests run, stock Linux does not",
                "in a virtual machine switch nested virtualization on if Linux guests are wanted",
            );
        }
    };
    Check::fine(name, format!("{found}: freestanding guests and stock Linux"))
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn guests_follow_the_processor_flags() {
        assert_eq!(guests_of("flags\t\t: fpu vmx sse\n").status, Status::Fine);
        assert_eq!(guests_of("flags\t\t: fpu svm sse\n").status, Status::Fine);
        assert_eq!(guests_of("flags\t\t: fpu vmx_not svmx\n").status, Status::Limited);
        assert_eq!(guests_of("").status, Status::Limited);
    }

    #[test]
    fn a_missing_device_is_said_with_its_remedy() {
        let check = device_at(Path::new("/dev/no-such-device"));
        assert_eq!(check.status, Status::Missing);
        assert!(check.advice.contains("modprobe"));
    }

    #[test]
    fn who_may_use_a_device_is_told() {
        let (owner, advice) = who_may(Path::new("/dev/null"));
        assert!(owner.contains("mode 666") && owner.contains("owner 0"), "{owner}");
        assert!(advice.contains("usermod"), "{advice}");
    }
}
