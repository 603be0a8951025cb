//! No secret comes out: not in a log at any level, not in an answer, not in a metric. The program itself runs here, with
//! the most talkative log there is.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};

use crate::support::client::{client, raw};
use crate::support::program::PROGRAM;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY, PUBLIC_KEY};
use crate::support::upstream::{Upstream, json};

struct Run {
    stdout: String,
    stderr: String,
    answers: String,
    code: Option<i32>,
}

/// Runs the program against `upstream`, makes some calls, ends it with SIGTERM, and gives back all that it said.
async fn run(upstream: &Upstream, credential: &[(&str, &str)], format: &str) -> Run {
    let mut child = tokio::process::Command::new(PROGRAM)
        .args([
            "run",
            "--listen",
            "127.0.0.1:0",
            "--admin-listen",
            "127.0.0.1:0",
            "--log-level",
            "trace",
        ])
        .args([
            "--log-format",
            format,
            "--base-url",
            &upstream.base_url(),
            "--upstream-ca",
        ])
        .arg(&upstream.ca_file)
        .env_clear()
        .envs(credential.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = child.stderr.take().unwrap();
    let errors = tokio::spawn(async move {
        let mut all = String::new();
        stderr.read_to_string(&mut all).await.unwrap();
        all
    });
    let mut stdout = String::new();
    lines.read_line(&mut stdout).await.unwrap();
    let mut addresses = stdout.match_indices("http://127.0.0.1:").map(|(at, found)| {
        let port: String = stdout[at + found.len()..]
            .chars()
            .take_while(char::is_ascii_digit)
            .collect();
        format!("127.0.0.1:{port}")
    });
    let address = addresses.next().expect("the line names the listener");
    let admin = addresses.last().expect("the line names the admin port");
    let mut answers = String::new();
    for _ in 0..3 {
        let answer = client()
            .post(format!("http://{address}/api/x?secret=query-secret"))
            .body("hi")
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        answers += &format!("{:?}", answer.headers());
        answers += &answer.text().await.unwrap();
    }
    let odd = "GET /a%0d%0aINJECTED\"\u{1b}[31m HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic client-secret-of-the-app\r\nConnection: close\r\n\r\n";
    answers += &raw(address.parse().unwrap(), odd.as_bytes()).await;
    for page in ["metrics", "status.json", "status.html", "readyz", ""] {
        answers += &client()
            .get(format!("http://{admin}/{page}"))
            .send()
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
    }
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let code = tokio::time::timeout(crate::support::PATIENCE, child.wait())
        .await
        .unwrap()
        .unwrap()
        .code();
    lines.read_to_string(&mut stdout).await.unwrap();
    Run {
        stdout,
        stderr: errors.await.unwrap(),
        answers,
        code,
    }
}

fn assert_silent(run: &Run, secrets: &[&str]) {
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    for secret in secrets {
        for (what, text) in [
            ("stdout", &run.stdout),
            ("the log", &run.stderr),
            ("an answer", &run.answers),
        ] {
            assert!(!text.contains(secret), "{secret:?} is in {what}:\n{text}");
        }
    }
    assert!(run.stderr.contains("/api/x"), "requests are logged: {}", run.stderr);
}

#[tokio::test]
async fn a_service_account_leaves_no_trace() {
    let upstream = Upstream::start(|_| async { json(200, "{}") }).await;
    let credential = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_SECRET),
    ];
    let basic = base64::Engine::encode(
        &base64::engine::general_purpose::STANDARD,
        format!("{CLIENT_ID}:{CLIENT_SECRET}"),
    );
    for format in ["json", "text"] {
        let run = run(&upstream, &credential, format).await;
        assert_silent(
            &run,
            &[
                CLIENT_SECRET,
                "token-1",
                "token-2",
                &basic,
                "query-secret",
                "client-secret-of-the-app",
                "\u{1b}",
            ],
        );
        if format == "json" {
            for line in run.stderr.lines() {
                serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|e| panic!("{e}: {line}"));
            }
        }
    }
}

#[tokio::test]
async fn an_api_key_leaves_no_trace() {
    let upstream = Upstream::start(|request| async move {
        if request.headers().contains_key("authorization") {
            return json(200, "{}");
        }
        let mut answer = json(401, "{}");
        answer.headers_mut().insert(
            "www-authenticate",
            http::HeaderValue::from_static(
                r#"Digest realm="MMS Public API", domain="", nonce="n0nce/1+", algorithm=MD5, qop="auth", stale=false"#,
            ),
        );
        answer
    })
    .await;
    let credential = [
        ("MONGODB_ATLAS_PUBLIC_API_KEY", PUBLIC_KEY),
        ("MONGODB_ATLAS_PRIVATE_API_KEY", PRIVATE_KEY),
    ];
    let run = run(&upstream, &credential, "json").await;
    assert_silent(&run, &[PRIVATE_KEY, "n0nce", "response=", "client-secret-of-the-app"]);
}
