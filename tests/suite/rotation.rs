//! The life of a credential: it is replaced, revoked, expires, and its endpoint goes away, while requests go on.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use atlas_auth_proxy::credential::{ApiKeyPair, ClientSecrets, CredentialSettings, ServiceAccountKey};
use atlas_auth_proxy::emulator::{Fault, FaultKind, Target};
use atlas_auth_proxy::secret::Secret;
use atlas_auth_proxy::time::{Clock, SystemClock};

use crate::support::atlas::{Atlas, GROUPS, NEXT_SECRET, reloaded, reloads, write_secret};
use crate::support::client::{client, raw};
use crate::support::clock::StepClock;
use crate::support::metrics::{metric, metrics};
use crate::support::program::Program;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, Proxy, bearer, digest};
use crate::support::traffic::Traffic;
use crate::support::until;

/// Atlas, and its client secret in a file.
async fn atlas_and_secret() -> (Atlas, PathBuf) {
    let atlas = Atlas::start().await;
    let secret = atlas.folder.path().join("secret");
    write_secret(&secret, CLIENT_SECRET);
    (atlas, secret)
}

/// The program with its client secret in a file, and requests all the time.
struct Served {
    program: Program,
    admin: SocketAddr,
    traffic: Traffic,
}

impl Served {
    async fn start(atlas: &Atlas, secret: &Path, more: &[(&str, &str)]) -> Self {
        let program = atlas.program(secret, more).await;
        let traffic = Traffic::start(format!("http://{}{GROUPS}", program.address));
        traffic.goes_on().await;
        let admin = program.admin;
        Self {
            program,
            admin,
            traffic,
        }
    }

    async fn goes_on(&self) {
        self.traffic.goes_on().await;
    }

    /// No request failed, and the end is clean; gives back what was logged.
    async fn end(self) -> String {
        self.traffic.end().await;
        let (status, said) = self.program.stop().await;
        assert!(status.success());
        said
    }
}

