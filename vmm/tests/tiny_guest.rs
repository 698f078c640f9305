//! Guests of a few instructions on real KVM: exits, faults, restart, leases, devices. Without `/dev/kvm` the tests say
//! so loudly and pass.
#![allow(clippy::unwrap_used)]

mod assembler;

use assembler::Code;
use escape_abi::layout::{ARENA_BASE, BOOT_PARAMS, CONTROL_BASE, DOORBELL, LEASE_SLOTS, MMIO_BASE, SLOT_SIZE};
use escape_abi::{GuestMessage, HostMessage, RingEntry, SlotWord};
use escape_vmm::{BootParamsSeed, Console, Fault, GuestExit, GuestImage, SlotMemory, Vm, VmConfig};
use std::borrow::Cow;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const N_SLOTS: u32 = 4 * LEASE_SLOTS;
const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Vec<u8>>>);

impl Screen {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A VM for this code, or `None` (said loudly) where there is no KVM.
fn vm(code: Code) -> Option<(Vm, Screen)> {
    if !std::path::Path::new("/dev/kvm").exists() {
        eprintln!("\n*** SKIPPED: no /dev/kvm on this machine; nothing was tested ***\n");
        return None;
    }
    let screen = Screen::default();
    let vm = Vm::new(VmConfig {
        ram_bytes: 4 << 20,
        n_slots: N_SLOTS,
        guest: GuestImage::Freestanding {
            params: BootParamsSeed { node: 7, mac: [2, 0, 0, 0, 0, 1], ..Default::default() },
            image: Cow::Owned(code.into_elf()),
        },
        tap: None,
        mirror: None,
        console: Console::new(Box::new(screen.clone())),
        virtio_console: Console::none(),
    });
    Some((vm.unwrap(), screen))
}

fn wait_exit(vm: &mut Vm) -> GuestExit {
    let start = Instant::now();
    loop {
        if let Some(exit) = vm.poll_exit() {
            return exit;
        }
        assert!(start.elapsed() < WAIT_MAX, "the guest did not stop");
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < WAIT_MAX, "{what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

#[test]
fn it_prints_reports_its_end_and_boots_again() {
    let Some((mut vm, screen)) = vm(Code::new().ring3().print("hello\n").crash(0x2a)) else { return };
    for boot in 1..=3 {
        if boot == 1 {
            vm.start().unwrap()
        } else {
            vm.restart().unwrap()
        }
        assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: 0x2a });
        assert_eq!(screen.text(), "hello\n".repeat(boot));
        assert_eq!(vm.poll_exit(), None, "an exit is told once");
    }
    assert_eq!(vm.metrics().boots, 3);
}

#[test]
fn zero_means_shutdown() {
    let Some((mut vm, _)) = vm(Code::new().crash(0)) else { return };
    vm.start().unwrap();
    assert_eq!(wait_exit(&mut vm), GuestExit::Shutdown);
}

#[test]
fn boot_parameters_are_where_the_guest_looks() {
    // Its crash code is the node id that it was told.
    let node = std::mem::offset_of!(escape_abi::BootParams, node) as u64;
    let Some((mut vm, _)) = vm(Code::new().ring3().load32(BOOT_PARAMS + node).crash_with_eax()) else { return };
    vm.start().unwrap();
    assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: 7 });
}

#[test]
fn a_fault_without_handlers_is_a_triple_fault_and_the_vm_lives() {
    let Some((mut vm, _)) = vm(Code::new().ring3().store32(0x7fff_f000_0000, 1)) else { return };
    vm.start().unwrap();
    assert!(matches!(wait_exit(&mut vm), GuestExit::TripleFault { .. }));
    vm.restart().unwrap();
    assert!(matches!(wait_exit(&mut vm), GuestExit::TripleFault { .. }));
}

