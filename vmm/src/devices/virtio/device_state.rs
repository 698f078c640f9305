//! The part of a virtio device that its driver programs: status, features, queue geometry (virtio 1.2, sections 2.1,
//! 2.2 and 3.1). Pure state: no I/O, no locks.

use super::queue_setup::{QueueSetup, QueueSetupError};
use virtio_bindings::bindings::virtio_config::{
    VIRTIO_CONFIG_S_ACKNOWLEDGE as ACKNOWLEDGE, VIRTIO_CONFIG_S_DRIVER as DRIVER,
    VIRTIO_CONFIG_S_DRIVER_OK as DRIVER_OK, VIRTIO_CONFIG_S_FAILED as FAILED,
    VIRTIO_CONFIG_S_FEATURES_OK as FEATURES_OK, VIRTIO_CONFIG_S_NEEDS_RESET as NEEDS_RESET, VIRTIO_F_VERSION_1,
};
use virtio_bindings::bindings::virtio_ring::VIRTIO_RING_F_EVENT_IDX;
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemoryMmap;

/// Interrupt status: a queue has used buffers.
pub const INTERRUPT_USED: u32 = 1;
/// Interrupt status: the configuration (here: the status) changed.
pub const INTERRUPT_CONFIG: u32 = 2;

/// What a device is, fixed when the VM is built.
#[derive(Clone, Debug)]
pub struct DeviceModel {
    /// Its name in logs.
    pub name: &'static str,
    /// Virtio device id (virtio 1.2, section 5).
    pub id: u32,
    /// Features offered.
    pub features: u64,
    /// Largest size of each queue, powers of two.
    pub queue_sizes_max: &'static [u16],
    /// Device configuration space.
    pub config: Vec<u8>,
}

/// Counters of what drivers did to a device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TransportMetrics {
    /// Times the driver reached DRIVER_OK.
    pub activations: u64,
    /// Resets by the driver or with the VM.
    pub resets: u64,
    /// Register writes refused: wrong state, frozen queue, nonsense value.
    pub writes_refused: u64,
    /// Accesses of a wrong width or to registers that do not exist.
    pub accesses_odd: u64,
    /// Times the device gave up and asked for a reset.
    pub needs_reset: u64,
}

/// Driver-visible state of one device.
#[derive(Debug)]
pub struct DeviceState {
    model: DeviceModel,
    status: u32,
    driver_features: u64,
    /// Which half of the device's features is read.
    pub device_features_sel: u32,
    /// Which half of the driver's features is written.
    pub driver_features_sel: u32,
    /// Which queue the queue registers mean.
    pub queue_sel: u32,
    setups: Vec<QueueSetup>,
    /// The queues, from DRIVER_OK to reset.
    live: Vec<Option<Queue>>,
    /// Why the last attempt to start failed.
    fault: Option<QueueSetupError>,
    /// Pending causes of interrupts.
    pub interrupt_status: u32,
    /// Counters.
    pub metrics: TransportMetrics,
}

impl DeviceState {
    /// A device just after reset.
    pub fn new(model: DeviceModel) -> Self {
        let setups = model.queue_sizes_max.iter().map(|max| QueueSetup::new(*max)).collect();
        Self {
            model,
            status: 0,
            driver_features: 0,
            device_features_sel: 0,
            driver_features_sel: 0,
            queue_sel: 0,
            setups,
            live: Vec::new(),
            fault: None,
            interrupt_status: 0,
            metrics: TransportMetrics::default(),
        }
    }

    /// What the device is.
    pub fn model(&self) -> &DeviceModel {
        &self.model
    }

    /// The status register.
    pub fn status(&self) -> u32 {
        self.status
    }

    /// Features that both sides agreed on; 0 before FEATURES_OK.
    pub fn negotiated(&self) -> u64 {
        if self.status & FEATURES_OK != 0 { self.driver_features } else { 0 }
    }

    /// Whether a feature bit was agreed on.
    pub fn has(&self, feature: u32) -> bool {
        self.negotiated() >> feature & 1 != 0
    }

