//! How many tokens live, and how many are asked for, in fleets of every size: `cargo test --release --test scale -- SEED` (1
//! when left out). Prints the table of docs/SCALE.md, in seconds: its clock is its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

#[allow(unreachable_pub, reason = "the suite uses it, too")]
mod model;

use std::process::ExitCode;

fn main() -> ExitCode {
    let seed = std::env::args().nth(1).map_or(Ok(1), |text| text.parse());
    let Ok(seed) = seed else {
        println!("the argument is a seed: a whole number");
        return ExitCode::from(2);
    };
    println!("{}", model::HEAD);
    for case in model::cases() {
        println!("{}", model::line(&case.name, &model::simulate(&case.setting, seed)));
    }
    ExitCode::SUCCESS
}
