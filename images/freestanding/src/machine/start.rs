//! The first instructions: ring 0 loads the descriptor tables and leaves for ring 3.
//!
//! Ring 0 is interpreted on a KVM without VMX or SVM, at about 0.7 µs an instruction, and every piece of it is a risk:
//! everything that ring 3 can do is done there.

use super::descriptors::{self, IDT, TSS};
use super::stack::{self, DOUBLE_FAULT_STACK, EXCEPTION_STACK, FAULT_STACK, INTERRUPT_STACK, RING0_STACK};
use crate::memory_map::MemoryMap;
use crate::runtime::{crash, heap, log};
use core::arch::global_asm;
use escape_abi::BootParams;
use escape_abi::boot::{ABI_VERSION, BOOT_MAGIC};

// Selectors: 0x10 ring-0 code, 0x18 ring-0 data, 0x2b ring-3 data, 0x33 ring-3 code (the numbers that a Linux host uses:
// where KVM runs ring 3 natively, ring 3 sees those whatever the guest's GDT says), 0x40 TSS.
global_asm!(
    r#"
    .section .text.start,"ax"
    .globl escape_start
escape_start:                           # ring 0, rdi = boot parameters
    mov esp, offset {ring0_stack} + {ring0_stack_bytes}
    mov eax, offset {tss}               # TSS descriptor: the base in pieces (the image lies below 4 GiB)
    mov word ptr [gdt + 0x42], ax
    shr eax, 16
    mov byte ptr [gdt + 0x44], al
    mov byte ptr [gdt + 0x47], ah
    mov qword ptr [{tss} + 4], offset {ring0_stack} + {ring0_stack_bytes}
    mov qword ptr [{tss} + 36], offset {interrupt_stack} + {ring0_stack_bytes}
    mov qword ptr [{tss} + 44], offset {exception_stack} + {ring0_stack_bytes}
    mov qword ptr [{tss} + 52], offset {double_fault_stack} + {ring0_stack_bytes}
    lgdt [gdtr]
    lidt [idtr]
    mov eax, 0x40
    ltr ax
    push 0x2b
    push offset {fault_stack} + {fault_stack_bytes} - 8
    push 0x3202                         # IF, and IOPL 3 where KVM lets it be
    push 0x33
    push offset {ring3}
    iretq

    .section .data
    .balign 16
gdt:
    .quad 0, 0
    .quad 0x00af9b000000ffff            # 0x10 ring-0 code
    .quad 0x00cf93000000ffff            # 0x18 ring-0 data
    .quad 0x00cffb000000ffff            # 0x20 ring-3 code, 32 bit
    .quad 0x00cff3000000ffff            # 0x28 ring-3 data
    .quad 0x00affb000000ffff            # 0x30 ring-3 code
    .quad 0
    .quad 0x0000890000000000 + {tss_limit}, 0     # 0x40 TSS
gdt_end:
gdtr:
    .word gdt_end - gdt - 1
    .quad gdt
idtr:
    .word 4095
    .quad {idt}
    .text
"#,
    ring0_stack = sym RING0_STACK,
    interrupt_stack = sym INTERRUPT_STACK,
    exception_stack = sym EXCEPTION_STACK,
    double_fault_stack = sym DOUBLE_FAULT_STACK,
    fault_stack = sym FAULT_STACK,
    ring0_stack_bytes = const stack::RING0_STACK_BYTES,
    fault_stack_bytes = const stack::FAULT_STACK_BYTES,
    tss = sym TSS,
    tss_limit = const descriptors::TSS_LIMIT,
    idt = sym IDT,
    ring3 = sym ring3,
);

unsafe extern "C" {
    /// End of the image, from the linker script.
    static __image_end: u8;
}

unsafe extern "Rust" {
    /// The image's main function, defined by [`crate::image!`].
    safe fn escape_image_main(params: &'static BootParams) -> !;
}

/// First code in ring 3, on the fault stack: exceptions, memory, then the main stack.
extern "C" fn ring3(params: *const BootParams) -> ! {
    descriptors::fill_idt();
    // SAFETY: the VMM passes the address of its boot parameters, which lie in RAM, aligned, and never change.
    let params: &'static BootParams = unsafe { &*params };
    if params.magic != BOOT_MAGIC || params.version != ABI_VERSION {
        log!("boot: parameters of version {} with magic {:#x}: not for this image", params.version, params.magic);
        crash::end(crash::BAD_PARAMETERS);
    }
    let image_end = (&raw const __image_end) as u64;
    let Some(map) = MemoryMap::new(params.ram_bytes, image_end) else {
        log!("boot: {} bytes of RAM do not fit an image that ends at {image_end:#x}", params.ram_bytes);
        crash::end(crash::BAD_MEMORY);
    };
    super::protect::protect(&map);
    // SAFETY: nothing else uses this part of RAM, and it is given to the heap once.
    unsafe { heap::give(map.heap_start, map.heap_bytes()) };
    super::lapic::enable();
    stack::set_main_top(map.stack_end);
    // SAFETY: the main stack is mapped, unused, and this function's frame is not needed any more.
    unsafe { stack::enter_main(main_stack, core::ptr::from_ref(params) as u64) }
}

/// First code on the main stack.
extern "C" fn main_stack(params: u64) -> ! {
    // SAFETY: the address of a `&'static BootParams`, passed through by `ring3`.
    escape_image_main(unsafe { &*(params as *const BootParams) })
}
