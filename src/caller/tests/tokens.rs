//! Tokens of issuers: whose they are, and everything that may be wrong with one.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::issuer::{IssuerKey, jwks};
use super::*;
use crate::crypto::KeyFile;

const ISSUER: &str = "https://issuer.example.org";
const AUDIENCE: &str = "https://gateway.example.org";
const HOUR: u64 = 3600;

pub(super) fn issuer(name: &str, kind: IssuerKind, audience: &str) -> IssuerSettings {
    IssuerSettings {
        name: name.to_owned(),
        kind,
        audience: audience.to_owned(),
        // Each has a source of its own.
        keys: JwksSource::File(format!("/nowhere/{name}").into()),
        max_life: Duration::from_secs(24 * HOUR),
        keep: Duration::from_secs(HOUR),
    }
}

fn plain(iss: &str) -> IssuerKind {
    IssuerKind::Issuer(iss.to_owned())
}

fn by_subject(text: &str, issuer: &str, subject: &str) -> CallerIdentity {
    let subject = Pattern::parse(subject).unwrap();
    CallerIdentity {
        jwt: vec![JwtMatch::new(issuer.to_owned(), Some(subject), BTreeMap::new()).unwrap()],
        ..caller(text)
    }
}

fn by_claims(text: &str, issuer: &str, claims: &[(&str, &str)]) -> CallerIdentity {
    let claims = claims
        .iter()
        .map(|(name, pattern)| ((*name).to_owned(), Pattern::parse(pattern).unwrap()));
    CallerIdentity {
        jwt: vec![JwtMatch::new(issuer.to_owned(), None, claims.collect()).unwrap()],
        ..caller(text)
    }
}

fn agreeing(callers: Vec<CallerIdentity>, issuers: Vec<IssuerSettings>) -> CallersSettings {
    let passes = PassSettings {
        keys: Some(KeyFile::parse("ab".repeat(32).as_bytes()).unwrap()),
        life: Duration::from_secs(HOUR),
    };
    CallersSettings::new(callers, issuers, passes, 65_534).unwrap()
}

fn of_cluster(subject: &str) -> CallersSettings {
    let cluster = issuer("cluster", plain(ISSUER), AUDIENCE);
    agreeing(vec![by_subject("a", "cluster", subject)], vec![cluster])
}

impl World {
    fn has_keys(&self, at: usize, keys: &[&IssuerKey]) {
        assert!(self.callers.issuers[at].keys.finish(Ok(jwks(keys).into_bytes())));
    }

    fn claims(&self) -> Value {
        let now = self.clock.unix();
        json!({"iss": ISSUER, "aud": AUDIENCE, "sub": "system:serviceaccount:a:web", "iat": now, "exp": now + HOUR})
    }

    fn bearer(&self, token: &str) -> String {
        self.who(&bearer(token))
    }
}

fn bearer(token: &str) -> Request {
    Request::default().authorization(&format!("Bearer {token}"))
}

