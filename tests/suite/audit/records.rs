//! What a line says, and when it is there.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::*;
use crate::callers::{BILLING_SECRET, DEPLOYER_SECRET, Gateway, PROJECT, TWO, listener};
use crate::support::PATIENCE;
use crate::support::client::client;
use crate::support::raw_h2::{DATA, END_HEADERS, END_STREAM, HEADERS, OK, RawH2, frame};
use crate::support::upstream::{full, json, without_length};

/// The upstream looks into the file while it has the request, and the client as soon as it has the answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_has_its_begin_on_disk_when_atlas_sees_it_and_its_end_when_the_client_has_the_answer() {
    let folder = folder("audit.jsonl", "");
    let file = folder.path().join("audit.jsonl");
    let seen: Arc<Mutex<Vec<Vec<Value>>>> = Arc::default();
    let upstream = Upstream::start({
        let (seen, file) = (Arc::clone(&seen), file.clone());
        move |request| {
            let (seen, file) = (Arc::clone(&seen), file.clone());
            async move {
                if request.method() != "GET" {
                    seen.lock().push(lines(&file));
                }
                let path = request.uri().path().to_owned();
                let _ = request.into_body().collect().await;
                let mut answer = match path.rsplit('/').next().unwrap() {
                    "chunked" => {
                        let mut answer = json(200, "");
                        *answer.body_mut() = without_length(Bytes::from(vec![b'x'; 100_000]));
                        answer
                    }
                    "empty" => {
                        let mut answer = json(204, "");
                        *answer.body_mut() = full("");
                        answer
                    }
                    "links" => json(200, format!("{{\"href\":\"https://other/{}\"}}", "x".repeat(20_000))),
                    _ => json(200, r#"{"name":"c"}"#),
                };
                let headers = answer.headers_mut();
                headers.insert("x-request-id", path.len().into());
                headers.insert("x-hidden", "hidden-in-answer".parse().unwrap());
                answer
            }
        }
    })
    .await;
    let program = start(Command::new(PROGRAM), &upstream, &folder).await;
    let http = client();
    for (n, (method, path)) in [
        ("POST", "known"),
        ("PATCH", "chunked"),
        ("DELETE", "empty"),
        ("PUT", "links"),
    ]
    .into_iter()
    .enumerate()
    {
        let url = format!("http://{}{CLUSTERS}/{path}?name=hidden-in-query", program.address);
        let request = http
            .request(method.parse().unwrap(), url)
            .header("user-agent", "a test")
            .header("x-hidden", "hidden-in-header")
            .body("hidden-in-body");
        let answer = request.send().await.unwrap();
        let status = answer.status();
        answer.bytes().await.unwrap();
        // No wait in between.
        let now = lines(&file);
        assert_eq!(
            (of(&now, "begin").len(), of(&now, "end").len()),
            (n + 1, n + 1),
            "{method} {path}"
        );
        let before = seen.lock()[n].clone();
        assert_eq!((of(&before, "begin").len(), of(&before, "end").len()), (n + 1, n));
        let end = of(&now, "end")[n].clone();
        assert_eq!(end["status"], status.as_u16());
        assert_eq!(end["upstream_status"], status.as_u16());
        assert_eq!(
            (&end["method"], &end["decision"]),
            (&method.into(), &"forwarded".into())
        );
        assert_eq!(end["path"], format!("{CLUSTERS}/{path}"));
        if matches!(method, "PATCH" | "DELETE") {
            assert_eq!(end["project"], "5a0a1e7e0f2912c554080adc");
        }
        assert_eq!((&end["bytes_in"], &end["user_agent"]), (&14.into(), &"a test".into()));
        let length = CLUSTERS.len() + 1 + path.len();
        assert_eq!(end["request_id"], length.to_string());
    }
    let url = format!("http://{}{CLUSTERS}?name=hidden-in-query", program.address);
    for method in ["GET", "HEAD", "OPTIONS"] {
        let read = http.request(method.parse().unwrap(), &url).send().await.unwrap();
        assert_eq!(read.status(), 200, "{method}");
    }
    // Refused before anybody has looked at it.
    let foreign = http.post(&url).header("origin", "https://hidden-in-header.example");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    let (_, said) = program.stop().await;
    let all = lines(&file);
    assert_eq!(pairs(&all), 4);
    let [refused] = of(&all, "one")[..] else {
        panic!("reads have no line unless `include` says so: {all:?}")
    };
    assert_eq!((&refused["status"], &refused["path"]), (&403.into(), &CLUSTERS.into()));
    let text = fs::read_to_string(&file).unwrap();
    for hidden in ["hidden-in-", "token-1", crate::support::proxy::CLIENT_SECRET] {
        assert!(!text.contains(hidden), "{hidden}");
    }
    // The log tells of the last line.
    let log = write(folder.path(), "log", &said);
    let (code, told) = verify(folder.path(), &["--head", log.to_str().unwrap(), "audit.jsonl"]);
    assert!(code == 0 && told.contains("the end is proven"), "{told}");
    let cut = text.lines().take(6).map(|line| format!("{line}\n")).collect::<String>();
    write(folder.path(), "cut", &cut);
    let (code, told) = verify(folder.path(), &["--head", log.to_str().unwrap(), "cut"]);
    assert!(code == 1 && told.contains("cut off"), "{told}");
    let (code, told) = verify(folder.path(), &["cut"]);
    assert!(code == 0 && told.contains("end not proven"), "{told}");
    let (code, told) = verify(folder.path(), &["nothing-here"]);
    assert!(code == 2 && told.contains("nothing-here"), "{told}");
}

