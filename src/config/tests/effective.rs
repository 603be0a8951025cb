//! What `print-config` prints means what is in force, says where each value comes from, and holds no secret.

use super::examples::{case, example, folder};
use super::precedence::{certificate, rows};
use super::*;
use crate::config::effective;

impl Case {
    #[track_caller]
    fn printed(&self) -> String {
        effective(self.sources()).unwrap()
    }
}

/// All settings, as text, without what names them.
fn meaning(settings: Settings) -> String {
    format!(
        "{:#?}",
        Settings {
            digest: String::new(),
            ..settings
        }
    )
}

/// A page with its lines less the comments: `key = value  # where`.
fn without_comments(text: &str) -> Vec<&str> {
    let lines = text.lines().map(|line| line.split("  # ").next().unwrap().trim_end());
    lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .collect()
}

#[test]
fn every_way_to_say_a_setting_is_printed_as_it_counts_with_its_origin() {
    let files = ["/etc/flag.pem", "/etc/variable.pem", "/etc/ca.pem"];
    let with_files = |case: Case| {
        files
            .into_iter()
            .fold(case, |case, path| case.file(path, certificate()))
    };
    for row in rows() {
        let again = |printed: &str| (row.read)(&with_files(Case::new()).toml(printed).settings());
        let case = with_files(Case::new());
        assert_eq!(again(&case.printed()), row.default, "{}: default", row.name);
        let case = case.toml(row.file.0);
        let printed = case.printed();
        assert_eq!(again(&printed), row.file.1, "{}: file", row.name);
        assert!(
            printed.contains("  # /etc/proxy.toml:2\n") || printed.contains("  # /etc/proxy.toml:1\n"),
            "{printed}"
        );
        let (variable, value, expected) = row.variable;
        let case = case.env(variable, value);
        let printed = case.printed();
        assert_eq!(again(&printed), expected, "{}: variable", row.name);
        assert!(
            printed.contains(&format!("  # {variable}\n")),
            "{}: {printed}",
            row.name
        );
        let printed = case.flags(row.flag.0).printed();
        assert_eq!(again(&printed), row.flag.1, "{}: flag", row.name);
        assert!(
            printed.contains(&format!("  # --{}\n", row.name)),
            "{}: {printed}",
            row.name
        );
    }
}

/// The defaults are written out then: this shows that they are those that hold, too.
#[test]
fn every_example_means_the_same_when_it_is_printed() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if !name.ends_with(".toml") || name.ends_with(".test.toml") {
            continue;
        }
        let given = case(&example(&name));
        let printed = given.printed();
        let Case {
            files,
            environment,
            flags,
        } = given;
        let before = Case {
            files: files.clone(),
            environment: environment.clone(),
            flags: flags.clone(),
        };
        let after = Case {
            files,
            environment,
            flags,
        }
        .toml(&printed);
        assert_eq!(
            meaning(after.settings()),
            meaning(before.settings()),
            "{name}:\n{printed}"
        );
        assert_eq!(without_comments(&after.printed()), without_comments(&printed), "{name}");
    }
}

#[test]
fn credentials_are_told_by_where_they_are() {
    let printed = Case::new().printed();
    assert!(printed.contains(&format!("client_id = \"{ID}\" ")), "{printed}");
    assert!(printed.contains("# client secret: set, not shown"), "{printed}");
    assert!(printed.contains("# MONGODB_ATLAS_CLIENT_SECRET\n"), "{printed}");
    let file = Case::bare()
        .env("MONGODB_ATLAS_CLIENT_ID", ID)
        .env("MONGODB_ATLAS_CLIENT_SECRET_FILE", "/run/secret")
        .file("/run/secret", SECRET)
        .toml("[account.default]\nclient_secret_file = '/elsewhere'");
    let printed = file.printed();
    assert!(printed.contains("client_secret_file = \"/run/secret\""), "{printed}");
    assert!(
        !printed.contains("/elsewhere"),
        "what a variable takes the place of is not in force: {printed}"
    );
    let systemd = Case::bare()
        .env("MONGODB_ATLAS_CLIENT_ID", ID)
        .env("CREDENTIALS_DIRECTORY", "/run/credentials/x")
        .file("/run/credentials/x/client-secret", SECRET);
    let printed = systemd.printed();
    assert!(
        printed.contains("# $CREDENTIALS_DIRECTORY/client-secret\n"),
        "{printed}"
    );
    assert!(!printed.contains(SECRET));
}

