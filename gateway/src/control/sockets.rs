//! The listening sockets: one per worker and listener, kept by the control plane, so that a worker can be replaced.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

use core_affinity::CoreId;
use limiter::{KeyHasher, STEER_MULTIPLIER};
use runtime::listen;

use crate::config::{ListenerConfig, Steer};

/// All of them. As long as they are here, a client that comes while a worker is being replaced waits in its queue.
pub(super) struct Sockets {
    /// By listener, then by worker.
    fds: Vec<Vec<OwnedFd>>,
    addresses: Vec<SocketAddr>,
}

impl Sockets {
    /// Makes them in order, listener by listener and worker by worker: steering by address counts on it.
    ///
    /// `cores`: where each worker runs. `hasher`: the one of the limits, whose shards steering by address follows.
    ///
    /// # Errors
    ///
    /// What [`cannot_listen`] says.
    pub(super) fn bind(
        listeners: &[ListenerConfig],
        cores: &[Option<CoreId>],
        hasher: &KeyHasher,
    ) -> Result<Self, String> {
        let mut sockets = Self {
            fds: Vec::new(),
            addresses: Vec::new(),
        };
        for listener in listeners {
            let (fds, address) = bind_group(listener.address, cores.len())
                .and_then(|(fds, address)| {
                    steer(listener.steer, &fds, cores, hasher)?;
                    Ok((fds, address))
                })
                .map_err(|error| cannot_listen(&listener.name, listener.address, &error))?;
            sockets.fds.push(fds);
            sockets.addresses.push(address);
        }
        Ok(sockets)
    }

    /// The addresses of the listeners, with the ports that the kernel chose.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The sockets of a worker, in the order of the listeners.
    ///
    /// # Errors
    ///
    /// No descriptor left.
    pub(super) fn of_worker(&self, worker: usize) -> io::Result<Vec<OwnedFd>> {
        self.fds
            .iter()
            .map(|of_listener| of_listener[worker].try_clone())
            .collect()
    }

    /// Lets go of them; workers keep theirs.
    pub(super) fn close(&mut self) {
        self.fds.clear();
    }
}

fn bind_group(address: SocketAddr, workers: usize) -> io::Result<(Vec<OwnedFd>, SocketAddr)> {
    listen::probe(address)?;
    let mut fds = vec![listen::bind(address)?];
    // With port 0 the others must have the port that the first one got.
    let address = listen::local_address(fds[0].as_fd())?;
    for _ in 1..workers {
        fds.push(listen::bind(address)?);
    }
    Ok((fds, address))
}

/// Settles which worker gets a new connection: nobody has been served yet.
fn steer(
    by: Steer,
    fds: &[OwnedFd],
    cores: &[Option<CoreId>],
    hasher: &KeyHasher,
) -> io::Result<()> {
    debug_assert_eq!(fds.len(), cores.len(), "a socket per worker");
    match by {
        Steer::Hash => {}
        Steer::SourceIp => {
            let (seed, multiplier) = (hasher.steer_seed(), STEER_MULTIPLIER);
            // One attachment is for the whole group.
            listen::steer_by_source(fds[0].as_fd(), seed, multiplier, fds.len())?;
        }
        Steer::Cpu => {
            for (fd, core) in fds.iter().zip(cores) {
                if let Some(core) = core {
                    listen::steer_by_core(fd.as_fd(), core.id)?;
                }
            }
        }
    }
    Ok(())
}

/// Why a socket cannot be had, and what to do.
pub(super) fn cannot_listen(name: &str, address: SocketAddr, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let port = address.port();
            format!("another process listens there (`ss -ltnp 'sport = :{port}'` shows which); stop it or choose another port")
        }
        io::ErrorKind::PermissionDenied => {
            "ports below 1024 need CAP_NET_BIND_SERVICE (the systemd unit grants it) or a port of 1024 and above".into()
        }
        io::ErrorKind::AddrNotAvailable => "this host has no such address (`ip addr` shows those it has)".into(),
        _ if error.raw_os_error() == Some(libc::EMFILE) => "raise the limit of open files (`ulimit -n`)".into(),
        _ => "see bind(2)".to_owned(),
    };
    format!("cannot listen on {address} ({name}): {error}: {advice}")
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::num::{NonZeroU64, NonZeroUsize};

    use limiter::{Budget, Limiter, LimiterOptions, Period, Quota, TableOptions};
    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::config::{ConfigSource, load};

    const WORKERS: usize = 4;

    fn listeners(steer: &str) -> Vec<ListenerConfig> {
        let text = format!(
            "[[listeners]]\nname = \"web\"\naddress = \"127.0.0.1:0\"\nsteer = \"{steer}\"\n"
        );
        let source = ConfigSource::Text {
            name: "test",
            text: &text,
        };
        load(source, &|_| None).unwrap().listeners
    }

    /// Connects from `client` and says which worker's socket got it.
    fn worker_reached(sockets: &[Socket], to: SocketAddr, client: IpAddr) -> usize {
        let stream = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        stream.bind(&SocketAddr::new(client, 0).into()).unwrap();
        stream.connect(&to.into()).unwrap();
        loop {
            match sockets.iter().position(|socket| socket.accept().is_ok()) {
                Some(worker) => return worker,
                None => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn a_client_reaches_the_worker_that_owns_its_shard_of_every_limit() {
        let hasher = KeyHasher::random();
        let limiter = Limiter::new(LimiterOptions {
            quota: Quota::new(1, Period::Second, 1).unwrap(),
            table: TableOptions::new(Budget::Keys(NonZeroU64::MIN))
                .with_shards(NonZeroUsize::new(WORKERS).unwrap()),
        });
        let limiter = limiter.unwrap();
        let bound = Sockets::bind(&listeners("source_ip"), &[None; WORKERS], &hasher).unwrap();
        let sockets = (0..WORKERS).map(|worker| {
            let socket = Socket::from(bound.of_worker(worker).unwrap().remove(0));
            socket.set_nonblocking(true).unwrap();
            socket
        });
        let sockets: Vec<Socket> = sockets.collect();
        for host in 2..=101 {
            let client = IpAddr::from([127, 0, 0, host]);
            let owner = limiter.shard_of(hasher.address(client, 64));
            let reached = worker_reached(&sockets, bound.addresses()[0], client);
            assert_eq!(reached, owner, "{client} with {:#x}", hasher.steer_seed());
        }
    }

    #[test]
    fn each_workers_socket_names_its_core() {
        let cores = [Some(CoreId { id: 0 }), None, Some(CoreId { id: 1 })];
        let hasher = KeyHasher::random();
        let bound = Sockets::bind(&listeners("cpu"), &cores, &hasher).unwrap();
        for (worker, core) in cores.iter().enumerate() {
            let socket = Socket::from(bound.of_worker(worker).unwrap().remove(0));
            // The kernel's word for none is -1.
            let expected = core.map_or(usize::MAX, |core| core.id);
            assert_eq!(socket.cpu_affinity().unwrap(), expected, "worker {worker}");
        }
    }
}
