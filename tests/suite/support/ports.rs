//! Ports for servers that can't be told to take any free one.

use std::fs::{File, OpenOptions};
use std::net::{SocketAddr, TcpListener};

use parking_lot::Mutex;

/// Below the ports that the system gives to outgoing connections, which come and go.
const FIRST: u16 = 20_000;
const LAST: u16 = 31_999;

/// The locks of all ports that this process gave out; they end with it.
static OURS: Mutex<Vec<File>> = Mutex::new(Vec::new());

/// A port of 127.0.0.1 on which nobody listens, and which no other test gets, in this process or another: of two that found
/// the same one free, the second would talk to the server of the first.
pub fn free_address() -> SocketAddr {
    let mut ours = OURS.lock();
    let span = LAST - FIRST + 1;
    // Processes begin far from each other; what they give out they lock.
    let begin = u16::try_from(std::process::id().wrapping_mul(7919) % u32::from(span)).unwrap();
    for n in 0..span {
        let port = FIRST + (begin + n) % span;
        let lock = std::env::temp_dir().join(format!("atlas-auth-proxy-tests-port-{port}"));
        // Another user's lock can't be opened: that port is not ours.
        let Ok(lock) = OpenOptions::new().create(true).append(true).open(lock) else {
            continue;
        };
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if lock.try_lock().is_ok() && TcpListener::bind(address).is_ok() {
            ours.push(lock);
            return address;
        }
    }
    panic!("no port is free");
}
