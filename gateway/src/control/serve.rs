//! HTTP/1.1 for the control plane's own pages: axum routers on hyper connections, with bounds on both.

#![expect(
    clippy::disallowed_types,
    reason = "the control thread is tokio's; sockets are made before it runs"
)]

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use crate::telemetry::log;

/// How long to leave a listener alone after a failed accept; most failures are missing descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a service allows its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at once; more wait in the backlog.
    pub(super) connections_max: usize,
    /// From the end of one request, or the start of the connection, to the end of the next head.
    pub(super) header_timeout: Duration,
    /// One request in this time and the connection ends; `None`: kept as long as the client likes.
    pub(super) single_request: Option<Duration>,
}

/// Binds and listens, on the caller's thread so that the error is the caller's.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Serves `router` on every connection to `listener`; a handler finds the peer in `ConnectInfo<SocketAddr>`.
///
/// # Errors
/// The runtime cannot watch the listener. Later errors cost a connection each, never the service.
pub(super) fn spawn(listener: TcpListener, router: Router, bounds: Bounds) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let places = Arc::new(Semaphore::new(bounds.connections_max));
    tokio::spawn(async move {
        let mut failing = false;
        // The semaphore is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    failing = false;
                    let router = router.clone();
                    tokio::spawn(async move {
                        connection(stream, peer, router, bounds).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        log::warn("control plane: accept failed", &[("error", &error)]);
                    }
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    });
    Ok(())
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, bounds: Bounds) {
    // Only a matter of latency.
    drop(stream.set_nodelay(true));
    let service = TowerToHyperService::new(router.layer(Extension(ConnectInfo(peer))));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(bounds.header_timeout)
        .keep_alive(bounds.single_request.is_none())
        .serve_connection(TokioIo::new(stream), service);
    // A client that breaks off or breaks HTTP is its own business.
    match bounds.single_request {
        Some(time) => drop(tokio::time::timeout(time, connection).await),
        None => drop(connection.await),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};
    use std::time::Duration;

    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpStream;

    use super::{Bounds, bind, spawn};

    const BOUNDS: Bounds = Bounds {
        connections_max: 2,
        header_timeout: Duration::from_secs(3600),
        single_request: None,
    };

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";

    async fn answer(stream: &mut TcpStream) -> String {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }

    fn serve(bounds: Bounds) -> SocketAddr {
        let listener = bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        spawn(
            listener,
            Router::new().route("/", get(async || "here")),
            bounds,
        )
        .unwrap();
        address
    }

    async fn connect(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.unwrap()
    }

    #[tokio::test]
    async fn a_head_that_does_not_end_ends_its_connection() {
        let bounds = Bounds {
            header_timeout: Duration::from_millis(20),
            ..BOUNDS
        };
        let mut stream = connect(serve(bounds)).await;
        stream
            .write_all(b"GET / HTTP/1.1\r\nhost: a")
            .await
            .unwrap();
        assert!(!answer(&mut stream).await.contains("200"));
    }

    #[tokio::test]
    async fn a_single_request_that_is_never_sent_ends_its_connection() {
        let bounds = Bounds {
            single_request: Some(Duration::from_millis(20)),
            ..BOUNDS
        };
        let mut stream = connect(serve(bounds)).await;
        assert_eq!(answer(&mut stream).await, "");
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let address = serve(BOUNDS);
        let first = connect(address).await;
        let mut places = Vec::new();
        for _ in 0..BOUNDS.connections_max {
            let mut stream = connect(address).await;
            stream.write_all(REQUEST).await.unwrap();
            places.push(stream);
        }
        // `first` holds one place, the next connection takes and returns the other, and so does the last.
        for stream in &mut places {
            assert!(answer(stream).await.ends_with("here"));
        }
        let _second = connect(address).await;
        let mut third = connect(address).await;
        third.write_all(REQUEST).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), answer(&mut third)).await;
        assert!(early.is_err(), "both places are taken");
        drop(first);
        assert!(answer(&mut third).await.ends_with("here"));
    }
}
