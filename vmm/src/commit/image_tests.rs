//! Tests of images: delta round trips, refusals that leave no trace, full copies, plug.

#![allow(clippy::unwrap_used)]

use super::super::connections::Connections;
use super::super::delta::BODY_LEN_MAX;
use super::super::live_set::LiveSet;
use super::super::test_frames::flow;
use super::super::test_memory::TestMemory;
use super::*;
use escape_abi::layout::SLOT_SIZE;
use escape_abi::meta::LiveRange;
use proptest::prelude::*;

const SLICE: SliceId = SliceId { slot: 1, incarnation: 7 };
/// Bytes at the slot's start that these tests use.
const USED: usize = 4096;

fn state(generation: u64, live: &[(u32, u32)]) -> Published {
    let ranges: Vec<LiveRange> = live.iter().map(|(offset, len)| LiveRange { offset: *offset, len: *len }).collect();
    let live = LiveSet::new(&ranges).unwrap();
    Published {
        incarnation: 7,
        generation,
        connections: Connections::one(flow(1), 100, 200),
        requests: generation,
        flags: 0,
        live,
    }
}

fn store(role: Role) -> ImageStore {
    let mut store = ImageStore::new(2).unwrap();
    store.create(SLICE, flow(1), role).unwrap();
    store
}

/// A slot as capture leaves it in staging: live bytes as given, other bytes of live lines zero, garbage elsewhere.
fn staging(state: &Published, content: &[u8]) -> Vec<u8> {
    let mut staging = vec![0xee; SLOT_SIZE];
    for span in state.live.spans() {
        staging[span.start * LINE..span.end * LINE].fill(0);
    }
    for range in state.live.byte_ranges() {
        staging[range.clone()].copy_from_slice(&content[range]);
    }
    staging
}

fn send(owner: &mut ImageStore, state: &Published, content: &[u8], body: &mut Vec<u8>) -> Encoded {
    owner.encode(SLICE, state.clone(), &staging(state, content), body).unwrap()
}

/// Everything of an image that an error must not change.
fn snapshot(store: &ImageStore) -> (String, Vec<u8>) {
    (format!("{:?}", store.get(SLICE)), store.bytes(SLICE).unwrap()[..2 * USED].to_vec())
}

fn assert_live_equal(standby: &ImageStore, state: &Published, content: &[u8]) {
    let bytes = standby.bytes(SLICE).unwrap();
    for range in state.live.byte_ranges() {
        assert_eq!(&bytes[range.clone()], &content[range]);
    }
}

#[test]
fn only_changed_lines_travel() {
    let (mut owner, mut standby) = (store(Role::Shadow), store(Role::Standby));
    let mut content = vec![1; USED];
    let mut body = Vec::with_capacity(BODY_LEN_MAX);
    let first = send(&mut owner, &state(1, &[(0, 1000)]), &content, &mut body);
    assert_eq!((first.full, first.lines, first.checkpoint.number, first.checkpoint.base), (true, 16, 1, 0));
    standby.apply(SLICE, &first.checkpoint, &body).unwrap();
    content[130] = 2;
    content[999] = 3;
    content[1001] = 4;
    let second = send(&mut owner, &state(2, &[(0, 1000)]), &content, &mut body);
    assert_eq!((second.full, second.lines, second.checkpoint.base), (false, 2, 1));
    assert!(!body.contains(&4), "a byte outside the live ranges travels");
    let applied = standby.apply(SLICE, &second.checkpoint, &body).unwrap();
    assert_eq!((applied.generation, applied.hash), (2, second.checkpoint.hash));
    assert_live_equal(&standby, &state(2, &[(0, 1000)]), &content);
    // Lines that rest dead and come back unchanged need not travel again; new ones do.
    send(&mut owner, &state(3, &[(0, 64)]), &content, &mut body);
    let back = send(&mut owner, &state(4, &[(0, 1000), (2048, 64)]), &content, &mut body);
    assert_eq!(back.lines, 1);
}