/// Files of two gateways in one call: each head is of its own chain.
#[tokio::test]
async fn ends_of_several_processes_are_proven_together() {
    let folder = folder("one.jsonl", "");
    let upstream = Upstream::start(|request| async {
        let _ = request.into_body().collect().await;
        json(200, "{}")
    })
    .await;
    let (mut logs, mut chains) = (Vec::new(), Vec::new());
    for name in ["one.jsonl", "two.jsonl"] {
        let config = folder.path().join("proxy.toml");
        let toml = fs::read_to_string(&config).unwrap().replace("one.jsonl", name);
        fs::write(&config, toml).unwrap();
        let program = start(Command::new(PROGRAM), &upstream, &folder).await;
        let answer = client()
            .delete(format!("http://{}{CLUSTERS}/c", program.address))
            .send()
            .await
            .unwrap();
        assert_eq!(answer.status(), 200);
        let (_, said) = program.stop().await;
        let log = write(folder.path(), &format!("{name}.log"), &said);
        logs.push(log.to_str().unwrap().to_owned());
        let all = lines(&folder.path().join(name));
        chains.push(all[0]["chain"].as_str().unwrap().to_owned());
    }
    let verify = |heads: &[&String]| {
        let heads = heads.iter().flat_map(|head| ["--head", head.as_str()]);
        let args: Vec<&str> = heads.chain(["one.jsonl", "two.jsonl"]).collect();
        verify(folder.path(), &args)
    };
    let (code, told) = verify(&[&logs[0], &logs[1]]);
    assert_eq!(code, 0, "{told}");
    for chain in &chains {
        let proven = |line: &str| line.contains("the end is proven") && line.contains(chain);
        assert!(
            told.lines().any(proven) && !told.contains("not proven"),
            "{chain}: {told}"
        );
    }
    let (code, told) = verify(&[&logs[1]]);
    assert!(
        code == 0 && told.contains(&format!("end not proven of chain {}", chains[0])),
        "{told}"
    );
    assert!(
        !told.contains(&format!("end not proven of chain {}", chains[1])),
        "{told}"
    );
    // A cut of the one that is not the last is found, too.
    let whole = fs::read_to_string(folder.path().join("one.jsonl")).unwrap();
    let cut: String = whole.lines().take(2).map(|line| format!("{line}\n")).collect();
    fs::write(folder.path().join("one.jsonl"), cut).unwrap();
    let (code, told) = verify(&[&logs[0], &logs[1]]);
    assert!(
        code == 1 && told.contains(&format!("the end of chain {} was cut off", chains[0])),
        "{told}"
    );
}

