//! Name lookups: one at a time for a name, shared by all who wait for it.
//!
//! `getaddrinfo` can't be called off: while a name server is silent, a lookup for each connection would hold a thread each.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{THREADS, Work};

/// One for the process, as `getaddrinfo` and its settings are.
static LOOKUPS: LazyLock<Arc<Lookups>> = LazyLock::new(|| {
    Arc::new(Lookups {
        ask: |name| Ok((name, 0).to_socket_addrs()?.collect()),
        begin: |work| THREADS.submit(work),
        under_way: Mutex::default(),
    })
});

/// An `io::Error` that can be told to several.
type LookupError = (io::ErrorKind, String);
type Answer = Option<Result<Vec<SocketAddr>, LookupError>>;

struct Lookups {
    ask: fn(&str) -> io::Result<Vec<SocketAddr>>,
    begin: fn(Work) -> io::Result<()>,
    under_way: Mutex<HashMap<String, watch::Receiver<Answer>>>,
}

/// The addresses of a name, by the resolver of the system. Not bounded in time: the caller's wait is. A lookup that is
/// under way when the caller stops waiting serves the next caller.
///
/// # Errors
/// What the resolver says; or that there is no thread to ask it on.
pub async fn lookup(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = LOOKUPS.of(name).await?;
    for address in &mut addresses {
        address.set_port(port);
    }
    Ok(addresses)
}

impl Lookups {
    async fn of(self: &Arc<Self>, name: &str) -> io::Result<Vec<SocketAddr>> {
        let mut answer = self.joined(name)?;
        match answer.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Ok(addresses))) => Ok(addresses.clone()),
            Ok(Some(Err((kind, why)))) => Err(io::Error::new(*kind, why.clone())),
            Ok(None) | Err(_) => Err(io::Error::other("the lookup ended without an answer")),
        }
    }

    fn joined(self: &Arc<Self>, name: &str) -> io::Result<watch::Receiver<Answer>> {
        let mut under_way = self.under_way.lock();
        if let Some(answer) = under_way.get(name) {
            return Ok(answer.clone());
        }
        let (tell, answer) = watch::channel(None);
        under_way.insert(name.to_owned(), answer.clone());
        drop(under_way);
        // However the lookup ends, the next caller asks anew.
        let entry = Entry(Arc::clone(self), name.to_owned());
        (self.begin)(Box::new(move || {
            let found = (entry.0.ask)(&entry.1).map_err(|error| (error.kind(), error.to_string()));
            drop(entry);
            tell.send_replace(Some(found));
        }))?;
        Ok(answer)
    }
}

struct Entry(Arc<Lookups>, String);

impl Drop for Entry {
    fn drop(&mut self) {
        self.0.under_way.lock().remove(&self.1);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    static ASKED: AtomicUsize = AtomicUsize::new(0);
    static WORK: Mutex<Vec<Work>> = Mutex::new(Vec::new());

    #[tokio::test]
    async fn all_who_want_a_name_share_one_lookup() {
        let lookups = Arc::new(Lookups {
            ask: |name| {
                ASKED.fetch_add(1, Ordering::Relaxed);
                if name == "there" {
                    Ok(vec!["192.0.2.1:0".parse().unwrap()])
                } else {
                    Err(io::Error::new(io::ErrorKind::NotFound, "no such name"))
                }
            },
            begin: |work| {
                WORK.lock().push(work);
                Ok(())
            },
            under_way: Mutex::default(),
        });
        let waiting: Vec<_> = (0..100)
            .map(|n| lookups.joined(["there", "nowhere"][n % 2]).unwrap())
            .collect();
        let work: Vec<_> = WORK.lock().drain(..).collect();
        assert_eq!(work.len(), 2, "one for each name");
        work.into_iter().for_each(|work| work());
        for (n, waiting) in waiting.into_iter().enumerate() {
            let found = waiting.borrow();
            assert_eq!(matches!(*found, Some(Ok(_))), n % 2 == 0, "{found:?}");
        }
        assert_eq!(ASKED.load(Ordering::Relaxed), 2);
        assert!(lookups.under_way.lock().is_empty());
        // A lookup that is dropped undone leaves nothing behind.
        let next = tokio::spawn({
            let lookups = Arc::clone(&lookups);
            async move { lookups.of("there").await }
        });
        tokio::task::yield_now().await;
        WORK.lock().clear();
        assert!(next.await.unwrap().is_err());
        assert!(lookups.under_way.lock().is_empty());
    }
}