#[test]
fn variables_without_a_key_are_named_without_their_values() {
    let case = Case::new()
        .env("HTTPS_PROXY", "http://user:pass-word-7@proxy.example:3128")
        .env("OTEL_EXPORTER_OTLP_HEADERS", "authorization=pass-word-7");
    let printed = case.printed();
    let line = "# Also in force, from the environment alone: HTTPS_PROXY, OTEL_EXPORTER_OTLP_HEADERS.\n";
    assert!(printed.contains(line), "{printed}");
    assert!(!printed.contains("pass-word-7"), "{printed}");
}

/// People paste secrets into wrong places, also into such as can't hold any.
#[test]
fn no_secret_is_printed_wherever_it_stands() {
    let user = "https://user:pass-word-7@proxy.example:3128";
    for value in [SECRET, PRIVATE_KEY, user] {
        let toml = format!(
            "drain_delay = '{value}'\n[[listener]]\nbind = '{value}'\nhosts = ['{value}']\nrequired_header = '{value}'\n\
             [listener.tls]\nkey = '{value}'\n[[caller]]\nname = '{value}'\nsecret_command = ['/bin/x', '{value}']\n\
             jwt = [{{ issuer = 'x', claims = {{ x = '{value}' }} }}]\n[[caller.rule]]\npath = '{value}'\n\
             [account.default]\nclient_id = '{value}'\npublic_key = '{value}'\nproxy = '{value}'\nbase_url = '{value}'\n\
             [token_store]\nurl = '{value}'\n"
        );
        let cases = [
            Case::bare().toml(&toml),
            Case::bare()
                .env("MONGODB_ATLAS_CLIENT_ID", value)
                .env("ATLAS_PROXY_BASE_URL", value),
            Case::bare().env("MONGODB_ATLAS_PUBLIC_KEY", value).flags(|flags| {
                flags.base_url = Some(value.to_owned());
                flags.listen = vec![value.to_owned()];
            }),
            Case::bare()
                .env("MONGODB_ATLAS_PRIVATE_KEY", value)
                .env("MONGODB_ATLAS_CLIENT_SECRET", value),
        ];
        for case in cases {
            let printed = case.printed();
            for part in [SECRET, PRIVATE_KEY, "pass-word-7"] {
                assert!(!printed.contains(part), "{printed}");
            }
        }
    }
}

#[test]
fn passwords_in_odd_places_and_arguments_of_commands_are_not_printed() {
    let toml = "[account.default]\nproxy = 'user:hunter4@proxy.example:3128'\nbase_url = 'https://h/?key=hunter4'\n\
                client_secret_command = ['/bin/x', '--password=hunter4']\n[token_store]\nurl = 'redis:user:hunter4@host'\n";
    let printed = Case::new().toml(toml).printed();
    assert!(
        !printed.contains("hunter4") && printed.contains("(not shown)"),
        "{printed}"
    );
    let refused = Case::new()
        .toml("[account.default]\nconnect_to = 'svc:hunter4@vault:1'")
        .errors();
    assert!(!refused.concat().contains("hunter4"), "{refused:?}");
}

#[test]
fn values_cannot_leave_their_line() {
    let odd = Case::new()
        .toml("[[listener]]\nrequired_header = \"x\\u009b31m\\u202e\"")
        .printed();
    assert!(odd.contains("x\\u009b31m\\u202e"), "{odd}");
    let toml = "[[listener]]\nhosts = [\"a\\nb\\\"c\\u001b\\u007f\"]\n[[caller]]\nname = \"\\n[admin]\\nquit = true\"";
    let printed = Case::new().toml(toml).printed();
    assert!(printed.contains("hosts = [\"a\\nb\\\"c\\u001b\\u007f\"]"), "{printed}");
    assert_eq!(printed.matches("\n[admin]").count(), 1, "{printed}");
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    let errors = effective(Case::new().toml("workrs = 1").sources()).unwrap_err();
    assert!(errors.to_string().contains("did you mean `workers`"), "{errors}");
}
