//! ACPI tables (6.5): RSDP → XSDT → FADT (hardware-reduced) with its DSDT, and MADT. They say where serial port, virtio-mmio
//! devices and power registers are; there is no PCI and no firmware to ask.

use super::error::LinuxError;
use super::write as write_bytes;
use crate::devices::power::config::{RESET, RESET_VALUE, S5, SLEEP_CONTROL, SLEEP_STATUS};
use crate::devices::serial::device::{SERIAL_BASE, SERIAL_PORTS};
use crate::interrupts::{DEVICE_PIN0, SERIAL_PIN};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};
use acpi_tables::madt::{EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use escape_abi::layout::{MMIO_BASE, MMIO_STRIDE};
use vm_memory::GuestMemoryMmap;

/// Where the tables begin (the RSDP), and the room that they have.
pub const TABLES_AT: u64 = 0xe_0000;
/// Bytes of the room.
pub const TABLES_BYTES: u64 = 0x1_0000;
/// The other tables follow the RSDP here.
const FIRST_TABLE: u64 = TABLES_AT + 0x100;

const OEM: [u8; 6] = *b"ESCAPE";
const TABLE: [u8; 8] = *b"CAPSULE ";
const LOCAL_APIC: u32 = 0xfee0_0000;
const IO_APIC: u32 = 0xfec0_0000;
/// Size of a table's head, and the DSDT's revision.
const SDT_HEAD: u32 = 36;
const DSDT_REVISION: u8 = 6;
/// FADT: no VGA, no ASPM, no CMOS clock (IAPC_BOOT_ARCH bits 2, 4, 5).
const NO_LEGACY: u16 = 1 << 2 | 1 << 4 | 1 << 5;

/// Writes the tables for the virtio-mmio devices of these numbers and so many processors.
pub fn write(memory: &GuestMemoryMmap, devices: &[u64], vcpus: u8) -> Result<(), LinuxError> {
    let mut at = FIRST_TABLE;
    let mut put = |what, bytes: &[u8]| {
        let address = at;
        at = (at + bytes.len() as u64).next_multiple_of(64);
        write_bytes(memory, what, address, bytes).map(|()| address)
    };
    let dsdt = put("the DSDT", &dsdt(devices))?;
    let tables = [put("the FADT", &fadt(dsdt))?, put("the MADT", &madt(vcpus))?];
    let mut xsdt = XSDT::new(OEM, TABLE, 1);
    tables.iter().for_each(|table| xsdt.add_entry(*table));
    let xsdt = put("the XSDT", &bytes_of(&xsdt))?;
    write_bytes(memory, "the RSDP", TABLES_AT, &bytes_of(&Rsdp::new(OEM, xsdt)))
}

fn dsdt(devices: &[u64]) -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", SDT_HEAD, DSDT_REVISION, OEM, TABLE, 1);
    let none = 0u8;
    aml::Name::new("_S5_".into(), &aml::Package::new(vec![&S5, &none, &none, &none])).to_aml_bytes(&mut dsdt);
    serial_port(&mut dsdt);
    devices.iter().for_each(|number| virtio_device(*number, &mut dsdt));
    dsdt.update_checksum();
    dsdt.as_slice().to_vec()
}

/// A 16550 (PNP0501) with an edge interrupt.
fn serial_port(dsdt: &mut Sdt) {
    let (hid, uid) = (aml::EISAName::new("PNP0501"), 0u8);
    let (hid, uid) = (aml::Name::new("_HID".into(), &hid), aml::Name::new("_UID".into(), &uid));
    let ports = aml::IO::new(SERIAL_BASE, SERIAL_BASE, 1, SERIAL_PORTS as u8);
    let interrupt = edge(SERIAL_PIN);
    let resources = aml::ResourceTemplate::new(vec![&ports, &interrupt]);
    let crs = aml::Name::new("_CRS".into(), &resources);
    aml::Device::new("_SB_.COM1".into(), vec![&hid, &uid, &crs]).to_aml_bytes(dsdt);
}

