//! The threads of a journal on leashes: each goes only as far as it is let, and nobody else moves meanwhile. So what
//! happens, and in which order, is decided by a seed alone.
//!
//! A thread on a leash stops before each operation of the disk, in the middle of longer writes, and before and after
//! it asks whether it is the master.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;

use parking_lot::{Condvar, Mutex};

use super::super::super::suite::DEADLINE;

/// What a thread is to the others.
#[derive(Clone, Default)]
enum Role {
    /// It goes as it likes.
    #[default]
    Free,
    Led(Arc<Leash>),
    /// It lets others go between any two of its own steps.
    Leads(Rc<dyn Fn()>),
}

thread_local! {
    static ROLE: RefCell<Role> = RefCell::default();
}

/// The next step begins; fails if the thread is to end.
pub(super) fn step() -> io::Result<()> {
    match ROLE.with_borrow(Clone::clone) {
        Role::Free => Ok(()),
        Role::Led(leash) => leash.step(),
        Role::Leads(meanwhile) => {
            meanwhile();
            Ok(())
        }
    }
}

/// True if others may go while this thread is about something longer.
pub(super) fn is_shared() -> bool {
    ROLE.with_borrow(|role| !matches!(role, Role::Free))
}

/// Does this work, and calls `others` before each of its steps.
pub(super) fn while_others<T>(others: impl Fn() + 'static, work: impl FnOnce() -> T) -> T {
    ROLE.set(Role::Leads(Rc::new(others)));
    let done = work();
    ROLE.set(Role::Free);
    done
}

#[derive(Default)]
struct Leash {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// How many more steps it may go.
    steps: u32,
    /// It is before a step that it may not go.
    waits: bool,
    /// It is to end.
    cut: bool,
    ended: bool,
}

impl Leash {
    fn step(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        while state.steps == 0 && !state.cut {
            state.waits = true;
            self.changed.notify_all();
            self.changed.wait(&mut state);
        }
        state.waits = false;
        if state.cut {
            return Err(io::Error::other("the process was killed"));
        }
        state.steps -= 1;
        Ok(())
    }
}

/// Says that a thread has ended, also if it panics.
struct End(Arc<Leash>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.state.lock().ended = true;
        self.0.changed.notify_all();
    }
}

/// A thread on a leash.
pub(super) struct Led {
    leash: Arc<Leash>,
    thread: Option<JoinHandle<()>>,
}

impl Led {
    /// A thread that works, a piece after the other, until there is nothing to do any more.
    pub(super) fn new(mut work: impl FnMut() -> bool + Send + 'static) -> Self {
        let leash = Arc::new(Leash::default());
        let own = leash.clone();
        let thread = std::thread::spawn(move || {
            let _end = End(own.clone());
            ROLE.set(Role::Led(own.clone()));
            while own.step().is_ok() && work() {}
            drop(work);
        });
        let led = Self {
            leash,
            thread: Some(thread),
        };
        led.go(0);
        led
    }

    /// Lets it go so many steps, and waits until it has.
    pub(super) fn go(&self, steps: u32) {
        let mut state = self.leash.state.lock();
        if steps > 0 {
            (state.steps, state.waits) = (steps, false);
            self.leash.changed.notify_all();
        }
        while !state.ended && !state.waits {
            let waited = self.leash.changed.wait_for(&mut state, DEADLINE);
            assert!(!waited.timed_out(), "a thread does not come to its next step");
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.leash.state.lock().ended
    }
}

impl Drop for Led {
    fn drop(&mut self) {
        self.leash.state.lock().cut = true;
        self.leash.changed.notify_all();
        let ended = self.thread.take().map_or(Ok(()), JoinHandle::join);
        if !std::thread::panicking() {
            ended.expect("a thread of a journal panicked");
        }
    }
}
