//! What figures are measured with on this machine.

use std::ffi::OsStr;
use std::process::Command;

use super::baseline::MadeWith;
use super::proxy::PINNED;

/// Prints [`shown`]: this program asks itself under valgrind.
pub(super) const SHOWN: &str = "--processor";

/// Features by which code of a request is chosen and that are not pinned away.
#[cfg(target_arch = "x86_64")]
pub(super) fn shown() -> Vec<&'static str> {
    macro_rules! of {
        ($($feature:tt)*) => {
            [$(std::arch::is_x86_feature_detected!($feature).then_some($feature)),*]
        };
    }
    let all = of!("aes" "avx" "avx2" "bmi1" "bmi2" "fma" "lzcnt" "movbe" "pclmulqdq" "popcnt" "sse4.2" "ssse3");
    all.into_iter().flatten().collect()
}

/// The committed figures are of another architecture.
#[cfg(not(target_arch = "x86_64"))]
pub(super) fn shown() -> Vec<&'static str> {
    Vec::new()
}

/// `Err`: what is missing.
pub(super) fn made_with() -> Result<MadeWith, String> {
    let myself = std::env::current_exe().map_err(|error| error.to_string())?;
    let valgrind = [
        OsStr::new("--tool=none"),
        OsStr::new("--quiet"),
        myself.as_os_str(),
        OsStr::new(SHOWN),
    ];
    Ok(MadeWith {
        architecture: std::env::consts::ARCH.to_owned(),
        libc: first_line("getconf", &["GNU_LIBC_VERSION".as_ref()]).unwrap_or_else(|_| "not glibc".to_owned()),
        rustc: first_line("rustc", &["--version".as_ref()])?,
        processor: first_line("valgrind", &valgrind)?
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
        pinned: PINNED
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect(),
    })
}

fn first_line(program: &str, arguments: &[&OsStr]) -> Result<String, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().next() {
        Some(line) if output.status.success() => Ok(line.trim().to_owned()),
        _ => Err(format!("{program}: {}", output.status)),
    }
}
