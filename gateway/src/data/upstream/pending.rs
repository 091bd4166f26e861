//! Requests that wait for a place at an upstream whose endpoints have all that they may: first come, first served, over all
//! workers.
//!
//! Each worker has a queue of its own. Shared are how many wait, which bounds them, and the number of each worker's oldest:
//! whoever gives a place back calls the oldest of all, wherever it waits, and who comes later does not pass those who wait. Who
//! leaves the queue calls the next. A call that comes when its worker's queue has just emptied is lost; the sweeper makes up
//! for that. Nothing here is touched as long as there are places.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst, fence};
use std::task::{Poll, Waker};

use atomic_waker::AtomicWaker;

/// The number of nobody.
const NOBODY: u64 = u64::MAX;

/// Those who wait for one upstream, shared by all workers.
///
/// All orderings are SeqCst: who waits says so and then looks for a place, who leaves gives the place back and then looks whether
/// somebody waits, and one of the two must see the other.
#[derive(Debug)]
pub(super) struct Pending {
    most: u32,
    waiting: AtomicU32,
    numbers: AtomicU64,
    workers: Box<[Desk]>,
}

/// What others know of one worker's queue.
#[derive(Debug)]
#[repr(align(128))]
struct Desk {
    /// Number of its oldest.
    oldest: AtomicU64,
    /// There may be a place for it.
    called: AtomicBool,
    waker: AtomicWaker,
}

impl Pending {
    /// For so many at once, on so many workers.
    pub(super) fn new(most: u32, workers: usize) -> Self {
        let desk = || Desk {
            oldest: AtomicU64::new(NOBODY),
            called: AtomicBool::new(false),
            waker: AtomicWaker::new(),
        };
        Self {
            most,
            waiting: AtomicU32::new(0),
            numbers: AtomicU64::new(0),
            workers: std::iter::repeat_with(desk).take(workers.max(1)).collect(),
        }
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// The oldest of all waits on another worker than this.
    pub(super) fn oldest_is_elsewhere(&self, worker: usize) -> bool {
        self.oldest().is_some_and(|oldest| oldest != worker)
    }

    fn oldest(&self) -> Option<usize> {
        let numbers = self.workers.iter().map(|desk| desk.oldest.load(SeqCst));
        let (number, worker) = numbers.enumerate().map(|(at, number)| (number, at)).min()?;
        (number != NOBODY).then_some(worker)
    }

    /// A place was given back.
    #[inline]
    pub(super) fn place_is_free(&self) {
        // Between the place and the look.
        fence(SeqCst);
        if self.waiting() > 0 {
            self.call();
        }
    }

    #[cold]
    fn call(&self) {
        if let Some(worker) = self.oldest() {
            self.call_at(worker);
        }
    }

    fn call_at(&self, worker: usize) {
        let desk = &self.workers[worker];
        desk.called.store(true, SeqCst);
        desk.waker.wake();
    }
}

/// One worker's queue.
#[derive(Debug)]
pub(super) struct Queue {
    worker: usize,
    waiters: RefCell<VecDeque<Rc<Waiter>>>,
}

#[derive(Debug)]
struct Waiter {
    number: u64,
    waker: RefCell<Option<Waker>>,
}

impl Queue {
    pub(super) const fn new(worker: usize) -> Self {
        Self {
            worker,
            waiters: RefCell::new(VecDeque::new()),
        }
    }

    /// Joins the queue; `None`: it is full.
    pub(super) fn join<'a>(&'a self, pending: &'a Pending) -> Option<Waiting<'a>> {
        let one_more = |waiting| (waiting < pending.most).then_some(waiting + 1);
        pending
            .waiting
            .fetch_update(SeqCst, SeqCst, one_more)
            .ok()?;
        let waiter = Rc::new(Waiter {
            number: pending.numbers.fetch_add(1, SeqCst),
            waker: RefCell::new(None),
        });
        self.waiters.borrow_mut().push_back(Rc::clone(&waiter));
        self.publish(pending);
        Some(Waiting {
            pending,
            queue: self,
            waiter,
            looked: Cell::new(false),
        })
    }

    /// Lets the oldest look for a place once more, should its call have been lost.
    pub(super) fn look_again(&self, pending: &Pending) {
        if !self.waiters.borrow().is_empty() {
            pending.call_at(self.worker);
        }
    }

    fn publish(&self, pending: &Pending) {
        let waiters = self.waiters.borrow();
        let oldest = waiters.front().map_or(NOBODY, |waiter| waiter.number);
        pending.workers[self.worker].oldest.store(oldest, SeqCst);
    }

