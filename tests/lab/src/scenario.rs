//! What is done with a guest.

use crate::console::Console;
use crate::host::{DISK_BEGINS, HOST_ADDRESS, Host};
use crate::steps::Steps;
use anyhow::{Context, Result};
use std::time::Duration;

/// An emulated host on a busy machine.
const HOST_LIMIT: Duration = Duration::from_secs(90);
/// A kernel in an emulated machine's virtual machine.
const BOOT_LIMIT: Duration = Duration::from_secs(120);
/// A command in it.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);

/// Boots a guest, uses its console, network and randomness, lets it reboot, and switches it off. Returns the number of steps.
pub fn boot_use_reboot_power_off(host: &mut Host) -> Result<u32> {
    let mut steps = Steps::begin();
    let console = host.console();
    console.wait_for("lab: the host is up", HOST_LIMIT).context("the host")?;
    steps.passed("the host is up");
    shell_after(console, "the first boot")?;
    steps.passed("Debian's kernel boots to a shell");
    // The answer is not in the question, which the console repeats.
    console.wait_for("lab: the agent says {\"kernel\":\"6", COMMAND_LIMIT).context("the agent's report")?;
    console.wait_for("\"arena_bytes\":16777216}", COMMAND_LIMIT).context("the arena in the agent's report")?;
    console.wait_for("lab: shell of Linux by vsock: 42", COMMAND_LIMIT).context("a shell by vsock")?;
    steps.passed("the agent gives a report and a shell by virtio-vsock");
    ask(console, "echo said on hvc0 | tr a-z A-Z > /dev/hvc0", "SAID ON HVC0")?;
    steps.passed("virtio-console says what is written to it");
    ask(console, "echo the answer is $((6 * 7))", "the answer is 42")?;
    steps.passed("the console works both ways");
    ask(console, "echo processors: $(nproc)", "processors: 2")?;
    steps.passed("both processors are up");
    ask(console, &format!("ping -c 3 -W 5 {HOST_ADDRESS}"), "3 packets received")?;
    steps.passed("virtio-net carries frames both ways");
    ask(console, "cat /sys/class/misc/hw_random/rng_current", "virtio_rng")?;
    ask(console, "echo bytes: $(head -c 64 /dev/hwrng | wc -c)", "bytes: 64")?;
    steps.passed("virtio-rng gives bytes");
    ask(console, "escape-agent poke 262144 4242 && echo arena: $(escape-agent peek 262144)", "arena: 4242")?;
    ask(console, "escape-agent poke 16777216 1 || echo refused $((6 * 7))", "refused 42")?;
    steps.passed("the arena is mapped at its address, and nothing beyond it");
    use_disks(console)?;
    steps.passed("virtio-blk reads, writes and flushes a disk, and a read-only one is not written");
    let cost = cost_of_a_turn(console)?;
    steps.passed(&format!("a turn of a slice costs in this guest {cost}"));
    console.type_line("reboot -f")?;
    shell_after(console, "the reboot")?;
    steps.passed("a reboot boots it again");
    ask(console, &format!("ping -c 1 -W 5 {HOST_ADDRESS}"), "1 packets received")?;
    steps.passed("virtio-net works after the reboot");
    ask(console, "dd if=/dev/vda bs=512 skip=8 count=1 2> /dev/null | tr a-z A-Z", "WRITTEN BEFORE")?;
    steps.passed("what was written is there after the reboot");
    ask(console, "echo the arena still has $(escape-agent peek 262144)", "the arena still has 4242")?;
    steps.passed("the arena's content outlives the guest");
    console.type_line("rmmod device_dax; rmmod dax_hmem; echo without its device $(escape-agent peek 262144)")?;
    console.wait_for("the arena by /dev/mem", COMMAND_LIMIT).context("a warning")?;
    console.wait_for("without its device 4242", COMMAND_LIMIT).context("the arena by /dev/mem")?;
    steps.passed("without its device the arena is found by /dev/mem, with a warning");
    ask(console, "poweroff -f", "lab: escape ended with 0")?;
    steps.passed("power off ends `escape boot` with 0");
    Ok(steps.done())
}

/// Waits for the guest's first program and its prompt.
fn shell_after(console: &mut Console, what: &'static str) -> Result<()> {
    console.wait_for("init: Linux 6", BOOT_LIMIT).context(what)?;
    console.wait_for("# ", COMMAND_LIMIT).context(what)
}

/// Types a command and waits for what it must say.
fn ask(console: &mut Console, command: &str, answer: &str) -> Result<()> {
    console.type_line(command)?;
    console.wait_for(answer, COMMAND_LIMIT).with_context(|| command.to_owned())
}

/// What the service says of it, in words.
fn cost_of_a_turn(console: &mut Console) -> Result<String> {
    console.type_line("escape-sessions cost 500")?;
    console.wait_for("{\"turn_us\":", COMMAND_LIMIT).context("the cost of a turn")?;
    console.wait_for("\"rounds\":500}", COMMAND_LIMIT).context("the cost of a turn")?;
    let line = console.tail().lines().rev().find_map(|line| line.find("{\"turn_us\"").and_then(|at| line.get(at..)));
    let said: serde_json::Value = serde_json::from_str(line.context("a line")?.trim()).context("the cost of a turn")?;
    let us = |what: &str| said.pointer(what).and_then(serde_json::Value::as_f64).with_context(|| what.to_owned());
    let (turn, plain) = (us("/turn_us/p50")?, us("/plain_us/p50")?);
    Ok(format!("{turn:.1} us, p99 {:.1}, and the same without slices {plain:.1} us", us("/turn_us/p99")?))
}

/// Answers are in capitals, because the console repeats what is typed.
fn use_disks(console: &mut Console) -> Result<()> {
    for (disk, facts) in [("vda", "2048 sectors, ro 0"), ("vdb", "2048 sectors, ro 1")] {
        ask(console, &format!("cd /sys/block/{disk}; echo $(cat size) sectors, ro $(cat ro); cd /"), facts)?;
        ask(console, &format!("head -c 32 /dev/{disk} | tr a-z A-Z"), &DISK_BEGINS.to_uppercase())?;
    }
    let write = "echo written before | dd of=/dev/vda bs=512 seek=8 conv=sync,fsync && echo all is $((6 * 7))";
    ask(console, write, "all is 42")?;
    ask(console, "echo lost | dd of=/dev/vdb bs=512 || echo refused $((6 * 7))", "refused 42")
}
