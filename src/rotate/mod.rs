//! `rotate-secret`: a new client secret, made through the Admin API, verified, put where the proxy reads it, and the old
//! one deleted when that is asked for.
//!
//! A working secret is in force after every step, whichever fails: the destination is tried before anything is made; a
//! secret that was made and can't be used is deleted again; the old one is deleted last.
//!
//! | file | has |
//! |---|---|
//! | `settings.rs` | what a rotation needs to know |
//! | `rotation.rs` | the whole, in its order |
//! | `open.rs` | a token, the service account, its secrets |
//! | `make_room.rs` | an unused secret deleted, where Atlas's limit leaves no room |
//! | `make.rs` | the new one made, verified and written, or deleted again |
//! | `delete_old.rs` | the old one deleted |
//! | `destination.rs` | a file, or a key of a Kubernetes Secret: where the new one is put |
//! | `kubernetes.rs` | the cluster's API, as far as it is needed for that |
//! | `schedule.rs` | when the next rotation is due |
//! | `words.rs` | what is said of a step, a secret, an error |

mod delete_old;
mod destination;
mod kubernetes;
mod make;
mod make_room;
mod open;
mod rotation;
mod schedule;
mod settings;
mod words;

pub use destination::Destination;
pub use kubernetes::{Cluster, KubernetesSecret};
pub use open::made_at;
pub use rotation::{Rotation, rotate};
pub use schedule::{Reported, Work, keep_rotating};
pub use settings::RotationSettings;
