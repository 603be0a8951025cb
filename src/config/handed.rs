//! `bind = "systemd:NAME"`: a socket that the service manager has made. It counts as bound where it is.

use super::inputs::Inputs;
use super::problem::shown;
use super::source::{Given, Source};
use super::value;
use crate::server::Bind;

/// Where something is bound, and by whom.
pub(crate) struct BoundAt {
    pub(crate) bind: Bind,
    pub(crate) by: BoundBy,
}

/// Who makes a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BoundBy {
    /// This process.
    Us,
    /// The service manager.
    Manager,
    /// The service manager, for another process than this.
    ManagerOfAnother,
}

const PREFIX: &str = "systemd:";

impl Inputs<'_> {
    /// An address, or the socket of the service manager that is named in its place.
    pub(crate) fn bind(&mut self, given: Given<String>) -> Option<Given<BoundAt>> {
        let Some(name) = given.value.trim().strip_prefix(PREFIX) else {
            let bind = self.problems.parse(given, value::bind)?;
            return Some(bind.map(|bind| BoundAt { bind, by: BoundBy::Us }));
        };
        let Some(sockets) = self.sources.sockets else {
            self.unknown_sockets = true;
            return Some(Given {
                value: BoundAt {
                    bind: Bind::Elsewhere { name: name.to_owned() },
                    by: BoundBy::ManagerOfAnother,
                },
                source: given.source,
            });
        };
        let Some(bind) = sockets.bind(name) else {
            let known: Vec<&str> = sockets.names().collect();
            let known = match known.as_slice() {
                [] => {
                    "none was handed over: is the socket unit started, and does the service have `Sockets=`?".to_owned()
                }
                known => format!("there is: {}", known.join(", ")),
            };
            let text = format!(
                "no socket of systemd has the name {} (`FileDescriptorName=`); {known}",
                shown(name)
            );
            self.problems.add(&given.source, text);
            return None;
        };
        self.used_sockets.insert(name.to_owned());
        Some(Given {
            value: BoundAt {
                bind,
                by: BoundBy::Manager,
            },
            source: given.source,
        })
    }

    /// Notes sockets that nothing is served on: clients would wait there for ever.
    pub(crate) fn check_sockets(&mut self) {
        let names = self.sources.sockets.iter().flat_map(|sockets| sockets.names());
        let unused: Vec<&str> = names.filter(|name| !self.used_sockets.contains(*name)).collect();
        for name in unused {
            let text = format!(
                "systemd hands over a socket named {}, and nothing is bound to it: write `bind = \"systemd:{name}\"`, or stop the \
                 socket unit",
                shown(name)
            );
            self.problems.add(&Source::Nowhere, text);
        }
        if self.unknown_sockets {
            self.problems.warn(
                "where sockets of systemd are bound (`bind = \"systemd:…\"`) is known only to a service that it starts: what must \
                 hold of an address is not checked here",
            );
        }
    }
}
