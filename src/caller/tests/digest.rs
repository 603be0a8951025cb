//! Digest answers: of real clients, right, wrong, old, used.

use digest_auth::{AuthContext, HttpMethod, WwwAuthenticateHeader};
use proptest::prelude::*;

use super::*;
use crate::crypto;
use crate::crypto::KeyFile;

/// What real clients sent to our challenges with the nonce `AAA…`, for `billing` with [`SECRET`].
const RECORDED: [(&str, &str, &str, &str); 5] = [
    (
        "curl 7.88.1",
        "GET",
        "/api/atlas/v2/groups?pageNum=1&x=%22a",
        r#"username="billing", realm="atlas-auth-proxy", nonce="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", uri="/api/atlas/v2/groups?pageNum=1&x=%22a", cnonce="MWI3ZjYxNjc3Y2ZhMjVhYWUyOTM1MWVhMjlmOGQ5OWQ=", nc=00000001, qop=auth, response="be6de67de902d821514a5e1d96a613b0f29a77a68046769f10990d0c05d878f6", algorithm=SHA-256"#,
    ),
    (
        "curl 7.88.1, offered MD5 alone",
        "POST",
        "/api/md5",
        r#"username="billing", realm="atlas-auth-proxy", nonce="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", uri="/api/md5", cnonce="MTgwNDVjMzAxNTZmNGQ2NzI3NTJiYTY4OGE5MzA5MjY=", nc=00000001, qop=auth, response="e84bc460083e393011999fe33a06f003", algorithm=MD5"#,
    ),
    (
        "requests 2.34.2, which reads both fields as one",
        "GET",
        "/api/atlas/v2/groups?pageNum=1",
        r#"username="billing", realm="atlas-auth-proxy", nonce="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", uri="/api/atlas/v2/groups?pageNum=1", response="a4359c94857b62df5936e36a0c10e46e", algorithm="MD5", qop="auth", nc=00000001, cnonce="c0382e8bb1997f2b""#,
    ),
    (
        "mongodb-forks/digest 1.1.0, of Atlas's Go clients",
        "GET",
        "/api/atlas/v2/groups?pageNum=1",
        r#"username="billing", realm="atlas-auth-proxy", nonce="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", uri="/api/atlas/v2/groups?pageNum=1", response="e1b92f9a27e6f06a4809cde912e780951f316db3abec98376864f89e6a4d5601", algorithm="SHA-256", qop=auth, nc=00000001, cnonce="881bb1e0373105ac""#,
    ),
    (
        "mongodb-forks/digest 1.1.0, offered MD5 alone",
        "POST",
        "/api/md5",
        r#"username="billing", realm="atlas-auth-proxy", nonce="AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", uri="/api/md5", response="89cff1f1c77032deec1d7fe18189232b", algorithm="MD5", qop=auth, nc=00000001, cnonce="0ea777c569988c9d""#,
    ),
];
const SECRET: &str = "0123456789abcdefghij-._~ABCDEFGHIJ";

fn billing(secret: &str) -> CallerIdentity {
    CallerIdentity {
        secrets: LocalSecrets {
            current: Some(local_secret(secret).unwrap()),
            next: None,
        },
        ..caller("billing")
    }
}

fn recorded(method: &str, target: &str, answer: &str) -> Request {
    Request {
        method: method.parse().unwrap(),
        target: target.to_owned(),
        ..Request::default().authorization(&format!("Digest {answer}"))
    }
}

/// Right but for the nonce, which is not ours: stale is said to none but right answers.
#[test]
fn answers_of_real_clients_are_right() {
    let world = World::of(vec![billing(SECRET)]);
    let wrong = World::of(vec![billing(&SECRET.replace('0', "1"))]);
    for (client, method, target, answer) in RECORDED {
        if answer.contains("MD5") && !crypto::MD5_ALLOWED {
            continue;
        }
        let request = recorded(method, target, answer);
        assert_eq!(world.who(&request), "stale", "{client}");
        assert_eq!(wrong.who(&request), "nobody", "{client}");
    }
}