/// A proxy with callers and an audit log with these keys.
async fn audited(more: &str) -> (Gateway, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("audit.jsonl");
    // The folder is the gateway's own: the path is a whole one.
    let tables = format!("{TWO}\n[audit]\nfile = \"{}\"\n{more}\n", file.display());
    let gateway = Gateway::start_with(&listener(""), &tables).await;
    std::mem::forget(folder);
    (gateway, file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_did_what_and_what_was_refused_stands_in_the_lines() {
    let (gateway, file) = audited("include = \"all\"").await;
    let users = format!("/api/atlas/v2/groups/{PROJECT}/databaseUsers");
    let basic = |request: reqwest::RequestBuilder, name: &str, secret: &str| request.basic_auth(name, Some(secret));
    let post = |path: &str| gateway.send("POST", path).body("{}");
    assert_eq!(
        basic(post(&users), "deployer", DEPLOYER_SECRET)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );
    assert_eq!(
        basic(post(&users), "billing", BILLING_SECRET)
            .send()
            .await
            .unwrap()
            .status(),
        403
    );
    assert_eq!(post(&users).send().await.unwrap().status(), 401);
    let get = gateway.get(&format!("/api/atlas/v2/groups/{PROJECT}/clusters"));
    assert_eq!(
        basic(get, "billing", BILLING_SECRET).send().await.unwrap().status(),
        200
    );
    let foreign = post(&users).header("origin", "https://example.org");
    assert_eq!(foreign.send().await.unwrap().status(), 403);
    gateway.app.shutdown().await;
    let all = lines(&file);
    let [begin] = of(&all, "begin")[..] else {
        panic!("{all:?}")
    };
    for (name, value) in [
        ("caller", "deployer"),
        ("identified_by", "basic"),
        ("peer", "127.0.0.1"),
        ("listener", "main"),
        ("account", "default"),
        ("operation", "createGroupDatabaseUser"),
        ("project", PROJECT),
    ] {
        assert_eq!(begin[name], value, "{name}");
    }
    assert_eq!(begin["rule"], 1);
    let ones: Vec<_> = of(&all, "one")
        .into_iter()
        .map(|one| {
            (
                one["caller"].as_str().unwrap(),
                one["status"].as_u64().unwrap(),
                one["decision"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(
        ones,
        [
            ("billing", 403, "PROXY_RULE_DENIED"),
            ("unknown", 401, "PROXY_CALLER_UNKNOWN"),
            ("billing", 200, "forwarded"),
            ("none", 403, "PROXY_BROWSER_DENIED"),
        ]
    );
    let text = fs::read_to_string(&file).unwrap();
    assert!(!text.contains(DEPLOYER_SECRET) && !text.contains("example.org"));
    assert_eq!(of(&all, "close").len(), 1);
}

/// It is refused before anybody reads what it asks for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_on_a_connection_that_lost_its_right_has_a_line_without_its_query() {
    let (mut gateway, file) = audited("").await;
    let (http, url) = (client(), gateway.url(&format!("{CLUSTERS}?name=hidden-in-query")));
    let post = || {
        http.post(&url)
            .body("{}")
            .basic_auth("deployer", Some(DEPLOYER_SECRET))
            .send()
    };
    let answer = post().await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.bytes().await.unwrap();
    let tables = format!("{TWO}\n[audit]\nfile = \"{}\"\n", file.display());
    gateway
        .reload(&listener("allow = [\"192.0.2.0/24\"]"), &tables)
        .unwrap();
    assert_eq!(post().await.unwrap().status(), 403);
    gateway.app.shutdown().await;
    let all = lines(&file);
    let [refused] = of(&all, "one")[..] else {
        panic!("{all:?}")
    };
    assert_eq!(
        (&refused["path"], &refused["method"]),
        (&CLUSTERS.into(), &"POST".into())
    );
    assert_eq!(refused["decision"], "PROXY_IP_DENIED");
    assert!(!fs::read_to_string(&file).unwrap().contains("hidden"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn texts_of_clients_have_a_bound_and_a_cut_is_marked() {
    let (gateway, file) = audited("").await;
    for (more, agent) in [(0, 256), (1, 257)] {
        let path = format!("{CLUSTERS}/{}", "x".repeat(2047 + more - CLUSTERS.len()));
        let request = gateway.send("DELETE", &path).header("user-agent", "y".repeat(agent));
        let request = request.basic_auth("deployer", Some(DEPLOYER_SECRET));
        assert_eq!(request.send().await.unwrap().status(), 200);
    }
    gateway.app.shutdown().await;
    let all = lines(&file);
    for event in ["begin", "end"] {
        let [whole, cut] = of(&all, event)[..] else {
            panic!("{all:?}")
        };
        for (name, most) in [("path", 2048), ("user_agent", 256)] {
            let [whole, cut] = [whole, cut].map(|line| line[name].as_str().unwrap());
            assert_eq!(whole.len(), most, "{event} {name}");
            assert!(
                !whole.ends_with('…') && cut.ends_with('…') && cut.len() <= most,
                "{cut}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_refusals_of_a_peer_are_counted_in_fewer_lines() {
    let (gateway, file) = audited("").await;
    let users = format!("/api/atlas/v2/groups/{PROJECT}/databaseUsers");
    let counted = |all: &[Value]| of(all, "one").iter().any(|line| line["count"].is_u64());
    let (mut sent, until) = (0, Instant::now() + PATIENCE);
    while !counted(&lines(&file)) {
        let refused = (0..50).map(|_| {
            let post = gateway.send("POST", &users).body("{}");
            post.basic_auth("billing", Some(BILLING_SECRET)).send()
        });
        for refused in futures_util::future::join_all(refused).await {
            assert_eq!(refused.unwrap().status(), 403);
        }
        sent += 50;
        assert!(Instant::now() < until, "{sent} were refused");
    }
    gateway.app.shutdown().await;
    let all = lines(&file);
    let of_line = |line: &&Value| line["count"].as_u64().unwrap_or(1);
    assert_eq!(of(&all, "one").iter().map(of_line).sum::<u64>(), sent);
    let several = of(&all, "one").into_iter().find(|line| line["count"].is_u64()).unwrap();
    assert_eq!(
        (&several["peer"], &several["decision"]),
        (&"127.0.0.1".into(), &"refused".into())
    );
}

/// RFC 9113 section 8.1: the end of a stream may come in a frame of its own, whenever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_http2_the_end_is_there_with_the_last_byte_and_neither_waits_for_the_end_of_the_stream() {
    let folder = folder("audit.jsonl", "");
    let ends = Arc::new(Semaphore::new(0));
    let end = Arc::clone(&ends);
    let upstream = RawH2::start(
        |_| 100,
        move |_, mut frames| {
            let end = Arc::clone(&end);
            async move {
                while let Some(stream) = frames.request().await {
                    // `content-length: 2` (RFC 7541 section 6.2.2).
                    let head = [OK, &[0x0f, 0x0d, 1, b'2']].concat();
                    let head = frame(HEADERS, END_HEADERS, stream, &head);
                    frames.send(&[head, frame(DATA, 0, stream, b"ok")]).await;
                    end.acquire().await.unwrap().forget();
                    frames.send(&[frame(DATA, END_STREAM, stream, b"")]).await;
                }
            }
        },
    )
    .await;
    let config = folder.path().join("proxy.toml");
    let args = ["--base-url", &upstream.base_url(), "--config", config.to_str().unwrap()];
    let environment = [&SERVICE_ACCOUNT[..], &[("ATLAS_PROXY_UPSTREAM_HTTP", "2")]].concat();
    let program = Program::start_alone(Command::new(PROGRAM), &environment, &args).await;
    for changes in 1..=3 {
        let url = format!("http://{}{CLUSTERS}", program.address);
        let answer = async {
            client()
                .post(url)
                .body("{}")
                .send()
                .await
                .unwrap()
                .bytes()
                .await
                .unwrap()
        };
        assert_eq!(timeout(PATIENCE, answer).await.expect("it is not held back"), "ok");
        // No wait in between.
        let now = lines(&folder.path().join("audit.jsonl"));
        assert_eq!(pairs(&now), changes);
        assert_eq!(of(&now, "end")[changes - 1]["decision"], "forwarded");
        ends.add_permits(1);
    }
    program.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_are_learned_from_the_lines() {
    let (gateway, file) = audited("include = \"all\"").await;
    let (users, clusters) = ["databaseUsers", "clusters"]
        .map(|what| format!("/api/atlas/v2/groups/{PROJECT}/{what}"))
        .into();
    for (method, path, name, secret, status) in [
        ("POST", &users, "deployer", DEPLOYER_SECRET, 200),
        ("POST", &users, "billing", BILLING_SECRET, 403),
        ("GET", &clusters, "billing", BILLING_SECRET, 200),
    ] {
        let request = gateway.send(method, path).body("{}").basic_auth(name, Some(secret));
        assert_eq!(request.send().await.unwrap().status(), status);
    }
    gateway.app.shutdown().await;
    let rules = |args: &[&str]| {
        let output = std::process::Command::new(PROGRAM)
            .arg("rules")
            .args(args)
            .env_clear()
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let learned = rules(&["learn", "--from", file.to_str().unwrap()]);
    let learned = write(folder.path(), "learned.toml", &learned);
    let table = rules(&["table", "--config", learned.to_str().unwrap()]);
    let rows: Vec<Vec<&str>> = table
        .lines()
        .skip(1)
        .map(|row| row.split_whitespace().collect())
        .collect();
    assert_eq!(
        rows.iter().map(|row| &row[2..]).collect::<Vec<_>>(),
        [
            ["billing", "listGroupClusters", "GET", PROJECT],
            ["deployer", "createGroupDatabaseUser", "POST", PROJECT],
        ]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_path_template_names_are_hashed_and_projects_are_not() {
    let (gateway, file) = audited("path = \"template\"").await;
    let path = format!("/api/atlas/v2/groups/{PROJECT}/databaseUsers/admin/jane.doe");
    let request = gateway
        .send("DELETE", &path)
        .basic_auth("deployer", Some(DEPLOYER_SECRET));
    assert_eq!(request.send().await.unwrap().status(), 200);
    gateway.app.shutdown().await;
    let text = fs::read_to_string(&file).unwrap();
    assert!(
        !text.contains("jane") && text.contains(&format!("/groups/{PROJECT}/databaseUsers/h:")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reload_and_another_key_have_their_lines() {
    let (mut gateway, file) = audited("").await;
    let tables = format!("{TWO}\n[audit]\nfile = \"{}\"\n", file.display());
    gateway.reload(&listener(""), &tables).unwrap();
    write(gateway.folder.path(), "audit-key", KEY);
    gateway
        .reload(&listener(""), &format!("{tables}chain_key_file = \"audit-key\"\n"))
        .unwrap();
    gateway.app.reload_failed(Vec::new());
    gateway.app.shutdown().await;
    let all = lines(&file);
    let events: Vec<_> = all.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["open", "reload", "key", "reload", "reload", "close"]);
    assert_eq!(
        (&all[1]["outcome"], &all[4]["outcome"]),
        (&"ok".into(), &"error".into())
    );
    assert_ne!(all[1]["configuration"], all[3]["configuration"]);
    assert!(all[2].get("hash").is_none() && all[3]["key"] == all[2]["new_key"] && all[3]["hash"].is_string());
}
