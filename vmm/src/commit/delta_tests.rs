//! Tests of the body's encoding.

#![allow(clippy::unwrap_used)]

use super::super::test_frames::flow;
use super::*;
use proptest::prelude::*;

fn state(live: &[(u32, u32)]) -> Published {
    let ranges: Vec<LiveRange> = live.iter().map(|(offset, len)| LiveRange { offset: *offset, len: *len }).collect();
    Published {
        incarnation: 3 << 32 | 1,
        generation: 77,
        connections: Connections::one(flow(1), 0xffff_fff0, 12),
        requests: 9,
        flags: 1,
        live: LiveSet::new(&ranges).unwrap(),
    }
}

#[test]
fn a_body_says_what_was_written() {
    let state = state(&[(0, 256), (4096, 100)]);
    for chain in [None, Some([7; 32])] {
        let mut out = Vec::new();
        let mut writer = BodyWriter::new(&mut out, &state, chain.as_ref());
        writer.run(0, &[1; 256]);
        writer.run(64, &[2; 128]);
        assert_eq!(writer.lines(), 6);
        let body = Body::parse(&out).unwrap();
        assert_eq!((&body.state, body.resume_chain), (&state, chain));
        assert_eq!(body.runs().collect::<Vec<_>>(), [(0..4, &[1u8; 256][..]), (64..66, &[2u8; 128][..])]);
    }
}

#[test]
fn connections_of_a_body_read_back_and_lies_about_them_are_refused() {
    let mut state = state(&[(0, 64)]);
    state.connections.set(3, Connection { flow: flow(9), serial: 3, rcv_nxt: 7, snd_nxt: 8, ended: true });
    let mut out = Vec::new();
    BodyWriter::new(&mut out, &state, None);
    assert_eq!(Body::parse(&out).unwrap().state, state);
    let bad = Err(BodyError::Field { field: "connections" });
    for (places, ended) in [(0b1_1001, 0), (0b1001, 0b10)] {
        let mut lie = out.clone();
        (lie[2], lie[3]) = (places, ended);
        assert_eq!(Body::parse(&lie), bad);
    }
    let mut twice = out.clone();
    twice.copy_within(32..40, 50);
    assert_eq!(Body::parse(&twice), bad);
}

#[test]
fn misplaced_runs_are_refused() {
    let state = state(&[(0, 256), (4096, 100)]);
    for runs in
        [&[(4, 1)][..], &[(3, 2)], &[(1, 1), (0, 1)], &[(0, 2), (1, 1)], &[(0, 0)], &[(4095, 2)], &[(65_000, 1)]]
    {
        let mut out = Vec::new();
        let mut writer = BodyWriter::new(&mut out, &state, None);
        runs.iter().for_each(|(first, lines)| writer.run(*first, &vec![0; lines * LINE]));
        assert!(matches!(Body::parse(&out), Err(BodyError::Run { .. })), "{runs:?}");
    }
    let mut out = Vec::new();
    BodyWriter::new(&mut out, &state, Some(&[0; 32])).run(0, &[0; 256]);
    assert_eq!(Body::parse(&out), Err(BodyError::Incomplete { lines: 4, live: 6 }));
}

#[test]
fn every_truncation_but_at_a_run_is_refused() {
    let mut out = Vec::new();
    let mut writer = BodyWriter::new(&mut out, &state(&[(0, 256)]), None);
    writer.run(0, &[1; 64]);
    writer.run(2, &[1; 64]);
    let head = out.len() - 2 * 68;
    for len in 0..out.len() {
        let parsed = Body::parse(&out[..len]);
        assert_eq!(parsed.is_ok(), len == head || len == head + 68, "{len}");
    }
    out.resize(BODY_LEN_MAX + 1, 0);
    assert!(matches!(Body::parse(&out), Err(BodyError::Length { .. })));
}

#[test]
fn the_largest_body_fits_and_framing_stays_small() {
    let state = state(&[(0, SLOT_SIZE as u32)]);
    let mut out = Vec::new();
    let mut writer = BodyWriter::new(&mut out, &state, Some(&[0; 32]));
    (0..SLOT_LINES).for_each(|line| writer.run(line, &[0; 64]));
    assert!(out.len() <= BODY_LEN_MAX);
    assert!(Body::parse(&out).is_ok());
    // 8 live ranges and every line a run of its own: the promise of the module's head.
    let eight: Vec<(u32, u32)> = (0..8).map(|n| (n * 4096, 4096)).collect();
    let mut out = Vec::new();
    let mut writer = BodyWriter::new(&mut out, &self::state(&eight), None);
    (0..8).for_each(|n| writer.run(n * 2, &[0; 64]));
    assert!(out.len() as f64 <= 1.25 * 64.0 * 8.0 + 128.0);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = Body::parse(&bytes);
    }

    #[test]
    fn mutated_bodies_stay_inside_the_slot(changes in proptest::collection::vec((0usize..300, any::<u8>()), 1..4)) {
        let mut out = Vec::new();
        let mut writer = BodyWriter::new(&mut out, &state(&[(0, 256), (4096, 100)]), None);
        writer.run(0, &[1; 128]);
        writer.run(64, &[1; 64]);
        for (at, value) in changes {
            if let Some(byte) = out.get_mut(at) {
                *byte = value;
            }
        }
        if let Ok(body) = Body::parse(&out) {
            for (lines, bytes) in body.runs() {
                prop_assert!(lines.end <= SLOT_LINES && bytes.len() == lines.len() * LINE);
                prop_assert!(body.state.live.contains_lines(&lines));
            }
        }
    }
}
