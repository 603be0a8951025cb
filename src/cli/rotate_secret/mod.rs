//! `rotate-secret`: where the new secret is written, how each step is reported, and when to rotate again.
//!
//! | file | has |
//! |---|---|
//! | `args.rs` | the command line |
//! | `prepare.rs` | what a rotation needs to know |
//! | `command.rs` | one rotation, or one from time to time |
//! | `print.rs` | what is printed |

mod args;
mod command;
mod prepare;
mod print;

pub(super) use args::RotateArgs;
pub(super) use command::rotate_secret;
