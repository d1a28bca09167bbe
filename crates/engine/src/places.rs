//! Places that workspaces share. A free one goes to the workspace that has the fewest, then to the one whose turn is longest ago: however
//! much one of them asks for, nobody else stands behind more than what is under way. Within a workspace it is the order of asking.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::WorkspaceId;
use tokio::sync::oneshot;

use crate::lock;

/// A number of places. Cheap to clone; clones give out the same ones.
#[derive(Clone)]
pub(crate) struct Places(Arc<Mutex<Desk>>);

struct Desk {
    free: usize,
    taken: HashMap<WorkspaceId, usize>,
    /// In the order of asking. Nobody waits while a place is free.
    waiting: Vec<(WorkspaceId, oneshot::Sender<Place>)>,
    /// Which of all places that were given each workspace had last.
    last: HashMap<WorkspaceId, u64>,
    given: u64,
}

/// The right to one place. Dropping it gives it back.
pub(crate) struct Place {
    places: Places,
    workspace: WorkspaceId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.give_back(self.workspace);
    }
}

impl Places {
    /// At least one.
    pub(crate) fn new(count: usize) -> Self {
        let (taken, last) = (HashMap::new(), HashMap::new());
        Self(Arc::new(Mutex::new(Desk { free: count.max(1), taken, waiting: vec![], last, given: 0 })))
    }

    /// A place, if one is free.
    pub(crate) fn free(&self, workspace: WorkspaceId) -> Option<Place> {
        let mut desk = lock(&self.0);
        if desk.free == 0 {
            return None;
        }
        desk.take(workspace);
        Some(self.place_of(workspace))
    }

    /// Waits for a place. Dropping the future takes it off the list.
    pub(crate) async fn place(&self, workspace: WorkspaceId) -> Place {
        let answer = {
            let mut desk = lock(&self.0);
            if desk.free > 0 {
                desk.take(workspace);
                return self.place_of(workspace);
            }
            let (asked, answer) = oneshot::channel();
            desk.waiting.push((workspace, asked));
            answer
        };
        match answer.await {
            Ok(place) => place,
            // Only who has gone is taken off the list without an answer.
            Err(_) => std::future::pending().await,
        }
    }

    fn place_of(&self, workspace: WorkspaceId) -> Place {
        Place { places: self.clone(), workspace }
    }

    fn give_back(&self, workspace: WorkspaceId) {
        let next = lock(&self.0).leave(workspace);
        if let Some((workspace, asked)) = next {
            // Who has gone meanwhile gives it back by not taking it, which is why nothing is locked here.
            drop(asked.send(self.place_of(workspace)));
        }
    }
}

impl Desk {
    fn take(&mut self, workspace: WorkspaceId) {
        self.free -= 1;
        self.given += 1;
        *self.taken.entry(workspace).or_default() += 1;
        self.last.insert(workspace, self.given);
    }

    /// Takes a place back, and for whoever is next.
    fn leave(&mut self, workspace: WorkspaceId) -> Option<(WorkspaceId, oneshot::Sender<Place>)> {
        self.free += 1;
        if let Some(taken) = self.taken.get_mut(&workspace) {
            *taken -= 1;
        }
        self.taken.retain(|_, taken| *taken > 0);
        self.waiting.retain(|(_, asked)| !asked.is_closed());
        let rank = |of: &WorkspaceId| (self.taken.get(of).copied().unwrap_or_default(), self.last.get(of).copied().unwrap_or_default());
        let next = (0..self.waiting.len()).min_by_key(|at| rank(&self.waiting[*at].0));
        let Some(next) = next else {
            // Nobody is kept from a turn by what was long ago.
            if self.taken.is_empty() {
                self.last.clear();
            }
            return None;
        };
        let next = self.waiting.remove(next);
        self.take(next.0);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;

    use futures::FutureExt as _;

    use super::*;

    type Asked = Pin<Box<dyn Future<Output = Place>>>;

    /// Somebody who is on the list.
    fn asks(places: &Places, workspace: WorkspaceId) -> Asked {
        let places = places.clone();
        let mut asked: Asked = Box::pin(async move { places.place(workspace).await });
        assert!((&mut asked).now_or_never().is_none(), "all places are taken");
        asked
    }

    fn has_it(asked: &mut Asked) -> Option<Place> {
        asked.now_or_never()
    }

    #[test]
    fn who_asks_for_much_keeps_nobody_waiting_for_more_than_what_is_under_way() {
        let (many, one, other) = (WorkspaceId::generate(), WorkspaceId::generate(), WorkspaceId::generate());
        let places = Places::new(2);
        let first = places.free(many).unwrap();
        let second = places.free(many).unwrap();
        assert!(places.free(one).is_none(), "while nobody else waits it has them all");
        let mut third = asks(&places, many);
        let mut fourth = asks(&places, many);
        let (mut of_one, mut of_other) = (asks(&places, one), asks(&places, other));
        drop(first);
        let one_has_it = has_it(&mut of_one).expect("the first of those who have none");
        assert!(has_it(&mut third).is_none() && has_it(&mut of_other).is_none());
        drop(second);
        let other_has_it = has_it(&mut of_other).expect("then the next of those");
        drop(one_has_it);
        let third_has_it = has_it(&mut third).expect("nobody else waits any more");
        assert!(has_it(&mut fourth).is_none(), "in the order of asking");
        drop((other_has_it, third_has_it));
        assert!(has_it(&mut fourth).is_some());
    }

    #[test]
    fn with_one_place_each_has_its_turn_and_who_has_gone_has_none() {
        let (one, other) = (WorkspaceId::generate(), WorkspaceId::generate());
        let places = Places::new(0);
        let mut held = places.free(one).unwrap();
        let gone = asks(&places, other);
        let mut of_one = [asks(&places, one), asks(&places, one)];
        let mut of_other = [asks(&places, other), asks(&places, other)];
        drop(gone);
        for (of_other, of_one) in of_other.iter_mut().zip(&mut of_one) {
            held = replaced(held, of_other);
            held = replaced(held, of_one);
        }
        drop(held);
        assert!(places.free(other).is_some());
    }

    /// The next one's place, after this one was given back.
    fn replaced(held: Place, next: &mut Asked) -> Place {
        drop(held);
        has_it(next).expect("its turn has come")
    }

    #[test]
    fn a_place_that_nobody_takes_any_more_goes_on_to_the_next() {
        let places = Places::new(1);
        let held = places.free(WorkspaceId::generate()).unwrap();
        let given = asks(&places, WorkspaceId::generate());
        let mut next = asks(&places, WorkspaceId::generate());
        drop(held);
        drop(given);
        assert!(has_it(&mut next).is_some());
    }
}