    /// The selected half of the offered features.
    pub fn offered_half(&self) -> u32 {
        match self.device_features_sel {
            0 => self.model.features as u32,
            1 => (self.model.features >> 32) as u32,
            _ => 0,
        }
    }

    /// The driver accepts features; refused once FEATURES_OK is set (section 3.1.1, step 5).
    pub fn accept_features(&mut self, half: u32) {
        if self.status & (FEATURES_OK | FAILED) != 0 || self.driver_features_sel > 1 {
            return self.refuse();
        }
        let shift = 32 * self.driver_features_sel;
        self.driver_features = self.driver_features & !(0xffff_ffff << shift) | u64::from(half) << shift;
    }

    /// A write to the status register. Bits are only ever added, in the order of section 3.1.1; 0 resets.
    pub fn write_status(&mut self, value: u32, memory: &GuestMemoryMmap) {
        if value == 0 {
            return self.reset();
        }
        // The device's own bit is not the driver's to write.
        let wanted = value & !NEEDS_RESET;
        let now = self.status & !NEEDS_RESET;
        let known = ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK | FAILED;
        if wanted & now != now || wanted & !known != 0 {
            return self.refuse();
        }
        for bit in [ACKNOWLEDGE, DRIVER, FEATURES_OK, DRIVER_OK, FAILED] {
            if wanted & !now & bit != 0 && !self.add_status(bit, memory) {
                return self.refuse();
            }
        }
    }

    fn add_status(&mut self, bit: u32, memory: &GuestMemoryMmap) -> bool {
        let needs = match bit {
            DRIVER => ACKNOWLEDGE,
            FEATURES_OK => ACKNOWLEDGE | DRIVER,
            DRIVER_OK => ACKNOWLEDGE | DRIVER | FEATURES_OK,
            _ => 0,
        };
        if self.status & needs != needs || self.status & FAILED != 0 {
            return false;
        }
        if bit == FEATURES_OK && !self.features_acceptable() {
            return false;
        }
        self.status |= bit;
        match bit {
            DRIVER_OK => self.activate(memory),
            FAILED => self.live.clear(),
            _ => {}
        }
        true
    }

    fn features_acceptable(&self) -> bool {
        self.driver_features & !self.model.features == 0 && self.driver_features >> VIRTIO_F_VERSION_1 & 1 != 0
    }

    /// Builds the queues from what the driver programmed. From here on their geometry is frozen.
    fn activate(&mut self, memory: &GuestMemoryMmap) {
        let event_idx = self.has(VIRTIO_RING_F_EVENT_IDX);
        self.metrics.activations += 1;
        match self.setups.iter().map(|setup| setup.build(memory, event_idx)).collect() {
            Ok(queues) => self.live = queues,
            Err(error) => {
                self.fault = Some(error);
                self.give_up();
            }
        }
    }

    /// Why the driver's last attempt to start the device failed; told once.
    pub fn take_fault(&mut self) -> Option<QueueSetupError> {
        self.fault.take()
    }

    /// Back to the state after power-on.
    pub fn reset(&mut self) {
        let (model, mut metrics) = (self.model.clone(), self.metrics);
        metrics.resets += 1;
        *self = Self::new(model);
        self.metrics = metrics;
    }

    /// The device cannot go on: no queue is touched until the driver resets it (section 2.1.2).
    pub fn give_up(&mut self) {
        if self.status & NEEDS_RESET == 0 {
            self.metrics.needs_reset += 1;
        }
        self.status |= NEEDS_RESET;
        self.interrupt_status |= INTERRUPT_CONFIG;
        self.live.clear();
    }

    /// A queue that may be used now.
    pub fn queue(&mut self, index: usize) -> Option<&mut Queue> {
        self.live.get_mut(index)?.as_mut()
    }

    /// The registers of the selected queue, for reading.
    pub fn selected(&self) -> Option<&QueueSetup> {
        self.setups.get(usize::try_from(self.queue_sel).ok()?)
    }

