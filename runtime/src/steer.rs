//! Which socket of a group gets a new connection, where that is not left to the kernel's hash of both its ends.
//!
//! Nothing may depend on it: a connection reaches another socket when the group is not complete, or when its own
//! socket was closed before it was accepted.
#![expect(
    unsafe_code,
    reason = "setsockopt with a program, which socket2 offers for packets but not for groups"
)]

use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use libc::{
    BPF_A, BPF_ABS, BPF_ALU, BPF_B, BPF_IMM, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_LDX, BPF_MISC,
    BPF_MUL, BPF_RET, BPF_RSH, BPF_TAX, BPF_W, BPF_X, BPF_XOR, sock_filter, sock_fprog,
};
use socket2::SockRef;

/// Of `asm-generic/socket.h`; the libc crate lacks it.
const SO_ATTACH_REUSEPORT_CBPF: libc::c_int = 51;
/// Offsets from here on are counted from the IP header. Of IPv4, 12 is the source; of IPv6, 8 is.
const IP_HEADER: u32 = libc::SKF_NET_OFF.cast_unsigned();

#[expect(clippy::cast_possible_truncation, reason = "a length and a pointer")]
const FPROG_BYTES: libc::socklen_t = size_of::<sock_fprog>() as libc::socklen_t;

/// Makes the source address choose the socket, for all sockets of the group of `listener`; a second call replaces the
/// first. Needs no privilege.
///
/// The choice is the socket with the index `((((x ^ seed) * multiplier) >> 16) * sockets) >> 16`, in unsigned numbers
/// of 32 bits that wrap, in the order in which the group began to listen. `x` is the IPv4 address, also of a client
/// of an IPv6 socket, or the exclusive or of the first two words of the IPv6 address: its /64. A group that has fewer
/// sockets falls back to the kernel's hash.
///
/// # Errors
///
/// More than 65,535 sockets; not a socket with `SO_REUSEPORT`; no memory for the program (`ENOMEM`).
pub fn steer_by_source(
    listener: BorrowedFd<'_>,
    seed: u32,
    multiplier: u32,
    sockets: usize,
) -> io::Result<()> {
    // The product of two numbers of 16 bits does not wrap.
    let sockets = u16::try_from(sockets).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut filter = program(seed, multiplier, sockets);
    let program = sock_fprog {
        len: FILTER_LEN,
        filter: filter.as_mut_ptr(),
    };
    // SAFETY: the option takes a `sock_fprog`, whose address and size these are, and that one `len` instructions, which
    // `filter` holds. Both outlive the call, which copies them.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_ATTACH_REUSEPORT_CBPF,
            (&raw const program).cast(),
            FPROG_BYTES,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Makes `listener` the choice of its group for connections whose first packet core `core` handles
/// (`SO_INCOMING_CPU`). Groups heed it since Linux 6.2; before that, and on cores that no socket names, the kernel's
/// hash chooses.
///
/// # Errors
///
/// Not a socket.
pub fn steer_by_core(listener: BorrowedFd<'_>, core: usize) -> io::Result<()> {
    SockRef::from(&listener).set_cpu_affinity(core)
}

const FILTER_LEN: u16 = 14;

/// Classic BPF (`Documentation/networking/filter.rst` of Linux): an accumulator A and a register X.
fn program(seed: u32, multiplier: u32, sockets: u16) -> [sock_filter; FILTER_LEN as usize] {
    [
        step(BPF_LDX | BPF_IMM, 0),
        // The version is in the upper half of the first byte. IPv4 leaves X at zero, IPv6 puts its first word there.
        step(BPF_LD | BPF_B | BPF_ABS, IP_HEADER),
        step(BPF_ALU | BPF_RSH | BPF_K, 4),
        skip_if_equal(4, 2),
        step(BPF_LD | BPF_W | BPF_ABS, IP_HEADER + 8),
        step(BPF_MISC | BPF_TAX, 0),
        // The source of IPv4, the second word of IPv6's.
        step(BPF_LD | BPF_W | BPF_ABS, IP_HEADER + 12),
        step(BPF_ALU | BPF_XOR | BPF_X, 0),
        step(BPF_ALU | BPF_XOR | BPF_K, seed),
        step(BPF_ALU | BPF_MUL | BPF_K, multiplier),
        step(BPF_ALU | BPF_RSH | BPF_K, 16),
        step(BPF_ALU | BPF_MUL | BPF_K, u32::from(sockets)),
        step(BPF_ALU | BPF_RSH | BPF_K, 16),
        step(BPF_RET | BPF_A, 0),
    ]
}

#[expect(clippy::cast_possible_truncation, reason = "instructions have 16 bits")]
const fn step(code: u32, k: u32) -> sock_filter {
    sock_filter {
        code: code as u16,
        jt: 0,
        jf: 0,
        k,
    }
}

const fn skip_if_equal(k: u32, steps: u8) -> sock_filter {
    sock_filter {
        jt: steps,
        ..step(BPF_JMP | BPF_JEQ | BPF_K, k)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
    use std::os::fd::{AsFd as _, OwnedFd};

    use socket2::{Domain, Socket, Type};

    use super::*;
    use crate::listen::{bind, local_address};

    const MULTIPLIER: u32 = 0x9E37_79B1;
    const SOCKETS: u16 = 5;

    /// The formula of [`steer_by_source`], in the words of its documentation.
    fn formula(client: IpAddr, seed: u32) -> usize {
        let x = match client {
            IpAddr::V4(v4) => u32::from(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                u32::from(a ^ c) << 16 | u32::from(b ^ d)
            }
        };
        let high = (x ^ seed).wrapping_mul(MULTIPLIER) >> 16;
        ((high * u32::from(SOCKETS)) >> 16) as usize
    }

    fn group(address: &str) -> io::Result<(Vec<Socket>, SocketAddr)> {
        let first = bind(address.parse().unwrap())?;
        let address = local_address(first.as_fd())?;
        let rest = (1..SOCKETS).map(|_| bind(address));
        let sockets = std::iter::once(Ok(first)).chain(rest);
        let sockets: io::Result<Vec<OwnedFd>> = sockets.collect();
        let sockets: Vec<Socket> = sockets?.into_iter().map(Socket::from).collect();
        for socket in &sockets {
            socket.set_nonblocking(true)?;
        }
        Ok((sockets, address))
    }

    /// Connects from `client` and says which socket got it.
    fn reached(sockets: &[Socket], address: SocketAddr, client: IpAddr) -> usize {
        let to = SocketAddr::new(
            match client {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            },
            address.port(),
        );
        let stream = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        stream.bind(&SocketAddr::new(client, 0).into()).unwrap();
        stream.connect(&to.into()).unwrap();
        // On a busy machine the last packet of the handshake may be on its way still.
        loop {
            match sockets.iter().position(|socket| socket.accept().is_ok()) {
                Some(index) => return index,
                None => std::thread::yield_now(),
            }
        }
    }

    #[test]
    fn the_kernel_chooses_by_the_formula() {
        let clients = (2..66).map(|host| IpAddr::from([127, 0, host / 16, host]));
        // An IPv6 socket that takes IPv4, without the wildcard's being open to the world.
        for address in ["127.0.0.1:0", "[::ffff:127.0.0.1]:0", "[::1]:0"] {
            let (sockets, address) = match group(address) {
                Ok(group) => group,
                Err(error) if address != "127.0.0.1:0" => {
                    eprintln!("SKIPPED {address}: no IPv6 here: {error}");
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            let mut seen = [0; SOCKETS as usize];
            for (client, seed) in clients.clone().zip((0..).map(|n: u32| n * 0x0123_4567)) {
                let client = match address.ip() {
                    ip if ip == Ipv6Addr::LOCALHOST => ip,
                    _ => client,
                };
                let listener = sockets[seed as usize % sockets.len()].as_fd();
                steer_by_source(listener, seed, MULTIPLIER, sockets.len()).unwrap();
                let index = reached(&sockets, address, client);
                assert_eq!(
                    index,
                    formula(client, seed),
                    "{client} {seed:#x} at {address}"
                );
                seen[index] += 1;
            }
            assert!(seen.iter().all(|&count| count > 0), "{seen:?}");
        }
    }

    /// A loopback interface has one IPv6 address only, so the /64 is tried on headers.
    #[test]
    fn an_ipv6_client_is_its_64() {
        let seed = 0x5BD1_E995;
        for (number, host) in (0..1_000_u128).zip([1, u128::from(u64::MAX)].into_iter().cycle()) {
            let network = (0x2001_0db8 << 96) + (number << 100) + (number << 64);
            let client = Ipv6Addr::from(network | host);
            let mut header = [0; 40];
            header[0] = 0x6F;
            header[8..24].copy_from_slice(&client.octets());
            let chosen = execute(&program(seed, MULTIPLIER, SOCKETS), &header);
            assert_eq!(chosen as usize, formula(client.into(), seed), "{client}");
        }
    }

    /// The machine, as far as [`program`] uses it.
    fn execute(program: &[sock_filter], header: &[u8]) -> u32 {
        let (mut a, mut x, mut at) = (0_u32, 0xDEAD_BEEF_u32, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            let offset = k.wrapping_sub(IP_HEADER) as usize;
            match u32::from(code) {
                c if c == BPF_LDX | BPF_IMM => x = k,
                c if c == BPF_LD | BPF_B | BPF_ABS => a = u32::from(header[offset]),
                c if c == BPF_LD | BPF_W | BPF_ABS => {
                    a = u32::from_be_bytes(header[offset..offset + 4].try_into().unwrap());
                }
                c if c == BPF_MISC | BPF_TAX => x = a,
                c if c == BPF_ALU | BPF_XOR | BPF_X => a ^= x,
                c if c == BPF_ALU | BPF_XOR | BPF_K => a ^= k,
                c if c == BPF_ALU | BPF_MUL | BPF_K => a = a.wrapping_mul(k),
                c if c == BPF_ALU | BPF_RSH | BPF_K => a >>= k,
                c if c == BPF_JMP | BPF_JEQ | BPF_K => {
                    at += usize::from(if a == k { jt } else { jf })
                }
                c if c == BPF_RET | BPF_A => return a,
                c => panic!("no such instruction: {c:#x}"),
            }
        }
    }
}
