//! `rules`: what the rules of a configuration allow, before anything happens. Reads the configuration, and no file that it names.

mod args;

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{exit, misconfigured, print_error, sources};
use crate::catalogue::Catalogue;
use crate::config::{self, Environment, Flags, NoCommands};
use crate::proof::{self, Book, BookText, Row, Verdict, Who, request};
pub(crate) use args::RulesArgs;
use args::{BookArgs, DiffArgs, ExplainArgs, LearnArgs, RulesCommand, TableArgs, TestArgs};

/// A log is read whole.
const LARGEST_LOG: u64 = 1 << 30;
/// A table, or expectations.
const LARGEST_FILE: u64 = 256 << 20;

/// What `table --json` writes: the table for people and programs, and what `diff` needs to compare with it.
#[derive(Serialize, Deserialize)]
struct Written {
    /// The operations that there were.
    operations: BTreeSet<String>,
    /// The rules as they were written.
    book: BookText,
    /// The table.
    #[serde(skip_deserializing, default)]
    table: Vec<Row>,
}

/// Ends the command; what there is to say has been said.
struct Ended(ExitCode);

type Answer = Result<ExitCode, Ended>;

pub(super) fn rules(args: &RulesArgs, environment: &dyn Environment) -> ExitCode {
    let answer = match &args.command {
        RulesCommand::Explain(args) => explain(args, environment),
        RulesCommand::Table(args) => table(args, environment),
        RulesCommand::Diff(args) => diff(args, environment),
        RulesCommand::Learn(args) => learn(args),
        RulesCommand::Test(args) => test(args, environment),
    };
    answer.unwrap_or_else(|Ended(code)| code)
}

fn say(text: &str) {
    // An error means that the reader has closed the output, and does not want it.
    let _ = io::stdout().lock().write_all(text.as_bytes());
}

fn wrong(line: &str) -> Ended {
    print_error(line);
    Ended(exit::misused())
}

fn book(config: Option<PathBuf>, environment: &dyn Environment) -> Result<Book, Ended> {
    let catalogue = Arc::new(Catalogue::new());
    let flags = Flags {
        config,
        ..Flags::default()
    };
    let text = config::rule_book(sources(&flags, environment, &NoCommands), &catalogue);
    let text = text.map_err(|errors| Ended(misconfigured(&errors)))?;
    Book::new(text, catalogue).map_err(|error| wrong(&error.to_string()))
}

fn own_book(args: &BookArgs, environment: &dyn Environment) -> Result<Book, Ended> {
    book(args.config.clone(), environment)
}

fn read(path: &Path, limit: u64) -> Result<String, Ended> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().lock().take(limit).read_to_string(&mut text),
        _ => std::fs::File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text)),
    };
    match read {
        Ok(length) if (length as u64) < limit => Ok(text),
        Ok(_) => Err(wrong(&format!("{} has more than {limit} bytes", path.display()))),
        Err(error) => Err(wrong(&format!("cannot read {}: {error}", path.display()))),
    }
}

/// Everybody of this name, at every listener of that name.
fn places(book: &Book, listener: Option<&str>, caller: Option<&str>) -> Vec<(usize, Who)> {
    let listeners = book.text().listeners.iter().enumerate();
    let listeners = listeners.filter(|(_, at)| listener.is_none_or(|name| at.name == name));
    let served = listeners.flat_map(|(n, _)| book.served(n).map(move |who| (n, who)));
    served
        .filter(|(_, who)| caller.is_none_or(|name| book.name(*who) == name))
        .collect()
}

fn nobody(book: &Book, listener: Option<&str>, caller: Option<&str>) -> String {
    let names = |all: Vec<&str>| all.join(", ");
    let listeners = names(book.text().listeners.iter().map(|at| at.name.as_str()).collect());
    let callers = names(book.text().callers.iter().map(|caller| caller.name.as_str()).collect());
    format!(
        "{} is not served at {}: listeners are {listeners}; callers are {callers}",
        caller.map_or_else(|| "anybody".to_owned(), |name| format!("`{name}`")),
        listener.map_or_else(|| "any listener".to_owned(), |name| format!("`{name}`")),
    )
}

fn word(verdict: &Verdict) -> &'static str {
    match (verdict.allowed, verdict.warned) {
        _ if verdict.answered_here => "answered by the proxy",
        (true, true) => "warn",
        (true, false) => "allow",
        (false, _) => "deny",
    }
}