#[test]
fn each_field_counts() {
    let world = World::of(vec![billing(SECRET)]);
    let (_, method, target, answer) = RECORDED[0];
    let who = |answer: &str| world.who(&recorded(method, target, answer));
    assert_eq!(who(answer), "stale");
    for (from, to) in [
        ("qop=auth, ", ""),
        ("qop=auth", "qop=auth-int"),
        ("qop=auth", "qop=\"auth,auth-int\""),
        ("SHA-256", "SHA-256-sess"),
        ("SHA-256", "MD5"),
        ("SHA-256", "SHA-512-256"),
        ("SHA-256", "none"),
        (", algorithm=SHA-256", ""),
        ("nc=00000001", "nc=00000002"),
        ("nc=00000001", "nc=1"),
        ("nc=00000001", "nc=00000000"),
        ("nc=00000001, ", ""),
        ("realm=\"atlas-auth-proxy\"", "realm=\"MMS Public API\""),
        ("realm=\"atlas-auth-proxy\", ", ""),
        ("?pageNum=1", "?pageNum=2"),
        ("%22a\"", "%22A\""),
        ("uri=\"/api", "uri=\"http://localhost/api"),
        ("response=\"be", "response=\"bf"),
        ("response=\"be", "response=\"BE"),
        ("cnonce=\"MWI3", "cnonce=\"MWI4"),
        ("cnonce=\"MWI3ZjYxNjc3Y2ZhMjVhYWUyOTM1MWVhMjlmOGQ5OWQ=\"", "cnonce=\"\""),
        ("nonce=\"AAAA", "nonce=\"BAAA"),
        ("qop=auth", "qop=auth, userhash=true"),
        ("qop=auth", "qop=auth, qop=auth"),
        ("qop=auth", "qop=auth junk"),
        ("qop=auth", "qop=\"auth"),
    ] {
        let changed = answer.replacen(from, to, 1);
        assert_ne!(changed, answer, "{from}");
        assert_eq!(who(&changed), "nobody", "{from} -> {to}");
    }
    for (from, to) in [
        ("qop=auth", "qop=\"auth\""),
        ("algorithm=SHA-256", "algorithm=\"sha-256\""),
        ("username=\"billing\"", "username=\"bi\\lling\""),
        ("qop=auth", "qop=auth, userhash=false, opaque=\"\", other=1"),
        (", ", " , ,"),
    ] {
        assert_eq!(who(&answer.replacen(from, to, 1)), "stale", "{from} -> {to}");
    }
    for (from, to) in [
        ("username=\"billing\"", "username=\"placeholder\""),
        ("username=\"billing\", ", ""),
    ] {
        assert_eq!(who(&answer.replacen(from, to, 1)), "anonymous", "{from} -> {to}");
    }
    assert_eq!(world.who(&recorded("POST", target, answer)), "nobody");
    assert_eq!(
        world.who(&recorded(method, "/api/atlas/v2/groups?pageNum=1&x=\"a", answer)),
        "nobody"
    );
}

