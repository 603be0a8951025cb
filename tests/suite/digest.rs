//! Digest against the emulator, which refuses whatever is not exactly right, and a demo from end to end.

use std::io::Write;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atlas_auth_proxy::emulator::{Algorithm, Emulator, EmulatorSettings, Fault, FaultKind, Target};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::client::client;
use crate::support::clock::StepClock;
use crate::support::needs::needs;
use crate::support::program::PROGRAM;
use crate::support::proxy::{PRIVATE_KEY, PUBLIC_KEY, Proxy, digest, proxy};
use crate::support::until;

struct Setup {
    atlas: Emulator,
    proxy: Arc<Proxy>,
    clock: Arc<StepClock>,
    _ca: tempfile::NamedTempFile,
}

async fn set_up(change: impl FnOnce(&mut EmulatorSettings)) -> Setup {
    let mut settings = EmulatorSettings {
        api_keys: vec![(PUBLIC_KEY.to_owned(), PRIVATE_KEY.to_owned())],
        requests_per_minute: 1_000_000,
        ..EmulatorSettings::default()
    };
    change(&mut settings);
    let atlas = Emulator::start(settings).await.unwrap();
    let mut ca = tempfile::NamedTempFile::new().unwrap();
    ca.write_all(atlas.ca_pem().as_bytes()).unwrap();
    let clock = Arc::new(StepClock::default());
    let mut builder = proxy(&atlas.base_url(), Some(ca.path()), digest());
    builder.clock = Arc::clone(&clock) as _;
    Setup {
        atlas,
        proxy: Arc::new(builder.start().await),
        clock,
        _ca: ca,
    }
}