#[test]
fn a_gap_is_told_and_a_full_copy_heals_it() {
    let (mut owner, mut standby) = (store(Role::Shadow), store(Role::Standby));
    let mut third = ImageStore::new(2).unwrap();
    third.create(SLICE, flow(1), Role::Standby).unwrap();
    let (mut content, mut body) = (vec![1; USED], Vec::new());
    let live = [(0, 500), (700, 90)];
    let first = send(&mut owner, &state(1, &live), &content, &mut body);
    standby.apply(SLICE, &first.checkpoint, &body).unwrap();
    content[0] = 2;
    send(&mut owner, &state(2, &live), &content, &mut body);
    content[0] = 3;
    let lost_one = send(&mut owner, &state(3, &live), &content, &mut body);
    let before = snapshot(&standby);
    assert!(matches!(
        standby.apply(SLICE, &lost_one.checkpoint, &body),
        Err(ApplyError::Gap { number: 3, base: 2, have: 1, .. })
    ));
    assert_eq!(snapshot(&standby), before);
    // The full copy suits the one that missed something and one that has nothing; the next delta suits both.
    let full = owner.encode_full(SLICE, &mut body).unwrap();
    assert_eq!((full.full, full.checkpoint.number), (true, 3));
    standby.apply(SLICE, &full.checkpoint, &body).unwrap();
    third.apply(SLICE, &full.checkpoint, &body).unwrap();
    content[710] = 9;
    let delta = send(&mut owner, &state(4, &live), &content, &mut body);
    assert_eq!((delta.full, delta.lines), (false, 1));
    for copy in [&mut standby, &mut third] {
        assert_eq!(copy.apply(SLICE, &delta.checkpoint, &body).unwrap().generation, 4);
        assert_live_equal(copy, &state(4, &live), &content);
        assert_eq!(copy.get(SLICE).unwrap().chain, owner.get(SLICE).unwrap().chain);
        assert!(matches!(copy.apply(SLICE, &delta.checkpoint, &body), Err(ApplyError::Stale { .. })));
    }
    // A standby that has followed all along keeps its chain over the full copy that another one got.
    owner.forget_known(SLICE).unwrap();
    let full = send(&mut owner, &state(5, &live), &content, &mut body);
    assert!(full.full);
    standby.apply(SLICE, &full.checkpoint, &body).unwrap();
    content[1] = 1;
    let delta = send(&mut owner, &state(6, &live), &content, &mut body);
    standby.apply(SLICE, &delta.checkpoint, &body).unwrap();
}

#[test]
fn contradictions_leave_no_trace() {
    let (mut owner, mut standby) = (store(Role::Shadow), store(Role::Standby));
    let (content, mut body) = (vec![1; USED], Vec::new());
    let first = send(&mut owner, &state(5, &[(0, 500)]), &content, &mut body);
    standby.apply(SLICE, &first.checkpoint, &body).unwrap();
    let before = snapshot(&standby);
    let mut try_body = |state: &Published, base: u64, chain: Option<ChainHash>, line: usize| {
        let mut body = Vec::new();
        BodyWriter::new(&mut body, state, chain.as_ref()).run(line, &[9; LINE]);
        let link = if base == 0 { CHAIN_START } else { standby.get(SLICE).unwrap().chain };
        let checkpoint = Checkpoint { number: 2, base, hash: next_link(&link, &body) };
        let refused = standby.apply(SLICE, &checkpoint, &body).unwrap_err();
        assert_eq!(snapshot(&standby), before, "{refused}");
        refused
    };
    let contradiction = |e: ApplyError| matches!(e, ApplyError::Contradiction { .. });
    assert!(contradiction(try_body(&state(4, &[(0, 500)]), 1, None, 0)), "generation goes back");
    assert!(contradiction(try_body(&Published { incarnation: 8, ..state(6, &[(0, 500)]) }, 1, None, 0)));
    assert!(contradiction(try_body(&state(6, &[(0, 500), (4000, 96)]), 1, None, 0)), "line 63 was never sent");
    assert!(contradiction(try_body(&state(6, &[(0, 64)]), 1, Some([0; 32]), 0)), "a full copy with a base");
    assert!(contradiction(try_body(&state(6, &[(0, 500)]), 0, None, 0)), "a delta without a base");
    let other = SliceId { incarnation: 6, ..SLICE };
    assert_eq!(standby.apply(other, &first.checkpoint, &body), Err(ApplyError::Unknown { slice: other }));
    let beyond = SliceId { slot: 2, ..SLICE };
    assert!(standby.apply(beyond, &first.checkpoint, &body).is_err());
    assert!(owner.apply(SLICE, &first.checkpoint, &body).is_err(), "a shadow takes no checkpoints");
}