#[test]
fn challenges_are_as_clients_can_read_them() {
    let world = World::of(Vec::new());
    let lines = |stale, md5| -> Vec<String> {
        let fields = world.callers.challenges("gateway", stale, md5);
        fields.iter().map(|field| field.to_str().unwrap().to_owned()).collect()
    };
    let both = lines(false, true);
    let nonce = both[0].split('"').nth(3).unwrap();
    let line = |algorithm: &str, stale: bool| {
        format!(r#"Digest realm="atlas-auth-proxy", nonce="{nonce}", algorithm={algorithm}, qop="auth", stale={stale}"#)
    };
    assert_eq!(both[0], line("SHA-256", false));
    assert_eq!(both.get(1), crypto::MD5_ALLOWED.then(|| line("MD5", false)).as_ref());
    assert_eq!(lines(false, false).len(), 1);
    assert!(lines(true, true).iter().all(|line| line.ends_with("stale=true")));
    assert_ne!(lines(false, true)[0], both[0], "each has a nonce of its own");
    let placeholder = placeholder_challenges(true).unwrap();
    assert_eq!(placeholder.len(), both.len());
    assert!(
        placeholder[0]
            .to_str()
            .unwrap()
            .starts_with(r#"Digest realm="atlas-auth-proxy", nonce=""#)
    );
}

/// A client that answers a challenge of `world`.
struct Client {
    challenge: WwwAuthenticateHeader,
    secret: String,
}

impl Client {
    fn challenged(world: &World, algorithm: &str, secret: &str) -> Self {
        let fields = world.callers.challenges("gateway", false, true);
        let mut lines = fields.iter().map(|field| field.to_str().unwrap());
        let line = lines
            .find(|line| line.contains(&format!("algorithm={algorithm},")))
            .unwrap();
        Self {
            challenge: digest_auth::parse(line).unwrap(),
            secret: secret.to_owned(),
        }
    }

    /// Each with the next count.
    fn request(&mut self, method: &str, target: &str) -> Request {
        let method_name = HttpMethod::from(method.to_owned());
        let context = AuthContext::new_with_method("a", self.secret.as_str(), target, None::<&[u8]>, method_name);
        let answer = self.challenge.respond(&context).unwrap().to_header_string();
        recorded(method, target, answer.strip_prefix("Digest ").unwrap())
    }
}

#[test]
fn an_answer_is_taken_once_in_any_order_by_either_secret() {
    let next = "n".repeat(40);
    let mut identity = with_secret("a");
    identity.secrets.next = Some(local_secret(&next).unwrap());
    let world = World::of(vec![identity]);
    for secret in [secret_of("a"), next] {
        for algorithm in ["SHA-256", "MD5"] {
            if algorithm == "MD5" && !crypto::MD5_ALLOWED {
                continue;
            }
            let mut client = Client::challenged(&world, algorithm, &secret);
            let first = client.request("GET", "/a?b=c");
            let second = client.request("DELETE", "/%7Ea");
            assert_eq!(world.who(&second), "a by digest", "{algorithm}");
            assert_eq!(world.who(&first), "a by digest", "{algorithm}");
            for used in [&first, &second] {
                assert_eq!(world.who(used), "stale", "{algorithm}");
            }
            let third = client.request("GET", "/");
            let elsewhere = Request {
                target: "/x".to_owned(),
                ..third.clone()
            };
            assert_eq!(world.who(&elsewhere), "nobody", "{algorithm}");
            assert_eq!(
                world.who(&third),
                "a by digest",
                "a wrong one has not used it up: {algorithm}"
            );
        }
    }
}

#[test]
fn md5_is_not_taken_where_it_is_not_offered() {
    let world = World::of(vec![with_secret("a")]);
    if !crypto::MD5_ALLOWED {
        return;
    }
    let request = Request {
        digest_md5: false,
        ..Client::challenged(&world, "MD5", &secret_of("a")).request("GET", "/")
    };
    assert_eq!(world.who(&request), "nobody");
}

#[test]
fn an_old_nonce_is_stale_for_a_right_answer_alone() {
    let world = World::of(vec![with_secret("a")]);
    let mut right = Client::challenged(&world, "SHA-256", &secret_of("a"));
    let mut wrong = Client::challenged(&world, "SHA-256", &secret_of("b"));
    world.clock.pass(Duration::from_secs(31));
    assert_eq!(world.who(&right.request("GET", "/")), "stale");
    assert_eq!(world.who(&wrong.request("GET", "/")), "nobody");
}

/// Replicas share the key, and the nonces where nobody reads them on the way.
#[test]
fn digest_is_taken_in_plain_with_nonces_of_this_process_alone() {
    let keys = KeyFile::parse("ab".repeat(32).as_bytes()).unwrap();
    let passes = PassSettings {
        keys: Some(keys),
        ..PassSettings::default()
    };
    let settings = CallersSettings::new(vec![with_secret("a")], Vec::new(), passes, 65_534).unwrap();
    let (one, other) = (World::with(settings.clone()), World::with(settings));
    let mut client = Client::challenged(&one, "SHA-256", &secret_of("a"));
    assert_eq!(one.who(&client.request("GET", "/").in_plain()), "a by digest");
    assert_eq!(other.who(&client.request("GET", "/").in_plain()), "stale");
    assert_eq!(other.who(&client.request("GET", "/")), "a by digest");
}

#[test]
fn an_answer_is_taken_at_the_listener_that_asked_alone() {
    let elsewhere = CallerIdentity {
        listeners: Some(vec!["other".to_owned()]),
        ..with_secret("a")
    };
    let world = World::of(vec![elsewhere]);
    let mut client = Client::challenged(&world, "SHA-256", &secret_of("a"));
    let request = client.request("GET", "/");
    assert_eq!(world.who(&request), "nobody");
    assert_eq!(
        world.who(&request.on("other")),
        "stale",
        "the nonce is of another listener"
    );
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// One byte within a value of a right answer is changed.
    #[test]
    fn a_changed_answer_is_never_taken(
        name in prop::sample::select(vec!["username=\"", "nonce=\"", "uri=\"", " nc=", "cnonce=\"", "response=\""]),
        at in any::<prop::sample::Index>(),
        byte in b' '..=b'~',
    ) {
        thread_local! {
            static WORLD: World = World::of(vec![with_secret("a")]);
        }
        WORLD.with(|world| {
            let request = Client::challenged(world, "SHA-256", &secret_of("a")).request("GET", "/a");
            let right = request.headers["authorization"].to_str().unwrap();
            let start = right.find(name).unwrap() + name.len();
            let len = right[start..].find(['"', ',']).unwrap();
            let mut changed = right.as_bytes().to_vec();
            changed[start + at.index(len)] = byte;
            let changed = String::from_utf8(changed).unwrap();
            let resent = Request { headers: HeaderMap::new(), ..request.clone() }.authorization(&changed);
            if changed != right {
                assert_ne!(world.who(&resent), "a by digest", "{changed}");
            }
        });
    }

    #[test]
    fn any_authorization_is_decided(value in proptest::collection::vec(any::<u8>(), 0..120), scheme in "(Basic |Digest |Bearer |)") {
        thread_local! {
            static WORLD: World = World::of(vec![with_secret("a")]);
        }
        let value = [scheme.as_bytes(), &value].concat();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let mut request = Request::default();
            request.headers.insert("authorization", value);
            let who = WORLD.with(|world| world.who(&request));
            prop_assert_eq!(who, "anonymous");
        }
    }
}
