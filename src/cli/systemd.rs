//! What a service manager tells this process, and is told by it: sockets (sd_listen_fds(3)), readiness, reloads, the watchdog
//! (sd_notify(3)).

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::time::Duration;

use listenfd::ListenFd;

use crate::config::Environment;
use crate::server::{HandedSocket, HandedSockets};

/// The most sockets that are taken.
const MOST_SOCKETS: usize = 64;
/// The name of a socket that was given none (sd_listen_fds_with_names(3)).
const NO_NAME: &str = "unknown";

/// The sockets that were handed over to this very process, each with its name. To be called before there are threads.
///
/// # Errors
/// When they are not as the protocol says, or no stream sockets that listen.
pub(super) fn sockets(environment: &dyn Environment) -> Result<HandedSockets, String> {
    let variable = |name| environment.var(name).and_then(|value| value.into_string().ok());
    let for_us = variable("LISTEN_PID").and_then(|pid| pid.parse().ok()) == Some(std::process::id());
    let Some(count) = variable("LISTEN_FDS").filter(|_| for_us) else {
        return Ok(HandedSockets::default());
    };
    let count: usize = count
        .parse()
        .ok()
        .filter(|count| *count <= MOST_SOCKETS)
        .ok_or_else(|| format!("LISTEN_FDS: this is not a number of sockets, {MOST_SOCKETS} at most"))?;
    let names = variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names
        .split(':')
        .map(|name| if name.is_empty() { NO_NAME } else { name });
    // It takes the variables away, so that nobody else does what is done here.
    let mut handed = ListenFd::from_env();
    let mut sockets = Vec::new();
    for at in 0..count {
        let name = names.next().unwrap_or(NO_NAME).to_owned();
        let tcp = handed.take_tcp_listener(at).map(|socket| socket.map(HandedSocket::Tcp));
        let socket = tcp.or_else(|_| {
            handed
                .take_unix_listener(at)
                .map(|socket| socket.map(HandedSocket::Unix))
        });
        match socket {
            Ok(Some(socket)) => sockets.push((name, socket)),
            Ok(None) | Err(_) => {
                return Err(format!(
                    "the descriptor `{name}` that was handed over (LISTEN_FDS) is no stream socket: its unit needs \
                     `ListenStream=` with an address or a path"
                ));
            }
        }
    }
    HandedSockets::new(sockets).map_err(|error| error.to_string())
}

/// Tells the service manager how it goes; without one, nobody.
#[derive(Debug, Clone, Default)]
pub(super) struct Notifier(Option<Arc<UnixDatagram>>);

impl Notifier {
    /// To the socket that `NOTIFY_SOCKET` names; one that can't be had is as none.
    pub(super) fn new(environment: &dyn Environment) -> Self {
        let Some(name) = environment.var("NOTIFY_SOCKET").filter(|name| !name.is_empty()) else {
            return Self::default();
        };
        let connect = || -> io::Result<UnixDatagram> {
            let address = match name.as_bytes().split_first() {
                Some((b'@', name)) => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(&name)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.connect_addr(&address)?;
            // Whoever does not read there must not hold us up.
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        match connect() {
            Ok(socket) => Self(Some(Arc::new(socket))),
            Err(error) => {
                tracing::warn!(%error, "the service manager can't be told anything (NOTIFY_SOCKET)");
                Self::default()
            }
        }
    }

    pub(super) fn ready(&self, status: &str) {
        self.say(&format!("READY=1\nSTATUS={status}"));
    }

    pub(super) fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = i128::from(now.tv_sec) * 1_000_000 + i128::from(now.tv_nsec) / 1000;
        self.say(&format!(
            "RELOADING=1\nMONOTONIC_USEC={micros}\nSTATUS=reading the configuration"
        ));
    }

    pub(super) fn stopping(&self) {
        self.say("STOPPING=1\nSTATUS=draining: requests in flight are finished");
    }

    fn say(&self, message: &str) {
        let Some(socket) = &self.0 else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::debug!(%error, "the service manager was not told");
        }
    }

    /// Says that the runtime lives, twice in each time of the watchdog, as long as it does: a timer must fire, and another task
    /// must run. Within a runtime.
    pub(super) fn watch(&self, environment: &dyn Environment) {
        let Some(every) = watchdog(environment).filter(|_| self.0.is_some()) else {
            return;
        };
        let notifier = self.clone();
        tokio::spawn(async move {
            let mut due = tokio::time::interval(every);
            due.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            loop {
                due.tick().await;
                if tokio::spawn(async {}).await.is_ok() {
                    notifier.say("WATCHDOG=1");
                }
            }
        });
    }
}

/// Half the time of the watchdog, if there is one and it is for this process.
fn watchdog(environment: &dyn Environment) -> Option<Duration> {
    let number = |name| environment.var(name)?.into_string().ok()?.parse::<u64>().ok();
    let for_us = match environment.var("WATCHDOG_PID") {
        Some(_) => number("WATCHDOG_PID") == Some(std::process::id().into()),
        None => true,
    };
    let micros = number("WATCHDOG_USEC").filter(|micros| for_us && *micros > 1)?;
    Some(Duration::from_micros(micros / 2))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn environment(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn what_was_handed_to_another_process_is_not_ours() {
        for foreign in [
            &[("LISTEN_FDS", "1")][..],
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "1")],
            &[("LISTEN_FDS", "1"), ("LISTEN_PID", "x")],
        ] {
            assert_eq!(sockets(&environment(foreign)).unwrap().names().count(), 0);
        }
        let own = std::process::id().to_string();
        for count in ["x", "-1", "65", "18446744073709551616"] {
            assert!(sockets(&environment(&[("LISTEN_FDS", count), ("LISTEN_PID", &own)])).is_err());
        }
    }

    #[test]
    fn the_watchdog_wants_to_hear_twice_in_its_time() {
        let own = std::process::id().to_string();
        let of = |all: &[(&str, &str)]| watchdog(&environment(all));
        assert_eq!(of(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(15)));
        assert_eq!(
            of(&[("WATCHDOG_USEC", "2"), ("WATCHDOG_PID", &own)]),
            Some(Duration::from_micros(1))
        );
        for none in [
            &[][..],
            &[("WATCHDOG_USEC", "0")],
            &[("WATCHDOG_USEC", "1")],
            &[("WATCHDOG_USEC", "x")],
            &[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")],
        ] {
            assert_eq!(of(none), None, "{none:?}");
        }
    }

    #[tokio::test]
    async fn nobody_is_told_where_nobody_listens() {
        for name in ["", "/none/such", "@none-such-anywhere", "@"] {
            let notifier = Notifier::new(&environment(&[("NOTIFY_SOCKET", name)]));
            notifier.ready("x");
        }
        let name = format!("notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let heard = UnixDatagram::bind_addr(&address).unwrap();
        let notifier = Notifier::new(&environment(&[("NOTIFY_SOCKET", &format!("@{name}"))]));
        notifier.ready("serving");
        let mut message = [0; 100];
        let length = heard.recv(&mut message).unwrap();
        assert_eq!(&message[..length], b"READY=1\nSTATUS=serving");
    }
}
