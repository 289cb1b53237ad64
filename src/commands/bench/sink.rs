//! The other end of a guest's stream: a TCP server on the host that reads, and answers each MiB with a byte.
//!
//! Emulated machines reach it through the emulator's network, where the host has the address of the gateway.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
};

const MIB: usize = 1 << 20;

/// It serves one connection after the other until it is dropped.
pub struct Sink {
    address: SocketAddr,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Sink {
    /// Starts it, on a free port that only this host reaches.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let ended = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&ended);
        let thread = thread::spawn(move || {
            for connection in listener.incoming() {
                if seen.load(Ordering::Relaxed) {
                    return;
                }
                // A machine that breaks its connection lacks an answer, and says so itself.
                let _ = connection.and_then(serve);
            }
        });
        Ok(Self { address, ended, thread: Some(thread) })
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        // It sees that at its next connection, which is this one.
        if TcpStream::connect(self.address).is_ok()
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

/// Reads until the other end has sent all.
fn serve(mut connection: TcpStream) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = vec![0; 64 << 10];
    let mut rest = MIB;
    loop {
        let room = rest.min(buffer.len());
        match connection.read(&mut buffer[..room])? {
            0 => return Ok(()),
            count => rest -= count,
        }
        if rest == 0 {
            connection.write_all(&[1])?;
            rest = MIB;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mib_is_answered() {
        let sink = Sink::start().unwrap();
        for _ in 0..2 {
            let mut connection = TcpStream::connect((Ipv4Addr::LOCALHOST, sink.port())).unwrap();
            connection.write_all(&vec![0; 2 * MIB]).unwrap();
            let mut answers = [0; 2];
            connection.read_exact(&mut answers).unwrap();
            assert_eq!(answers, [1, 1]);
        }
    }
}
