//! `[[caller]]`, `[[issuer]]` and `[passes]`: what is accepted, and one line with its place for what is not.

use super::*;
use crate::proxy::CallersMode;

const RULE: &str = "[[caller.rule]]\noperations = ['listGroups']\naction = 'allow'\n";

fn case(text: &str) -> Case {
    Case::new()
        .toml(text)
        .file("/etc/secret", LOCAL_SECRET)
        .file("/etc/two", format!("{LOCAL_SECRET}\n{LOCAL_SECRET}-next\n"))
        .file("/etc/short", "short")
        .file("/etc/pass-key", STORE_KEY)
        .file("/etc/token", "token")
}

fn caller(keys: &str) -> String {
    format!("[[caller]]\nname = 'billing'\n{keys}\n{RULE}")
}

#[test]
fn callers_are_required_everywhere_as_soon_as_the_file_names_any() {
    let mode = |text: &str| case(text).settings().listeners[0].rules.callers;
    assert_eq!(mode(""), None);
    assert_eq!(mode(&caller("secret_file = 'secret'")), Some(CallersMode::Required));
    assert_eq!(mode("[passes]\nlife = '5m'"), Some(CallersMode::Required));
    let issuer = "[[issuer]]\nname = 'x'\nissuer = 'https://x'\naudience = 'y'\njwks_file = 'keys'\n";
    assert_eq!(mode(issuer), Some(CallersMode::Required));
    assert_eq!(mode("[[listener]]\ncallers = 'required'"), Some(CallersMode::Required));
    let rule = "[[listener.rule]]\npath = '/a'\naction = 'allow'\n";
    let optional = format!("[[listener]]\ncallers = 'optional'\n{rule}");
    assert_eq!(mode(&optional), Some(CallersMode::Optional));
    let said = case(&format!("[[listener]]\ncallers = 'optional'\n{}", caller("uids = [1]")))
        .errors()
        .join("\n");
    assert!(
        said.contains("listener.callers") && said.contains("[[listener.rule]]"),
        "{said}"
    );
    let said = case("[[listener]]\ncallers = 'maybe'").error();
    assert!(said.contains("`maybe` is none of `required`, `optional`"), "{said}");
}

#[test]
fn what_is_wrong_with_a_caller_is_said_with_its_place() {
    for (text, place, part) in [
        (format!("[[caller]]\nsecret_file = 'secret'\n{RULE}"), "proxy.toml:1:1", "has no `name`"),
        ("[[caller]]\nname = 'a'\nuids = [1]".to_owned(), "proxy.toml:1:1", "no `[[caller.rule]]`"),
        (format!("[[caller]]\nname = 'Anonymous'\n{RULE}"), "2:8: `caller.name`", "a-z"),
        (format!("[[caller]]\nname = 'unknown'\n{RULE}"), "2:8: `caller.name`", "choose another"),
        (caller("listeners = ['nowhere']"), "3:14: `caller.listeners`", "no listener named `nowhere`"),
        (caller("networks = ['10.0.0.0/33']"), "3:13: `caller.networks`", "is not a network"),
        (caller("networks = []"), "`caller.networks`", "empty list"),
        (caller("uids = [65534]"), "3:8: `caller.uids`", "overflowuid"),
        (caller("certificate_names = ['spiffe://*/x']"), "`caller.certificate_names`", "trust domain"),
        (caller("jwt = [{ issuer = 'x', subject = 'y' }]"), "`caller.jwt.issuer`", "no `[[issuer]]` named `x`"),
        (caller("secret_file = 'short'"), "3:15: `caller.secret_file`", "make-secret"),
        (caller("secret_file = 'missing'"), "`caller.secret_file`", "cannot read the file"),
        (caller("secret = 'x'"), "`caller.secret`", "secret_file"),
        (caller("unmatched = 'allow'"), "`caller.unmatched`", "always"),
        (caller("max_requests_per_minute = 0"), "`caller.max_requests_per_minute`", "not within"),
        (
            "[[caller]]\nname = 'a'\n[[caller.rule]]\noperations = ['getGroupClusters']\naction = 'allow'".to_owned(),
            "4:14: `caller.rule.operations`",
            "the nearest is `getGroupCluster`",
        ),
        (
            "[[caller]]\nname = 'a'\n[[caller.rule]]\nprojects = ['5a0a1e7e0f2912c554080adc']\norganizations = ['5a0a1e7e0f2912c554080adc']\naction = 'allow'".to_owned(),
            "`caller.rule.organizations`",
            "not both",
        ),
        (
            "[[caller]]\nname = 'a'\n[[caller.rule]]\noperations = ['createOrgApiKey*']\naction = 'allow'".to_owned(),
            "`caller.rule.operations`",
            "full name",
        ),
        (
            "[[caller]]\nname = 'a'\n[[caller.rule]]\noperations = ['unknown']\naction = 'allow'".to_owned(),
            "`caller.rule.operations`",
            "needs `methods`",
        ),
        ("[[caller]]\nname = 'a'\n[[caller.rule]]\nmethods = ['GET']".to_owned(), "3:1", "no `action`"),
        ("[[caller]]\nname = 'a'\n[[caller.rule]]\naction = 'permit'".to_owned(), "`caller.rule.action`", "`warn`"),
    ] {
        let said = case(&text).errors().join("\n");
        assert!(said.contains(place) && said.contains(part), "{text}\n{said}");
        assert!(!said.contains(LOCAL_SECRET), "{said}");
    }
}

