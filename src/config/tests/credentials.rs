//! Which credential an account gets, and what is said when it gets none. No message ever holds a value.

use super::*;
use crate::credential::CredentialSettings;

fn service_account(case: &Case) -> (String, String) {
    account(case, "default")
}

#[track_caller]
fn account(case: &Case, name: &str) -> (String, String) {
    match &case.settings().accounts[name].credential {
        CredentialSettings::ServiceAccount(key) => (key.client_id.clone(), key.secrets.current.expose().to_owned()),
        CredentialSettings::ApiKey(key) => (key.public_key.clone(), key.private_key.expose().to_owned()),
        CredentialSettings::Identity(_) => panic!("it has no credential of Atlas"),
    }
}

fn pair(a: &str, b: &str) -> (String, String) {
    (a.to_owned(), b.to_owned())
}

#[test]
fn each_way_to_give_a_service_account() {
    assert_eq!(service_account(&Case::new()), pair(ID, SECRET));
    let files = || Case::bare().file("/s/id", ID).file("/s/secret", format!("{SECRET}\n"));
    let by_variables = files()
        .env("MONGODB_ATLAS_CLIENT_ID_FILE", "/s/id")
        .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", "/s/secret");
    assert_eq!(service_account(&by_variables), pair(ID, SECRET));
    let by_file = files().toml("[account.default]\nclient_id_file = '/s/id'\nclient_secret_file = '/s/secret'");
    assert_eq!(service_account(&by_file), pair(ID, SECRET));
    let mixed = files()
        .env("MONGODB_ATLAS_CLIENT_ID", "mdb_sa_id_other")
        .toml("[account.default]\nclient_id = 'x'\nclient_secret_file = '/s/secret'");
    assert_eq!(service_account(&mixed), pair("mdb_sa_id_other", SECRET));
    let beside_the_configuration = Case::bare()
        .file("/etc/secret", SECRET)
        .toml("[account.default]\nclient_id = 'any-name'\nclient_secret_file = 'secret'");
    assert_eq!(service_account(&beside_the_configuration), pair("any-name", SECRET));
}

#[test]
fn each_way_to_give_an_api_key() {
    for (public, private) in [
        ("MONGODB_ATLAS_PUBLIC_API_KEY", "MONGODB_ATLAS_PRIVATE_API_KEY"),
        ("MONGODB_ATLAS_PUBLIC_KEY", "MONGODB_ATLAS_PRIVATE_KEY"),
        ("MONGODB_ATLAS_PUBLIC_KEY", "MONGODB_ATLAS_PRIVATE_API_KEY"),
    ] {
        let plain = Case::bare().env(public, "abcdefgh").env(private, PRIVATE_KEY);
        assert_eq!(account(&plain, "default"), pair("abcdefgh", PRIVATE_KEY));
        let files = Case::bare()
            .file("/s/public", "abcdefgh")
            .file("/s/private", PRIVATE_KEY)
            .env(&format!("{public}_FILE"), "/s/public")
            .env(&format!("{private}_FILE"), "/s/private");
        assert_eq!(account(&files, "default"), pair("abcdefgh", PRIVATE_KEY));
    }
    let by_file = Case::bare()
        .file("/s/private", PRIVATE_KEY)
        .toml("[account.default]\npublic_key = 'abcdefgh'\nprivate_key_file = '/s/private'\ndigest_max_concurrent = 3");
    assert_eq!(account(&by_file, "default"), pair("abcdefgh", PRIVATE_KEY));
    assert!(matches!(
        &by_file.settings().accounts["default"].credential,
        CredentialSettings::ApiKey(key) if key.max_concurrent.is_some_and(|n| n.get() == 3)
    ));
}

#[test]
fn the_id_of_an_api_key_is_one() {
    let case = |id: &str| {
        Case::bare().file("/s/private", PRIVATE_KEY).toml(&format!(
            "[account.default]\npublic_key = 'abcdefgh'\nprivate_key_file = '/s/private'\napi_key_id = '{id}'"
        ))
    };
    let settings = case("5c47503320eef5699e1cce8d").settings();
    let account = &settings.accounts["default"];
    assert!(!account.lacks_its_name_in_paths());
    let names: Vec<&str> = account.names_in_paths().collect();
    assert_eq!(names, ["abcdefgh", "5c47503320eef5699e1cce8d"]);
    let said = case("abcdefgh").error();
    assert!(
        said.contains("24 hexadecimal digits") && said.contains("atlas-auth-proxy check"),
        "{said}"
    );
}

