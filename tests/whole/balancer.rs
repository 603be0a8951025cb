//! A plain TCP balancer as docs/OPERATIONS.md asks for it: who was ready at the last check gets new connections, in turn;
//! open connections are left alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::place::{GATEWAYS, gateway_address};
use crate::program::ready;

/// Between two health checks.
const CHECK_EVERY: Duration = Duration::from_millis(200);

#[derive(Default)]
pub struct Balancer {
    ready: [AtomicBool; GATEWAYS],
    turn: AtomicUsize,
}

impl Balancer {
    /// Listens at these ports of loopback; each leads to the same port of the gateways.
    pub async fn start(ports: [u16; 2]) -> Arc<Self> {
        let balancer = Arc::new(Self::default());
        for port in ports {
            let socket = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
            let balancer = Arc::clone(&balancer);
            tokio::spawn(async move {
                loop {
                    let (client, _) = socket.accept().await.unwrap();
                    let balancer = Arc::clone(&balancer);
                    tokio::spawn(async move { balancer.forward(client, port).await });
                }
            });
        }
        for n in 0..GATEWAYS {
            let balancer = Arc::clone(&balancer);
            tokio::spawn(async move {
                loop {
                    let found = tokio::time::timeout(Duration::from_secs(1), ready(&gateway_address(n))).await;
                    balancer.ready[n].store(found.unwrap_or(false), Ordering::SeqCst);
                    tokio::time::sleep(CHECK_EVERY).await;
                }
            });
        }
        balancer
    }

    pub fn is_ready(&self, gateway: usize) -> bool {
        self.ready[gateway].load(Ordering::SeqCst)
    }

    async fn forward(&self, mut client: TcpStream, port: u16) {
        let ready: Vec<usize> = (0..GATEWAYS).filter(|n| self.is_ready(*n)).collect();
        let turn = self.turn.fetch_add(1, Ordering::SeqCst);
        let Some(gateway) = ready.get(turn % ready.len().max(1)) else {
            return;
        };
        // A connection that is refused is not tried elsewhere: `drain_delay` must do without.
        if let Ok(mut server) = TcpStream::connect((gateway_address(*gateway), port)).await {
            let _ = (client.set_nodelay(true), server.set_nodelay(true));
            let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        }
    }
}