fn explain(args: &ExplainArgs, environment: &dyn Environment) -> Answer {
    let book = own_book(&args.book, environment)?;
    let method = request::method(&args.method).map_err(|why| wrong(&why))?;
    request::path(&args.path).map_err(|why| wrong(&why))?;
    let (listener, caller) = (args.listener.as_deref(), args.caller.as_deref());
    let places = places(&book, listener, caller);
    if places.is_empty() {
        return Err(wrong(&nobody(&book, listener, caller)));
    }
    let mut text = format!("{method} {} is {}\n", args.path, book.operation(&method, &args.path));
    let mut is_open = false;
    for &(listener, who) in &places {
        let verdict = book.explain(listener, who, &method, &args.path);
        is_open |= verdict.allowed;
        let (at, name) = (&book.text().listeners[listener].name, book.name(who));
        text.push_str(&format!("listener {at}, caller {name}: {}\n", word(&verdict)));
        for why in &verdict.why {
            text.push_str(&format!("  {why}\n"));
        }
    }
    let untold = book.untold(&places);
    if is_open && !untold.is_empty() {
        text.push_str(&format!(
            "Paths that name the credential of the proxy itself are denied, too. Its client id or public key is not in the file, so \
             they cannot be told from here: account {}\n",
            untold.join(", ")
        ));
    }
    say(&text);
    Ok(exit::CLEAN)
}

fn table(args: &TableArgs, environment: &dyn Environment) -> Answer {
    let book = own_book(&args.book, environment)?;
    let caller = args.caller.as_deref();
    if caller.is_some() && places(&book, None, caller).is_empty() {
        return Err(wrong(&nobody(&book, None, caller)));
    }
    let table = proof::table(&book, caller).map_err(|error| wrong(&error.to_string()))?;
    if args.json {
        let written = Written {
            operations: operations(),
            book: book.text().clone(),
            table: table.rows,
        };
        say(&(serde_json::to_string_pretty(&written).unwrap_or_default() + "\n"));
    } else if args.markdown {
        say(&table.markdown());
    } else {
        say(&table.text());
    }
    Ok(exit::CLEAN)
}

fn operations() -> BTreeSet<String> {
    let catalogue = Catalogue::new();
    catalogue
        .operations()
        .iter()
        .map(|operation| operation.name.to_owned())
        .collect()
}

fn diff(args: &DiffArgs, environment: &dyn Environment) -> Answer {
    let new = own_book(&args.book, environment)?;
    let (old, known) = if args.against.extension().is_some_and(|end| end == "json") {
        let text = read(&args.against, LARGEST_FILE)?;
        let written: Written = serde_json::from_str(&text).map_err(|error| {
            wrong(&format!(
                "{} is no table of `rules table --json`: {error}",
                args.against.display()
            ))
        })?;
        let old = Book::new(written.book, Arc::new(Catalogue::new()))
            .map_err(|error| wrong(&format!("{}: {error}", args.against.display())))?;
        (old, Some(written.operations))
    } else {
        (book(Some(args.against.clone()), environment)?, None)
    };
    let diff = proof::diff(&old, &new, known.as_ref()).map_err(|error| wrong(&error.to_string()))?;
    if diff.changes.is_empty() {
        say("nothing changes\n");
    }
    for change in &diff.changes {
        say(&change.to_string());
    }
    Ok(if diff.is_wider() { exit::failed() } else { exit::CLEAN })
}

fn learn(args: &LearnArgs) -> Answer {
    let log = read(&args.from, LARGEST_LOG)?;
    match proof::learn(&log, args.writes_only, &Catalogue::new()) {
        Ok(learned) => {
            for line in &learned.left_out {
                print_error(&format!("left out: {line}"));
            }
            say(&learned.toml);
            Ok(exit::CLEAN)
        }
        Err(error) => {
            print_error(&format!("{}: {error}", args.from.display()));
            Ok(exit::failed())
        }
    }
}

fn test(args: &TestArgs, environment: &dyn Environment) -> Answer {
    let book = own_book(&args.book, environment)?;
    let text = read(&args.file, LARGEST_FILE)?;
    let all = config::expectations(&args.file, &text).map_err(|errors| Ended(misconfigured(&errors)))?;
    let (mut failed, mut said) = (0, String::new());
    for expectation in &all {
        let places = places(&book, expectation.listener.as_deref(), Some(&expectation.caller));
        if places.is_empty() {
            let why = nobody(&book, expectation.listener.as_deref(), Some(&expectation.caller));
            return Err(wrong(&format!("{}: {why}", expectation.place)));
        }
        for (listener, who) in places {
            let verdict = book.explain(listener, who, &expectation.method, &expectation.path);
            if word(&verdict) == expectation.expect {
                continue;
            }
            failed += 1;
            said.push_str(&format!(
                "{}: {} {} by {} at {}: {} is expected, and it is {}\n",
                expectation.place,
                expectation.method,
                expectation.path,
                expectation.caller,
                book.text().listeners[listener].name,
                expectation.expect,
                word(&verdict)
            ));
            for why in &verdict.why {
                said.push_str(&format!("  {why}\n"));
            }
        }
    }
    say(&format!("{said}{} expectations, {failed} of them not met\n", all.len()));
    Ok(if failed == 0 { exit::CLEAN } else { exit::failed() })
}