/// Every single-byte corruption of a recorded delta. By an accident: the hash refuses it. By a hostile peer that makes
/// the hash match: it is refused without a trace, or it is a well-formed body of this slot.
#[test]
fn every_corrupted_byte_is_refused_or_harmless() {
    let (mut owner, mut base) = (store(Role::Shadow), store(Role::Standby));
    let (mut content, mut body) = (vec![1; USED], Vec::new());
    let live = [(0, 200), (1000, 70)];
    let first = send(&mut owner, &state(1, &live), &content, &mut body);
    base.apply(SLICE, &first.checkpoint, &body).unwrap();
    (content[3], content[1010]) = (2, 2);
    let delta = send(&mut owner, &state(2, &live), &content, &mut body);
    let (before, chain) = (snapshot(&base), base.get(SLICE).unwrap().chain);
    let image = base.get(SLICE).unwrap().clone();
    for at in 0..body.len() {
        for flip in 1..=255u8 {
            let mut bad = body.clone();
            bad[at] ^= flip;
            if flip.count_ones() == 1 {
                assert!(matches!(base.apply(SLICE, &delta.checkpoint, &bad), Err(ApplyError::Hash { .. })));
            }
            let forged = Checkpoint { hash: next_link(&chain, &bad), ..delta.checkpoint };
            match base.apply(SLICE, &forged, &bad) {
                Err(_) if flip.count_ones() == 1 => assert_eq!(snapshot(&base), before, "byte {at} flip {flip:#x}"),
                Err(_) => {}
                Ok(_) => {
                    // Undo by hand: the next corruption shall meet the same image.
                    base.images[1] = Some(Box::new(image.clone()));
                    base.mapping.slot_mut(1).unwrap()[..2 * USED].copy_from_slice(&before.1);
                }
            }
        }
    }
    base.apply(SLICE, &delta.checkpoint, &body).unwrap();
}

#[test]
fn plug_writes_the_live_bytes_and_nothing_else() {
    let (mut owner, mut standby) = (store(Role::Shadow), store(Role::Standby));
    let content: Vec<u8> = (0..USED).map(|n| n as u8 | 1).collect();
    let live = state(9, &[(3, 130), (1000, 1)]);
    let mut body = Vec::new();
    let first = send(&mut owner, &live, &content, &mut body);
    let applied = standby.apply(SLICE, &first.checkpoint, &body).unwrap();
    let memory = TestMemory::new(2);
    applied.new_pages.prefault(1, &memory);
    assert_eq!(memory.prefaulted.load(std::sync::atomic::Ordering::Relaxed), 4096);
    memory.write(1, 0, &[0x55; USED]);
    assert_eq!(standby.install(SLICE, &memory).unwrap(), Installed { bytes: 131, generation: 9 });
    let mut arena = vec![0; USED];
    memory.read(1, 0, &mut arena);
    for (n, byte) in arena.iter().enumerate() {
        let is_live = (3..133).contains(&n) || n == 1000;
        assert_eq!(*byte, if is_live { content[n] } else { 0x55 }, "byte {n}");
    }
    assert_eq!(memory.word(1), Some(SlotWord::new(9, 0)));
    // The image is the new owner's shadow now: its first capture is a delta that continues numbers and chain.
    assert_eq!(standby.get(SLICE).unwrap().role, Role::Shadow);
    let mut changed = content.clone();
    changed[100] ^= 0xff;
    let next = send(&mut standby, &state(10, &[(3, 130), (1000, 1)]), &changed, &mut body);
    assert_eq!((next.full, next.lines, next.checkpoint.number, next.checkpoint.base), (false, 1, 2, 1));
    assert!(matches!(standby.apply(SLICE, &first.checkpoint, &body), Err(ApplyError::Unknown { .. })));
    let small = TestMemory::new(1);
    assert!(matches!(standby.install(SLICE, &small), Err(ImageError::NotMapped { .. })));
}

