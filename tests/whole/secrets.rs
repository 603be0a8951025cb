//! Looks for what belongs to Atlas alone in everything that a process has: memory, environment, files.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;

use atlas_auth_proxy::emulator::Record;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use memchr::memmem;

use crate::fleet::{ACCOUNTS, Fleet};
use crate::program::Program;
use crate::report::Report;

/// Read at a time; what is looked for is shorter than the overlap.
const PIECE: usize = 4 << 20;
const OVERLAP: usize = 1 << 10;

/// Names of secrets, and what is looked for.
struct Needles(Vec<(String, memmem::Finder<'static>)>);

impl Needles {
    /// Client secrets as they are and as they travel, and every token that was given, without what all have in common.
    fn of_atlas(record: &Record) -> Self {
        let mut needles = Vec::new();
        for account in &ACCOUNTS {
            for (n, secret) in [account.secret, account.next_secret].into_iter().enumerate() {
                let name = format!("secret {n} of account {}", account.name);
                needles.push((
                    format!("{name}, Base64"),
                    STANDARD.encode(format!("{}:{secret}", account.id)),
                ));
                needles.push((name, secret.to_owned()));
            }
        }
        for (n, given) in record.tokens.iter().enumerate() {
            let own = given.token.rsplit('.').next().unwrap_or_default();
            // A part of it is as bad as the whole.
            needles.push((format!("token {n}"), own[own.len() / 4..own.len() / 2].to_owned()));
        }
        Self::new(needles)
    }

    fn new(needles: Vec<(String, String)>) -> Self {
        let finder = |text: String| memmem::Finder::new(text.as_bytes()).into_owned();
        Self(needles.into_iter().map(|(name, text)| (name, finder(text))).collect())
    }

    fn found_in(&self, bytes: &[u8], place: &str, found: &mut BTreeSet<String>) {
        for (name, needle) in &self.0 {
            if needle.find(bytes).is_some() {
                found.insert(format!("{name} in {place}"));
            }
        }
    }

    /// What is found, and how many bytes of memory were looked at.
    fn found_at(&self, program: &Program) -> (BTreeSet<String>, usize) {
        let (mut found, mut bytes) = (BTreeSet::new(), 0);
        let pid = program.pid().unwrap_or_else(|| panic!("{} runs", program.name));
        let process = Path::new("/proc").join(pid.to_string());
        let environment = fs::read(process.join("environ")).unwrap();
        self.found_in(&environment, "its environment", &mut found);
        self.found_in(&fs::read(process.join("cmdline")).unwrap(), "its arguments", &mut found);
        self.files(&program.folder, &mut found);
        let memory = File::open(process.join("mem")).unwrap();
        let maps = fs::read_to_string(process.join("maps")).unwrap();
        let mut piece = vec![0; PIECE];
        for map in maps.lines() {
            let mut words = map.split(' ');
            let (range, rights) = (words.next().unwrap(), words.next().unwrap());
            if !rights.starts_with('r') || map.ends_with("[vvar]") || map.ends_with("[vsyscall]") {
                continue;
            }
            let (from, to) = range.split_once('-').unwrap();
            let address = |text| u64::from_str_radix(text, 16).unwrap();
            let (mut at, to) = (address(from), address(to));
            while at < to {
                let size = usize::try_from(to - at).unwrap().min(PIECE);
                // What is not backed by memory can't be read.
                let Ok(read @ 1..) = memory.read_at(&mut piece[..size], at) else {
                    break;
                };
                self.found_in(&piece[..read], "its memory", &mut found);
                bytes += read;
                if at + read as u64 >= to {
                    break;
                }
                at += (read.saturating_sub(OVERLAP)).max(1) as u64;
            }
        }
        (found, bytes)
    }

    fn files(&self, folder: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.files(&path, found);
            } else {
                self.found_in(&fs::read(&path).unwrap(), &path.display().to_string(), found);
            }
        }
    }
}

/// No leaf has anything of Atlas; that the search finds what is there is seen at gateways, and at the leaves' own.
pub fn examine(fleet: &Fleet, record: &Record, when: &str, report: &mut Report) {
    let atlas = Needles::of_atlas(record);
    let mut total = 0;
    for leaf in &fleet.leaves {
        let (found, bytes) = atlas.found_at(&leaf.program);
        total += bytes;
        for secret in found {
            report.wrong(format!("{}: {secret} ({when})", leaf.program.name));
        }
        // The port that it listens at stands in its settings: an odd thing to find by chance.
        let own = fs::read_to_string(leaf.program.file("token"));
        let own = own
            .or_else(|_| fs::read_to_string(leaf.program.file("proxy.toml")))
            .unwrap();
        let own = own.trim_end();
        let (seen, _) =
            Needles::new(vec![("its own".to_owned(), own[own.len() - 40..].to_owned())]).found_at(&leaf.program);
        let in_memory = seen.contains("its own in its memory") || !leaf.program.file("token").exists();
        report.check(in_memory, || {
            format!(
                "{}: its own token is not found in its memory: the search is no good",
                leaf.program.name
            )
        });
    }
    for gateway in fleet.gateways.iter().filter(|gateway| gateway.pid().is_some()) {
        let (found, _) = atlas.found_at(gateway);
        let in_memory = found
            .iter()
            .any(|one| one.starts_with("token") && one.ends_with("memory"));
        report.check(in_memory, || {
            format!(
                "{}: no token is found in its memory: the search is no good",
                gateway.name
            )
        });
    }
    println!(
        "{when}: {:.1} MiB of memory of {} leaves searched for {} secrets and tokens of Atlas",
        total as f64 / f64::from(1 << 20),
        fleet.leaves.len(),
        atlas.0.len()
    );
}
