//! Buffers that are made once, given out and come back: the memory bound by construction.

use std::sync::{Arc, Condvar, Mutex, PoisonError};

struct State<T> {
    idle: Vec<T>,
    /// How many more may be made.
    unmade: usize,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    returned: Condvar,
    make: Box<dyn Fn() -> T + Send + Sync>,
}

/// At most `limit` values of one kind; [`Pool::get`] waits for one to come back when all are given out.
pub struct Pool<T>(Arc<Shared<T>>);

impl<T> Clone for Pool<T> {
    fn clone(&self) -> Self {
        Pool(Arc::clone(&self.0))
    }
}

/// A value of a pool; it goes back when it is dropped.
pub struct Pooled<T> {
    value: Option<T>,
    home: Arc<Shared<T>>,
}

impl<T> Pool<T> {
    /// A pool of at most `limit` values, made by `make` when first needed.
    pub fn new(limit: usize, make: impl Fn() -> T + Send + Sync + 'static) -> Self {
        let state = State { idle: Vec::new(), unmade: limit };
        Pool(Arc::new(Shared { state: Mutex::new(state), returned: Condvar::new(), make: Box::new(make) }))
    }

    /// Waits, on the calling thread, until a value is free.
    pub fn get(&self) -> Pooled<T> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let value = loop {
            if let Some(value) = state.idle.pop() {
                break Some(value);
            }
            if state.unmade > 0 {
                state.unmade -= 1;
                break None;
            }
            state = self.0.returned.wait(state).unwrap_or_else(PoisonError::into_inner);
        };
        drop(state);
        let value = value.unwrap_or_else(|| (self.0.make)());
        Pooled { value: Some(value), home: Arc::clone(&self.0) }
    }

    /// Allows `more` values: a stream that outgrew its bound goes on.
    pub fn grow(&self, more: usize) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).unmade += more;
        self.0.returned.notify_all();
    }
}

impl<T> std::ops::Deref for Pooled<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().unwrap_or_else(|| unreachable!("a pooled value is there until it is dropped"))
    }
}

impl<T> std::ops::DerefMut for Pooled<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().unwrap_or_else(|| unreachable!("a pooled value is there until it is dropped"))
    }
}

/// So that pooled buffers become `Bytes`.
impl AsRef<[u8]> for Pooled<Vec<u8>> {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl<T> Drop for Pooled<T> {
    fn drop(&mut self) {
        if let Some(value) = self.value.take() {
            self.home.state.lock().unwrap_or_else(PoisonError::into_inner).idle.push(value);
            self.home.returned.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_returned_buffer_is_given_again_and_never_more_than_the_limit() {
        let made = Arc::new(Mutex::new(0));
        let counter = Arc::clone(&made);
        let pool = Pool::new(2, move || *counter.lock().unwrap() += 1);
        let (first, second) = (pool.get(), pool.get());
        let waiting = std::thread::spawn({
            let pool = pool.clone();
            move || drop(pool.get())
        });
        drop(first);
        waiting.join().unwrap();
        drop(second);
        assert_eq!(*made.lock().unwrap(), 2);
    }

    #[test]
    fn growing_wakes_a_waiting_taker() {
        let pool = Pool::new(0, || ());
        let waiting = std::thread::spawn({
            let pool = pool.clone();
            move || drop(pool.get())
        });
        pool.grow(1);
        waiting.join().unwrap();
    }
}
