//! TCP connections over IPv4.

#![allow(unsafe_code)]

use super::{
    Failure,
    call::{ACCEPT, BIND, CONNECT, LISTEN, SETSOCKOPT, SOCKET, call, call_with_numbers},
    pipe::PipeEnd,
};

/// AF_INET, SOCK_STREAM.
const INTERNET: u16 = 2;
const STREAM: usize = 1;
/// SOL_SOCKET, SO_REUSEADDR.
const SOCKET_LEVEL: usize = 1;
const REUSE: usize = 2;

/// struct sockaddr_in.
#[repr(C)]
struct Address {
    family: u16,
    port: [u8; 2],
    address: [u8; 4],
    zero: [u8; 8],
}

const ADDRESS_BYTES: usize = size_of::<Address>();

fn address(address: [u8; 4], port: u16) -> Address {
    Address { family: INTERNET, port: port.to_be_bytes(), address, zero: [0; 8] }
}

/// A connection to a port of another machine.
pub fn connect(to: [u8; 4], port: u16) -> Result<PipeEnd, Failure> {
    let socket = call_with_numbers("socket", SOCKET, [INTERNET.into(), STREAM, 0])?;
    let address = address(to, port);
    // SAFETY: the kernel reads the address.
    let outcome = unsafe { call("connect", CONNECT, [socket, (&raw const address).addr(), ADDRESS_BYTES, 0, 0, 0]) };
    let end = PipeEnd::of_file(socket);
    outcome.map(|_| ()).inspect_err(|_| end.close())?;
    Ok(end)
}

/// Waits for a connection to a port of this machine.
pub fn accept(port: u16) -> Result<PipeEnd, Failure> {
    let socket = call_with_numbers("socket", SOCKET, [INTERNET.into(), STREAM, 0])?;
    let (address, one) = (address([0; 4], port), 1u32);
    let option = [socket, SOCKET_LEVEL, REUSE, (&raw const one).addr(), size_of::<u32>(), 0];
    // SAFETY: the kernel reads the option.
    unsafe { call("setsockopt", SETSOCKOPT, option) }?;
    // SAFETY: the kernel reads the address.
    unsafe { call("bind", BIND, [socket, (&raw const address).addr(), ADDRESS_BYTES, 0, 0, 0]) }?;
    call_with_numbers("listen", LISTEN, [socket, 1])?;
    let connection = call_with_numbers("accept", ACCEPT, [socket, 0, 0])?;
    PipeEnd::of_file(socket).close();
    Ok(PipeEnd::of_file(connection))
}
