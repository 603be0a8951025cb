//! Settings that agree, and those that don't.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::caller::{IssuerKind, JwksSource};

fn caller(name: &str) -> CallerIdentity {
    CallerIdentity {
        name: CallerName::parse(name).unwrap(),
        listeners: None,
        networks: Vec::new(),
        uids: Vec::new(),
        certificate_names: Vec::new(),
        jwt: Vec::new(),
        secrets: LocalSecrets::default(),
    }
}

fn issuer(name: &str, kind: IssuerKind, audience: &str) -> IssuerSettings {
    IssuerSettings {
        name: name.to_owned(),
        kind,
        audience: audience.to_owned(),
        keys: JwksSource::File("/keys".into()),
        max_life: Duration::from_secs(3600),
        keep: Duration::from_secs(3600),
    }
}

fn check(callers: Vec<CallerIdentity>, issuers: Vec<IssuerSettings>) -> Result<CallersSettings, CallersError> {
    CallersSettings::new(callers, issuers, PassSettings::default(), 65_534)
}

#[test]
fn names_have_a_form_and_some_are_taken() {
    for good in ["a", "billing", "a.b-c_9", &"a".repeat(63)] {
        assert_eq!(CallerName::parse(good).unwrap().as_str(), good);
    }
    for bad in ["", "A", "a b", "a/b", "a:b", "ä", &"a".repeat(64)] {
        assert_eq!(CallerName::parse(bad), Err(CallerNameError::Form(bad.to_owned())));
    }
    for bad in ["anonymous", "unknown", "none"] {
        assert_eq!(CallerName::parse(bad), Err(CallerNameError::Reserved(bad.to_owned())));
    }
}

#[test]
fn an_equal_network_is_refused_where_both_callers_are() {
    let with = |name: &str, network: &str, listeners: Option<&[&str]>| CallerIdentity {
        networks: vec![network.parse().unwrap()],
        listeners: listeners.map(|names| names.iter().map(|name| (*name).to_owned()).collect()),
        ..caller(name)
    };
    for (ours, theirs, fine) in [
        (with("a", "10.2.0.0/16", None), with("b", "10.2.0.0/16", None), false),
        (with("a", "10.2.0.0/16", None), with("b", "10.2.9.9/16", None), false),
        (
            with("a", "10.2.0.0/16", None),
            with("b", "::ffff:10.2.0.0/112", None),
            false,
        ),
        (with("a", "10.2.0.0/16", None), with("b", "10.2.0.0/17", None), true),
        (
            with("a", "10.2.0.0/16", Some(&["x"])),
            with("b", "10.2.0.0/16", Some(&["y"])),
            true,
        ),
        (
            with("a", "10.2.0.0/16", Some(&["x", "y"])),
            with("b", "10.2.0.0/16", Some(&["y"])),
            false,
        ),
        (
            with("a", "10.2.0.0/16", Some(&["x"])),
            with("b", "10.2.0.0/16", None),
            false,
        ),
    ] {
        let said = check(vec![ours.clone(), theirs.clone()], Vec::new());
        assert_eq!(said.is_ok(), fine, "{ours:?} {theirs:?}");
        assert!(fine || matches!(said, Err(CallersError::SameNetwork { .. })));
    }
}

#[test]
fn what_does_not_agree_is_refused() {
    let same = check(vec![caller("a"), caller("a")], Vec::new());
    assert!(matches!(same, Err(CallersError::SameName(_))));
    let url = || IssuerKind::Issuer("https://i".to_owned());
    let domain = || IssuerKind::Spiffe {
        trust_domain: "example.org".to_owned(),
    };
    let same = check(Vec::new(), vec![issuer("a", url(), "x"), issuer("a", domain(), "x")]);
    assert!(matches!(same, Err(CallersError::SameIssuerName(_))));
    for kind in [url, domain as fn() -> IssuerKind] {
        let same = check(Vec::new(), vec![issuer("a", kind(), "x"), issuer("b", kind(), "x")]);
        assert!(matches!(same, Err(CallersError::SameIssuer { .. })));
        assert!(check(Vec::new(), vec![issuer("a", kind(), "x"), issuer("b", kind(), "y")]).is_ok());
    }
    let subject = Pattern::parse("a").unwrap();
    let by_token = CallerIdentity {
        jwt: vec![JwtMatch::new("a".to_owned(), Some(subject), BTreeMap::new()).unwrap()],
        ..caller("a")
    };
    assert!(check(vec![by_token.clone()], vec![issuer("a", url(), "x")]).is_ok());
    let unknown = check(vec![by_token], vec![issuer("b", url(), "x")]);
    assert!(matches!(unknown, Err(CallersError::UnknownIssuer { .. })));
    let overflow = CallerIdentity {
        uids: vec![0, 65_534],
        ..caller("a")
    };
    let said = check(vec![overflow], Vec::new());
    assert!(matches!(said, Err(CallersError::OverflowUid { uid: 65_534, .. })));
}

#[test]
fn a_match_that_takes_everybody_is_none() {
    assert_eq!(JwtMatch::new("a".to_owned(), None, BTreeMap::new()), Err(JwtMatchError));
    let claims = BTreeMap::from([("repository".to_owned(), Pattern::parse("a/b").unwrap())]);
    assert!(JwtMatch::new("a".to_owned(), None, claims).is_ok());
}

#[test]
fn the_overflow_uid_is_the_kernels() {
    assert_ne!(overflow_uid(), 0);
}
