//! Logging: lines on standard error, for people or for machines (docs/OPERATIONS.md, "Log").

#[cfg(test)]
mod captured;
mod line;
mod outlet;
mod request;
mod shape;

use std::io::{self, IsTerminal, Write as _};
use std::os::fd::AsFd;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

#[cfg(test)]
pub(crate) use captured::captured;
pub use line::{Line, clean};
pub use outlet::{Outlet, write_all};
pub use request::RequestRecord;
use shape::{Fields, Shape};

/// How long the end of the process waits for the reader of the log.
const FLUSH_LIMIT: Duration = Duration::from_secs(1);

/// Standard error, once logging has begun. One for the process, as standard error is.
static STDERR: OnceLock<Stderr> = OnceLock::new();
static LOST: AtomicU64 = AtomicU64::new(0);

/// Standard error with its queue.
struct Stderr {
    outlet: Outlet,
    shape: Shape,
}

/// How to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// The least severe level shown.
    pub level: LevelFilter,
    /// The format of a line.
    pub format: LogFormat,
}

/// The format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl LogFormat {
    /// Text on a terminal, else JSON.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Text
        } else {
            Self::Json
        }
    }
}

/// Our own events; those of the crates that we use stay at `warn`: below that, some print headers and bodies.
const OURS: &str = "atlas_auth_proxy";

/// Starts logging, through a queue with a thread of its own. A second call in one process changes nothing.
///
/// # Errors
/// When no thread can be made.
pub fn init(settings: &LogSettings) -> io::Result<()> {
    if STDERR.get().is_some() {
        return Ok(());
    }
    let lost = |lines| {
        LOST.fetch_add(lines, Ordering::Relaxed);
    };
    let say = |lines: u64| {
        tracing::warn!(
            lines,
            "log lines were lost: nobody read the log, and they found no room"
        );
    };
    let stderr = STDERR.get_or_init({
        let outlet = Outlet::start("log", io::stderr().as_fd(), lost, say)?;
        let shape = match settings.format {
            LogFormat::Json => Shape::Json,
            LogFormat::Text => Shape::Text {
                colours: io::stderr().is_terminal(),
            },
        };
        move || Stderr { outlet, shape }
    });
    let filter = Targets::new()
        .with_default(settings.level.min(LevelFilter::WARN))
        .with_target(OURS, settings.level);
    let layer = formatter(stderr.shape, || &stderr.outlet).with_filter(filter);
    let _ = tracing_subscriber::registry().with(layer).try_init();
    std::panic::set_hook(Box::new(|panic| {
        // The payload may hold anything, so it is not logged.
        let place = panic.location().map_or_else(String::new, ToString::to_string);
        tracing::error!(place, "a defect ended one task; please report it with this line");
    }));
    Ok(())
}

/// What makes lines of events.
fn formatter<W: io::Write + 'static>(
    shape: Shape,
    to: impl Fn() -> W + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    match shape {
        Shape::Json => tracing_subscriber::fmt::layer()
            .json()
            .flatten_event(true)
            .with_writer(to)
            .boxed(),
        Shape::Text { colours } => tracing_subscriber::fmt::layer()
            .with_ansi(colours)
            .with_writer(move || Printable { to: to(), colours })
            .boxed(),
    }
}

/// Lines that were lost since the start: they found no room, or nobody was there to read them.
pub fn lines_dropped() -> u64 {
    LOST.load(Ordering::Relaxed)
}

/// One line to standard error, whatever the level: never waits for its reader once logging has begun.
pub fn say(line: &str) {
    let line = format!("{line}\n");
    match STDERR.get() {
        Some(stderr) => stderr.outlet.put(line.as_bytes()),
        // There is nowhere else to say that standard error is closed.
        None => drop(io::stderr().lock().write_all(line.as_bytes())),
    }
}

/// Tells what the last line of the audit log is, whatever the level: a proof depends on it. `head` is an object.
pub fn audit_head(head: &serde_json::Value) {
    const TARGET: &str = "atlas_auth_proxy::audit";
    const MESSAGE: &str = "the last line of the audit log";
    match STDERR.get() {
        Some(Stderr {
            outlet,
            shape: Shape::Json,
        }) => {
            let mut line = Fields::begin(Shape::Json, jiff::Timestamp::now(), TARGET, MESSAGE);
            line.value("audit", head);
            outlet.put(&line.end(TARGET));
        }
        _ if tracing::enabled!(target: TARGET, tracing::Level::INFO) => {
            tracing::info!(target: TARGET, audit = %head, "{MESSAGE}");
        }
        _ => say(&format!(
            "{:.6}  INFO {TARGET}: {MESSAGE} audit={head}",
            jiff::Timestamp::now()
        )),
    }
}

/// To be called before the process ends: gives what was logged a moment to be read.
pub fn flush() {
    if let Some(stderr) = STDERR.get() {
        stderr.outlet.flush(FLUSH_LIMIT);
    }
}

/// Writes lines of printable ASCII: anything else in a line, such as in error texts of others, is escaped.
struct Printable<W> {
    to: W,
    /// The formatter's own colours stay; it escapes what looks like them in values.
    colours: bool,
}

impl<W: io::Write> io::Write for Printable<W> {
    /// One whole line, as the formatter makes it.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (text, end) = line.strip_suffix(b"\n").map_or((line, &b""[..]), |text| (text, b"\n"));
        let stays = |byte: u8| matches!(byte, b' '..=b'~') || self.colours && byte == 0x1b;
        if text.iter().copied().all(stays) {
            self.to.write_all(line)?;
        } else {
            let mut printable = String::with_capacity(line.len() + 16);
            for c in String::from_utf8_lossy(text).chars() {
                if u8::try_from(c).is_ok_and(stays) {
                    printable.push(c);
                } else {
                    printable.extend(c.escape_default());
                }
            }
            self.to.write_all(&[printable.as_bytes(), end].concat())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_text_is_printable_ascii() {
        for (line, colours, written) in [
            ("a \"b\" ~\n", false, "a \"b\" ~\n"),
            ("a\nb\r\tc\n", false, "a\\nb\\r\\tc\n"),
            (
                "\u{1b}[31mé\u{202e}…\u{7f}\n",
                false,
                "\\u{1b}[31m\\u{e9}\\u{202e}\\u{2026}\\u{7f}\n",
            ),
            ("\u{1b}[31mé\n", true, "\u{1b}[31m\\u{e9}\n"),
        ] {
            let mut to = Vec::new();
            let mut printable = Printable { to: &mut to, colours };
            printable.write_all(line.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(to).unwrap(), written);
        }
    }
}