fn with(mut claims: Value, more: Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

/// A world with one issuer and its key.
fn cluster() -> (World, IssuerKey) {
    let world = World::with(of_cluster("system:serviceaccount:a:*"));
    let key = IssuerKey::p256("1");
    world.has_keys(0, &[&key]);
    (world, key)
}

#[test]
fn every_algorithm_of_a_key_is_taken() {
    let world = World::with(of_cluster("system:serviceaccount:a:*"));
    let (rsa, p256, p384, ed) = (
        IssuerKey::rsa("r"),
        IssuerKey::p256("2"),
        IssuerKey::p384("3"),
        IssuerKey::ed25519("e"),
    );
    world.has_keys(0, &[&rsa, &p256, &p384, &ed]);
    for key in [&rsa, &p256, &p384, &ed] {
        assert_eq!(
            world.bearer(&key.token(&world.claims())),
            "a by jwt",
            "{}",
            key.algorithm()
        );
    }
    for algorithm in ["RS384", "RS512", "PS256", "PS384", "PS512"] {
        let token = rsa.token_with(json!({"alg": algorithm}), &world.claims());
        assert_eq!(world.bearer(&token), "a by jwt", "{algorithm}");
    }
}

#[test]
fn the_key_decides_the_algorithm_and_not_the_token() {
    let (world, key) = cluster();
    for algorithm in [
        "RS256", "ES384", "EdDSA", "HS256", "HS512", "none", "None", "", "ES512", "ES256K",
    ] {
        let token = key.token_with(json!({"alg": algorithm}), &world.claims());
        assert!(world.bearer(&token).starts_with("unknown: the token"), "{algorithm}");
    }
    let token = key.token_with(json!({"alg": 7}), &world.claims());
    assert!(world.bearer(&token).contains("`alg`"));
}

/// The classic: the public key as the secret of an HMAC.
#[test]
fn a_public_key_is_no_secret() {
    use aws_lc_rs::hmac;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let world = World::with(of_cluster("system:serviceaccount:a:*"));
    let rsa = IssuerKey::rsa("1");
    world.has_keys(0, &[&rsa]);
    let modulus = URL_SAFE_NO_PAD.decode(rsa.jwk()["n"].as_str().unwrap()).unwrap();
    let header = URL_SAFE_NO_PAD.encode(json!({"alg": "HS256", "kid": "1"}).to_string());
    let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(world.claims().to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &modulus), message.as_bytes());
    let forged = format!("{message}.{}", URL_SAFE_NO_PAD.encode(tag));
    assert!(world.bearer(&forged).starts_with("unknown: the token"));
    assert!(world.bearer(&format!("{message}.")).starts_with("unknown: the token"));
}

#[test]
fn a_token_must_say_all_that_matters() {
    let (world, key) = cluster();
    let now = world.clock.unix();
    for change in [
        json!({}),
        json!({"aud": [AUDIENCE]}),
        json!({"aud": ["other", AUDIENCE]}),
        json!({"nbf": now}),
        json!({"nbf": now + 30}),
        json!({"iat": now + 30, "exp": now + 60}),
        json!({"iat": now - 2 * HOUR, "exp": now - 29}),
        json!({"exp": now as f64 + 60.5}),
        json!({"iat": now, "exp": now + 24 * HOUR}),
        json!({"other": {"a": [1, null, {"b": true}]}}),
    ] {
        let token = key.token(&with(world.claims(), change.clone()));
        assert_eq!(world.bearer(&token), "a by jwt", "{change}");
    }
    let (mut refused, mut why) = (0, Vec::new());
    for (change, cause) in [
        (json!({"aud": null}), "`aud`"),
        (json!({"aud": "other"}), "`aud`"),
        (json!({"aud": []}), "`aud`"),
        (json!({"aud": {"a": AUDIENCE}}), "`aud`"),
        (json!({"aud": format!("{AUDIENCE}/")}), "`aud`"),
        (json!({"sub": null}), "`sub`"),
        (json!({"sub": ""}), "`sub`"),
        (json!({"sub": 7}), "`sub`"),
        (json!({"exp": null}), "no `exp`"),
        (json!({"exp": "9999999999"}), "no `exp`"),
        (json!({"exp": -1}), "no `exp`"),
        (json!({"iat": null}), "no `iat`"),
        (json!({"iat": -5.0}), "no `iat`"),
        (json!({"nbf": "x"}), "`nbf`"),
        (json!({"nbf": now + 31}), "not valid yet"),
        (json!({"iat": now + 31}), "not valid yet"),
        (json!({"iat": now - 2 * HOUR, "exp": now - 30}), "expired"),
        (json!({"iat": now, "exp": now + 24 * HOUR + 1}), "max_life"),
    ] {
        let token = key.token(&with(world.claims(), change.clone()));
        why.push((change, cause, token));
    }
    let before_issued = with(world.claims(), json!({"iat": now + 20, "exp": now + 10}));
    why.push((json!("exp < iat"), "before it was issued", key.token(&before_issued)));
    for (change, cause, token) in why {
        if refused % 15 == 14 {
            // The peer has a pause after 20.
            world.clock.pass(Duration::from_secs(61));
            world.clock.set_wall_back(Duration::from_secs(61));
        }
        refused += 1;
        let said = world.bearer(&token);
        assert!(
            said.starts_with("unknown: ") && said.contains(cause),
            "{change}: {said}"
        );
    }
}