#[test]
fn a_freed_slot_shows_nothing_of_its_past() {
    let mut owner = store(Role::Shadow);
    let mut body = Vec::new();
    send(&mut owner, &state(1, &[(0, 4096)]), &[7; USED], &mut body);
    let next = SliceId { incarnation: 8, ..SLICE };
    assert!(matches!(owner.create(next, flow(1), Role::Shadow), Err(ImageError::Occupied { .. })));
    assert!(!owner.free(next) && owner.free(SLICE) && !owner.free(SLICE));
    owner.create(next, flow(1), Role::Shadow).unwrap();
    assert!(owner.bytes(next).unwrap().iter().all(|b| *b == 0));
    assert!(matches!(owner.encode_full(next, &mut body), Err(ImageError::Empty { .. })));
    assert!(matches!(owner.forget_known(SLICE), Err(ImageError::Missing { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Any history of contents and live ranges: the standby's live bytes are the owner's after every checkpoint, bodies keep
    /// the size promise, and a late standby that starts from a full copy agrees from then on.
    #[test]
    fn the_standby_always_has_the_owners_live_bytes(
        history in proptest::collection::vec(
            (proptest::collection::vec((0u32..3000, 1u32..900), 0..9), proptest::collection::vec((0usize..USED, any::<u8>()), 0..20)),
            1..12,
        ),
        full_at in 0usize..12,
    ) {
        let (mut owner, mut standby, mut late) = (store(Role::Shadow), store(Role::Standby), None::<ImageStore>);
        let (mut content, mut body) = (vec![0u8; USED], Vec::new());
        for (n, (live, writes)) in history.into_iter().enumerate() {
            for (at, value) in writes {
                content[at] = value;
            }
            let live = &live[..live.len().min(8)];
            let state = state(n as u64 + 1, live);
            let encoded = send(&mut owner, &state, &content, &mut body);
            let chain_len = if encoded.full { 32 } else { 0 };
            prop_assert!(body.len() <= 80 * encoded.lines + 128 + chain_len);
            for copy in [Some(&mut standby), late.as_mut()].into_iter().flatten() {
                copy.apply(SLICE, &encoded.checkpoint, &body).unwrap();
                assert_live_equal(copy, &state, &content);
            }
            if n == full_at {
                let encoded = owner.encode_full(SLICE, &mut body).unwrap();
                let mut copy = store(Role::Standby);
                copy.apply(SLICE, &encoded.checkpoint, &body).unwrap();
                standby.apply(SLICE, &encoded.checkpoint, &body).unwrap();
                assert_live_equal(&copy, &state, &content);
                late = Some(copy);
            }
        }
    }
}

/// A slice that moves: the former owner's shadow is the standby's image from then on, and the new owner's deltas suit it.
#[test]
fn a_shadow_that_is_handed_over_follows_the_new_owner() {
    let (mut one, mut other) = (store(Role::Shadow), store(Role::Standby));
    let (mut content, mut body) = (vec![1; USED], Vec::new());
    let live = [(0, 500), (700, 90)];
    assert!(!one.hand_over(SLICE), "nothing was captured yet");
    for generation in 1..=2 {
        content[10] = generation as u8;
        let sent = send(&mut one, &state(generation, &live), &content, &mut body);
        other.apply(SLICE, &sent.checkpoint, &body).unwrap();
    }
    let memory = TestMemory::new(2);
    other.install(SLICE, &memory).unwrap();
    assert!(one.hand_over(SLICE));
    assert!(!one.hand_over(SLICE), "it is no shadow any more");
    content[20] = 7;
    let live = [(0, 500), (700, 90), (2048, 64)];
    let sent = send(&mut other, &state(3, &live), &content, &mut body);
    assert_eq!((sent.full, sent.lines), (false, 2), "the line that changed and the one that is new");
    one.apply(SLICE, &sent.checkpoint, &body).unwrap();
    assert_live_equal(&one, &state(3, &live), &content);
    assert_eq!(one.get(SLICE).unwrap().chain, other.get(SLICE).unwrap().chain);
}
