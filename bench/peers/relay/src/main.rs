//! The floor: bytes from a client to the upstream and back, and no HTTP. A connection to the upstream for each client's,
//! one thread, monoio on a ring with SINGLE_ISSUER and DEFER_TASKRUN. Arguments: LISTEN UPSTREAM|unix:PATH.

use std::net::SocketAddr;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{ListenerOpts, TcpListener, TcpStream, UnixStream};

/// Bytes of a read: enough that a large answer moves in few pieces.
const BUFFER_BYTES: usize = 64 * 1024;

async fn copy(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) {
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER_BYTES);
    loop {
        let (count, filled) = from.read(buffer).await;
        buffer = filled;
        if matches!(count, Ok(0) | Err(_)) {
            drop(to.shutdown().await);
            return;
        }
        let (sent, emptied) = to.write_all(buffer).await;
        buffer = emptied;
        if sent.is_err() {
            return;
        }
        buffer.clear();
    }
}

async fn both_ways(client: TcpStream, upstream: impl Splitable<OwnedRead: AsyncReadRent + 'static, OwnedWrite: AsyncWriteRent + 'static> + 'static) {
    let (client_read, client_write) = client.into_split();
    let (upstream_read, upstream_write) = upstream.into_split();
    monoio::spawn(copy(client_read, upstream_write));
    copy(upstream_read, client_write).await;
}

async fn relay(client: TcpStream, upstream: String) {
    drop(client.set_nodelay(true));
    if let Some(path) = upstream.strip_prefix("unix:") {
        if let Ok(stream) = UnixStream::connect(path).await {
            both_ways(client, stream).await;
        }
        return;
    }
    let address: SocketAddr = upstream.parse().expect("the upstream's address");
    if let Ok(stream) = TcpStream::connect_addr(address).await {
        drop(stream.set_nodelay(true));
        both_ways(client, stream).await;
    }
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments.next().expect("LISTEN UPSTREAM");
    let upstream = arguments.next().expect("LISTEN UPSTREAM");
    let mut ring = io_uring::IoUring::builder();
    ring.setup_single_issuer().setup_defer_taskrun();
    let mut runtime = monoio::RuntimeBuilder::<monoio::IoUringDriver>::new()
        .with_entries(4096)
        .uring_builder(ring)
        .build()
        .expect("a ring with DEFER_TASKRUN (Linux 6.1)");
    runtime.block_on(async move {
        let options = ListenerOpts::new().backlog(4096).reuse_addr(true);
        let listener = TcpListener::bind_with_config(listen.as_str(), &options).expect("the address");
        loop {
            let Ok((client, _)) = listener.accept().await else { continue };
            monoio::spawn(relay(client, upstream.clone()));
        }
    });
}
