//! Just enough of an assembler for guests of a few instructions.

use escape_abi::layout::IMAGE_BASE;

/// Where ring 3's stack begins.
const STACK: u32 = 0x20_0000;

/// Machine code, entered in ring 0 at [`IMAGE_BASE`].
#[derive(Clone, Default)]
pub struct Code(Vec<u8>);

impl Code {
    pub fn new() -> Self {
        Self::default()
    }

    fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn imm32(self, value: u32) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    fn imm64(self, value: u64) -> Self {
        self.bytes(&value.to_le_bytes())
    }

    /// Goes to ring 3 with a GDT, a TSS whose I/O bitmap opens all ports, and the stack below 2 MiB.
    pub fn ring3(mut self) -> Self {
        // The tables lie right after this prologue's jump.
        let tables_jump = self.0.len();
        self = self.bytes(&[0xe9]).imm32(0);
        while !(IMAGE_BASE as usize + self.0.len()).is_multiple_of(16) {
            self.0.push(0);
        }
        let gdt = IMAGE_BASE + self.0.len() as u64;
        let tss = gdt + 10 * 8;
        let limit = 104 + 8192u64;
        // null, null, code 0x10, data 0x18, TSS 0x20 (16 bytes), then user data 0x28 and code 0x30 after it
        let tss_low = limit & 0xffff
            | (tss & 0xff_ffff) << 16
            | 0x89 << 40
            | (limit >> 16 & 0xf) << 48
            | (tss >> 24 & 0xff) << 56;
        let user = [0x00cf_f300_0000_ffff_u64, 0x00af_fb00_0000_ffff];
        let table = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0, user[0], user[1], tss_low, tss >> 32, 0];
        for entry in table {
            self = self.imm64(entry);
        }
        let mut segment = [0u8; 104 + 8192 + 1];
        segment[102..104].copy_from_slice(&104u16.to_le_bytes());
        segment[104 + 8192] = 0xff;
        self = self.bytes(&segment);
        let gdtr = IMAGE_BASE + self.0.len() as u64;
        self = self.bytes(&79u16.to_le_bytes()).imm64(gdt);
        let here = self.0.len() as u32;
        self.0[tables_jump + 1..tables_jump + 5].copy_from_slice(&(here - tables_jump as u32 - 5).to_le_bytes());
        // lgdt [gdtr]; mov ax, 0x38; ltr ax
        self = self.bytes(&[0x0f, 0x01, 0x14, 0x25]).imm32(gdtr as u32);
        self = self.bytes(&[0x66, 0xb8, 0x38, 0x00, 0x0f, 0x00, 0xd8]);
        // push ss=0x2b; push rsp; push rflags; push cs=0x33; push rip; iretq
        let after = IMAGE_BASE as u32 + self.0.len() as u32 + 2 + 5 + 5 + 2 + 5 + 2;
        self.bytes(&[0x6a, 0x2b, 0x68])
            .imm32(STACK)
            .bytes(&[0x68])
            .imm32(0x2)
            .bytes(&[0x6a, 0x33, 0x68])
            .imm32(after)
            .bytes(&[0x48, 0xcf])
    }

    /// Writes text to the serial port.
    pub fn print(self, text: &str) -> Self {
        // mov dx, 0x3f8; then per byte: mov al, byte; out dx, al
        let start = self.bytes(&[0x66, 0xba, 0xf8, 0x03]);
        text.bytes().fold(start, |code, byte| code.bytes(&[0xb0, byte, 0xee]))
    }

    /// Writes a code to port 0x500.
    pub fn crash(self, code: u32) -> Self {
        self.bytes(&[0xb8]).imm32(code).crash_with_eax()
    }

    /// Writes EAX to port 0x500.
    pub fn crash_with_eax(self) -> Self {
        // mov dx, 0x500; out dx, eax
        self.bytes(&[0x66, 0xba, 0x00, 0x05, 0xef]).spin()
    }

    /// `mov dword [address], value`
    pub fn store32(self, address: u64, value: u32) -> Self {
        self.bytes(&[0x48, 0xbb]).imm64(address).bytes(&[0xc7, 0x03]).imm32(value)
    }

    /// `mov eax, [address]`
    pub fn load32(self, address: u64) -> Self {
        self.bytes(&[0x48, 0xbb]).imm64(address).bytes(&[0x8b, 0x03])
    }

    /// Reads the address into EAX until it is not zero.
    pub fn wait_until_not_zero(self, address: u64) -> Self {
        // mov rbx, address; 1: mov eax, [rbx]; test eax, eax; jz 1b
        self.bytes(&[0x48, 0xbb]).imm64(address).bytes(&[0x8b, 0x03, 0x85, 0xc0, 0x74, 0xfa])
    }

    /// Increments the u64 at the address for ever.
    pub fn count_forever(self, address: u64) -> Self {
        self.bytes(&[0x48, 0xbb]).imm64(address).bytes(&[0x48, 0xff, 0x03, 0xeb, 0xfb])
    }

    /// Jumps to an address.
    pub fn jump_to(self, address: u64) -> Self {
        self.bytes(&[0x48, 0xb8]).imm64(address).bytes(&[0xff, 0xe0])
    }

    /// `jmp $`
    pub fn spin(self) -> Self {
        self.bytes(&[0xeb, 0xfe])
    }

    /// Ring 0: `hlt` with interrupts on, for ever.
    pub fn halt_forever(self) -> Self {
        self.bytes(&[0xfb, 0xf4, 0xeb, 0xfc])
    }

    /// The code as a static executable, entered at its first byte, with 1 MiB of zeroes behind it.
    pub fn into_elf(self) -> Vec<u8> {
        let mut elf = vec![0; 120];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &2u16.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(24, &IMAGE_BASE.to_le_bytes());
        put(32, &64u64.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes());
        put(64, &1u32.to_le_bytes());
        put(68, &7u32.to_le_bytes());
        put(72, &120u64.to_le_bytes());
        put(88, &IMAGE_BASE.to_le_bytes());
        put(96, &(self.0.len() as u64).to_le_bytes());
        put(104, &(self.0.len() as u64 + (1 << 20)).to_le_bytes());
        elf.extend(self.0);
        elf
    }
}