#[test]
fn systemd_credentials_are_found() {
    let directory = || Case::bare().env("CREDENTIALS_DIRECTORY", "/run/cred");
    let by_name = directory()
        .file("/run/cred/client-id", ID)
        .file("/run/cred/client-secret", SECRET);
    assert_eq!(service_account(&by_name), pair(ID, SECRET));
    let by_variable_names = directory()
        .file("/run/cred/MONGODB_ATLAS_PUBLIC_API_KEY", "abcdefgh")
        .file("/run/cred/mongodb_atlas_private_api_key", PRIVATE_KEY);
    assert_eq!(account(&by_variable_names, "default"), pair("abcdefgh", PRIVATE_KEY));
    let relative = directory()
        .file("/run/cred/one", ID)
        .file("/run/cred/two", SECRET)
        .env("MONGODB_ATLAS_CLIENT_ID_FILE", "one")
        .toml("[account.default]\nclient_secret_file = 'two'");
    assert_eq!(service_account(&relative), pair(ID, SECRET));
    let second_half = directory()
        .file("/run/cred/client-secret", SECRET)
        .file("/run/cred/public-key", "of the other kind, not looked at")
        .env("MONGODB_ATLAS_CLIENT_ID", ID);
    assert_eq!(service_account(&second_half), pair(ID, SECRET));
    let both = by_name.file("/run/cred/private-key", PRIVATE_KEY);
    assert!(both.error().contains("$CREDENTIALS_DIRECTORY/private-key"));
}

#[test]
fn several_accounts_have_a_credential_each() {
    let case = Case::new()
        .file("/g/id", "mdb_sa_id_gov")
        .file("/g/secret", "gov-secret")
        .toml(
            "[[listener]]\naccount = 'default'\n[[listener]]\nbind = '127.0.0.1:8082'\naccount = 'gov'\n\
             [account.gov]\nenvironment = 'gov'\nclient_id_file = '/g/id'\nclient_secret_file = '/g/secret'",
        );
    assert_eq!(account(&case, "default"), pair(ID, SECRET));
    assert_eq!(account(&case, "gov"), pair("mdb_sa_id_gov", "gov-secret"));
    let settings = case.settings();
    assert_eq!(settings.listeners[1].account, "gov");
    let origin = |name: &str| settings.accounts[name].upstream.origin.to_string();
    assert_eq!(origin("default"), "https://cloud.mongodb.com");
    assert_eq!(origin("gov"), "https://cloud.mongodbgov.com");
}

#[test]
fn variables_are_about_the_only_account_whatever_its_name() {
    let case = Case::new().toml("[account.prod]\nenvironment = 'gov'");
    assert_eq!(account(&case, "prod"), pair(ID, SECRET));
    assert_eq!(case.settings().listeners[0].account, "prod");
}

#[test]
fn variables_that_fit_no_account_are_refused() {
    let toml = "[[listener]]\naccount = 'a'\n[[listener]]\nbind = '127.0.0.1:1'\naccount = 'b'\n\
                [account.a]\nclient_id = 'i'\nclient_secret_file = '/s'\n\
                [account.b]\nclient_id = 'i'\nclient_secret_file = '/s'";
    let case = Case::bare().file("/s", SECRET).toml(toml);
    case.settings();
    let errors = case
        .env("MONGODB_ATLAS_CLIENT_SECRET", SECRET)
        .flags(|f| f.base_url = Some("https://h.example".into()))
        .errors();
    assert!(
        errors[0].starts_with("--base-url: the file speaks of several accounts (`a`, `b`)"),
        "{errors:#?}"
    );
    assert!(errors[1].starts_with("MONGODB_ATLAS_CLIENT_SECRET: "), "{errors:#?}");
    assert_eq!(errors.len(), 2);
}

#[test]
fn neither_kind_is_explained() {
    let said = Case::bare().error();
    for name in [
        "`default`",
        "MONGODB_ATLAS_CLIENT_ID",
        "MONGODB_ATLAS_CLIENT_SECRET",
        "MONGODB_ATLAS_PUBLIC_API_KEY",
        "MONGODB_ATLAS_PRIVATE_API_KEY",
        "_FILE",
        "client_secret_file",
    ] {
        assert!(said.contains(name), "{name} is missing: {said}");
    }
    let empty = Case::new()
        .env("MONGODB_ATLAS_CLIENT_ID", "")
        .env("MONGODB_ATLAS_CLIENT_SECRET", "");
    assert_eq!(empty.error(), said);
}

