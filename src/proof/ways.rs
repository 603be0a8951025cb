//! What somebody is known by at a listener, and whether that is more than something else.

use std::collections::BTreeSet;
use std::fmt;

use super::book::{Book, Who};
use crate::guard::parse_network;

/// One way of being known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Way {
    words: String,
    /// From where.
    network: Option<String>,
    /// Networks in it from where one is somebody else.
    but: BTreeSet<String>,
    /// Seconds for which a token may live.
    life: Option<u64>,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)?;
        if let Some(network) = &self.network {
            write!(f, " {network}")?;
        }
        for (n, network) in self.but.iter().enumerate() {
            let before = if n == 0 { " but" } else { "," };
            write!(f, "{before} {network}")?;
        }
        match self.life {
            Some(life) => f.write_str(&with_life("", life)),
            None => Ok(()),
        }
    }
}

/// A way of being known by tokens that live for so many seconds at most.
pub fn with_life(way: &str, seconds: u64) -> String {
    format!("{way}, life {seconds} s at most")
}

fn life(way: &str) -> Option<(&str, u64)> {
    let (words, life) = way.strip_suffix(" s at most")?.rsplit_once(", life ")?;
    Some((words, life.parse().ok()?))
}

fn is_network(text: &str) -> bool {
    parse_network(text).is_ok()
}

fn contains(outer: &str, inner: &str) -> bool {
    let networks = (parse_network(outer), parse_network(inner));
    outer == inner || matches!(networks, (Ok(outer), Ok(inner)) if outer.contains(&inner))
}

/// What somebody is known by.
pub(super) fn ways(book: &Book, listener: usize, who: Who) -> BTreeSet<Way> {
    let at = &book.text.listeners[listener];
    let networks_of = |who: Who| match who {
        Who::Anonymous => None,
        Who::Caller(n) => Some(book.text.callers[n].networks.iter().map(String::as_str)),
    };
    let others = book.served(listener).filter(|other| *other != who);
    let others: Vec<&str> = others.filter_map(networks_of).flatten().collect();
    let said_by: Vec<&str> = at.proxy_protocol.iter().map(String::as_str).collect();
    let word = |words: &str| match said_by.as_slice() {
        [] => words.to_owned(),
        balancers => format!("{words} (by the word of {})", balancers.join(", ")),
    };
    let Who::Caller(n) = who else {
        let from = at.allow.iter().map(String::as_str);
        // Whoever has a network of a caller is that caller.
        return from
            .filter_map(|from| from_network(&word("nothing shown, from"), from, &others))
            .collect();
    };
    let caller = &book.text.callers[n];
    let mut all = BTreeSet::new();
    for network in &caller.networks {
        // The longest prefix decides who somebody is.
        let longer = others
            .iter()
            .filter(|other| contains(network, other) && !contains(other, network));
        let longer: Vec<&str> = longer.copied().collect();
        let met = at.allow.iter().filter_map(|from| common(network, from));
        all.extend(met.filter_map(|from| from_network(&word("network"), from, &longer)));
        if at.allow.is_empty() {
            all.extend(from_network(&word("network"), network, &longer));
        }
    }
    let authority = at.client_ca.iter();
    let certificates = authority.flat_map(|ca| {
        caller
            .certificate_names
            .iter()
            .map(move |name| format!("certificate {name} of {ca}"))
    });
    let own = caller
        .own_account
        .then(|| "may touch the credential of the proxy".to_owned());
    for way in certificates.chain(caller.known_by.iter().cloned()).chain(own) {
        let (words, life) = match life(&way) {
            Some((words, life)) => (words, Some(life)),
            None => (way.as_str(), None),
        };
        all.insert(Way {
            words: words.to_owned(),
            network: None,
            but: BTreeSet::new(),
            life,
        });
    }
    all
}

/// Where a caller's network and the peers that a listener lets connect meet.
fn common<'n>(network: &'n str, allowed: &'n str) -> Option<&'n str> {
    // What is no network is told by other means: anybody of the network may be meant.
    if !is_network(allowed) || contains(allowed, network) {
        Some(network)
    } else {
        contains(network, allowed).then_some(allowed)
    }
}

/// None: everybody there is somebody else.
fn from_network(words: &str, network: &str, others: &[&str]) -> Option<Way> {
    let is_other = others.iter().any(|other| contains(other, network));
    let inside = others.iter().filter(|other| contains(network, other));
    (!is_other).then(|| Way {
        words: words.to_owned(),
        network: Some(network.to_owned()),
        but: inside.map(|other| (*other).to_owned()).collect(),
        life: None,
    })
}

impl Way {
    /// Whether it lets in nobody whom none of these lets in.
    pub(super) fn is_within(&self, ways: &BTreeSet<Self>) -> bool {
        ways.iter()
            .any(|outer| outer.words == self.words && self.life <= outer.life && self.is_inside(outer))
    }

    fn is_inside(&self, outer: &Self) -> bool {
        let (network, around) = match (&self.network, &outer.network) {
            (None, None) => return true,
            (Some(network), Some(around)) => (network, around),
            _ => return false,
        };
        let is_out = |hole: &String| {
            let meet = contains(hole, network) || contains(network, hole);
            !meet || self.but.iter().any(|but| contains(but, hole))
        };
        contains(around, network) && outer.but.iter().all(is_out)
    }
}