/// Each way in which a secret file changes, with the old secret deleted at Atlas and its tokens revoked afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swapped_secret_file_is_taken_in_without_a_failed_request() {
    let atlas = Atlas::start().await;
    let at = |name: &str| atlas.folder.path().join(name);
    for generation in ["..1", "..2"] {
        fs::create_dir(at(generation)).unwrap();
    }
    write_secret(&at("..1/secret"), CLIENT_SECRET);
    symlink("..1", at("..data")).unwrap();
    symlink("..data/secret", at("secret")).unwrap();
    let served = Served::start(&atlas, &at("secret"), &[]).await;

    let mut old = CLIENT_SECRET.to_owned();
    let swap = |kind: usize, secret: &str| match kind {
        // Kubernetes swaps a symbolic link to a directory.
        0 => {
            write_secret(&at("..2/secret"), secret);
            symlink("..2", at("..data_tmp")).unwrap();
            fs::rename(at("..data_tmp"), at("..data")).unwrap();
        }
        // An editor renames a new file into the place of the old.
        1 => {
            write_secret(&at("new"), secret);
            fs::rename(at("new"), at("secret")).unwrap();
        }
        // `echo > file`.
        _ => write_secret(&at("secret"), secret),
    };
    for kind in 0..3 {
        let new = format!("{NEXT_SECRET}-{kind}");
        atlas.emulator.add_secret(CLIENT_ID, &new);
        swap(kind, &format!("{new}\n"));
        reloaded(served.admin, "the new secret is in force", (kind + 1) as f64).await;
        atlas.emulator.remove_secret(CLIENT_ID, &old);
        served.goes_on().await;
        old = new;
    }
    // The tokens that were replaced are revoked; one is in use.
    until("replaced tokens are revoked", || async {
        atlas.emulator.live_tokens() == 1
    })
    .await;
    let said = served.end().await;
    assert!(!said.contains("mdb_sa_sk_"), "{said}");
    assert_eq!(atlas.emulator.live_tokens(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_secret_is_reported_and_the_old_one_stays() {
    let (atlas, secret) = atlas_and_secret().await;
    let served = Served::start(&atlas, &secret, &[]).await;
    // One that Atlas refuses.
    write_secret(&secret, "mdb_sa_sk_unknown-to-atlas");
    until("the bad secret is counted", || async {
        reloads(served.admin, "error").await >= 1.0
    })
    .await;
    served.goes_on().await;
    // One that can't be one.
    write_secret(&secret, "");
    let bad = "atlas_auth_proxy_config_reloads_total";
    until("the empty file is counted", || async {
        metric(served.admin, bad, &[("outcome", "error")]).await >= 1.0
    })
    .await;
    served.goes_on().await;
    // And a good one again.
    atlas.emulator.add_secret(CLIENT_ID, NEXT_SECRET);
    write_secret(&secret, NEXT_SECRET);
    reloaded(served.admin, "the good secret is in force", 1.0).await;
    let said = served.end().await;
    for words in [
        "the new credential is not accepted; the old one stays in force",
        "this is empty",
    ] {
        assert!(said.contains(words), "{words:?} is missing in {said}");
    }
    assert!(!said.contains("unknown-to-atlas"), "{said}");
}

/// Atlas may need a moment to know a new secret, and one refusal may be wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_secret_that_is_refused_at_first_is_tried_again() {
    let (atlas, secret) = atlas_and_secret().await;
    let served = Served::start(&atlas, &secret, &[]).await;
    write_secret(&secret, NEXT_SECRET);
    let rejected = "atlas_auth_proxy_token_requests_total";
    until("it is refused twice", || async {
        metric(
            served.admin,
            rejected,
            &[("account", "default"), ("outcome", "rejected")],
        )
        .await
            >= 2.0
    })
    .await;
    assert_eq!(reloads(served.admin, "error").await, 1.0, "said once");
    served.goes_on().await;
    atlas.emulator.add_secret(CLIENT_ID, NEXT_SECRET);
    reloaded(served.admin, "the new secret is in force", 1.0).await;
    let said = served.end().await;
    assert_eq!(said.matches("the new credential is not accepted").count(), 1, "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_key_that_is_refused_at_first_is_tried_again() {
    let atlas = Atlas::start().await;
    let mut proxy = atlas.proxy(digest()).start().await;
    atlas.emulator.fault(Fault {
        times: 2,
        status: Some(401),
        ..Fault::once(Target::Api, FaultKind::Status)
    });
    let mut settings = atlas.proxy(digest()).settings;
    settings.accounts.get_mut("default").unwrap().credential = CredentialSettings::ApiKey(ApiKeyPair {
        public_key: "newkey".to_owned(),
        private_key: Secret::new(NEXT_SECRET),
        max_concurrent: None,
    });
    proxy.app.reload(settings).unwrap();
    until("it is refused", || async { reloads(proxy.admin, "error").await >= 1.0 }).await;
    reloaded(proxy.admin, "the new key is in force", 1.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_secret_that_cannot_be_verified_yet_waits_for_its_time() {
    let (atlas, secret) = atlas_and_secret().await;
    let served = Served::start(&atlas, &secret, &[]).await;
    atlas.emulator.fault(Fault {
        times: 0,
        status: Some(500),
        ..Fault::once(Target::Token, FaultKind::Status)
    });
    atlas.emulator.add_secret(CLIENT_ID, NEXT_SECRET);
    write_secret(&secret, NEXT_SECRET);
    let failed = "atlas_auth_proxy_token_requests_total";
    until("the new secret is tried", || async {
        metric(served.admin, failed, &[("account", "default"), ("outcome", "error")]).await >= 1.0
    })
    .await;
    served.goes_on().await;
    assert_eq!(reloads(served.admin, "ok").await, 0.0);
    atlas.emulator.clear_faults();
    reloaded(served.admin, "the new secret is in force", 1.0).await;
    served.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_secret_steps_in_for_a_revoked_one() {
    let (atlas, secret) = atlas_and_secret().await;
    let next = atlas.folder.path().join("next");
    let more = [("MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE", next.to_str().unwrap())];
    let served = Served::start(&atlas, &secret, &more).await;
    // It need not be there from the start.
    atlas.emulator.add_secret(CLIENT_ID, NEXT_SECRET);
    write_secret(&next, NEXT_SECRET);
    reloaded(served.admin, "the next secret is known", 1.0).await;
    // The current one goes, and every token with it.
    atlas.emulator.remove_secret(CLIENT_ID, CLIENT_SECRET);
    atlas.emulator.revoke_tokens_of(CLIENT_ID);
    served.goes_on().await;
    let said = served.end().await;
    assert!(
        said.contains("the client secret in use is no longer accepted"),
        "{said}"
    );
}

/// A token that replicas share says nothing about a secret that nobody has tried.
#[cfg(feature = "token-store")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_token_does_not_vouch_for_a_new_secret() {
    let Some(redis) = crate::support::redis::Redis::start().await else {
        return;
    };
    let atlas = Atlas::start().await;
    let with_secret = |secret: &str| {
        let credential = CredentialSettings::ServiceAccount(ServiceAccountKey {
            client_id: CLIENT_ID.to_owned(),
            secrets: Secret::new(secret).into(),
        });
        atlas
            .proxy(credential)
            .with(|settings| settings.token_store = Some(redis.settings()))
    };
    let mut proxy = with_secret(CLIENT_SECRET).start().await;
    let traffic = Traffic::start(proxy.url(GROUPS));
    traffic.goes_on().await;
    proxy
        .app
        .reload(with_secret("mdb_sa_sk_unknown-to-atlas").settings)
        .unwrap();
    until("the wrong secret is counted", || async {
        reloads(proxy.admin, "error").await >= 1.0
    })
    .await;
    traffic.goes_on().await;
    atlas.emulator.add_secret(CLIENT_ID, NEXT_SECRET);
    proxy.app.reload(with_secret(NEXT_SECRET).settings).unwrap();
    reloaded(proxy.admin, "the new secret is in force", 1.0).await;
    traffic.goes_on().await;
    traffic.end().await;
    until("only the shared token lives", || async {
        atlas.emulator.live_tokens() == 1
    })
    .await;
    let away = with_secret(NEXT_SECRET)
        .with(|settings| settings.token_store = None)
        .settings;
    assert_eq!(proxy.app.reload(away).unwrap(), ["token_store"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_key_is_swapped_once_its_challenge_is_answered() {
    let atlas = Atlas::start().await;
    let mut proxy = atlas.proxy(digest()).start().await;
    let traffic = Traffic::start(proxy.url(GROUPS));
    traffic.goes_on().await;
    let with_key = |public: &str, private: &str| {
        let mut settings = atlas.proxy(digest()).settings;
        settings.accounts.get_mut("default").unwrap().credential = CredentialSettings::ApiKey(ApiKeyPair {
            public_key: public.to_owned(),
            private_key: Secret::new(private),
            max_concurrent: None,
        });
        settings
    };
    proxy.app.reload(with_key("newkey", "wrong")).unwrap();
    until("the wrong key is counted", || async {
        reloads(proxy.admin, "error").await >= 1.0
    })
    .await;
    traffic.goes_on().await;
    proxy.app.reload(with_key("newkey", NEXT_SECRET)).unwrap();
    reloaded(proxy.admin, "the new key is in force", 1.0).await;
    traffic.goes_on().await;
    traffic.end().await;
}

/// A service account takes the place of an API key, while requests are made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_kind_of_a_credential_may_change() {
    let atlas = Atlas::start().await;
    let mut proxy = atlas.proxy(digest()).start().await;
    let traffic = Traffic::start(proxy.url(GROUPS));
    traffic.goes_on().await;
    proxy.app.reload(atlas.proxy(bearer()).settings).unwrap();
    reloaded(proxy.admin, "the service account is in force", 1.0).await;
    traffic.goes_on().await;
    assert_eq!(atlas.emulator.token_requests(), 1);
    proxy.app.reload(atlas.proxy(digest()).settings).unwrap();
    reloaded(proxy.admin, "the API key is in force", 2.0).await;
    traffic.goes_on().await;
    until("its token is revoked", || async { atlas.emulator.live_tokens() == 0 }).await;
    traffic.end().await;
}

/// A service account that may read itself knows when its secret ends, and says so in time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secret_that_expires_soon_is_warned_of() {
    const EXPIRY: &str = "atlas_auth_proxy_secret_expiry_timestamp_seconds";
    let atlas = Atlas::start().await;
    let days = |days: u64| Duration::from_secs(days * 24 * 3600 + 3600);
    atlas.emulator.remove_secret(CLIENT_ID, CLIENT_SECRET);
    atlas.emulator.add_secret_for(CLIENT_ID, CLIENT_SECRET, days(3));
    let secret = atlas.folder.path().join("secret");
    write_secret(&secret, CLIENT_SECRET);
    let program = atlas.program(&secret, &[]).await;
    let now = || SystemClock.wall().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    let expires_in = |days: u64| {
        let from = (now() + Duration::from_secs(days * 24 * 3600)).as_secs_f64();
        from..from + 7200.0
    };
    until("the expiry is known", || async {
        expires_in(3).contains(&metric(program.admin, EXPIRY, &[("account", "default")]).await)
    })
    .await;
    let status = client().get(format!("http://{}/status.json", program.admin));
    let status: serde_json::Value = serde_json::from_str(&status.send().await.unwrap().text().await.unwrap()).unwrap();
    let shown = status["accounts"][0]["secretExpiresAt"].as_str().unwrap();
    assert!(shown.starts_with("20") && shown.ends_with('Z'), "{shown}");
    // Another secret in force is looked at without waiting for hours.
    let another = "mdb_sa_sk_only-for-tests-for-90-days";
    atlas.emulator.add_secret_for(CLIENT_ID, another, days(90));
    write_secret(&secret, another);
    until("the new one's expiry is known", || async {
        expires_in(90).contains(&metric(program.admin, EXPIRY, &[("account", "default")]).await)
    })
    .await;
    let (status, said) = program.stop().await;
    assert!(status.success());
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("expires soon")).collect();
    assert_eq!(warnings.len(), 1, "{said}");
    assert!(warnings[0].contains("\"days_left\":3"), "{}", warnings[0]);
}

/// One that may not read itself works as well, and says that once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expiry_that_may_not_be_read_is_no_harm() {
    let (atlas, secret) = atlas_and_secret().await;
    let program = atlas.program(&secret, &[]).await;
    atlas.emulator.fault(Fault {
        times: 0,
        status: Some(403),
        ..Fault::once(Target::Api, FaultKind::Status)
    });
    program.until_said("may not read itself").await;
    let text = metrics(program.admin).await;
    assert!(!text.contains("secret_expiry_timestamp_seconds{"), "{text}");
    assert!(program.stop().await.0.success());
}

/// A request that is on its way with the old credential when that is revoked is made with the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_between_two_credentials_is_made_with_the_second() {
    let atlas = Atlas::start().await;
    let mut proxy = atlas.proxy(bearer()).start().await;
    assert_eq!(client().get(proxy.url(GROUPS)).send().await.unwrap().status(), 200);
    // It reaches Atlas, and waits there before its credential is looked at.
    atlas.emulator.fault(Fault {
        delay_ms: 1500,
        ..Fault::once(Target::Api, FaultKind::Delay)
    });
    let held = tokio::spawn(client().get(proxy.url(GROUPS)).send());
    until("the request is on its way", || async {
        proxy.metric("atlas_auth_proxy_requests_in_flight", &[]).await >= 1.0
    })
    .await;
    atlas.emulator.add_secret(CLIENT_ID, NEXT_SECRET);
    let mut settings = atlas.proxy(bearer()).settings;
    settings.accounts.get_mut("default").unwrap().credential = CredentialSettings::ServiceAccount(ServiceAccountKey {
        client_id: CLIENT_ID.to_owned(),
        secrets: Secret::new(NEXT_SECRET).into(),
    });
    proxy.app.reload(settings).unwrap();
    reloaded(proxy.admin, "the new secret is in force", 1.0).await;
    atlas.emulator.remove_secret(CLIENT_ID, CLIENT_SECRET);
    // What the first secret brought is void; what the second brings is not.
    let live = atlas.emulator.live_tokens();
    assert_eq!(live, 2);
    atlas.emulator.expire_tokens();
    assert_eq!(held.await.unwrap().unwrap().status(), 200);
}

/// No secret is left: once the last token has expired, a clear 502 with the cause.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_any_valid_secret_the_client_is_told_why() {
    let atlas = Atlas::start().await;
    let clock = Arc::new(StepClock::default());
    let mut builder = atlas.proxy(CredentialSettings::ServiceAccount(ServiceAccountKey {
        client_id: CLIENT_ID.to_owned(),
        secrets: ClientSecrets {
            current: Secret::new(CLIENT_SECRET),
            next: Some(Secret::new(NEXT_SECRET)),
        },
    }));
    builder.clock = Arc::clone(&clock) as _;
    let proxy = builder.start().await;
    assert_eq!(client().get(proxy.url(GROUPS)).send().await.unwrap().status(), 200);
    atlas.emulator.remove_secret(CLIENT_ID, CLIENT_SECRET);
    clock.advance(3600);
    let answer = client().get(proxy.url(GROUPS)).send().await.unwrap();
    assert_eq!(answer.status(), 502);
    assert_eq!(
        answer.headers()["x-atlas-auth-proxy-error"],
        "PROXY_CREDENTIAL_REJECTED"
    );
    let text = answer.text().await.unwrap();
    assert!(
        text.contains("invalid_client") && text.contains("next client secret"),
        "{text}"
    );
}

/// Twenty minutes without a token endpoint, at the worst time: the token that is there lasts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_twenty_minutes_is_not_seen_while_a_token_lives() {
    let atlas = Atlas::start().await;
    let clock = Arc::new(StepClock::default());
    let mut builder = atlas.proxy(bearer());
    builder.clock = Arc::clone(&clock) as _;
    let proxy = builder.start().await;
    let traffic = Traffic::start(proxy.url(GROUPS));
    traffic.goes_on().await;
    atlas.emulator.fault(Fault {
        times: 0,
        ..Fault::once(Target::Token, FaultKind::Reset)
    });
    // From minute 39 to minute 59 of the token's 60; it was due for renewal in between.
    clock.advance(39 * 60);
    for _ in 0..20 {
        clock.advance(60);
        traffic.goes_on().await;
    }
    let failed = proxy
        .metric("atlas_auth_proxy_token_requests_total", &[("outcome", "unreachable")])
        .await;
    assert!(failed >= 1.0, "the renewal was tried");
    atlas.emulator.clear_faults();
    // Now it expires.
    clock.advance(60);
    traffic.goes_on().await;
    assert_eq!(atlas.emulator.token_requests(), 2);
    traffic.end().await;
}