#[test]
fn two_that_do_not_agree_are_named_where_the_second_stands() {
    let network =
        |name: &str, more: &str| format!("[[caller]]\nname = '{name}'\nnetworks = ['10.0.0.0/8']\n{more}\n{RULE}");
    let said = case(&format!("{}{}", network("a", ""), network("b", ""))).error();
    assert!(
        said.contains("10:12: `caller.networks`") && said.contains("`a` and `b`"),
        "{said}"
    );
    let listeners = "[[listener]]\nname = 'x'\nbind = '127.0.0.1:1'\n[[listener]]\nname = 'y'\nbind = '127.0.0.1:2'\n";
    let apart = format!(
        "{listeners}{}{}",
        network("a", "listeners = ['x']"),
        network("b", "listeners = ['y']")
    );
    case(&apart).settings();
    // Known by the very same thing, at one listener.
    let issuer = "[[issuer]]\nname = 'cluster'\nissuer = 'https://x'\naudience = 'y'\njwks_file = 'keys'\n";
    let known = |name: &str, by: &str| format!("[[caller]]\nname = '{name}'\n{by}\n{RULE}");
    let two = |by: &str, more: [&str; 2]| {
        let [a, b] = [("a", more[0]), ("b", more[1])].map(|(name, more)| known(name, &format!("{more}\n{by}")));
        case(&format!("{listeners}{issuer}{a}{b}"))
    };
    for (by, what) in [
        ("jwt = [{ issuer = 'cluster', subject = 'x:y' }]", "subject `x:y`"),
        (
            "certificate_names = ['spiffe://x/y']",
            "certificate name `spiffe://x/y`",
        ),
    ] {
        let said = two(by, ["", ""]).error();
        for part in ["`a` and `b`", what, ":19:1", ":12:1"] {
            assert!(said.contains(part), "{part}: {said}");
        }
        two(by, ["listeners = ['x']", "listeners = ['y']"]).settings();
    }
    case(&format!(
        "{issuer}{}{}",
        known("a", "jwt = [{ issuer = 'cluster', subject = 'x:y' }]"),
        known("b", "jwt = [{ issuer = 'cluster', subject = 'x:*' }]")
    ))
    .settings();
    let said = case(&format!("{}{}", caller("uids = [1]"), caller("uids = [2]"))).error();
    assert!(said.contains("two callers have the name `billing`"), "{said}");
    let issuer =
        |name: &str| format!("[[issuer]]\nname = '{name}'\nissuer = 'https://x'\naudience = 'y'\njwks_file = 'keys'\n");
    let said = case(&format!("{}{}", issuer("a"), issuer("b"))).error();
    assert!(said.contains("`a` and `b` have the same"), "{said}");
}

