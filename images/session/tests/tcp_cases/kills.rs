//! A scenario with a death at each turn of its guest.

use crate::support::World;
use crate::support::http::Reply;
use crate::support::world::{Kill, Survives};
use std::fmt::Debug;

/// Says what was going on when a test fails.
pub struct On<T: Debug>(pub T);

impl<T: Debug> Drop for On<T> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("on {:?}", self.0);
        }
    }
}

/// Runs the scenario undisturbed; then once for each turn, each kind of death in it, and with and without the mirror's replay. The scenario
/// drives its world to an end and checks it. Returns the number of deaths.
pub fn at_every_turn(make: impl Fn() -> World, scenario: impl Fn(&mut World)) -> u32 {
    each_kill(&make, &scenario, &[None])
}

/// The same, and the next owner dies before it is answered.
pub fn twice_at_every_turn(make: impl Fn() -> World, scenario: impl Fn(&mut World)) -> u32 {
    each_kill(&make, &scenario, &Survives::ALL.map(Some))
}

fn each_kill(make: &impl Fn() -> World, scenario: &impl Fn(&mut World), again: &[Option<Survives>]) -> u32 {
    let mut world = make();
    scenario(&mut world);
    let (turns, mut deaths) = (world.turns, 0);
    for turn in 0..turns {
        for survives in Survives::ALL {
            for (again, mirror_loss) in again.iter().flat_map(|a| [(*a, 0), (*a, 100)]) {
                let mut world = make();
                world.mirror_loss_percent = mirror_loss;
                let kill = Kill { turn, survives, again };
                let _on = On((kill, mirror_loss));
                world.plan = Some(kill);
                scenario(&mut world);
                assert!(world.failovers > 0, "the plan was not carried out");
                deaths += world.failovers;
            }
        }
    }
    println!("{turns} turns, {deaths} deaths");
    assert!(deaths > 0);
    deaths
}

/// All clients have done what they wanted, and no slice is left.
pub fn run_to_the_end(world: &mut World, limit: i64) {
    world.run_until(limit, |w| w.clients.iter().all(|c| c.app.done()) && w.images.is_empty());
    assert_eq!(world.guest.server.sessions(), 0);
}

/// The whole replies at the front of a client's incoming bytes.
pub fn replies(world: &mut World, client: usize) -> Vec<Reply> {
    let incoming = &mut world.clients[client].incoming;
    std::iter::from_fn(|| Reply::take(incoming, false)).collect()
}

/// A request that counts.
pub const COUNT: &[u8] = b"POST /counter HTTP/1.1\r\nHost: x\r\n\r\n";

/// The same, on a connection that the server then closes.
pub const COUNT_AND_CLOSE: &[u8] = b"POST /counter HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/// What so many [`COUNT`]s are answered with.
pub fn assert_counts(replies: &[Reply], from: u64) {
    for (reply, n) in replies.iter().zip(from..) {
        assert_eq!((reply.status, reply.requests), (200, n), "{}", reply.head);
        assert_eq!(reply.body, format!("{n}\n").into_bytes());
    }
}
