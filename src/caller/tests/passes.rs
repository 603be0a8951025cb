//! The token endpoint, its passes, and what ends them.

use proptest::prelude::*;

use super::*;
use crate::crypto::KeyFile;

const HOUR: Duration = Duration::from_secs(3600);

fn keys(lines: &[&str]) -> KeyFile {
    let content: Vec<String> = lines.iter().map(|byte| byte.repeat(32)).collect();
    KeyFile::parse(content.join("\n").as_bytes()).unwrap()
}

fn shared(callers: Vec<CallerIdentity>, keys: KeyFile) -> CallersSettings {
    let passes = PassSettings {
        keys: Some(keys),
        life: HOUR,
    };
    CallersSettings::new(callers, Vec::new(), passes, 65_534).unwrap()
}

fn world(callers: Vec<CallerIdentity>) -> World {
    World::with(shared(callers, keys(&["ab"])))
}

fn right(name: &str) -> Request {
    Request::default().basic(name, &secret_of(name))
}

fn bearer(pass: &str) -> Request {
    Request::default().authorization(&format!("Bearer {pass}"))
}

impl World {
    fn token(&self, request: &Request) -> TokenAnswer {
        at_once(self.callers.token(request.shown()))
    }

    fn pass(&self, request: &Request) -> String {
        match self.token(request) {
            TokenAnswer::Pass { access_token, .. } => access_token.expose().to_owned(),
            other => panic!("{other:?}"),
        }
    }

    fn is_refused(&self, request: &Request, why: &str) -> bool {
        match self.token(request) {
            TokenAnswer::InvalidClient { description, .. } => description.contains(why),
            _ => false,
        }
    }
}

#[test]
fn a_local_secret_buys_a_pass() {
    let world = world(vec![with_secret("a"), with_secret("b")]);
    let answer = world.token(&right("b"));
    let TokenAnswer::Pass {
        access_token,
        expires_in: 3600,
        index: 1,
        by: By::Basic,
    } = answer
    else {
        panic!("{answer:?}")
    };
    let access_token = access_token.expose();
    assert!(access_token.starts_with("aap1."));
    assert_eq!(world.who(&bearer(access_token)), "b by pass");
    assert_eq!(
        world.who(&Request::default().authorization(&format!("bEARER  {access_token}"))),
        "b by pass"
    );
    assert_ne!(world.pass(&right("b")), access_token);
}

#[test]
fn wrong_is_refused_and_a_placeholder_gets_a_placeholder() {
    let net = CallerIdentity {
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        uids: vec![1],
        ..with_secret("net")
    };
    let world = world(vec![with_secret("a"), net]);
    let by_network = Identified::Caller {
        index: 1,
        by: By::Network,
    };
    let nobody = |unrecognised: Option<&'static str>| Identified::Anonymous {
        unrecognised: unrecognised.map(Into::into),
    };
    let elsewhere = Request::default().peer("198.51.100.1");
    assert!(world.is_refused(&Request::default().basic("a", "wrong"), NotIdentified::NOBODY));
    assert!(world.is_refused(&right("a").in_plain(), "TLS"));
    for (request, who) in [
        (Request::default(), by_network.clone()),
        (
            Request::default().basic("mdb_sa_id_placeholder", "x"),
            by_network.clone(),
        ),
        (Request::default().authorization("Bearer x"), by_network),
        (elsewhere.clone(), nobody(None)),
        (
            elsewhere.basic("mdb_sa_id_placeholder", "x"),
            nobody(Some(
                "HTTP Basic with a name that no caller has; as a token its secret is no JSON Web Token",
            )),
        ),
    ] {
        assert_eq!(world.token(&request), TokenAnswer::Placeholder(who));
    }
    assert!(world.is_refused(&right("a").of_uid(1), "another caller"));
    assert!(matches!(
        world.token(&right("net").of_uid(1)),
        TokenAnswer::Pass { index: 1, .. }
    ));
    let twice = right("a").authorization("Bearer x");
    assert_eq!(world.token(&twice), TokenAnswer::Refused(NotIdentified::BadRequest));
}

#[test]
fn a_pass_buys_no_pass() {
    let world = world(vec![with_secret("a")]);
    let pass = world.pass(&right("a"));
    assert!(world.is_refused(&bearer(&pass), "a pass buys no pass"));
    assert!(world.is_refused(&Request::default().basic("a", &pass), "a pass buys no pass"));
    assert!(world.is_refused(&Request::default().basic("x", &pass), "a pass buys no pass"));
}

#[test]
fn a_pass_ends() {
    let world = world(vec![with_secret("a")]);
    let request = bearer(&world.pass(&right("a")));
    world.clock.pass(HOUR - Duration::from_secs(1));
    assert_eq!(world.who(&request), "a by pass");
    world.clock.pass(Duration::from_secs(1));
    assert!(world.who(&request).contains("the pass has ended"));
}

#[test]
fn without_a_key_file_a_pass_lives_for_a_minute_and_outlives_a_reload() {
    let mut world = World::of(vec![with_secret("a")]);
    let TokenAnswer::Pass {
        access_token,
        expires_in: 60,
        ..
    } = world.token(&right("a"))
    else {
        panic!("it is capped")
    };
    world.reload(settings(vec![with_secret("b"), with_secret("a")]));
    assert_eq!(world.who(&bearer(access_token.expose())), "a by pass");
    let other = World::of(vec![with_secret("a")]);
    assert!(other.who(&bearer(access_token.expose())).contains("was not made here"));
}