    fn is_first(&self, waiter: &Rc<Waiter>) -> bool {
        let waiters = self.waiters.borrow();
        waiters
            .front()
            .is_some_and(|first| Rc::ptr_eq(first, waiter))
    }
}

/// A request's place in the queue of those who wait; dropping it leaves the queue.
#[derive(Debug)]
pub struct Waiting<'a> {
    pending: &'a Pending,
    queue: &'a Queue,
    waiter: Rc<Waiter>,
    /// It has looked for a place since it became the first of its worker.
    looked: Cell<bool>,
}

impl Waiting<'_> {
    /// Waits until the request is the first of its worker and there may be a place for it. It need not get it; then it waits on.
    pub async fn called(&self) {
        let desk = &self.pending.workers[self.queue.worker];
        poll_fn(|cx| {
            self.waiter.waker.replace(Some(cx.waker().clone()));
            if !self.queue.is_first(&self.waiter) {
                return Poll::Pending;
            }
            desk.waker.register(cx.waker());
            // Who becomes the oldest of all has missed the calls before.
            let looks =
                !self.looked.replace(true) && !self.pending.oldest_is_elsewhere(self.queue.worker);
            if desk.called.swap(false, SeqCst) || looks {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let was_first = self.queue.is_first(&self.waiter);
        let mut waiters = self.queue.waiters.borrow_mut();
        waiters.retain(|other| !Rc::ptr_eq(other, &self.waiter));
        let next = waiters.front().map(Rc::clone);
        drop(waiters);
        self.queue.publish(self.pending);
        self.pending.waiting.fetch_sub(1, SeqCst);
        // Its call is now for the next of its worker, who may not have said yet how to wake it.
        if let Some(next) = next.filter(|_| was_first)
            && let Some(waker) = next.waker.take()
        {
            waker.wake();
        }
        // There may be another place, or this one was called and left without: the oldest looks.
        if self.pending.waiting() > 0 {
            self.pending.call();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Context, Wake};

    use super::*;

    /// Counts how often it was woken.
    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    /// Polls once; true: called.
    fn poll(waiting: &Waiting<'_>, woken: &Arc<Woken>) -> bool {
        let waker = Waker::from(Arc::clone(woken));
        let mut called = std::pin::pin!(waiting.called());
        called
            .as_mut()
            .poll(&mut Context::from_waker(&waker))
            .is_ready()
    }

    #[test]
    fn no_more_wait_than_may() {
        let pending = Pending::new(2, 2);
        let queues = [Queue::new(0), Queue::new(1)];
        let one = queues[0].join(&pending).unwrap();
        let two = queues[1].join(&pending).unwrap();
        assert!(
            queues[0].join(&pending).is_none(),
            "of all workers together"
        );
        drop(one);
        assert!(queues[1].join(&pending).is_some());
        drop(two);
        assert_eq!(pending.waiting(), 0);
    }

    #[test]
    fn the_oldest_of_all_workers_is_called() {
        let pending = Pending::new(9, 2);
        let queues = [Queue::new(0), Queue::new(1)];
        let woken: [Arc<Woken>; 3] = Default::default();
        let first = queues[1].join(&pending).unwrap();
        let second = queues[0].join(&pending).unwrap();
        let third = queues[1].join(&pending).unwrap();
        assert!(poll(&first, &woken[0]), "the oldest looks once");
        for (waiting, woken) in [&first, &second, &third].into_iter().zip(&woken) {
            assert!(!poll(waiting, woken));
        }
        pending.place_is_free();
        assert!(!poll(&second, &woken[1]) && !poll(&third, &woken[2]));
        assert!(poll(&first, &woken[0]));
        drop(first);
        assert!(!poll(&third, &woken[2]), "by age, not by worker");
        assert!(poll(&second, &woken[1]), "there may be another place");
        assert!(!poll(&second, &woken[1]));
        drop(second);
        assert!(poll(&third, &woken[2]));
    }

    #[test]
    fn a_call_for_one_who_leaves_is_passed_on() {
        let pending = Pending::new(9, 2);
        let queues = [Queue::new(0), Queue::new(1)];
        let woken: [Arc<Woken>; 2] = Default::default();
        let first = queues[0].join(&pending).unwrap();
        let second = queues[1].join(&pending).unwrap();
        assert!(poll(&first, &woken[0]) && !poll(&second, &woken[1]));
        pending.place_is_free();
        drop(first);
        assert!(
            poll(&second, &woken[1]),
            "its time was over before it heard"
        );
    }
}
