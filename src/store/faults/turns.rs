//! Several that use one store take turns, request by request, as numbers say that look random. On a runtime of one thread, a
//! request to a store in memory is over before anybody else gets a turn.

use std::sync::Mutex;

use tokio::sync::Notify;

use crate::archive::testing::Random;

/// Whose turn it is.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    random: Random,
    /// Who still takes part.
    there: Vec<usize>,
    next: usize,
    /// How many turns the next one has in a row.
    left: usize,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {:?}", self.next, self.there)
    }
}

impl State {
    fn choose(&mut self) {
        if !self.there.is_empty() {
            self.next = self.random.choose(&self.there.clone());
            // Now and then one goes far before the others go on.
            self.left = 1 + if self.random.one_in(4) { self.random.below(50) } else { 0 };
        }
    }
}

impl Turns {
    /// So many take turns.
    pub(crate) fn new(seed: u64, count: usize) -> Turns {
        let there = (0..count).collect();
        let mut state = State { random: Random::new(seed), there, next: 0, left: 0 };
        state.choose();
        Turns { state: Mutex::new(state), changed: Notify::new() }
    }

    /// Waits for a turn of one of them, and takes it.
    async fn take(&self, who: usize) {
        loop {
            let changed = self.changed.notified();
            {
                let mut state = self.state.lock().unwrap();
                if state.next == who || !state.there.contains(&who) {
                    state.left = state.left.saturating_sub(1);
                    if state.left == 0 {
                        state.choose();
                    }
                    self.changed.notify_waiters();
                    return;
                }
            }
            changed.await;
        }
    }

    /// One of them takes part no more: it is done, or was killed.
    pub(crate) fn leave(&self, who: usize) {
        let mut state = self.state.lock().unwrap();
        state.there.retain(|other| *other != who);
        state.choose();
        self.changed.notify_waiters();
    }
}

impl super::Faults {
    /// Waits until it is this one's turn, where several take turns.
    pub(super) async fn turn(&self) {
        if let Some((turns, who)) = &self.turns {
            turns.take(*who).await;
        }
    }
}