#[test]
fn headers_that_choose_a_key_and_names_that_are_there_twice_are_refused() {
    let (world, key) = cluster();
    for header in [
        json!({"crit": ["exp"]}),
        json!({"jku": "https://evil.example.org/keys"}),
        json!({"jwk": key.jwk()}),
        json!({"x5u": "https://evil.example.org/cert"}),
        json!({"b64": false}),
        json!({"kid": 1}),
    ] {
        let said = world.bearer(&key.token_with(header.clone(), &world.claims()));
        assert!(said.starts_with("unknown: the token's"), "{header}: {said}");
    }
    let (header, claims) = (r#"{"alg":"ES256","kid":"1"}"#, world.claims().to_string());
    assert_eq!(world.bearer(&key.sign(header, &claims)), "a by jwt");
    for (header, claims) in [
        (header.replace('{', r#"{"alg":"RS256","#), claims.clone()),
        (
            header.to_owned(),
            claims.replacen('{', r#"{"sub":"system:serviceaccount:a:other","#, 1),
        ),
        (header.to_owned(), claims.replacen('{', r#"{"x":[{"y":1,"y":2}],"#, 1)),
        (header.replace('}', ""), claims.clone()),
        ("[]".to_owned(), claims.clone()),
        (
            header.to_owned(),
            claims.replacen('{', &format!(r#"{{"x":"{}","#, "y".repeat(8 << 10)), 1),
        ),
    ] {
        let said = world.bearer(&key.sign(&header, &claims));
        assert!(said.contains("a name twice"), "{said}");
    }
}

#[test]
fn a_token_has_8_kib_at_most() {
    let (world, key) = cluster();
    let of_length = |length: usize| {
        let tokens = (0..8 << 10)
            .rev()
            .flat_map(|claim| (0..3).map(move |header| (claim, header)));
        let mut tokens = tokens.map(|(claim, header)| {
            let claims = with(world.claims(), json!({"x": "y".repeat(claim)}));
            key.token_with(json!({"x": "y".repeat(header)}), &claims)
        });
        tokens.find(|token| token.len() == length).unwrap()
    };
    assert_eq!(world.bearer(&of_length(8 << 10)), "a by jwt");
    assert!(world.bearer(&of_length((8 << 10) + 1)).contains("8 KiB"));
}

#[test]
fn what_is_of_no_issuer_here_is_a_placeholder() {
    let (world, key) = cluster();
    let other = with(world.claims(), json!({"iss": "https://other.example.org"}));
    for token in [
        key.token(&other),
        key.token(&with(world.claims(), json!({"iss": null}))),
        key.token(&with(world.claims(), json!({"iss": [ISSUER]}))),
        key.sign("{}", "[]"),
        key.sign("{}", "{"),
        "a.b.c".to_owned(),
        "a.b".to_owned(),
        String::new(),
    ] {
        assert_eq!(world.bearer(&token), "anonymous", "{token}");
    }
    assert!(
        world
            .who(&bearer(&key.token(&world.claims())).in_plain())
            .contains("only over TLS")
    );
    assert_eq!(world.who(&bearer(&key.token(&other)).in_plain()), "anonymous");
}

#[test]
fn a_token_fits_one_caller_of_the_listener_or_is_wrong() {
    let elsewhere = CallerIdentity {
        listeners: Some(vec!["other".to_owned()]),
        ..by_subject("elsewhere", "cluster", "system:serviceaccount:c:*")
    };
    let claims = [("repository", "octo/*"), ("run", "7"), ("protected", "true")];
    let callers = vec![
        by_subject("a", "cluster", "system:serviceaccount:a:*"),
        by_subject("b", "cluster", "system:serviceaccount:a:both"),
        elsewhere,
        by_claims("ci", "cluster", &claims),
    ];
    let world = World::with(agreeing(callers, vec![issuer("cluster", plain(ISSUER), AUDIENCE)]));
    let key = IssuerKey::p256("1");
    world.has_keys(0, &[&key]);
    let token = |change: Value| key.token(&with(world.claims(), change));
    let who = |change: Value| world.bearer(&token(change));
    assert_eq!(who(json!({"sub": "system:serviceaccount:a:web"})), "a by jwt");
    assert!(who(json!({"sub": "system:serviceaccount:a:both"})).contains("two callers"));
    assert!(who(json!({"sub": "system:serviceaccount:b:web"})).contains("fits no caller"));
    let of_others = token(json!({"sub": "system:serviceaccount:c:web"}));
    assert!(world.bearer(&of_others).contains("fits no caller"));
    assert_eq!(world.who(&bearer(&of_others).on("other")), "elsewhere by jwt");
    assert!(
        world.bearer(&of_others).contains("fits no caller"),
        "remembered for the other listener alone"
    );
    let ci = json!({"sub": "x", "repository": "octo/app", "run": 7, "protected": true});
    assert_eq!(who(ci.clone()), "ci by jwt");
    for change in [
        json!({"repository": "octo/app/x"}),
        json!({"repository": ["octo/app"]}),
        json!({"repository": null}),
        json!({"run": 8}),
        json!({"run": 7.0}),
        json!({"protected": false}),
    ] {
        assert!(
            who(with(ci.clone(), change.clone())).contains("fits no caller"),
            "{change}"
        );
    }
}

/// Two issuers that both know the other's subjects.
#[test]
fn the_keys_of_an_issuer_are_only_its_own() {
    let callers = vec![
        by_subject("a", "one", "system:serviceaccount:a:*"),
        by_subject("b", "two", "system:serviceaccount:a:*"),
    ];
    let other = "https://other.example.org";
    let issuers = vec![
        issuer("one", plain(ISSUER), AUDIENCE),
        issuer("two", plain(other), AUDIENCE),
        issuer("three", plain(ISSUER), "third"),
    ];
    let world = World::with(agreeing(callers, issuers));
    let (one, two) = (IssuerKey::p256("1"), IssuerKey::p256("1"));
    world.has_keys(0, &[&one]);
    world.has_keys(1, &[&two]);
    let claims_of_other = with(world.claims(), json!({"iss": other}));
    assert_eq!(world.bearer(&one.token(&world.claims())), "a by jwt");
    assert_eq!(world.bearer(&two.token(&claims_of_other)), "b by jwt");
    assert!(world.bearer(&two.token(&world.claims())).contains("signature"));
    assert!(world.bearer(&one.token(&claims_of_other)).contains("signature"));
    let both = with(world.claims(), json!({"aud": [AUDIENCE, "third"]}));
    assert!(world.bearer(&one.token(&both)).contains("`aud`"));
}

#[test]
fn a_spiffe_id_is_known_by_its_trust_domain_and_keys_for_it_alone() {
    let domain = IssuerKind::Spiffe {
        trust_domain: "example.org".to_owned(),
    };
    let callers = vec![by_subject("a", "mesh", "spiffe://example.org/ns/a/sa/*")];
    let world = World::with(agreeing(callers, vec![issuer("mesh", domain, AUDIENCE)]));
    let (key, other) = (IssuerKey::p256("1"), IssuerKey::p256("2"));
    let mut jwk = key.jwk();
    jwk["use"] = json!("jwt-svid");
    let bundle = json!({"keys": [jwk, other.jwk()]}).to_string();
    assert!(world.callers.issuers[0].keys.finish(Ok(bundle.into_bytes())));
    assert_eq!(world.callers.issuers_status()[0].keys, 1);
    let claims = |change: Value| {
        with(
            with(world.claims(), json!({"sub": "spiffe://example.org/ns/a/sa/web"})),
            change,
        )
    };
    let who = |change: Value| world.bearer(&key.token(&claims(change)));
    assert_eq!(who(json!({})), "a by jwt");
    assert_eq!(who(json!({"iss": null})), "a by jwt");
    assert_eq!(who(json!({"iss": "https://anybody"})), "a by jwt");
    for stranger in [
        "spiffe://example.com/ns/a/sa/web",
        "spiffe://example.org",
        "spiffe://example.orgx/a",
        "x",
    ] {
        assert_eq!(who(json!({"sub": stranger})), "anonymous", "{stranger}");
    }
    assert!(who(json!({"sub": "spiffe://example.org/"})).contains("fits no caller"));
}

#[tokio::test(start_paused = true)]
async fn a_key_for_something_else_signs_nothing() {
    let domain = IssuerKind::Spiffe {
        trust_domain: "example.org".to_owned(),
    };
    let callers = vec![by_subject("a", "mesh", "spiffe://example.org/a")];
    let world = World::with(agreeing(callers, vec![issuer("mesh", domain, AUDIENCE)]));
    let (key, other) = (IssuerKey::p256("1"), IssuerKey::p256("2"));
    let mut jwk = key.jwk();
    jwk["use"] = json!("jwt-svid");
    let bundle = json!({"keys": [jwk, other.jwk()]}).to_string();
    assert!(world.callers.issuers[0].keys.finish(Ok(bundle.into_bytes())));
    let request = bearer(&other.token(&with(world.claims(), json!({"sub": "spiffe://example.org/a"}))));
    let said = world.callers.identify(request.shown()).await;
    assert!(world.said(said).contains("signature"));
}

#[test]
fn a_good_token_is_remembered_until_its_end_or_other_keys_or_settings() {
    let (mut world, key) = cluster();
    let token = key.token(&world.claims());
    let remembered = |world: &World| {
        let hash = super::super::good_tokens::hash(&token, "gateway");
        world.callers.good_tokens.lock().get(&hash).is_some()
    };
    assert_eq!(world.bearer(&token), "a by jwt");
    assert!(remembered(&world));
    assert_eq!(world.bearer(&token), "a by jwt");
    assert!(world.who(&bearer(&token).in_plain()).contains("only over TLS"));
    // The same keys again change nothing; another set without the key does.
    world.has_keys(0, &[&key]);
    assert_eq!(world.bearer(&token), "a by jwt");
    let successor = IssuerKey::p256("1");
    world.has_keys(0, &[&successor]);
    assert!(world.bearer(&token).contains("signature"));
    world.has_keys(0, &[&key]);
    assert_eq!(world.bearer(&token), "a by jwt");
    // The settings decide anew, and the keys stay.
    world.reload(of_cluster("system:serviceaccount:b:*"));
    assert!(!remembered(&world));
    assert!(world.bearer(&token).contains("fits no caller"));
    world.reload(of_cluster("system:serviceaccount:a:*"));
    assert_eq!(world.bearer(&token), "a by jwt");
    world.clock.pass(Duration::from_secs(HOUR - 1));
    world.has_keys(0, &[&key]);
    world.clock.pass(Duration::from_secs(30));
    assert_eq!(world.bearer(&token), "a by jwt", "within the leeway");
    world.clock.pass(Duration::from_secs(1));
    assert!(world.bearer(&token).contains("expired"));
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_while_the_issuer_is_away_and_no_longer() {
    let (world, key) = cluster();
    let request = |world: &World| {
        let now = world.clock.unix();
        bearer(&key.token(&with(world.claims(), json!({"iat": now, "exp": now + 7 * HOUR}))))
    };
    let old = request(&world);
    let who = async |request: &Request| world.said(world.callers.identify(request.shown()).await);
    assert_eq!(who(&old).await, "a by jwt");
    world.clock.pass(Duration::from_secs(HOUR));
    let keys = &world.callers.issuers[0].keys;
    for bad in ["", "<html>", r#"{"keys":[]}"#, r#"{"keys":{}}"#] {
        assert!(!keys.finish(Ok(bad.into())));
        assert!(!keys.finish(Err("it answers 503".to_owned())));
    }
    assert_eq!(who(&old).await, "a by jwt");
    assert_eq!(who(&request(&world)).await, "a by jwt");
    let status = &world.callers.issuers_status()[0];
    assert_eq!(
        (status.name.as_str(), status.keys, status.age),
        ("cluster", 1, Some(Duration::from_secs(HOUR)))
    );
    assert_eq!(status.last_error.as_deref(), Some("it answers 503"));
    world.clock.pass(Duration::from_millis(1));
    for _ in 0..25 {
        // Not the peer's fault: no pause comes of it.
        assert!(who(&old).await.contains("can't be had at the moment"));
    }
    assert_eq!(world.callers.issuers_status()[0].keys, 0);
    world.has_keys(0, &[&key]);
    assert_eq!(who(&old).await, "a by jwt");
}

#[test]
fn a_peer_whose_tokens_are_wrong_gets_a_pause_for_new_ones() {
    let (world, key) = cluster();
    let good = key.token(&world.claims());
    let new = || key.token(&with(world.claims(), json!({"jti": "new"})));
    assert_eq!(world.bearer(&good), "a by jwt");
    let forged = format!("{}AAAA", &good[..good.len() - 4]);
    for _ in 0..20 {
        assert!(world.bearer(&forged).contains("signature"));
    }
    assert!(world.bearer(&forged).starts_with("TooManyFailures"));
    assert!(world.bearer(&new()).starts_with("TooManyFailures"));
    assert_eq!(world.bearer(&good), "a by jwt", "it was checked before");
    assert_eq!(world.who(&bearer(&new()).peer("192.0.2.2")), "a by jwt");
    let at_token = Request::default().basic("x", &new());
    let answer = at_once(world.callers.token(at_token.shown()));
    assert!(
        matches!(answer, TokenAnswer::Refused(NotIdentified::TooManyFailures { .. })),
        "{answer:?}"
    );
    world.clock.pass(Duration::from_secs(60));
    assert_eq!(world.bearer(&new()), "a by jwt");
}

#[test]
fn hosts_of_one_ipv6_network_are_one_peer() {
    let (world, key) = cluster();
    let forged = format!("{}AAAA", key.token(&world.claims()).trim_end_matches(|c| c != '.'));
    for n in 0..20 {
        let request = bearer(&forged).peer(&format!("2001:db8:1:2::{n:x}"));
        assert!(world.who(&request).contains("signature"));
    }
    assert!(
        world
            .who(&bearer(&forged).peer("2001:db8:1:2:ffff::1"))
            .starts_with("TooManyFailures")
    );
    assert!(
        world
            .who(&bearer(&forged).peer("2001:db8:1:3::1"))
            .contains("signature")
    );
}

/// All who wait share one fetch, and for half a minute there is no other.
#[tokio::test]
async fn an_unknown_kid_causes_one_fetch_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let (first, second, third) = (IssuerKey::p256("1"), IssuerKey::p256("2"), IssuerKey::p256("3"));
    let mut cluster = issuer("cluster", plain(ISSUER), AUDIENCE);
    cluster.keys = JwksSource::File(path.clone());
    let world = World::with(agreeing(
        vec![by_subject("a", "cluster", "system:serviceaccount:a:*")],
        vec![cluster],
    ));
    world.has_keys(0, &[&first]);
    let attempts = world.callers.issuers[0].keys.attempts();
    let is_by = async |key: &IssuerKey| {
        let request = bearer(&key.token(&world.claims()));
        world.said(world.callers.identify(request.shown()).await)
    };
    let asked = async {
        std::fs::write(&path, jwks(&[&first, &second])).unwrap();
        let all = tokio::join!(is_by(&second), is_by(&second), is_by(&second), is_by(&first));
        assert_eq!([&all.0, &all.1, &all.2, &all.3], ["a by jwt"; 4]);
        assert_eq!(world.callers.issuers[0].keys.attempts(), attempts + 1);
        std::fs::write(&path, jwks(&[&third])).unwrap();
        assert!(is_by(&third).await.contains("signature"), "too soon");
        assert_eq!(world.callers.issuers[0].keys.attempts(), attempts + 1);
        world.clock.pass(Duration::from_secs(30));
        assert_eq!(is_by(&third).await, "a by jwt");
        assert!(is_by(&first).await.contains("signature"));
        // Those who wait are many, and their tokens are counted all the same.
        world.clock.pass(Duration::from_secs(60));
        let strange = IssuerKey::p256("4");
        let waiting = futures_util::future::join_all((0..50).map(|_| is_by(&strange)));
        let paused = waiting
            .await
            .iter()
            .filter(|said| said.starts_with("TooManyFailures"))
            .count();
        assert_eq!(paused, 30);
    };
    tokio::select! {
        () = asked => {}
        () = world.callers.keep_keys() => {}
    }
}

#[test]
fn keys_and_tokens_without_kid_fit_each_other() {
    let world = World::with(of_cluster("system:serviceaccount:a:*"));
    let (named, nameless) = (IssuerKey::p256("1"), IssuerKey::p256("").nameless());
    world.has_keys(0, &[&named, &nameless]);
    for token in [
        named.token(&world.claims()),
        nameless.token(&world.claims()),
        nameless.token_with(json!({"kid": "other"}), &world.claims()),
        nameless.token_with(json!({"kid": "1"}), &world.claims()),
        named.sign(r#"{"alg":"ES256"}"#, &world.claims().to_string()),
    ] {
        assert_eq!(world.bearer(&token), "a by jwt");
    }
}

#[test]
fn a_token_buys_a_pass_that_ends_with_it_and_with_its_caller() {
    let (mut world, key) = cluster();
    let now = world.clock.unix();
    let token = key.token(&with(world.claims(), json!({"exp": now + 600})));
    let request = Request::default().basic("any id", &token);
    let answer = at_once(world.callers.token(request.shown()));
    let TokenAnswer::Pass {
        access_token,
        expires_in: 600,
        index: 0,
        by: By::Jwt,
    } = answer
    else {
        panic!("{answer:?}")
    };
    let pass = bearer(access_token.expose());
    assert_eq!(world.who(&pass), "a by pass");
    // By Bearer it buys nothing; nor does one that has just ended.
    for (request, why) in [
        (bearer(&token), "as the secret of HTTP Basic"),
        (
            Request::default().basic(
                "x",
                &key.token(&with(world.claims(), json!({"iat": now - 60, "exp": now - 1}))),
            ),
            "expired",
        ),
        (
            Request::default().basic("x", &key.token(&with(world.claims(), json!({"aud": "other"})))),
            "`aud`",
        ),
    ] {
        match at_once(world.callers.token(request.shown())) {
            TokenAnswer::InvalidClient { description, .. } => assert!(description.contains(why), "{description}"),
            other => panic!("{other:?}"),
        }
    }
    // Rules of identification change: the pass is judged by those in force.
    world.reload(of_cluster("system:serviceaccount:b:*"));
    assert!(world.who(&pass).contains("no longer names its caller"));
    let other_audience = vec![issuer("cluster", plain(ISSUER), "other")];
    let same_caller = || vec![by_subject("a", "cluster", "system:serviceaccount:a:*")];
    world.reload(agreeing(same_caller(), other_audience));
    assert!(world.who(&pass).contains("no longer names its caller"));
    let other_name = CallerIdentity {
        name: name("b"),
        ..by_subject("a", "cluster", "system:serviceaccount:a:*")
    };
    world.reload(agreeing(
        vec![other_name, caller("a")],
        vec![issuer("cluster", plain(ISSUER), AUDIENCE)],
    ));
    assert!(world.who(&pass).contains("no longer names its caller"));
    // A claim that did not matter when it was made might now name somebody else.
    let mut both = same_caller();
    both.push(by_claims("b", "cluster", &[("repository", "octo/app")]));
    world.reload(agreeing(both, vec![issuer("cluster", plain(ISSUER), AUDIENCE)]));
    assert!(world.who(&pass).contains("no longer names its caller"));
    world.reload(of_cluster("system:serviceaccount:a:web"));
    assert_eq!(world.who(&pass), "a by pass");
    world.clock.pass(Duration::from_secs(600));
    assert!(world.who(&pass).contains("the pass has ended"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn a_changed_token_is_never_taken(at in any::<prop::sample::Index>(), byte in b'!'..=b'~') {
        thread_local! {
            static CLUSTER: (World, String, tokio::runtime::Runtime) = {
                let (world, key) = cluster();
                let token = key.token(&world.claims());
                let mut runtime = tokio::runtime::Builder::new_current_thread();
                (world, token, runtime.enable_time().start_paused(true).build().unwrap())
            };
        }
        CLUSTER.with(|(world, token, runtime)| {
            let mut changed = token.clone().into_bytes();
            let at = at.index(changed.len());
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            // Without a pause for the peer.
            world.clock.pass(Duration::from_secs(4));
            world.clock.set_wall_back(Duration::from_secs(4));
            let request = bearer(&changed);
            let said = world.said(runtime.block_on(world.callers.identify(request.shown())));
            if &changed != token {
                assert_ne!(said, "a by jwt");
            }
        });
    }
}
