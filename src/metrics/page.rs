//! The tables of docs/METRICS.md are made from the table of families and from the label values.

use std::fmt::Write;
use std::{env, fs};

use super::Metrics;
use super::families::DESCRIBED;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/METRICS.md");
const BEGIN: &str = "<!-- begin: made by `BLESS=1 cargo test --lib metrics::page` -->\n";
const END: &str = "<!-- end -->\n";

fn tables() -> String {
    let mut text = "| metric | kind | labels | tells |\n|---|---|---|---|\n".to_owned();
    let mut values = String::new();
    for family in DESCRIBED {
        let kind = match family.kind {
            "IntCounterVec" => "counter",
            "HistogramVec" => "histogram",
            _ => "gauge",
        };
        let mut labels = Vec::new();
        for (label, described) in family.labels {
            let sets = described.iter();
            for set in sets {
                let _ = writeln!(
                    values,
                    "\n### {label} of {}\n\n| value | means |\n|---|---|",
                    family.name
                );
                for (value, meaning) in *set {
                    let _ = writeln!(values, "| `{value}` | {} |", meaning.trim());
                }
            }
            labels.push(match described.is_empty() {
                true => (*label).to_owned(),
                false => format!("[{label}](#{label}-of-{})", family.name),
            });
        }
        let _ = writeln!(
            text,
            "| `{}` | {kind} | {} | {} |",
            family.name,
            labels.join(", "),
            family.help.trim()
        );
    }
    for family in Metrics::new(&[]).registry.gather() {
        if family.name().starts_with("process_") {
            let kind = format!("{:?}", family.get_field_type()).to_ascii_lowercase();
            let help = family.help().trim_end_matches('.');
            let _ = writeln!(
                text,
                "| `{}` (without the prefix) | {kind} | | {help}. |",
                family.name()
            );
        }
    }
    format!("{text}\n## Values of labels\n{values}")
}

#[test]
fn the_page_has_the_families_and_label_values_that_there_are() {
    let page = fs::read_to_string(PAGE).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let made = format!("{before}{BEGIN}\n{}\n{END}{after}", tables());
    if env::var_os("BLESS").is_some() {
        return fs::write(PAGE, &made).unwrap();
    }
    let line = page.lines().zip(made.lines()).find(|(is, should)| is != should);
    assert!(
        page == made,
        "BLESS=1 cargo test --lib metrics::page writes it anew; the first line that differs: {line:#?}"
    );
}