/// A laptop, or a virtual machine, that slept for two hours: no timer ran, and both clocks are ahead.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hours_of_sleep_are_not_seen() {
    let atlas = Atlas::start().await;
    let clock = Arc::new(StepClock::default());
    let mut builder = atlas.proxy(bearer());
    builder.clock = Arc::clone(&clock) as _;
    let proxy = builder.start().await;
    let traffic = Traffic::start(proxy.url(GROUPS));
    for nights in 1..4 {
        traffic.goes_on().await;
        clock.advance(2 * 3600);
        traffic.goes_on().await;
        assert_eq!(atlas.emulator.token_requests(), nights + 1);
    }
    traffic.end().await;
}

/// What `[listener]` and `[limits]` say changes for the next request; what needs a restart is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_settings_take_effect_between_two_requests() {
    let atlas = Atlas::start().await;
    let mut proxy: Proxy = atlas.proxy(bearer()).start().await;
    let http = client();
    let status = async |http: &reqwest::Client, url: String| http.get(url).send().await.unwrap().status().as_u16();
    assert_eq!(status(&http, proxy.url(GROUPS)).await, 200);

    // The same connection, no longer allowed.
    let none = atlas.proxy(bearer()).with(|s| {
        s.listeners[0].allow = atlas_auth_proxy::guard::Allowlist::new(vec!["10.0.0.0/8".parse().unwrap()]).unwrap();
    });
    assert_eq!(proxy.app.reload(none.settings).unwrap(), Vec::<&str>::new());
    assert_eq!(status(&http, proxy.url(GROUPS)).await, 403);
    // A new one is turned away before it has said a word.
    assert!(raw(proxy.address, b"").await.starts_with("HTTP/1.1 403 "));

    let two = atlas.proxy(bearer()).with(|s| {
        s.listeners.push(crate::support::proxy::listener("default"));
        s.workers = 7.try_into().unwrap();
    });
    assert_eq!(proxy.app.reload(two.settings).unwrap(), ["workers"]);
    let listeners = proxy.app.listeners();
    assert_eq!(listeners.len(), 2);
    for listener in &listeners {
        assert_eq!(status(&http, format!("{}{GROUPS}", listener.url)).await, 200);
    }
    // The second goes, and its port with it.
    proxy.app.reload(atlas.proxy(bearer()).settings).unwrap();
    until("its port is closed", || async {
        client().get(&listeners[1].url).send().await.is_err()
    })
    .await;
    assert_eq!(status(&http, proxy.url(GROUPS)).await, 200);
    assert_eq!(atlas.emulator.token_requests(), 1, "the token stayed through all of it");

    // A port that is taken: nothing of the new settings is taken over.
    let taken = atlas.proxy(bearer()).with(|s| {
        let mut other = crate::support::proxy::listener("default");
        other.bind = atlas_auth_proxy::server::Bind::Tcp(proxy.admin);
        s.listeners.push(other);
        s.listeners[0].rules.policy = atlas_auth_proxy::guard::Policy::allow_all();
    });
    assert!(proxy.app.reload(taken.settings).is_err());
    assert_eq!(status(&http, proxy.url(GROUPS)).await, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sighup_reads_the_settings_again() {
    let (atlas, secret) = atlas_and_secret().await;
    let program = atlas.program(&secret, &[]).await;
    let pid = rustix::process::Pid::from_raw(program.pid().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    let good = "atlas_auth_proxy_config_reloads_total";
    until("the reload is counted", || async {
        metric(program.admin, good, &[("outcome", "ok")]).await >= 1.0
    })
    .await;
    let url = format!("http://{}{GROUPS}", program.address);
    assert_eq!(client().get(url).send().await.unwrap().status(), 200);
    assert_eq!(atlas.emulator.token_requests(), 1, "nothing changed: the token stays");
    assert!(program.stop().await.0.success());
}

/// The account is taken away while the proxy runs: its token is dead before it expires, and there is no other one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_of_an_account_that_was_deleted_is_told_whose_credential_it_is() {
    let atlas = Atlas::start().await;
    let proxy = atlas.proxy(bearer()).start().await;
    assert_eq!(client().get(proxy.url(GROUPS)).send().await.unwrap().status(), 200);
    atlas.emulator.remove_secret(CLIENT_ID, CLIENT_SECRET);
    atlas.emulator.revoke_tokens_of(CLIENT_ID);
    for _ in 0..3 {
        let answer = client().get(proxy.url(GROUPS)).send().await.unwrap();
        assert_eq!(answer.status(), 502);
        let text = answer.text().await.unwrap();
        for part in [
            "PROXY_CREDENTIAL_REJECTED",
            "this proxy's own credential",
            "atlas-auth-proxy check",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
    }
}