#[test]
fn what_is_wrong_with_an_issuer_is_said() {
    let all = [
        ("name", "'x'"),
        ("issuer", "'https://x'"),
        ("audience", "'y'"),
        ("jwks_url", "'https://x/keys'"),
    ];
    let with = |change: &dyn Fn(&str) -> Option<&'static str>, more: &str| {
        let keys = all
            .iter()
            .map(|(key, value)| format!("{key} = {}\n", change(key).unwrap_or(value)));
        format!("[[issuer]]\n{}{more}", keys.collect::<String>())
    };
    let issuers = |text: &str| case(text).settings().callers.identification.issuers().len();
    assert_eq!(issuers(&with(&|_| None, "")), 1);
    for (text, part) in [
        (
            with(&|key| (key == "jwks_url").then_some("'http://issuer.example.org/'"), ""),
            "https://",
        ),
        (with(&|_| None, "token_file = 'token'"), "ca_file"),
        (with(&|_| None, "jwks_file = 'keys'"), "remove one of the two"),
        (with(&|_| None, "spiffe = 'example.org'"), "remove one of the two"),
        (with(&|key| (key == "audience").then_some("''"), ""), "empty"),
        (
            "[[issuer]]\nname = 'x'\naudience = 'y'\njwks_file = 'z'".to_owned(),
            "`issuer` is missing",
        ),
        (
            "[[issuer]]\nname = 'x'\naudience = 'y'\nissuer = 'z'".to_owned(),
            "`jwks_url`",
        ),
        (
            "[[issuer]]\nissuer = 'x'\naudience = 'y'\njwks_file = 'z'".to_owned(),
            "`name` is missing",
        ),
        (
            "[[issuer]]\nname = 'x'\nspiffe = 'Example Org'\naudience = 'y'\njwks_file = 'z'".to_owned(),
            "trust domain",
        ),
    ] {
        let said = case(&text).errors().join("\n");
        assert!(said.contains("issuer") && said.contains(part), "{text}\n{said}");
    }
}

#[test]
fn passes_have_a_key_of_64_digits() {
    let keys = |text: &str| case(text).settings().callers.identification.passes().keys.clone();
    assert!(keys("[passes]\nkey_file = 'pass-key'").is_some());
    assert!(keys("[passes]\nlife = '10m'").is_none());
    let said = case("[passes]\nkey_file = 'short'").error();
    assert!(
        said.contains("passes.key_file") && said.contains("openssl rand -hex 32"),
        "{said}"
    );
    let said = case("[passes]\nkey = 'x'").error();
    assert!(said.contains("no secret in this file"), "{said}");
}

#[test]
fn certificates_are_optional_only_where_callers_are_required() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls =
        "[listener.tls]\ncertificate = 'a.crt'\nkey = 'a.key'\nclient_ca = 'a.crt'\nclient_certificate = 'optional'\n";
    let with = |text: &str| {
        case(text)
            .file("/etc/a.crt", made.cert.pem())
            .file("/etc/a.key", made.signing_key.serialize_pem())
    };
    let listener = |keys: &str| format!("[[listener]]\nbind = '0.0.0.0:1'\n{keys}\n{tls}");
    let settings = with(&format!("{}{}", listener(""), caller("secret_file = 'secret'"))).settings();
    assert!(settings.listeners[0].tls.as_ref().unwrap().certificates_are_optional());
    let said = with(&listener("")).error();
    assert!(
        said.contains("client_certificate") && said.contains("callers = \"required\""),
        "{said}"
    );
    let said = with(&listener("").replace("client_ca = 'a.crt'\n", "allow = []\n"))
        .errors()
        .join("\n");
    assert!(said.contains("client_ca"), "{said}");
}

#[test]
fn what_works_but_hardly_as_meant_is_warned_of() {
    let warned = |text: &str, part: &str| {
        let warnings = case(text).warnings().join("\n");
        assert!(warnings.contains(part), "{part}: {warnings}");
    };
    warned("[passes]\nlife = '1m'", "answers 401 to everybody");
    warned(&caller("uids = [1000]"), "no listener is a unix socket");
    warned(&caller("uids = [0]"), "user id 0");
    let github = |jwt: &str| {
        let issuer = "[[issuer]]\nname = 'g'\nissuer = 'https://token.actions.githubusercontent.com'\naudience = 'a'\njwks_file = 'z'\n";
        format!("{issuer}{}", caller(&format!("jwt = [{{ issuer = 'g', {jwt} }}]")))
    };
    warned(&github("subject = 'repo:**'"), "anybody's repository");
    warned(&github("claims = { ref = 'refs/heads/main' }"), "anybody's repository");
    for whose in ["subject = 'repo:acme/**'", "claims = { repository_owner = 'acme' }"] {
        assert_eq!(case(&github(whose)).warnings(), [""; 0], "{whose}");
    }
    let warn = "[[caller]]\nname = 'a'\nsecret_file = 'secret'\n[[caller.rule]]\noperations = ['listGroups']\naction = 'warn'\n";
    warned(warn, "proxy.toml:4:1");
    assert_eq!(case(&caller("secret_file = 'two'")).warnings(), [""; 0]);
    let next = &case(&caller("secret_file = 'two'"))
        .settings()
        .callers
        .identification
        .callers()[0]
        .secrets
        .next
        .clone();
    assert!(next.is_some());
}