#[test]
fn a_pass_is_good_for_its_listener_and_account_alone() {
    let world = world(vec![with_secret("a")]);
    let pass = world.pass(&right("a"));
    for elsewhere in [
        bearer(&pass).on("other"),
        Request {
            origin: "https://cloud.mongodbgov.com".to_owned(),
            ..bearer(&pass)
        },
        Request {
            client_id: "mdb_sa_id_2".to_owned(),
            ..bearer(&pass)
        },
    ] {
        assert!(world.who(&elsewhere).contains("for another listener or account"));
    }
    assert!(world.who(&bearer(&pass).in_plain()).contains("only over TLS"));
}

#[test]
fn a_pass_ends_with_its_secret_on_every_replica() {
    let next = "n".repeat(40);
    let rotated = |current: &str, next: Option<&str>| CallerIdentity {
        secrets: LocalSecrets {
            current: Some(local_secret(current).unwrap()),
            next: next.map(|next| local_secret(next).unwrap()),
        },
        ..caller("a")
    };
    let old = secret_of("a");
    let mut world = world(vec![rotated(&old, Some(&next))]);
    let (by_old, by_next) = (
        world.pass(&right("a")),
        world.pass(&Request::default().basic("a", &next)),
    );
    for replica in [&by_old, &by_next] {
        assert_eq!(world.who(&bearer(replica)), "a by pass");
    }
    world.reload(shared(vec![rotated(&next, None)], keys(&["ab"])));
    assert!(world.who(&bearer(&by_old)).contains("no longer names its caller"));
    assert_eq!(world.who(&bearer(&by_next)), "a by pass");
    let other = self::world(vec![rotated(&next, None)]);
    assert!(other.who(&bearer(&by_old)).contains("no longer names its caller"));
    assert_eq!(other.who(&bearer(&by_next)), "a by pass");
}

#[test]
fn a_pass_ends_when_its_caller_goes_or_leaves_the_listener() {
    let mut world = world(vec![with_secret("a"), with_secret("b")]);
    let request = bearer(&world.pass(&right("a")));
    let elsewhere = CallerIdentity {
        listeners: Some(vec!["other".to_owned()]),
        ..with_secret("a")
    };
    let same_secret = CallerIdentity {
        name: name("c"),
        ..with_secret("a")
    };
    for callers in [
        vec![with_secret("b")],
        vec![elsewhere],
        vec![caller("a")],
        vec![same_secret],
    ] {
        world.reload(shared(callers, keys(&["ab"])));
        assert!(world.who(&request).contains("no longer names its caller"));
    }
    world.reload(shared(vec![with_secret("b"), with_secret("a")], keys(&["ab"])));
    assert_eq!(world.who(&request), "a by pass");
}

#[test]
fn the_previous_key_opens_and_the_current_one_seals() {
    let mut world = world(vec![with_secret("a")]);
    let old = world.pass(&right("a"));
    world.reload(shared(vec![with_secret("a")], keys(&["cd", "ab"])));
    let new = world.pass(&right("a"));
    assert_eq!(world.who(&bearer(&old)), "a by pass");
    world.reload(shared(vec![with_secret("a")], keys(&["cd"])));
    assert_eq!(world.who(&bearer(&new)), "a by pass");
    assert!(world.who(&bearer(&old)).contains("was not made here"));
}

#[test]
fn a_revoked_pass_is_over_and_no_other() {
    let world = world(vec![with_secret("a")]);
    let (one, other) = (world.pass(&right("a")), world.pass(&right("a")));
    for nothing in [
        "",
        "token=",
        "token=aap1.x",
        "token=atlas-auth-proxy-placeholder",
        &format!("tokens={one}"),
        &format!("x=token&y={one}"),
    ] {
        world.callers.revoke(nothing.as_bytes());
    }
    world.callers.revoke(&[0xff; 100]);
    assert_eq!(world.who(&bearer(&one)), "a by pass");
    world
        .callers
        .revoke(format!("token_type_hint=access_token&token={one}").as_bytes());
    assert!(world.who(&bearer(&one)).contains("the pass has ended"));
    assert_eq!(world.who(&bearer(&other)), "a by pass");
}

#[test]
fn what_looks_like_a_pass_is_wrong_and_no_placeholder() {
    let net = CallerIdentity {
        networks: vec!["192.0.2.0/24".parse().unwrap()],
        ..caller("net")
    };
    let world = world(vec![net]);
    assert_eq!(world.who(&bearer("placeholder")), "net by network");
    assert!(world.who(&bearer("aap1.")).contains("was not made here"));
    assert!(world.who(&bearer("aap1.x")).contains("was not made here"));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]

    #[test]
    fn a_changed_pass_is_never_taken(at in any::<prop::sample::Index>(), byte in b'!'..=b'~') {
        thread_local! {
            static WORLD: World = world(vec![with_secret("a")]);
        }
        WORLD.with(|world| {
            let pass = world.pass(&right("a"));
            let mut changed = pass.clone().into_bytes();
            let at = at.index(changed.len());
            changed[at] = byte;
            let changed = String::from_utf8(changed).unwrap();
            if changed != pass {
                assert_ne!(world.who(&bearer(&changed)), "a by pass");
            }
        });
    }
}