#[test]
fn both_kinds_are_named_with_their_places() {
    let said = Case::new()
        .file("/k", PRIVATE_KEY)
        .env("MONGODB_ATLAS_PUBLIC_KEY", "abcdefgh")
        .toml("[account.default]\nprivate_key_file = '/k'")
        .error();
    for place in [
        "client id from MONGODB_ATLAS_CLIENT_ID",
        "client secret from MONGODB_ATLAS_CLIENT_SECRET",
        "public key from MONGODB_ATLAS_PUBLIC_KEY",
        "private key from /etc/proxy.toml:2:20: `account.default.private_key_file`",
    ] {
        assert!(said.contains(place), "{place}: {said}");
    }
}

#[test]
fn half_a_credential_names_the_other_half() {
    let said = Case::bare().env("MONGODB_ATLAS_CLIENT_ID", ID).error();
    assert!(said.starts_with("MONGODB_ATLAS_CLIENT_ID: "), "{said}");
    assert!(
        said.contains("no client secret: set MONGODB_ATLAS_CLIENT_SECRET"),
        "{said}"
    );
    let said = Case::bare().env("MONGODB_ATLAS_PRIVATE_KEY", PRIVATE_KEY).error();
    assert!(
        said.contains("no public key: set MONGODB_ATLAS_PUBLIC_API_KEY"),
        "{said}"
    );
    let said = Case::bare().toml("[account.a]\nclient_id = 'i'").error();
    assert!(
        said.contains("`client_secret_file` in the file's [account.a]"),
        "{said}"
    );
}

#[test]
fn two_values_for_one_field_must_agree() {
    let same = Case::new()
        .file("/s", SECRET)
        .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", "/s");
    assert_eq!(service_account(&same), pair(ID, SECRET));
    let said = same.file("/s", "another").error();
    assert!(
        said.starts_with("MONGODB_ATLAS_CLIENT_SECRET: MONGODB_ATLAS_CLIENT_SECRET_FILE names another client secret"),
        "{said}"
    );
    let said = Case::bare()
        .env("MONGODB_ATLAS_PUBLIC_API_KEY", "one")
        .env("MONGODB_ATLAS_PUBLIC_KEY", "two")
        .env("MONGODB_ATLAS_PRIVATE_API_KEY", PRIVATE_KEY)
        .error();
    assert!(
        said.contains("MONGODB_ATLAS_PUBLIC_KEY names another public key"),
        "{said}"
    );
}

#[test]
fn values_are_trimmed_as_files_are_written() {
    for text in ["%", "%\n", "%\r\n", "\u{feff}%\r\n", "%\n\n"] {
        let case = Case::bare()
            .env("MONGODB_ATLAS_CLIENT_ID", ID)
            .file("/s", text.replace('%', SECRET))
            .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", "/s");
        assert_eq!(service_account(&case), pair(ID, SECRET), "{text:?}");
    }
}

/// Values that are refused, with what is said.
fn refused_values() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let bytes = |text: &str| text.as_bytes().to_vec();
    vec![
        ("CLIENT_SECRET", bytes("\r\n"), "this is empty"),
        ("CLIENT_SECRET", bytes("mdb_sa_sk_Hunter2 x"), "holds a blank"),
        ("CLIENT_SECRET", bytes(" mdb_sa_sk_Hunter2"), "holds a blank"),
        ("CLIENT_SECRET", bytes("mdb_sa_sk_Hunter2\nmore"), "more than one line"),
        ("CLIENT_SECRET", bytes("mdb_sa_sk_Hunter2\u{7}"), "control character"),
        ("CLIENT_SECRET", bytes("mdb_sa_sk_Hunter2é"), "beyond ASCII"),
        ("CLIENT_SECRET", bytes("\"mdb_sa_sk_Hunter2\""), "quotation marks"),
        ("CLIENT_SECRET", bytes("mdb_sa_id_Hunter2"), "were the two swapped?"),
        ("CLIENT_SECRET", b"\xFF\xFEH\0u\0".to_vec(), "UTF-16"),
        ("CLIENT_SECRET", b"Hunter2\xFF".to_vec(), "not UTF-8"),
        ("CLIENT_SECRET", vec![b'H'; 20_000], "more than 16384 bytes"),
        ("CLIENT_ID", bytes("mdb_sa_sk_Hunter2"), "were the two swapped?"),
        ("CLIENT_ID", bytes("Hunter2:x"), "holds a colon"),
        (
            "PUBLIC_API_KEY",
            bytes("mdb_sa_id_Hunter2"),
            "set MONGODB_ATLAS_CLIENT_ID",
        ),
        (
            "PRIVATE_API_KEY",
            bytes("mdb_sa_sk_Hunter2"),
            "set MONGODB_ATLAS_CLIENT_ID",
        ),
        ("PRIVATE_KEY", bytes("mdb_sa_sk_Hunter2"), "part of a service account"),
    ]
}

