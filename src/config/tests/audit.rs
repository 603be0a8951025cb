//! `[audit]`.

use super::*;
use crate::audit::{AuditFormat, AuditSettings, Destination, Include, PathShown, WhenFull};

fn audit(table: &str) -> Case {
    Case::new()
        .toml(&format!("[audit]\n{table}\n"))
        .file("/etc/key", format!("{STORE_KEY}\n"))
}

fn refused(table: &str) -> String {
    audit(table).try_load().unwrap_err().join("\n")
}

#[test]
fn the_defaults_are_those_of_the_reference_and_paths_start_at_the_files_folder() {
    let settings = audit("file = \"audit.jsonl\"").settings().audit.unwrap();
    assert_eq!(
        settings,
        AuditSettings {
            to: Destination::File("/etc/audit.jsonl".into()),
            include: Include::Changes,
            format: AuditFormat::Json,
            when_full: WhenFull::Refuse,
            path: PathShown::Full,
            keys: None,
        }
    );
    let settings = audit(
        "file = \"/a\"\ninclude = \"all\"\nformat = \"ocsf\"\nwhen_full = \"drop\"\nchain_key_file = \"key\"\npath = \"template\"",
    );
    let settings = settings.settings().audit.unwrap();
    assert!(settings.keys.is_some());
    let AuditSettings {
        include,
        format,
        when_full,
        path,
        ..
    } = settings;
    assert_eq!(
        (include, format, when_full, path),
        (Include::All, AuditFormat::Ocsf, WhenFull::Drop, PathShown::Template)
    );
    assert!(Case::new().settings().audit.is_none());
}

#[test]
fn standard_output_must_say_that_lines_may_be_lost_and_takes_no_chain() {
    assert!(
        audit("file = \"stdout\"\nwhen_full = \"drop\"")
            .settings()
            .audit
            .is_some()
    );
    assert!(refused("file = \"stdout\"").contains("when_full = \"drop\""));
    let said = refused("file = \"stdout\"\nwhen_full = \"drop\"\nchain_key_file = \"key\"");
    assert!(said.contains("takes no chain"), "{said}");
}

#[test]
fn each_mistake_is_named_with_what_to_write() {
    for (table, says) in [
        ("include = \"all\"", "`file` is missing"),
        ("file = \"/a\"\ninclude = \"change\"", "did you mean `changes`?"),
        ("file = \"/a\"\nformat = \"cef\"", "`json`, `ocsf`"),
        ("file = \"/a\"\nwhen_full = \"wait\"", "`refuse`, `drop`"),
        ("file = \"/a\"\npath = \"none\"", "`full`, `template`"),
        ("file = \"/a\"\nchain_key = \"00\"", "`chain_key_file`"),
        ("file = \"/a\"\nchain_key_file = \"/none\"", "cannot read the file"),
    ] {
        let said = refused(table);
        assert!(said.contains(says), "{table}: {said}");
    }
    let said = audit("file = \"/a\"\nchain_key_file = \"key\"")
        .file("/etc/key", "0123")
        .try_load()
        .unwrap_err();
    assert!(
        said[0].contains("64 hexadecimal digits") && !said[0].contains("0123"),
        "{said:?}"
    );
}

/// What names the settings follows file, variables and flags, and no secret.
#[test]
fn other_settings_have_another_digest_and_other_secrets_have_not() {
    let digest = |case: Case| case.settings().digest;
    let one = digest(Case::new());
    assert_eq!(one.len(), 64);
    assert_eq!(
        one,
        digest(Case::new().env("MONGODB_ATLAS_CLIENT_SECRET", "mdb_sa_sk_Another-Secret"))
    );
    assert_ne!(one, digest(Case::new().toml("workers = 2\n")));
    assert_ne!(one, digest(Case::new().env("ATLAS_PROXY_READ_ONLY", "true")));
    assert_ne!(
        one,
        digest(Case::new().flags(|flags| flags.read_only = Some("true".to_owned())))
    );
}
