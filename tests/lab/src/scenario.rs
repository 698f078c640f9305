//! What is done with a guest.

use crate::host::{HOST_ADDRESS, Host};
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
    console.type_line(&format!("ping -c 3 -W 5 {HOST_ADDRESS}"))?;
    console.wait_for("3 packets received", COMMAND_LIMIT).context("virtio-net")?;
    steps.passed("virtio-net carries frames both ways");
    console.type_line("cat /sys/class/misc/hw_random/rng_current; head -c 64 /dev/hwrng | wc -c")?;
    console.wait_for("virtio_rng", COMMAND_LIMIT).context("virtio-rng")?;
    console.wait_for("64", COMMAND_LIMIT).context("bytes of virtio-rng")?;
    steps.passed("virtio-rng gives bytes");
    console.type_line("reboot -f")?;
    console.wait_for("init: Linux 6", BOOT_LIMIT).context("the guest's second boot")?;
    console.wait_for("# ", COMMAND_LIMIT).context("the second shell")?;
    steps.passed("a reboot boots it again");
    console.type_line(&format!("ping -c 1 -W 5 {HOST_ADDRESS}"))?;
    console.wait_for("1 packets received", COMMAND_LIMIT).context("virtio-net after the reboot")?;
    steps.passed("virtio-net works after the reboot");
    console.type_line("poweroff -f")?;
    console.wait_for("lab: escape ended with 0", COMMAND_LIMIT).context("power off")?;
    steps.passed("power off ends `escape boot` with 0");
    Ok(steps.done)
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
