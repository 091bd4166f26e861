//! Signals to this very process; one test, because signals are for all of it.

#![expect(clippy::unwrap_used, reason = "test helpers")]

mod control_support;

use std::process::Command;
use std::time::Duration;

use gateway::control::admin::AdminState;
use gateway::control::resolve::Resolver;
use gateway::control::signal::Signal;
use gateway::control::{ControlHandle, ControlSetup};

fn start() -> (ControlHandle, flume::Receiver<Signal>) {
    let (orders, received) = flume::bounded(8);
    let state = AdminState {
        lifecycle: Default::default(),
        workers: [].into(),
        process: Default::default(),
        labels: Default::default(),
        plan: control_support::plan(),
        commands: [].into(),
    };
    let setup = ControlSetup {
        admin: None,
        demo: None,
        resolver: Resolver::default(),
        credentials: Default::default(),
        key_sets: Default::default(),
        state,
        on_signal: Box::new(move |order| orders.send(order).unwrap()),
    };
    (ControlHandle::start(setup).unwrap(), received)
}

fn kill(signal: &str) {
    let pid = std::process::id().to_string();
    assert!(
        Command::new("kill")
            .args([signal, &pid])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn signals_become_orders_in_the_way_of_nginx() {
    const LONG: Duration = Duration::from_secs(10);
    let (control, orders) = start();
    kill("-USR1");
    assert_eq!(orders.recv_timeout(LONG), Ok(Signal::ReopenLogs));
    // These give no order and do not end the process.
    kill("-HUP");
    kill("-USR2");
    kill("-TERM");
    assert_eq!(orders.recv_timeout(LONG), Ok(Signal::Drain));
    kill("-INT");
    assert_eq!(orders.recv_timeout(LONG), Ok(Signal::EndNow));
    control.stop();

    let (control, orders) = start();
    kill("-QUIT");
    assert_eq!(orders.recv_timeout(LONG), Ok(Signal::DrainWithoutDeadline));
    kill("-USR1");
    assert_eq!(orders.recv_timeout(LONG), Ok(Signal::ReopenLogs));
    kill("-TERM");
    assert_eq!(orders.recv_timeout(LONG), Ok(Signal::EndNow));
    control.stop();
}
