//! The command line of `rules`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

#[derive(Debug, Args)]
pub(crate) struct RulesArgs {
    #[command(subcommand)]
    pub(super) command: RulesCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum RulesCommand {
    /// Say what becomes of a request, and which rules of which lines decide.
    Explain(ExplainArgs),
    /// Print every caller and operation, with the projects and organizations.
    Table(TableArgs),
    /// Compare with an older configuration, or a table of it. Exits with 1 when somebody gets more.
    Diff(DiffArgs),
    /// Print the least rules under which what a log tells of would pass.
    Learn(LearnArgs),
    /// Try a file of expectations. Exits with 1 when one does not hold.
    Test(TestArgs),
}

#[derive(Debug, Args)]
pub(super) struct BookArgs {
    /// Configuration file (TOML); nothing that it names is read.
    ///
    /// [env: ATLAS_PROXY_CONFIG]
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    pub(super) book: BookArgs,
    /// Only at this listener; left out: at each.
    #[arg(long, value_name = "NAME")]
    pub(super) listener: Option<String>,
    /// Only for this caller, or `anonymous`; left out: for each.
    #[arg(long, value_name = "NAME")]
    pub(super) caller: Option<String>,
    /// The method.
    pub(super) method: String,
    /// The path as a client sends it, without query.
    pub(super) path: String,
}

#[derive(Debug, Args)]
pub(super) struct TableArgs {
    #[command(flatten)]
    pub(super) book: BookArgs,
    /// Only this caller, or `anonymous`.
    #[arg(long, value_name = "NAME")]
    pub(super) caller: Option<String>,
    /// As JSON, which `rules diff --against` reads.
    #[arg(long, conflicts_with_all = ["markdown", "caller"])]
    pub(super) json: bool,
    /// As Markdown.
    #[arg(long)]
    pub(super) markdown: bool,
}

#[derive(Debug, Args)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    pub(super) book: BookArgs,
    /// The older configuration, or what `rules table --json` printed of it (its name ends with `.json`).
    #[arg(long, value_name = "FILE")]
    pub(super) against: PathBuf,
}

#[derive(Debug, Args)]
pub(super) struct LearnArgs {
    /// The request log as JSON, or an audit file; `-` is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) from: PathBuf,
    /// Take a log that tells of no read.
    #[arg(long)]
    pub(super) writes_only: bool,
}

#[derive(Debug, Args)]
pub(super) struct TestArgs {
    #[command(flatten)]
    pub(super) book: BookArgs,
    /// The expectations (TOML): `[[expect]]` with `caller`, `method`, `path`, `expect` and perhaps `listener`.
    pub(super) file: PathBuf,
}
