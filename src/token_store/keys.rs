//! What a shared token is for, and the keys of its entries in the store.

use aws_lc_rs::digest::{SHA256, digest};

/// Written to test whether writing works.
pub(super) const PROBE: &str = "atlas-auth-proxy:v1:probe";

/// The service account at its origin: who may use the token, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Subject {
    /// `https://host[:port]`.
    pub(super) origin: String,
    /// `mdb_sa_id_…`
    pub(super) client_id: String,
}

/// The names of one service account's entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Keys {
    /// The sealed token; lives as long as the token.
    pub(super) token: String,
    /// The replica that asks for a token now.
    pub(super) lock: String,
    /// Counts those who asked.
    pub(super) fence: String,
    /// The replicas, and their ranks.
    pub(super) fleet: String,
}

impl Keys {
    /// Hashed, so that users of the store can't see which accounts there are. The braces keep all of them in one slot of
    /// a cluster.
    pub(super) fn of(subject: &Subject) -> Self {
        let Subject { origin, client_id } = subject;
        let hash = digest(&SHA256, format!("{origin}\n{client_id}").as_bytes());
        let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let name = |what| format!("atlas-auth-proxy:v1:{{{hex}}}:{what}");
        Self {
            token: name("token"),
            lock: name("lock"),
            fence: name("fence"),
            fleet: name("fleet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(origin: &str, client_id: &str) -> Keys {
        Keys::of(&Subject {
            origin: origin.to_owned(),
            client_id: client_id.to_owned(),
        })
    }

    #[test]
    fn accounts_and_origins_have_names_of_their_own_that_tell_nothing() {
        let keys1 = keys("https://cloud.mongodb.com", "mdb_sa_id_1");
        // By `printf 'https://cloud.mongodb.com\nmdb_sa_id_1' | sha256sum`.
        let hash = "be979de35a99f023569a7620748a4ba86f8bf6e93434109a2fb66f829a87acc8";
        assert_eq!(keys1.token, format!("atlas-auth-proxy:v1:{{{hash}}}:token"));
        assert_eq!(keys1.lock, format!("atlas-auth-proxy:v1:{{{hash}}}:lock"));
        assert_eq!(keys1.fence, format!("atlas-auth-proxy:v1:{{{hash}}}:fence"));
        assert_eq!(keys1.fleet, format!("atlas-auth-proxy:v1:{{{hash}}}:fleet"));
        assert_ne!(keys1, keys("https://cloud.mongodb.com", "mdb_sa_id_2"));
        assert_ne!(keys1, keys("https://cloud.mongodbgov.com", "mdb_sa_id_1"));
    }
}
