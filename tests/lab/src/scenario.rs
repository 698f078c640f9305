//! What is done with a guest.

use crate::console::Console;
use crate::host::{DISK_BEGINS, HOST_ADDRESS, Host};
use anyhow::{Context, Result};
use std::time::{Duration, Instant};

/// An emulated host on a busy machine.
const HOST_LIMIT: Duration = Duration::from_secs(90);
/// A kernel in an emulated machine's virtual machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// A command in it.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Boots a guest, uses its console, network and randomness, lets it reboot, and switches it off. Returns the number of steps.
pub fn boot_use_reboot_power_off(host: &mut Host) -> Result<u32> {
    let mut steps = Steps { done: 0, at: Instant::now() };
    let console = host.console();
    console.wait_for("lab: the host is up", HOST_LIMIT).context("the host")?;
    steps.passed("the host is up");
    console.wait_for("init: Linux 6", BOOT_LIMIT).context("the guest's kernel")?;
    console.wait_for("# ", COMMAND_LIMIT).context("a shell")?;
    steps.passed("Debian's kernel boots to a shell");
    // The answer is not in the question, which the console repeats.
    console.type_line("echo the answer is $((6 * 7))")?;
    console.wait_for("the answer is 42", COMMAND_LIMIT).context("the console both ways")?;
    steps.passed("the console works both ways");
    console.type_line("echo processors: $(nproc)")?;
    console.wait_for("processors: 2", COMMAND_LIMIT).context("two processors")?;
    steps.passed("both processors are up");
    console.type_line(&format!("ping -c 3 -W 5 {HOST_ADDRESS}"))?;
    console.wait_for("3 packets received", COMMAND_LIMIT).context("virtio-net")?;
    steps.passed("virtio-net carries frames both ways");
    console.type_line("cat /sys/class/misc/hw_random/rng_current; head -c 64 /dev/hwrng | wc -c")?;
    console.wait_for("virtio_rng", COMMAND_LIMIT).context("virtio-rng")?;
    console.wait_for("64", COMMAND_LIMIT).context("bytes of virtio-rng")?;
    steps.passed("virtio-rng gives bytes");
    disks(console)?;
    steps.passed("virtio-blk reads, writes and flushes a disk, and a read-only one is not written");
    console.type_line("reboot -f")?;
    console.wait_for("init: Linux 6", BOOT_LIMIT).context("the guest's second boot")?;
    console.wait_for("# ", COMMAND_LIMIT).context("the second shell")?;
    steps.passed("a reboot boots it again");
    console.type_line(&format!("ping -c 1 -W 5 {HOST_ADDRESS}"))?;
    console.wait_for("1 packets received", COMMAND_LIMIT).context("virtio-net after the reboot")?;
    steps.passed("virtio-net works after the reboot");
    console.type_line("dd if=/dev/vda bs=512 skip=8 count=1 2> /dev/null | tr a-z A-Z")?;
    console.wait_for("WRITTEN BEFORE", COMMAND_LIMIT).context("the disk after the reboot")?;
    steps.passed("what was written is there after the reboot");
    console.type_line("poweroff -f")?;
    console.wait_for("lab: escape ended with 0", COMMAND_LIMIT).context("power off")?;
    steps.passed("power off ends `escape boot` with 0");
    Ok(steps.done)
}

/// Answers are in capitals, because the console repeats what is typed.
fn disks(console: &mut Console) -> Result<()> {
    let begins = DISK_BEGINS.to_uppercase();
    for (disk, facts) in [("vda", "2048 sectors, ro 0"), ("vdb", "2048 sectors, ro 1")] {
        console.type_line(&format!("cd /sys/block/{disk}; echo $(cat size) sectors, ro $(cat ro); cd /"))?;
        console.wait_for(facts, COMMAND_LIMIT).with_context(|| format!("what {disk} is"))?;
        console.type_line(&format!("head -c 32 /dev/{disk} | tr a-z A-Z"))?;
        console.wait_for(&begins, COMMAND_LIMIT).with_context(|| format!("reading {disk}"))?;
    }
    console
        .type_line("echo written before | dd of=/dev/vda bs=512 seek=8 conv=sync,fsync && echo all is $((6 * 7))")?;
    console.wait_for("all is 42", COMMAND_LIMIT).context("writing and flushing")?;
    console.type_line("echo lost | dd of=/dev/vdb bs=512 || echo refused $((6 * 7))")?;
    console.wait_for("refused 42", COMMAND_LIMIT).context("a write to a read-only disk")
}

struct Steps {
    done: u32,
    at: Instant,
}

impl Steps {
    fn passed(&mut self, what: &str) {
        self.done += 1;
        println!("lab: passed after {:5.1} s  {what}", self.at.elapsed().as_secs_f64());
    }
}