#[test]
fn slot_memory_is_there_with_its_lease_and_ends_the_guest_without() {
    let (leased, other) = (LEASE_SLOTS + 3, 2 * LEASE_SLOTS);
    let address = |slot: u32| ARENA_BASE + u64::from(slot) * SLOT_SIZE as u64;
    let code = Code::new().ring3().store32(address(leased) + 64, 0x1234_5678).store32(address(other), 1).crash(9);
    let Some((mut vm, _)) = vm(code) else { return };
    vm.add_lease(LEASE_SLOTS).unwrap();
    vm.add_lease(LEASE_SLOTS).unwrap();
    assert!(vm.add_lease(LEASE_SLOTS + 1).is_err(), "no lease begins there");
    vm.start().unwrap();
    assert_eq!(wait_exit(&mut vm), GuestExit::UnleasedArena { gpa: address(other), write: true });
    let mut got = [0; 4];
    assert!(vm.slots().read(leased, 64, &mut got));
    assert_eq!(got, 0x1234_5678u32.to_le_bytes());
    assert_eq!(vm.metrics().exits.unleased_arena, 1);

    // With the lease the same guest runs to its end; slot memory outlives the restart.
    vm.add_lease(2 * LEASE_SLOTS).unwrap();
    vm.restart().unwrap();
    assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: 9 });
    assert_eq!(vm.metrics().leases, 2);
}

#[test]
fn slot_memory_is_not_executable() {
    let code = Code::new().ring3().jump_to(ARENA_BASE);
    let Some((mut vm, _)) = vm(code) else { return };
    vm.add_lease(0).unwrap();
    assert!(vm.slots().write(0, 0, &[0x90, 0x90, 0xeb, 0xfc]));
    vm.start().unwrap();
    assert!(matches!(wait_exit(&mut vm), GuestExit::TripleFault { .. }));
}

#[test]
fn words_that_the_host_sets_are_seen_and_zeroed_by_a_restart() {
    let words = CONTROL_BASE + escape_abi::ControlLayout::new(N_SLOTS).words;
    let Some((mut vm, _)) = vm(Code::new().ring3().wait_until_not_zero(words + 8 * 5).crash_with_eax()) else { return };
    vm.start().unwrap();
    vm.slots().set_word(5, SlotWord(0xbeef));
    assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: 0xbeef });
    vm.restart().unwrap();
    assert_eq!(vm.slots().word(5), Some(SlotWord(0)), "a new guest has no references");
    vm.slots().set_word(5, SlotWord(0xcafe));
    assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: 0xcafe });
}

#[test]
fn messages_go_through_the_rings() {
    let layout = escape_abi::ControlLayout::new(N_SLOTS);
    let tail = CONTROL_BASE + std::mem::offset_of!(escape_abi::ControlHeader, guest_tail) as u64;
    let host_tail = CONTROL_BASE + std::mem::offset_of!(escape_abi::ControlHeader, host_tail) as u64;
    let ready = RingEntry::from(GuestMessage::Ready);
    let code = Code::new()
        .ring3()
        .store32(CONTROL_BASE + layout.guest_ring, ready.kind as u32)
        .store32(tail, 1)
        .store32(DOORBELL, 1)
        .wait_until_not_zero(host_tail)
        .load32(CONTROL_BASE + layout.host_ring + 8)
        .crash_with_eax();
    let Some((mut vm, _)) = vm(code) else { return };
    vm.start().unwrap();
    let mut got = None;
    wait_until("no message", || {
        got = got.or(vm.control().recv());
        got.is_some()
    });
    assert_eq!(got, Some(GuestMessage::Ready));
    assert!(vm.control().send(HostMessage::Lease { first_slot: 64, generation: 1 }));
    vm.control().notify();
    assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: 64 });
}

#[test]
fn unknown_addresses_read_as_ones_and_ports_too() {
    let nowhere = MMIO_BASE + 0x8000;
    let code = Code::new().ring3().store32(nowhere, 5).load32(nowhere).crash_with_eax();
    let Some((mut vm, _)) = vm(code) else { return };
    vm.start().unwrap();
    assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: u32::MAX });
    assert_eq!(vm.metrics().exits.mmio_unknown, 2);
}