#[test]
fn bad_values_are_explained_and_never_shown() {
    for (field, value, expected) in refused_values() {
        let plain = format!("MONGODB_ATLAS_{field}");
        let in_file = format!("{plain}_FILE");
        let base = if field.contains("CLIENT") {
            Case::new().env(&plain, "")
        } else {
            Case::bare()
                .env(
                    "MONGODB_ATLAS_PUBLIC_API_KEY",
                    if field.contains("PUBLIC") { "" } else { "abcdefgh" },
                )
                .env(
                    "MONGODB_ATLAS_PRIVATE_API_KEY",
                    if field.contains("PRIVATE") { "" } else { PRIVATE_KEY },
                )
        };
        let case = base.file("/s/file", &value).env(&in_file, "/s/file");
        let said = case.error();
        assert!(said.contains(expected), "{field} {expected}: {said}");
        assert!(
            said.starts_with(&format!("{in_file}: ")) && said.contains("/s/file"),
            "{said}"
        );
        assert!(!said.to_lowercase().contains("hunter2"), "{said}");
        let Ok(text) = String::from_utf8(value) else { continue };
        let said = case.env(&in_file, "").env(&plain, &text).errors().join("\n");
        assert!(said.starts_with(&format!("{plain}: ")), "{said}");
        assert!(!said.to_lowercase().contains("hunter2"), "{said}");
    }
}

#[test]
fn a_secret_in_the_place_of_anything_else_is_not_shown() {
    let places: Vec<Case> = vec![
        Case::new().env("MONGODB_ATLAS_CLIENT_SECRET_FILE", SECRET),
        Case::bare()
            .env("MONGODB_ATLAS_PUBLIC_API_KEY", "abcdefgh")
            .env("MONGODB_ATLAS_PRIVATE_API_KEY_FILE", PRIVATE_KEY),
        Case::new().toml(&format!("[account.default]\nclient_secret = '{SECRET}'")),
        Case::new().toml(&format!(
            "[account.default]\nclient_secret_file = '{SECRET}'\nclient_id = 4"
        )),
        Case::new().toml(&format!("[account.default]\nprivate_key = '{PRIVATE_KEY}'")),
        Case::new().toml(&format!(
            "[account.default]\nprivate_key_file = '{PRIVATE_KEY}'\nhttp = 3"
        )),
        Case::new().toml(&format!("secret = {SECRET}")),
        Case::new().toml(&format!("'{SECRET}' = 1")),
        Case::new().toml(&format!("[account.'{SECRET}']")),
        Case::new().toml(&format!("[account]\nclient_id = 'x' '{SECRET}'")),
        Case::new().toml(&format!("[[listener]]\naccount = '{SECRET}'")),
        Case::new().toml(&format!(
            "[[listener]]\nbind = '{SECRET}'\nhosts = ['{SECRET}/']\nunmatched = '{SECRET}'"
        )),
        Case::new()
            .env("ATLAS_PROXY_BASE_URL", SECRET)
            .env("ATLAS_PROXY_WORKERS", SECRET),
        Case::new().env(
            "ATLAS_PROXY_BASE_URL",
            &format!("https://user:{SECRET}@cloud.mongodb.com"),
        ),
        Case::new()
            .env("ATLAS_PROXY_UPSTREAM_CA", SECRET)
            .env("MONGODB_ATLAS_SERVICE", SECRET),
        Case::new()
            .env("ATLAS_PROXY_DRAIN_TIMEOUT", SECRET)
            .env("ATLAS_PROXY_LOG_LEVEL", PRIVATE_KEY),
        Case::new().flags(|f| f.config = Some(SECRET.into())),
    ];
    for case in places {
        let said = case.errors().join("\n");
        assert!(!said.contains("Top-Secret") && !said.contains(PRIVATE_KEY), "{said}");
    }
}

#[test]
fn settings_can_be_printed_without_their_secrets() {
    let printed = format!("{:?}", Case::new().try_load().unwrap());
    assert!(!printed.contains("Top-Secret"), "{printed}");
}