    /// Changes the selected queue's registers; refused outside the time between FEATURES_OK and DRIVER_OK, and if
    /// `change` says that the value is not possible.
    pub fn set_up_selected(&mut self, change: impl FnOnce(&mut QueueSetup) -> bool) {
        let open = self.status & (FEATURES_OK | DRIVER_OK | FAILED | NEEDS_RESET) == FEATURES_OK;
        let setup = usize::try_from(self.queue_sel).ok().and_then(|i| self.setups.get_mut(i));
        if !setup.is_some_and(|s| open && change(s)) {
            self.refuse();
        }
    }

    /// Counts a write that was not obeyed.
    pub fn refuse(&mut self) {
        self.metrics.writes_refused += 1;
    }

    /// Whether a queue's rings are in use (for tests and reports).
    pub fn is_live(&self, index: usize) -> bool {
        self.live.get(index).is_some_and(|q| q.as_ref().is_some_and(QueueT::ready))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use vm_memory::GuestAddress;

    const VERSION_1: u64 = 1 << VIRTIO_F_VERSION_1;

    fn memory() -> GuestMemoryMmap {
        GuestMemoryMmap::from_ranges(&[(GuestAddress(0), 0x1_0000)]).unwrap()
    }

    fn device() -> DeviceState {
        DeviceState::new(DeviceModel {
            name: "test",
            id: 1,
            features: VERSION_1 | 1 << VIRTIO_RING_F_EVENT_IDX | 1,
            queue_sizes_max: &[16, 16],
            config: vec![],
        })
    }

    fn accept(d: &mut DeviceState, features: u64) {
        for half in 0..2 {
            d.driver_features_sel = half;
            d.accept_features((features >> (32 * half)) as u32);
        }
    }

    fn set_up(d: &mut DeviceState, index: u32, at: u64) {
        d.queue_sel = index;
        d.set_up_selected(|q| q.set_size(16));
        d.set_up_selected(|q| q.set_descriptors(at, 0xffff_ffff));
        d.set_up_selected(|q| q.set_avail(at + 0x100, 0xffff_ffff));
        d.set_up_selected(|q| q.set_used(at + 0x200, 0xffff_ffff));
        d.set_up_selected(|q| q.set_ready(true));
    }

    fn ready_device(m: &GuestMemoryMmap) -> DeviceState {
        let mut d = device();
        d.write_status(ACKNOWLEDGE | DRIVER, m);
        accept(&mut d, VERSION_1);
        d.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK, m);
        set_up(&mut d, 0, 0x1000);
        d
    }

    #[test]
    fn the_ordinary_way_up() {
        let m = memory();
        let mut d = ready_device(&m);
        assert!(!d.is_live(0));
        d.write_status(15, &m);
        assert_eq!((d.status(), d.is_live(0), d.is_live(1)), (15, true, false));
        assert_eq!(d.metrics, TransportMetrics { activations: 1, ..Default::default() });
        d.write_status(0, &m);
        assert_eq!((d.status(), d.is_live(0), d.negotiated()), (0, false, 0));
    }

    #[test]
    fn steps_cannot_be_left_out_or_undone() {
        let m = memory();
        for skip in [DRIVER, FEATURES_OK, DRIVER_OK] {
            let mut d = device();
            d.write_status(skip, &m);
            assert_eq!((d.status() & skip, d.metrics.writes_refused), (0, 1), "{skip}");
        }
        let mut d = ready_device(&m);
        d.write_status(ACKNOWLEDGE, &m);
        assert_eq!(d.status(), ACKNOWLEDGE | DRIVER | FEATURES_OK, "bits are not taken back");
        d.write_status(15 | 0x20, &m);
        assert_eq!(d.status() & DRIVER_OK, 0, "unknown bits");
    }

