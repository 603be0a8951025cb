//! What a request shows, and who that is: right, wrong, expired, swapped, mixed.

use std::time::{Duration, Instant, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use md5::{Digest as _, Md5};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{Clients, Port, Random, Recorded};
use crate::support::issuer::{IssuerKey, jwks};

const A: &str = "a-secret-0123456789-0123456789-0123456789";
const B: &str = "b-current-0123456789-0123456789-012345678";
const B_NEXT: &str = "b-next-0123456789-0123456789-0123456789-0";
const C: &str = "c-government-0123456789-0123456789-01234";
const L: &str = "l-both-0123456789-0123456789-0123456789-0";

/// The files of local secrets: each line is one.
pub const SECRETS: [(&str, &[&str]); 4] = [
    ("a-secret", &[A]),
    ("b-next", &[B, B_NEXT]),
    ("c-government", &[C]),
    ("l-both", &[L]),
];

const AUDIENCE: &str = "https://gateway.example.org";
/// Passes live so long without a key file; in the last seconds nobody knows.
const PASS_LIFE: Duration = Duration::from_secs(60);
const UNSURE: Duration = Duration::from_secs(5);
/// Nonces live 30 s.
const NONCE_USE: Duration = Duration::from_secs(15);

pub struct Issuers {
    cluster: IssuerKey,
    github: IssuerKey,
    mesh: IssuerKey,
    stranger: IssuerKey,
}

impl Issuers {
    pub fn new() -> Self {
        Self {
            cluster: IssuerKey::rsa("one"),
            github: IssuerKey::p256("two"),
            mesh: IssuerKey::ed25519("three"),
            stranger: IssuerKey::rsa("one"),
        }
    }

    /// The key sets, by file.
    pub fn files(&self) -> [(&'static str, String); 3] {
        let mut svid = self.mesh.jwk();
        svid["use"] = json!("jwt-svid");
        [
            ("cluster.json", jwks(&[&self.cluster])),
            ("github.json", jwks(&[&self.github])),
            ("mesh.json", json!({ "keys": [svid] }).to_string()),
        ]
    }
}

/// Whom a request is of.
#[derive(Debug, Clone)]
pub enum Expected {
    Caller(&'static str, &'static str),
    Nobody,
    Malformed,
}

/// What is shown with a request.
#[derive(Debug, Clone)]
pub struct Shown {
    pub port: Port,
    pub from: [u8; 4],
    pub certificate: Option<&'static str>,
    authorization: Authorization,
    pub expected: Expected,
}

#[derive(Debug, Clone)]
enum Authorization {
    None,
    Plain(String),
    Two(String, String),
    Digest {
        name: String,
        secret: String,
        nonce: String,
        count: u32,
        sha: bool,
        other_uri: bool,
    },
}

struct Pass {
    caller: &'static str,
    port: Port,
    text: String,
    bought: Instant,
}

struct Nonce {
    port: Port,
    text: String,
    got: Instant,
    count: u32,
    /// By whom, with which secret and count, it was answered rightly.
    used: Option<(&'static str, &'static str, u32)>,
}

pub struct Ways {
    issuers: Issuers,
    passes: Vec<Pass>,
    nonces: Vec<Nonce>,
}

const HERE: [u8; 4] = [127, 0, 0, 1];

impl Ways {
    pub fn new(issuers: Issuers) -> Self {
        Self {
            issuers,
            passes: Vec::new(),
            nonces: Vec::new(),
        }
    }

    pub async fn next(&mut self, random: &mut Random, clients: &mut Clients, recorded: &mut Vec<Recorded>) -> Shown {
        match random.below(13) {
            0 => nothing(random),
            1 | 2 => basic(random),
            3 | 4 => self.digest(random, clients, recorded).await,
            5 | 6 => self.pass(random, clients, recorded).await,
            7 | 8 => network(random),
            9 => certificate(random),
            10 => user(random),
            11 => self.jwt(random),
            _ => mixed(random),
        }
    }

    /// The values of `Authorization`, for this request.
    pub fn authorization(&self, shown: &Shown, method: &str, target: &str) -> Vec<String> {
        match &shown.authorization {
            Authorization::None => Vec::new(),
            Authorization::Plain(value) => vec![value.clone()],
            Authorization::Two(first, second) => vec![first.clone(), second.clone()],
            Authorization::Digest {
                name,
                secret,
                nonce,
                count,
                sha,
                other_uri,
            } => {
                let target = if *other_uri { "/another/target" } else { target };
                vec![digest(name, secret, nonce, *count, *sha, method, target)]
            }
        }
    }

    async fn digest(&mut self, random: &mut Random, clients: &mut Clients, recorded: &mut Vec<Recorded>) -> Shown {
        let (name, secret, port) = a_secret(random);
        let sha = random.chance(2);
        self.nonces.retain(|nonce| nonce.got.elapsed() < NONCE_USE);
        if !self.nonces.iter().any(|nonce| nonce.port == port) {
            let request = Request::builder()
                .uri("/api/atlas/v2/groups")
                .header("host", "localhost");
            let request = request.body(Full::new(Bytes::new())).unwrap();
            let (status, _, headers) = clients.answer(port, HERE, None, request).await;
            assert_eq!(status, 401);
            recorded.push(Recorded {
                caller: "unknown".to_owned(),
                by: None,
                operation: "listGroups".to_owned(),
                status,
                told: "the request for a nonce".to_owned(),
            });
            let challenge = headers["www-authenticate"].to_str().unwrap();
            let text = challenge
                .split("nonce=\"")
                .nth(1)
                .unwrap()
                .split('"')
                .next()
                .unwrap()
                .to_owned();
            self.nonces.push(Nonce {
                port,
                text,
                got: Instant::now(),
                count: 0,
                used: None,
            });
        }
        let nonce = self.nonces.iter_mut().find(|nonce| nonce.port == port).unwrap();
        nonce.count += 1;
        let used = nonce.used;
        let mut shown = Authorization::Digest {
            name: name.to_owned(),
            secret: secret.to_owned(),
            nonce: nonce.text.clone(),
            count: nonce.count,
            sha,
            other_uri: false,
        };
        let mut expected = Expected::Caller(name, "digest");
        if let Authorization::Digest {
            name,
            secret,
            nonce,
            count,
            other_uri,
            ..
        } = &mut shown
        {
            match random.below(8) {
                0 => {
                    *secret = if secret == A { B.to_owned() } else { A.to_owned() };
                    expected = Expected::Nobody;
                }
                1 => {
                    if let Some((before, its_secret, its_count)) = used {
                        (*name, *secret, *count) = (before.to_owned(), its_secret.to_owned(), its_count);
                        expected = Expected::Nobody;
                    }
                }
                2 => {
                    *nonce = nonce.replace(|c: char| c.is_ascii_digit(), "7") + "x";
                    expected = Expected::Nobody;
                }
                3 => {
                    *other_uri = true;
                    expected = Expected::Nobody;
                }
                4 => {
                    *name = "somebody".to_owned();
                    expected = Expected::Nobody;
                }
                _ => {}
            }
        }
        if matches!(expected, Expected::Caller(..)) {
            nonce.used = Some((name, secret, nonce.count));
        }
        Shown {
            port,
            from: HERE,
            certificate: None,
            authorization: shown,
            expected,
        }
    }

    async fn pass(&mut self, random: &mut Random, clients: &mut Clients, recorded: &mut Vec<Recorded>) -> Shown {
        if self.passes.len() < 6 || random.chance(50) {
            self.buy(random, clients, recorded).await;
        }
        self.passes.retain(|pass| pass.bought.elapsed() < 2 * PASS_LIFE);
        if self.passes.is_empty() {
            return nothing(random);
        }
        let pass = &self.passes[random.below(self.passes.len())];
        let age = pass.bought.elapsed();
        if age + UNSURE > PASS_LIFE && age < PASS_LIFE + UNSURE {
            return nothing(random);
        }
        let (mut text, mut port) = (pass.text.clone(), pass.port);
        let mut expected = if age < PASS_LIFE {
            Expected::Caller(pass.caller, "pass")
        } else {
            Expected::Nobody
        };
        match random.below(6) {
            0 => {
                port = if port == Port::Main {
                    Port::Government
                } else {
                    Port::Main
                };
                expected = Expected::Nobody;
            }
            1 => {
                let at = text.len() - 1 - random.below(text.len() / 2);
                let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
                text.replace_range(at..=at, other);
                expected = Expected::Nobody;
            }
            2 => {
                text.truncate(text.len() - 1 - random.below(text.len() / 2));
                expected = Expected::Nobody;
            }
            _ => {}
        }
        Shown {
            port,
            from: HERE,
            certificate: None,
            authorization: Authorization::Plain(format!("Bearer {text}")),
            expected,
        }
    }

    /// A pass for a local secret, or for a token.
    async fn buy(&mut self, random: &mut Random, clients: &mut Clients, recorded: &mut Vec<Recorded>) {
        let (caller, id, secret, port, by) = if random.chance(2) {
            let (name, secret, port) = a_secret(random);
            (name, name, secret.to_owned(), port, "basic")
        } else {
            let token = self.issuers.cluster.token(&cluster("system:serviceaccount:i:app"));
            ("i-cluster", "anything", token, Port::Main, "jwt")
        };
        let basic = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
        let request = Request::builder()
            .method("POST")
            .uri("/api/oauth/token")
            .header("host", "localhost")
            .header("authorization", basic)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Full::new(Bytes::from_static(b"grant_type=client_credentials")))
            .unwrap();
        let (parts, content) = clients.whole(port, HERE, None, request).await;
        assert_eq!(parts.status, 200, "{caller}: {content:?}");
        recorded.push(Recorded {
            caller: caller.to_owned(),
            by: Some(by),
            operation: String::new(),
            status: 200,
            told: "the purchase of a pass".to_owned(),
        });
        let said: Value = serde_json::from_slice(&content).unwrap();
        self.passes.push(Pass {
            caller,
            port,
            text: said["access_token"].as_str().unwrap().to_owned(),
            bought: Instant::now(),
        });
    }

    fn jwt(&self, random: &mut Random) -> Shown {
        let issuers = &self.issuers;
        let port = *random.one(&[Port::Main, Port::Government]);
        let right = [
            ("i-cluster", &issuers.cluster, cluster("system:serviceaccount:i:app")),
            ("j-claims", &issuers.github, github("example/deploy")),
            ("k-svid", &issuers.mesh, svid("spiffe://example.org/ns/k/sa/app/one")),
        ];
        let (name, issuer, mut claims) = right[random.below(3)].clone();
        let mut expected = Expected::Nobody;
        let now = unix();
        let token = match random.below(14) {
            0 => {
                claims["aud"] = json!("https://other.example.org");
                issuer.token(&claims)
            }
            1 => {
                claims["exp"] = json!(now - 60);
                claims["iat"] = json!(now - 600);
                issuer.token(&claims)
            }
            2 => {
                claims["exp"] = json!(now + 100 * 24 * 3600);
                issuer.token(&claims)
            }
            3 => {
                claims["nbf"] = json!(now + 600);
                issuer.token(&claims)
            }
            4 => issuers.stranger.token(&claims),
            5 => match name {
                "i-cluster" => issuers.github.token(&claims),
                _ => issuers.cluster.token(&claims),
            },
            6 => {
                let token = issuer.token(&claims);
                let (rest, signature) = token.rsplit_once('.').unwrap();
                let other = if signature.starts_with('A') { "B" } else { "A" };
                format!("{rest}.{other}{}", &signature[1..])
            }
            7 => {
                let body = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(claims.to_string());
                let head = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
                format!("{head}.{body}.")
            }
            8 => {
                for missing in ["exp", "iat", "sub"] {
                    if random.chance(2) || missing == "sub" {
                        claims.as_object_mut().unwrap().remove(missing);
                        break;
                    }
                }
                issuer.token(&claims)
            }
            9 => match name {
                "i-cluster" => issuer.token(&cluster("system:serviceaccount:j:app")),
                "j-claims" => issuer.token(&github("example/other")),
                _ => issuer.token(&svid("spiffe://example.org/ns/other/sa/app")),
            },
            _ => {
                expected = Expected::Caller(name, "jwt");
                issuer.token(&claims)
            }
        };
        // Too many that fail from one address are no longer looked at.
        let from = match expected {
            Expected::Caller(..) => HERE,
            _ => [
                127,
                100 + u8::try_from(random.below(100)).unwrap(),
                u8::try_from(random.below(250)).unwrap(),
                1,
            ],
        };
        Shown {
            port,
            from,
            certificate: None,
            authorization: Authorization::Plain(format!("Bearer {token}")),
            expected,
        }
    }
}

fn unix() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

fn claims(issuer: &str, subject: &str) -> Value {
    let now = unix();
    json!({ "iss": issuer, "sub": subject, "aud": AUDIENCE, "iat": now - 5, "exp": now + 600 })
}

fn cluster(subject: &str) -> Value {
    claims("https://cluster.example.org", subject)
}

fn github(repository: &str) -> Value {
    let mut claims = claims(
        "https://token.actions.example.org",
        "repo:example/deploy:ref:refs/heads/main",
    );
    claims["repository"] = json!(repository);
    claims
}

fn svid(subject: &str) -> Value {
    claims("https://whatever.example.org", subject)
}

/// A caller with a local secret, the secret, and a port where it exists.
fn a_secret(random: &mut Random) -> (&'static str, &'static str, Port) {
    let ports = [Port::Main, Port::Government];
    match random.below(5) {
        0 => ("b-next", B, *random.one(&ports)),
        1 => ("b-next", B_NEXT, *random.one(&ports)),
        2 => ("c-government", C, Port::Government),
        3 => ("l-both", L, *random.one(&ports)),
        _ => ("a-secret", A, *random.one(&ports)),
    }
}

fn basic_value(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

fn shown(port: Port, from: [u8; 4], authorization: Authorization, expected: Expected) -> Shown {
    Shown {
        port,
        from,
        certificate: None,
        authorization,
        expected,
    }
}

fn placeholder(random: &mut Random) -> Authorization {
    match random.below(4) {
        0 => Authorization::None,
        1 => Authorization::Plain("Bearer placeholder".to_owned()),
        2 => Authorization::Plain(basic_value("mdb_sa_id_placeholder", "x")),
        _ => Authorization::Plain(
            "Digest username=\"somebody\", realm=\"x\", nonce=\"y\", uri=\"/\", response=\"z\"".to_owned(),
        ),
    }
}

fn nothing(random: &mut Random) -> Shown {
    let port = *random.one(&[Port::Main, Port::Government, Port::Tls]);
    shown(port, HERE, placeholder(random), Expected::Nobody)
}

fn basic(random: &mut Random) -> Shown {
    let (name, secret, port) = a_secret(random);
    let (value, port, expected) = match random.below(8) {
        0 => (
            basic_value(name, "wrong-wrong-wrong-wrong-wrong-wrong-wrong"),
            port,
            Expected::Nobody,
        ),
        1 => (
            basic_value(name, if name == "a-secret" { B } else { A }),
            port,
            Expected::Nobody,
        ),
        2 => (basic_value("c-government", C), Port::Main, Expected::Nobody),
        3 => (basic_value(&name.to_uppercase(), secret), port, Expected::Nobody),
        _ => (basic_value(name, secret), port, Expected::Caller(name, "basic")),
    };
    shown(port, HERE, Authorization::Plain(value), expected)
}

fn network(random: &mut Random) -> Shown {
    let (from, name) = *random.one(&[
        ([127, 8, 0, 9], "d-address"),
        ([127, 8, 0, 8], "e-network"),
        ([127, 8, 255, 1], "e-network"),
        ([127, 9, 3, 4], "l-both"),
    ]);
    let port = *random.one(&[Port::Main, Port::Government, Port::Tls]);
    let (authorization, expected) = match random.below(8) {
        0 => (
            Authorization::Plain(basic_value("a-secret", "wrong-wrong-wrong-wrong-wrong-wrong-wrong")),
            Expected::Nobody,
        ),
        // What is shown counts, not the network.
        1 => (
            Authorization::Plain(basic_value("a-secret", A)),
            Expected::Caller("a-secret", "basic"),
        ),
        _ => (placeholder(random), Expected::Caller(name, "network")),
    };
    shown(port, from, authorization, expected)
}

fn certificate(random: &mut Random) -> Shown {
    let (certificate, name) = *random.one(&[
        ("app.example.org", Some("g-name")),
        ("spiffe://example.org/ns/h/sa/web", Some("h-spiffe")),
        ("spiffe://example.org/ns/h/sa/web/more", None),
        ("spiffe://example.org/ns/other/sa/web", None),
        ("other.example.org", None),
    ]);
    let (authorization, expected) = match (random.below(6), name) {
        (0, Some(_)) => (Authorization::Plain(basic_value("a-secret", A)), Expected::Nobody),
        (0, None) => (
            Authorization::Plain(basic_value("a-secret", A)),
            Expected::Caller("a-secret", "basic"),
        ),
        (1, _) => (Authorization::Plain(basic_value("a-secret", B)), Expected::Nobody),
        (_, Some(name)) => (placeholder(random), Expected::Caller(name, "certificate")),
        (_, None) => (placeholder(random), Expected::Nobody),
    };
    Shown {
        certificate: Some(certificate),
        ..shown(Port::Tls, HERE, authorization, expected)
    }
}

fn user(random: &mut Random) -> Shown {
    let (authorization, expected) = match random.below(6) {
        0 => (Authorization::Plain(basic_value("a-secret", A)), Expected::Nobody),
        1 => (Authorization::Plain(basic_value("a-secret", B)), Expected::Nobody),
        _ => (placeholder(random), Expected::Caller("f-user", "uid")),
    };
    shown(Port::Socket, HERE, authorization, expected)
}

fn mixed(random: &mut Random) -> Shown {
    let (name, secret, port) = a_secret(random);
    let two = Authorization::Two(basic_value(name, secret), "Bearer placeholder".to_owned());
    shown(port, HERE, two, Expected::Malformed)
}

fn digest(name: &str, secret: &str, nonce: &str, count: u32, sha: bool, method: &str, uri: &str) -> String {
    let hash = |text: String| -> String {
        let bytes = if sha {
            Sha256::digest(text.as_bytes()).to_vec()
        } else {
            Md5::digest(text.as_bytes()).to_vec()
        };
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let secret = hash(format!("{name}:atlas-auth-proxy:{secret}"));
    let request = hash(format!("{method}:{uri}"));
    let response = hash(format!("{secret}:{nonce}:{count:08x}:abcdef:auth:{request}"));
    let algorithm = if sha { "SHA-256" } else { "MD5" };
    format!(
        "Digest username=\"{name}\", realm=\"atlas-auth-proxy\", nonce=\"{nonce}\", uri=\"{uri}\", algorithm={algorithm}, \
         qop=auth, nc={count:08x}, cnonce=\"abcdef\", response=\"{response}\""
    )
}
