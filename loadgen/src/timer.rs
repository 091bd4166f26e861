//! Waiting for the time of an arrival.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use monoio::net::UnixStream;
use rustix::event::{EventfdFlags, eventfd};
use rustix::fd::BorrowedFd;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

use crate::plan::Pacing;

/// Waits with the precision that was asked for.
pub(crate) enum Timer {
    /// A kernel timer whose descriptor the runtime polls. The timer queue of the runtime itself counts milliseconds.
    Kernel {
        timer: OwnedFd,
        /// The same timer as something the runtime can wait for; no byte is read from it.
        readiness: UnixStream,
    },
    Wheel,
    /// A descriptor that is always ready: waiting for it lets the loop take one turn.
    Spin(UnixStream),
}

impl Timer {
    /// A timer; where the kernel refuses one, the runtime's own.
    pub(crate) fn new(pacing: Pacing) -> Self {
        match pacing {
            Pacing::Precise => Self::kernel().unwrap_or(Self::Wheel),
            Pacing::Frugal => Self::Wheel,
            Pacing::Spin => Self::spin().unwrap_or(Self::Wheel),
        }
    }

    fn kernel() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        let readiness = UnixStream::from_std(timer.try_clone()?.into())?;
        Ok(Self::Kernel { timer, readiness })
    }

    /// On epoll, which tells once that a descriptor is ready, the kernel's timer takes the place.
    fn spin() -> io::Result<Self> {
        if monoio::utils::is_legacy() {
            return Self::kernel();
        }
        let ready = eventfd(1, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self::Spin(UnixStream::from_std(ready.into())?))
    }

    /// Waits for `duration`, which must not be 0, or for less: the caller looks at the clock again. Cost in
    /// kernel time: a call to set the timer and a wake-up.
    pub(crate) async fn wait(&mut self, duration: Duration) {
        match self {
            Self::Wheel => monoio::time::sleep(duration).await,
            Self::Spin(ready) => {
                if ready.readable(false).await.is_err() {
                    *self = Self::Wheel;
                }
            }
            Self::Kernel { timer, readiness } => {
                // Setting it again also takes back that it was readable.
                let ready = match set(timer.as_fd(), duration) {
                    Ok(()) => readiness.readable(false).await,
                    Err(error) => Err(error),
                };
                if ready.is_err() {
                    *self = Self::Wheel;
                    monoio::time::sleep(duration).await;
                }
            }
        }
    }
}

fn set(timer: BorrowedFd<'_>, duration: Duration) -> io::Result<()> {
    let once = Itimerspec {
        it_interval: Timespec::default(),
        it_value: Timespec::try_from(duration)
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
    };
    timerfd_settime(timer, TimerfdTimerFlags::empty(), &once)?;
    Ok(())
}