/// A virtio-mmio device (LNRO0005, by which Linux knows it) with an edge interrupt.
fn virtio_device(number: u64, dsdt: &mut Sdt) {
    let address = u32::try_from(MMIO_BASE + number * MMIO_STRIDE).unwrap_or(u32::MAX);
    let index = u32::try_from(number).unwrap_or(u32::MAX);
    let (hid, cca) = (aml::Name::new("_HID".into(), &"LNRO0005"), aml::Name::new("_CCA".into(), &aml::ONE));
    let uid = aml::Name::new("_UID".into(), &index);
    let memory = aml::Memory32Fixed::new(true, address, MMIO_STRIDE as u32);
    let interrupt = edge(DEVICE_PIN0 + index);
    let resources = aml::ResourceTemplate::new(vec![&memory, &interrupt]);
    let crs = aml::Name::new("_CRS".into(), &resources);
    let name = format!("_SB_.VR{index:02}");
    aml::Device::new(name.as_str().into(), vec![&hid, &uid, &cca, &crs]).to_aml_bytes(dsdt);
}

/// A resource that is used, edge-triggered, active high and not shared.
fn edge(pin: u32) -> aml::Interrupt {
    aml::Interrupt::new(true, true, false, false, pin)
}

fn fadt(dsdt: u64) -> Vec<u8> {
    let register = |port: u16| GAS::new(AddressSpace::SystemIo, 8, 0, AccessSize::ByteAccess, u64::from(port));
    let mut fadt = FADTBuilder::new(OEM, TABLE, 1)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::ResetRegSup)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton);
    fadt.iapc_boot_arch = NO_LEGACY.into();
    fadt.sleep_control_reg = register(SLEEP_CONTROL);
    fadt.sleep_status_reg = register(SLEEP_STATUS);
    fadt.reset_reg = register(RESET);
    fadt.reset_value = RESET_VALUE;
    bytes_of(&fadt.finalize())
}

fn madt(vcpus: u8) -> Vec<u8> {
    let mut madt = MADT::new(OEM, TABLE, 1, LocalInterruptController::Address(LOCAL_APIC));
    for id in 0..vcpus {
        madt.add_structure(ProcessorLocalApic::new(id, id, EnabledStatus::Enabled));
    }
    // An id that no processor has.
    madt.add_structure(IoApic::new(vcpus, IO_APIC, 0));
    bytes_of(&madt)
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vm_memory::{Bytes, GuestAddress};

    fn sums_to_zero(bytes: &[u8]) -> bool {
        bytes.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
    }

    #[test]
    fn every_table_is_found_from_the_root_and_has_its_checksum() {
        let memory = GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 1 << 20)]).unwrap();
        write(&memory, &[0, 1, 5], 3).unwrap();
        let read = |at: u64, len: usize| {
            let mut bytes = vec![0; len];
            memory.read_slice(&mut bytes, GuestAddress(at)).unwrap();
            bytes
        };
        let table = |at: u64| read(at, u32::from_le_bytes(read(at + 4, 4).try_into().unwrap()) as usize);
        let address = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
        let rsdp = read(TABLES_AT, 36);
        assert!(rsdp.starts_with(b"RSD PTR ") && sums_to_zero(&rsdp) && sums_to_zero(&rsdp[..20]));
        let xsdt = table(address(&rsdp[24..32]));
        let found: Vec<Vec<u8>> = xsdt[36..].chunks(8).map(|entry| table(address(entry))).collect();
        let names: Vec<&[u8]> = found.iter().map(|t| &t[..4]).collect();
        assert_eq!(names, [&b"FACP"[..], b"APIC"]);
        let dsdt = table(address(&found[0][140..148]));
        assert!(dsdt.starts_with(b"DSDT"));
        assert!([&xsdt, &found[0], &found[1], &dsdt].into_iter().all(|t| sums_to_zero(t)));
        let virtio = dsdt.windows(8).filter(|w| w == b"LNRO0005").count();
        assert_eq!(virtio, 3);
        // After the head of 44 bytes: structures with their kind and length.
        let madt = &found[1];
        let (mut at, mut processors) = (44, 0);
        while at < madt.len() {
            processors += usize::from(madt[at] == 0);
            at += usize::from(madt[at + 1]);
        }
        assert_eq!(processors, 3);
    }
}