    #[test]
    fn features_that_were_not_offered_or_are_missing_are_not_accepted() {
        let m = memory();
        for features in [0, 1, VERSION_1 | 2, u64::MAX] {
            let mut d = device();
            d.write_status(ACKNOWLEDGE | DRIVER, &m);
            accept(&mut d, features);
            d.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK, &m);
            assert_eq!((d.status() & FEATURES_OK, d.negotiated()), (0, 0), "{features:#x}");
        }
        let mut d = ready_device(&m);
        accept(&mut d, VERSION_1 | 1);
        assert_eq!(d.negotiated(), VERSION_1, "features are final at FEATURES_OK");
    }

    #[test]
    fn geometry_is_frozen_at_driver_ok() {
        let m = memory();
        let mut d = ready_device(&m);
        d.write_status(15, &m);
        let refused = d.metrics.writes_refused;
        let before = *d.selected().unwrap();
        set_up(&mut d, 0, 0x8000);
        set_up(&mut d, 1, 0x8000);
        d.queue_sel = 0;
        d.set_up_selected(|q| q.set_ready(false));
        assert_eq!(*d.selected().unwrap(), before);
        assert_eq!(d.metrics.writes_refused, refused + 11);
        assert_eq!(d.queue(0).unwrap().desc_table(), 0x1000);
        assert!(d.queue(1).is_none());
    }

    #[test]
    fn geometry_cannot_be_set_before_the_features_are() {
        let m = memory();
        let mut d = device();
        d.write_status(ACKNOWLEDGE | DRIVER, &m);
        set_up(&mut d, 0, 0x1000);
        assert_eq!(d.metrics.writes_refused, 5);
        assert!(!d.selected().unwrap().ready());
    }

    #[test]
    fn a_queue_outside_memory_breaks_the_device_and_nothing_else() {
        let m = memory();
        let mut d = ready_device(&m);
        set_up(&mut d, 1, 0xffff_0000);
        d.write_status(15, &m);
        assert_ne!(d.status() & NEEDS_RESET, 0);
        assert_eq!(d.interrupt_status, INTERRUPT_CONFIG);
        assert!(d.queue(0).is_none(), "no queue of a broken device is touched");
        d.write_status(0, &m);
        assert_eq!(d.status(), 0);
    }

    #[test]
    fn queues_that_do_not_exist_are_ignored() {
        let m = memory();
        let mut d = ready_device(&m);
        for index in [2, u32::MAX] {
            let refused = d.metrics.writes_refused;
            set_up(&mut d, index, 0x1000);
            assert_eq!(d.metrics.writes_refused, refused + 5);
            assert!(d.selected().is_none());
        }
    }

    /// Any sequence of register writes leaves a device that can be reset and brought up again.
    #[test]
    fn no_sequence_of_writes_confuses_it() {
        let m = memory();
        let seed = std::env::var("VIRTIO_SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(0x5eed_u64);
        println!("VIRTIO_SEED={seed} replays this");
        let mut x = seed;
        let mut random = move || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 33) as u32
        };
        let mut d = device();
        for _ in 0..20_000 {
            let value = random();
            match random() % 10 {
                0 => d.write_status(value & 0xff, &m),
                1 => d.accept_features(value),
                2 => d.driver_features_sel = value % 3,
                3 => d.queue_sel = value % 3,
                4 => d.set_up_selected(|q| q.set_size(value % 40)),
                5 => d.set_up_selected(|q| q.set_descriptors(u64::from(value), u64::MAX)),
                6 => d.set_up_selected(|q| q.set_ready(value % 2 == 0)),
                7 => d.give_up(),
                8 if value % 50 == 0 => d.reset(),
                _ => drop(d.queue(value as usize % 3).map(|q| q.ready())),
            }
            assert!(d.status() & DRIVER_OK == 0 || d.status() & FEATURES_OK != 0);
        }
        d.reset();
        d.write_status(ACKNOWLEDGE | DRIVER, &m);
        accept(&mut d, VERSION_1);
        d.write_status(ACKNOWLEDGE | DRIVER | FEATURES_OK, &m);
        set_up(&mut d, 0, 0x1000);
        d.write_status(15, &m);
        assert!(d.is_live(0));
    }
}