#[test]
fn the_network_device_shows_itself() {
    let Some((mut vm, _)) = vm(Code::new().ring3().load32(MMIO_BASE).crash_with_eax()) else { return };
    vm.start().unwrap();
    assert_eq!(wait_exit(&mut vm), GuestExit::Crash { code: 0x7472_6976 });
    assert!(!vm.net().is_up());
}

#[test]
fn a_crash_can_be_injected_anywhere() {
    for idle in [false, true] {
        let code = if idle { Code::new().halt_forever() } else { Code::new().ring3().spin() };
        let Some((mut vm, _)) = vm(code) else { return };
        for _ in 0..2 {
            if vm.metrics().boots == 0 {
                vm.start().unwrap()
            } else {
                vm.restart().unwrap()
            }
            std::thread::sleep(Duration::from_millis(5));
            vm.inject_fault(Fault::Crash).unwrap();
            assert!(matches!(wait_exit(&mut vm), GuestExit::TripleFault { .. }), "idle {idle}");
        }
    }
}

#[test]
fn a_spinning_guest_makes_no_progress_and_can_be_restarted() {
    let turns = CONTROL_BASE + std::mem::offset_of!(escape_abi::ControlHeader, turns) as u64;
    let Some((mut vm, _)) = vm(Code::new().ring3().count_forever(turns)) else { return };
    vm.start().unwrap();
    let counts = |vm: &mut Vm| {
        let before = vm.control().turns();
        std::thread::sleep(Duration::from_millis(20));
        vm.control().turns() != before
    };
    wait_until("it does not run", || counts(&mut vm));
    vm.inject_fault(Fault::Spin).unwrap();
    wait_until("it did not hang", || !counts(&mut vm));
    assert_eq!(vm.poll_exit(), None, "a hang is no exit");
    vm.restart().unwrap();
    wait_until("it does not run again", || counts(&mut vm));
}

#[test]
fn a_paused_guest_stands_still() {
    let turns = CONTROL_BASE + std::mem::offset_of!(escape_abi::ControlHeader, turns) as u64;
    let Some((mut vm, _)) = vm(Code::new().ring3().count_forever(turns)) else { return };
    vm.start().unwrap();
    wait_until("it does not run", || vm.control().turns() > 0);
    for _ in 0..20 {
        assert!(vm.pause());
        let at = vm.control().turns();
        std::thread::sleep(Duration::from_millis(2));
        assert_eq!(vm.control().turns(), at);
        vm.resume();
        wait_until("it does not go on", || vm.control().turns() != at);
    }
    assert!(vm.pause());
    vm.stop();
}

#[test]
fn pauses_between_port_accesses_lose_and_double_none() {
    let text = "0123456789abcdef".repeat(120) + "\n";
    let Some((mut vm, screen)) = vm(Code::new().ring3().print(&text).crash(1)) else { return };
    vm.start().unwrap();
    let mut pauses = 0;
    let exit = loop {
        assert!(vm.pause());
        vm.resume();
        pauses += 1;
        std::thread::sleep(Duration::from_micros(300));
        if let Some(exit) = vm.poll_exit() {
            break exit;
        }
        assert!(pauses < 100_000);
    };
    assert_eq!((exit, screen.text()), (GuestExit::Crash { code: 1 }, text), "after {pauses} pauses");
}

#[test]
fn a_vm_may_move_to_another_thread() {
    fn assert_send<T: Send>() {}
    assert_send::<Vm>();
    assert_send::<escape_vmm::SlotTable>();
}

#[test]
fn stopping_is_quick_and_happens_once() {
    let Some((mut vm, _)) = vm(Code::new().ring3().spin()) else { return };
    vm.start().unwrap();
    assert!(vm.start().is_err(), "already running");
    let start = Instant::now();
    vm.stop();
    vm.stop();
    assert!(start.elapsed() < Duration::from_secs(2));
    assert!(vm.inject_fault(Fault::Crash).is_err());
    vm.start().unwrap();
}
