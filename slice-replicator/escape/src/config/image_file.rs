//! The image file of `escape boot`: one guest by itself.

use std::net::Ipv4Addr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::mac_address::MacAddress;
use super::problem::{self, ConfigErrors};
use super::rules::Rules;
use super::sections::{Service, freestanding, ram_mib};

/// Longest name of a network interface (IFNAMSIZ without the final zero).
const INTERFACE_NAME_MAX: usize = 15;

/// The whole file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImageFile {
    /// "freestanding", or the path of an ELF image.
    pub image: String,
    /// Ordinary RAM, MiB.
    pub ram_mib: u32,
    /// Slots of the arena; each holds one session. A multiple of 64.
    pub slots: u32,
    /// The tap interface; made if it does not exist. Empty: the guest has no network.
    pub tap: String,
    /// The guest's address.
    pub ip: Ipv4Addr,
    /// The guest's MAC address.
    pub mac: MacAddress,
    /// TCP port of the HTTP session server.
    pub http_port: u16,
    /// TCP port of the checked byte stream.
    pub stream_port: u16,
    /// Seconds without a request after which a session is closed; 0 = never.
    pub idle_timeout_s: u32,
    /// Given to the guest as it is.
    pub cmdline: String,
}

impl Default for ImageFile {
    fn default() -> Self {
        let service = Service::default();
        Self {
            image: freestanding(),
            ram_mib: ram_mib(),
            slots: 4_096,
            tap: "escape0".into(),
            ip: service.ip,
            mac: service.mac,
            http_port: service.http_port,
            stream_port: service.stream_port,
            idle_timeout_s: service.idle_timeout_s,
            cmdline: String::new(),
        }
    }
}

impl ImageFile {
    /// Reads and checks a file.
    pub fn read(file: &Path) -> Result<Self, ConfigErrors> {
        Self::parse(file, &problem::read(file)?)
    }

    /// Checks a text; `file` is only for the messages.
    pub fn parse(file: &Path, text: &str) -> Result<Self, ConfigErrors> {
        let parsed: Self = problem::deserialize(file, text)?;
        let mut rules = Rules::new(file, text);
        parsed.check(&mut rules);
        rules.end()?;
        Ok(parsed)
    }

    fn check(&self, rules: &mut Rules<'_>) {
        rules.require(!self.image.is_empty(), &["image".into()], || {
            "must be \"freestanding\" or the path of an image".into()
        });
        check_ram(self.ram_mib, rules);
        rules.within(self.slots, 64..=65_536, "", "slots");
        rules.require(self.slots.is_multiple_of(64), &["slots".into()], || {
            format!("{} is no multiple of 64", self.slots)
        });
        check_tap(&self.tap, rules);
        let unusable = self.ip.is_unspecified() || self.ip.is_loopback() || self.ip.is_multicast();
        rules.require(!unusable, &["ip".into()], || format!("{} cannot be a guest's address", self.ip));
        check_mac(self.mac, rules);
        rules.within(self.http_port, 1..=u16::MAX, "", "http_port");
        rules.within(self.stream_port, 1..=u16::MAX, "", "stream_port");
        rules.require(self.http_port != self.stream_port, &["stream_port".into()], || {
            format!("{} is the HTTP port too", self.stream_port)
        });
        rules.within(self.idle_timeout_s, 0..=86_400, "", "idle_timeout_s");
        rules.require(self.cmdline.len() <= 255 && !self.cmdline.contains('\0'), &["cmdline".into()], || {
            "must be at most 255 bytes without a zero byte".into()
        });
    }
}

/// A guest's RAM.
pub(super) fn check_ram(ram_mib: u32, rules: &mut Rules<'_>) {
    rules.within(ram_mib, 4..=2_046, "", "ram_mib");
    rules.require(ram_mib.is_multiple_of(2), &["ram_mib".into()], || "must be even".into());
}

/// A guest's tap.
pub(super) fn check_tap(tap: &str, rules: &mut Rules<'_>) {
    let name_fits = tap.len() <= INTERFACE_NAME_MAX && !tap.contains(['/', ' ', ':']);
    rules.require(name_fits, &["tap".into()], || {
        format!("{tap:?} is no interface name (at most {INTERFACE_NAME_MAX} bytes, no '/', ':' or space)")
    });
}

/// A guest's MAC address.
pub(super) fn check_mac(mac: MacAddress, rules: &mut Rules<'_>) {
    let [first, ..] = mac.0;
    rules.require(first & 1 == 0 && mac.0 != [0; 6], &["mac".into()], || format!("{mac} is no unicast address"));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SAMPLE: &str = include_str!("../../../../images/freestanding.toml");

    fn parse(text: &str) -> Result<ImageFile, ConfigErrors> {
        ImageFile::parse(Path::new("image.toml"), text)
    }

    #[test]
    fn the_sample_states_every_default() {
        assert_eq!(parse(SAMPLE).unwrap(), ImageFile::default());
        let stated: toml::Table = SAMPLE.parse().unwrap();
        let all = toml::Table::try_from(ImageFile::default()).unwrap();
        assert_eq!(stated.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
    }

    #[test]
    fn wrong_values_are_told_with_their_line() {
        for (text, key) in [
            ("# c\nram_mib = 5000\n", "ram_mib"),
            ("# c\nslots = 100\n", "slots"),
            ("# c\ntap = \"much-too-long-a-name\"\n", "tap"),
            ("# c\nip = \"0.0.0.0\"\n", "ip"),
            ("# c\nmac = \"ff:ff:ff:ff:ff:ff\"\n", "mac"),
            ("# c\nstream_port = 80\n", "stream_port"),
            ("# c\nimage = \"\"\n", "image"),
        ] {
            let errors = parse(text).unwrap_err();
            assert_eq!((errors.problems[0].key.as_str(), errors.problems[0].line), (key, Some(2)), "{errors}");
        }
        assert!(parse("tapp = \"x\"").unwrap_err().to_string().contains("image.toml:1: "));
    }
}
