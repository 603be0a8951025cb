//! Links of the pages lead to files and headings that exist; so do the sections that errors, alerts and panels name.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn top() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file below these whose name ends so.
fn files(below: &[&str], ends: &[&str]) -> Vec<PathBuf> {
    let mut open: Vec<PathBuf> = below.iter().map(|name| top().join(name)).collect();
    let mut found = Vec::new();
    while let Some(path) = open.pop() {
        if path.is_dir() {
            open.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| ends.iter().any(|one| end == *one)) {
            found.push(path);
        }
    }
    found
}

/// The anchors of a page's headings, as they are made on the sites where it is read.
fn anchors(page: &Path) -> BTreeSet<String> {
    let mut in_code = false;
    let mut anchors = BTreeSet::new();
    for line in fs::read_to_string(page).unwrap().lines() {
        in_code ^= line.trim_start().starts_with("```");
        let Some(title) = line.strip_prefix('#').filter(|_| !in_code) else {
            continue;
        };
        let title = title.trim_start_matches('#').trim().to_lowercase();
        let kept = title
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        anchors.insert(kept.collect::<String>().replace(' ', "-"));
    }
    anchors
}

#[track_caller]
fn leads_somewhere(from: &Path, link: &str) {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = match file {
        "" => from.to_owned(),
        file => from.parent().unwrap().join(file),
    };
    assert!(target.exists(), "{}: there is no {link}", from.display());
    let is_page = target.extension().is_some_and(|end| end == "md");
    let exists = anchor.is_empty() || !is_page || anchors(&target).contains(anchor);
    assert!(exists, "{}: {link} has no such heading", from.display());
}

#[test]
fn links_of_pages() {
    let pages = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "docs",
        "deploy",
        "tests/clients",
    ];
    let mut seen = 0;
    for page in files(&pages, &["md"]) {
        let text = fs::read_to_string(&page).unwrap();
        for part in text.split("](").skip(1) {
            let link = part.split([')', ' ']).next().unwrap_or_default();
            if !link.contains("://") && !link.starts_with("mailto:") {
                leads_somewhere(&page, link);
                seen += 1;
            }
        }
    }
    assert!(seen > 200, "only {seen}");
}

#[test]
fn sections_that_the_program_and_its_alerts_name() {
    let mut seen = 0;
    for file in files(&["src", "deploy"], &["rs", "yml", "yaml", "json"]) {
        let text = fs::read_to_string(&file).unwrap();
        for (at, _) in text.match_indices("docs/") {
            let rest = &text[at..];
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"/._-#".contains(c));
            let name = rest[..end.unwrap_or(rest.len())].trim_end_matches(['.', '-', '_']);
            // One that is put together while the program runs ends at its `#`.
            if name.contains(".md#") && !name.ends_with('#') {
                leads_somewhere(&top().join("README.md"), name);
                seen += 1;
            }
        }
    }
    assert!(seen > 50, "only {seen}");
}
