//! Taps of the kernel, in a network namespace of the test's own. Without the right to make one the tests say so loudly
//! and pass.
#![allow(clippy::unwrap_used)]

use escape_vmm::{Tap, TapSource};
use std::fs::OpenOptions;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// Runs on a thread with its own network namespace, which goes away with the thread.
fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        // SAFETY: changes the namespace of this thread alone.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
        if !unshared || !std::path::Path::new("/dev/net/tun").exists() {
            eprintln!("\n*** SKIPPED: no right to make a network namespace, or no /dev/net/tun ***\n");
            return;
        }
        test();
    });
    thread.join().unwrap();
}

fn by_name(name: &str) -> Result<Tap, String> {
    Tap::open(TapSource::Name(name.into())).map_err(|e| e.to_string())
}

/// Opens a tap as somebody else would who then hands it over.
fn opened_elsewhere(name: &str, flags: i32, header: i32) -> OwnedFd {
    let file = OpenOptions::new().read(true).write(true).open("/dev/net/tun").unwrap();
    // SAFETY: a zeroed ifreq is valid; the ioctls read one ifreq and one int.
    unsafe {
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        assert_eq!(libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &request), 0);
        assert_eq!(libc::ioctl(file.as_raw_fd(), libc::TUNSETVNETHDRSZ, &header), 0);
    }
    file.into()
}

/// Sets an interface of this namespace up.
fn set_up(name: &str) {
    // SAFETY: a socket for ioctls, and ioctls on one ifreq.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
            *to = from as libc::c_char;
        }
        assert_eq!(libc::ioctl(socket, libc::SIOCGIFFLAGS, &mut request), 0);
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        assert_eq!(libc::ioctl(socket, libc::SIOCSIFFLAGS, &request), 0);
        libc::close(socket);
    }
}

const GOOD: i32 = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;

#[test]
fn a_tap_by_name_carries_frames_and_belongs_to_one() {
    in_namespace(|| {
        let tap = by_name("esc0").unwrap();
        assert_eq!(tap.name(), "esc0");
        let said = by_name("esc0").unwrap_err();
        assert!(said.contains("another process holds this tap"), "{said}");

        let down = tap.write(&[0; 60]).unwrap_err();
        assert_eq!(down.raw_os_error(), Some(libc::EIO), "an interface that is down says so");
        set_up("esc0");
        // An ARP request; what the kernel has to say of its own (IPv6 router solicitations) may come back.
        let mut frame = vec![0u8; 12];
        frame.extend([0xff; 6]);
        frame.extend([2, 0, 0, 0, 0, 1, 8, 6]);
        frame.extend([0; 28]);
        tap.write(&frame).unwrap();
        let mut buf = [0; 2048];
        loop {
            match tap.read(&mut buf) {
                Ok(n) => assert!(n > 26),
                Err(e) => break assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        }
    });
}

#[test]
fn an_inherited_tap_is_taken_as_it_is_or_refused_with_the_reason() {
    in_namespace(|| {
        let tap = Tap::open(TapSource::Inherited(opened_elsewhere("esc1", GOOD, 12))).unwrap();
        assert_eq!(tap.name(), "esc1");
        let empty = tap.read(&mut [0; 2048]).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock, "it was made non-blocking");
        for (flags, header, want) in [
            (GOOD, 10, "12-byte"),
            (libc::IFF_TAP | libc::IFF_NO_PI, 12, "12-byte"),
            (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR, 12, "is no tap"),
        ] {
            let fd = opened_elsewhere("esc2", flags, header);
            let opened = Tap::open(TapSource::Inherited(fd));
            let said = opened.map_err(|e| e.to_string()).expect_err(want);
            assert!(said.contains(want), "{said}");
        }
    });
}
