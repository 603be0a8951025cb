//! `[token_store]`: what is accepted, and one line for what is not.

use super::*;

fn case(table: &str) -> Case {
    Case::new()
        .toml(&format!("[token_store]\n{table}"))
        .file("/etc/key", STORE_KEY)
        .file("/etc/short", "0123456789abcdef0123456789abcdef\n")
        .file("/etc/empty", "")
        .file("/etc/password", "sesame open\n")
        .file("/etc/two-lines", "sesame\nopen\n")
        .file("/etc/none.pem", "no PEM at all")
}

#[cfg(not(feature = "token-store"))]
#[test]
fn a_build_without_it_says_so() {
    let said = case("url = 'redis://h'\nkey_file = 'key'").error();
    assert!(said.contains("cargo feature `token-store`"), "{said}");
}

#[cfg(feature = "token-store")]
mod with_it {
    use super::*;

    const KEY: &str = "key_file = 'key'";

    #[test]
    fn an_address_is_read() {
        for (url, shown, username) in [
            ("redis://h", "redis://h:6379/0", None),
            ("redis://H.example:7000/", "redis://h.example:7000/0", None),
            ("rediss://127.0.0.1/3", "rediss://127.0.0.1:6379/3", None),
            ("redis://[::1]:1/15", "redis://[::1]:1/15", None),
            ("redis://app%40x@h", "redis://h:6379/0", Some("app@x")),
        ] {
            let store = case(&format!("url = '{url}'\n{KEY}\npassword_file = 'password'"))
                .settings()
                .token_store
                .unwrap();
            assert_eq!(store.to_string(), shown);
            assert_eq!(store.tls.is_some(), url.starts_with("rediss"));
            assert_eq!(store.username.as_deref(), username);
            assert_eq!(store.password.as_ref().unwrap().expose(), "sesame open");
            let debug = format!("{store:?}");
            assert!(!debug.contains("sesame") && !debug.contains("0001020304"), "{debug}");
        }
        assert!(Case::new().toml("workers = 1").settings().token_store.is_none());
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line_at_its_key() {
        for (table, expected) in [
            ("url = 'redis://h'", "1:1: `token_store`: `key_file` is missing"),
            (KEY, "1:1: `token_store`: `url` is missing"),
            (
                "url = 'redis://h'\nkey_file = 'gone'",
                "3:12: `token_store.key_file`: cannot read the file `/etc/gone`",
            ),
            (
                "url = 'redis://h'\nkey_file = 'short'",
                "3:12: `token_store.key_file`: `/etc/short`: the key has 32 hexadecimal digits",
            ),
            (
                "url = 'redis://h'\nkey_file = 'password'",
                "3:12: `token_store.key_file`: `/etc/password`: this is no key: it must be 32 bytes",
            ),
            (
                "url = 'redis://h'\nkey_file = 'empty'",
                "3:12: `token_store.key_file`: `/etc/empty`: the file is empty",
            ),
            (
                "url = 'redis://h'\nkey_file = 'key'\nkey = 'x'",
                "4:1: `token_store.key`: no secret in this file",
            ),
            (
                "url = 'redis://h'\nkey_file = 'key'\npassword = 'hunter2'",
                "4:1: `token_store.password`: no secret in this file",
            ),
            (
                "url = 'redis://app:hunter2@h'\nkey_file = 'key'",
                "2:7: `token_store.url`: this holds a password, and no secret stands in this file: put it into a file of \
                 its own and name that with `password_file`",
            ),
            (
                "url = 'redis://:hunter2@h'\nkey_file = 'key'",
                "2:7: `token_store.url`: this holds a password",
            ),
            (
                "url = 'http://h'\nkey_file = 'key'",
                "2:7: `token_store.url`: the scheme `http` is not one of a store",
            ),
            (
                "url = 'redis:///1'\nkey_file = 'key'",
                "2:7: `token_store.url`: this has no host",
            ),
            (
                "url = 'valkey'\nkey_file = 'key'",
                "2:7: `token_store.url`: this is not a URL",
            ),
            (
                "url = 'redis://h/one'\nkey_file = 'key'",
                "2:7: `token_store.url`: the path `/one` is not the number of a database",
            ),
            (
                "url = 'redis://h?db=1'\nkey_file = 'key'",
                "2:7: `token_store.url`: this has a query or a fragment",
            ),
            (
                "url = 'redis://h'\nkey_file = 'key'\nusername = 'app'",
                "4:12: `token_store.username`: a user needs a password",
            ),
            (
                "url = 'redis://a@h'\nkey_file = 'key'\nusername = 'b'\npassword_file = 'password'",
                "4:12: `token_store.username`: `url` names another user",
            ),
            (
                "url = 'redis://h'\nkey_file = 'key'\npassword_file = 'two-lines'",
                "4:17: `token_store.password_file`: `/etc/two-lines`: this has more than one line",
            ),
            (
                "url = 'redis://h'\nkey_file = 'key'\nca_file = 'none.pem'",
                "4:11: `token_store.ca_file`: authorities are for TLS",
            ),
            (
                "url = 'rediss://h'\nkey_file = 'key'\nca_file = 'none.pem'",
                "4:11: `token_store.ca_file`: the file `/etc/none.pem` holds no certificate",
            ),
            (
                "uri = 'redis://h'\nurl = 'redis://h'\nkey_file = 'key'",
                "2:1: `token_store.uri`: there is no such key; did you mean `url`?",
            ),
        ] {
            let said = case(table).error();
            assert!(
                said.starts_with(&format!("/etc/proxy.toml:{expected}")),
                "{table:?}: {said}"
            );
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}
