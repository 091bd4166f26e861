//! An upgraded connection: bytes pass both ways until both sides have ended or nothing moves any more.

use std::net::Shutdown;
use std::time::Duration;

use runtime::{Buf, Deadline, Expiry, Reader, Socket};

use super::Why;
use super::connection::Connection;
use super::fairness::Fairness;
use super::upstream::Lease;

/// Passes bytes between client and upstream; returns how many went up and down.
///
/// What either side had sent before is passed on first. While nothing moves, no buffer is held.
pub(super) async fn run(
    connection: &mut Connection,
    mut lease: Lease,
    idle: Duration,
) -> (u64, u64) {
    let client_deadline = &connection.body_deadline;
    let client_socket = &connection.writer.socket;
    let upstream_socket = std::rc::Rc::clone(lease.socket());
    let touch = || {
        client_deadline.set(idle, Expiry::EndBoth, Why::Tunnel);
        lease.deadline.set(idle, Expiry::EndBoth, Why::Tunnel);
    };
    touch();
    let (mut sent_up, mut sent_down) = (0, 0);
    let up = pass(
        &mut connection.reader,
        &upstream_socket,
        client_deadline,
        &touch,
        &mut sent_up,
    );
    let down = pass(
        &mut lease.reader,
        client_socket,
        &lease.deadline,
        &touch,
        &mut sent_down,
    );
    // Both to their end: after a half-close the other way goes on.
    monoio::join!(up, down);
    (sent_up, sent_down)
}

async fn pass(
    from: &mut Reader,
    to: &Socket,
    deadline: &Deadline<Why>,
    touch: &impl Fn(),
    sent: &mut u64,
) {
    let mut fairness = Fairness::default();
    loop {
        fairness.turn().await;
        if from.is_armed() || from.data().is_empty() {
            if !from.is_armed() {
                *from.buf() = Buf::empty();
                if from.socket().readable().await.is_err() {
                    break;
                }
            }
            match from.fill().await {
                Ok(0) | Err(_) => break,
                Ok(_) => touch(),
            }
        }
        let buf = std::mem::replace(from.buf(), Buf::empty());
        let count = buf.len();
        let (result, _buf) = to.send_all(buf, |_| touch()).await;
        if result.is_err() {
            break;
        }
        *sent += count as u64;
    }
    if deadline.fired().is_none() {
        to.shutdown(Shutdown::Write);
    } else {
        to.shutdown(Shutdown::Both);
    }
}