const GROUPS: &str = "/api/atlas/v2/groups?pageNum=1&x=%7B%22a%22%3A1%7D";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_steady_state_costs_one_request_each() {
    for algorithm in [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256] {
        let setup = set_up(|s| s.algorithm = algorithm).await;
        let http = client();
        for n in 1..=20 {
            let answer = http.get(setup.proxy.url(GROUPS)).send().await.unwrap();
            assert_eq!(answer.status(), 200, "{algorithm:?}");
            answer.bytes().await.unwrap();
            // The first costs one more, for the challenge.
            assert_eq!(setup.atlas.api_requests(), n + 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_share_a_nonce_across_its_expiry() {
    let setup = set_up(|s| s.nonce_life = Duration::from_secs(1)).await;
    let stale = async || {
        let labels = [("cause", "stale")];
        setup
            .proxy
            .metric("atlas_auth_proxy_digest_challenges_total", &labels)
            .await
    };
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..32)
        .map(|n| {
            let (http, proxy, done) = (client(), Arc::clone(&setup.proxy), Arc::clone(&done));
            tokio::spawn(async move {
                let mut calls = 0;
                while !done.load(Ordering::SeqCst) {
                    let body = Bytes::from(vec![n; 5000]);
                    let url = proxy.url("/api/atlas/v2/emulator/sink");
                    let answer = http.post(url).body(body.clone()).send().await.unwrap();
                    assert_eq!(answer.status(), 200);
                    assert!(
                        answer
                            .text()
                            .await
                            .unwrap()
                            .contains(&format!("{:x}", Sha256::digest(&body)))
                    );
                    calls += 1;
                }
                calls
            })
        })
        .collect();
    until("it expired twice", || async { stale().await >= 2.0 }).await;
    done.store(true, Ordering::SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await.unwrap();
    }
    assert!(calls > 100, "{calls} calls");
    let refused = setup
        .proxy
        .metric("atlas_auth_proxy_digest_challenges_total", &[("cause", "refused")])
        .await;
    assert_eq!(refused, 0.0, "no (nonce, nc) was sent twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_too_large_to_record_is_sent_once_on_a_fresh_nonce() {
    let setup = set_up(|_| ()).await;
    let http = client();
    let body = Bytes::from(vec![7; 5 << 20]);
    for _ in 0..3 {
        setup.atlas.expire_nonces();
        let url = setup.proxy.url("/api/atlas/v2/emulator/sink");
        // An idle nonce is not trusted with such a body: the emulator has forgotten it, which only time can tell.
        setup.clock.advance(1);
        let answer = http.post(url).body(body.clone()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            answer
                .text()
                .await
                .unwrap()
                .contains(&format!("{:x}", Sha256::digest(&body)))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_key_is_told_by_atlas_in_a_bounded_number_of_tries() {
    let setup = set_up(|s| s.api_keys = vec![("other".to_owned(), "key".to_owned())]).await;
    let http = client();
    let refused = async || {
        let answer = http.get(setup.proxy.url(GROUPS)).send().await.unwrap();
        assert_eq!(answer.status(), 401);
        assert!(answer.headers().get("www-authenticate").is_none());
        let text = answer.text().await.unwrap();
        assert!(text.contains("You are not authorized for this resource."), "{text}");
    };
    refused().await;
    until("a probe has shown that the key is refused", || async {
        setup.proxy.metric("atlas_auth_proxy_credential_usable", &[]).await == 0.0
    })
    .await;
    let cold = setup.atlas.api_requests();
    assert!(cold <= 5, "three for the request, two for the probe, not {cold}");
    for _ in 0..5 {
        refused().await;
    }
    assert_eq!(
        setup.atlas.api_requests() - cold,
        5,
        "one each while it counts as refused"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_the_emulator_arrive_as_what_they_are() {
    let setup = set_up(|_| ()).await;
    let http = client();
    let get = || async { http.get(setup.proxy.url(GROUPS)).send().await };
    assert_eq!(get().await.unwrap().status(), 200);
    for kind in [FaultKind::Reset, FaultKind::Truncate] {
        let fault = Fault {
            times: 2,
            ..Fault::once(Target::Api, kind)
        };
        setup.atlas.fault(fault);
        match get().await {
            // No head came, even over a new connection.
            Ok(answer) if answer.status() == 502 => {}
            // Broken for the client, too: never a clean end.
            Ok(answer) => assert!(kind == FaultKind::Truncate && answer.bytes().await.is_err()),
            Err(error) => panic!("{kind:?}: {error}"),
        }
        setup.atlas.clear_faults();
        assert_eq!(get().await.unwrap().status(), 200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_starts_answers_on_all_listeners_and_ends_cleanly() {
    if needs(&["curl"], "curl").is_none() {
        return;
    }
    let mut child = tokio::process::Command::new(PROGRAM)
        .arg("demo")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut urls = Vec::new();
    loop {
        let line = lines.next_line().await.unwrap().expect("the demo gets ready");
        if line == "ready" {
            break;
        }
        if let Some(at) = line.find("http://") {
            urls.push(line[at..].split_whitespace().next().unwrap().to_owned());
        }
    }
    let (mut samples, mut commands) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next_line().await.unwrap() {
        if line.starts_with("Ctrl-C") {
            break;
        }
        commands.extend(
            line.strip_prefix("  MONGODB_ATLAS_CLIENT_ID=")
                .map(|_| line.trim().to_owned()),
        );
        samples.extend(line.strip_prefix("  curl").map(|rest| format!("curl -sSf{rest}")));
    }
    assert_eq!(samples.len(), 8, "{samples:?}");
    for sample in samples {
        let out = tokio::process::Command::new("bash")
            .args(["-o", "pipefail", "-c", &sample])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout);
        // `head` closes the pipe of the log early, which is no failure.
        assert!(
            out.status.success() || sample.contains("gunzip"),
            "{sample}: {text} {:?}",
            out.stderr
        );
        assert!(!text.is_empty(), "{sample}");
        assert!(!text.contains("https://localhost:"), "links stay on the proxy: {text}");
    }
    // The commands, as they stand there: all is well, also with the new secret.
    let [check, rotate] = &commands[..] else {
        panic!("check and rotate-secret are named: {commands:?}")
    };
    for (command, says) in [(check, "all is well"), (rotate, "secret"), (check, "all is well")] {
        let out = tokio::process::Command::new("sh")
            .args(["-c", command])
            .output()
            .await
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && text.contains(says), "{command}: {text}");
    }
    // The three proxies: each lists its projects.
    for url in &urls[..3] {
        let answer = client().get(format!("{url}/api/atlas/v2/groups")).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            answer
                .text()
                .await
                .unwrap()
                .contains(&format!("{url}/api/atlas/v2/groups/"))
        );
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(0));
}
