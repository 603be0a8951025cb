//! Digest against servers that we did not write: Apache's mod_auth_digest (MD5, nonces that live two seconds) and
//! lighttpd's mod_auth (SHA-256). Bodies from nothing to 20 MiB go through, 32 requests at a time, across the expiry of
//! nonces; the far side hashes what it got.
//!
//! Needs the Debian packages `apache2` and `lighttpd`, which `.ci/run` installs.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use md5::Md5;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::support::client::client;
use crate::support::metrics::metrics;
use crate::support::needs::needs;
use crate::support::ports::free_address;
use crate::support::proxy::{PRIVATE_KEY, PUBLIC_KEY, Proxy, digest, proxy};
use crate::support::until;
use crate::support::upstream::{Upstream, full, json};

const REALM: &str = "MMS Public API";
const SIZES: [usize; 6] = [0, 1, 4 << 10, 1 << 20, (1 << 20) + 1, 3 << 20];
const LARGE: usize = 20 << 20;
/// The default.
const REPLAY_LIMIT: usize = 1 << 20;
const AT_ONCE: usize = 32;

struct Server {
    child: Child,
    address: SocketAddr,
    _folder: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both end their workers on SIGTERM; SIGKILL would leave them behind.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// A folder that the server's own user can read, with a script that tells method and hash of what it was sent.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("www/hash.cgi");
    fs::create_dir(folder.path().join("www")).unwrap();
    fs::write(
        &script,
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s ' \"$REQUEST_METHOD\"\nexec sha256sum\n",
    )
    .unwrap();
    for path in [folder.path(), &folder.path().join("www"), &script] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}

async fn wait_for(mut server: Server) -> Server {
    let address = server.address;
    until("the web server listens", || async move {
        TcpStream::connect(address).is_ok()
    })
    .await;
    assert!(
        server.child.try_wait().unwrap().is_none(),
        "the web server ended at once"
    );
    server
}

/// `directives`: those of mod_auth_digest beside the usual.
async fn apache(directives: &str) -> Option<Server> {
    let binary = needs(&["apache2"], "apache2")?;
    let folder = folder();
    let root = folder.path().display();
    let address = free_address();
    let ha1 = format!("{:x}", Md5::digest(format!("{PUBLIC_KEY}:{REALM}:{PRIVATE_KEY}")));
    fs::write(folder.path().join("users"), format!("{PUBLIC_KEY}:{REALM}:{ha1}\n")).unwrap();
    let modules: String = "mpm_event authn_core authn_file authz_core authz_user auth_digest cgid"
        .split(' ')
        .map(|m| format!("LoadModule {m}_module /usr/lib/apache2/modules/mod_{m}.so\n"))
        .collect();
    let configuration = format!(
        r#"{modules}
ServerName localhost
ServerRoot {root}
DefaultRuntimeDir {root}
PidFile {root}/pid
Mutex pthread
ErrorLog {root}/error.log
User www-data
Group www-data
Listen {address}
ScriptSock {root}/cgid.sock
DocumentRoot {root}/www
KeepAlive On
MaxKeepAliveRequests 0
<Directory {root}/www>
  Options +ExecCGI
  SetHandler cgi-script
  AuthType Digest
  AuthName "{REALM}"
  AuthDigestProvider file
  AuthDigestAlgorithm MD5
  AuthDigestQop auth
  {directives}
  AuthUserFile {root}/users
  Require valid-user
</Directory>
"#
    );
    fs::write(folder.path().join("apache.conf"), configuration).unwrap();
    let child = Command::new(binary)
        .args(["-DFOREGROUND", "-f"])
        .arg(folder.path().join("apache.conf"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Some(
        wait_for(Server {
            child,
            address,
            _folder: folder,
        })
        .await,
    )
}

async fn lighttpd() -> Option<Server> {
    let binary = needs(&["lighttpd"], "lighttpd")?;
    let folder = folder();
    let root = folder.path().display();
    let address = free_address();
    fs::write(folder.path().join("users"), format!("{PUBLIC_KEY}:{PRIVATE_KEY}\n")).unwrap();
    let configuration = format!(
        r#"server.modules = ("mod_auth", "mod_authn_file", "mod_cgi")
server.document-root = "{root}/www"
server.bind = "127.0.0.1"
server.port = {port}
server.errorlog = "{root}/error.log"
server.upload-dirs = ("{root}")
server.max-keep-alive-requests = 100000
cgi.assign = (".cgi" => "")
auth.backend = "plain"
auth.backend.plain.userfile = "{root}/users"
auth.require = ("/" => (
  "method" => "digest", "realm" => "{REALM}", "require" => "valid-user", "algorithm" => "SHA-256",
))
"#,
        port = address.port()
    );
    fs::write(folder.path().join("lighttpd.conf"), configuration).unwrap();
    let child = Command::new(binary)
        .args(["-D", "-f"])
        .arg(folder.path().join("lighttpd.conf"))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    Some(
        wait_for(Server {
            child,
            address,
            _folder: folder,
        })
        .await,
    )
}

async fn before(server: &Server) -> Proxy {
    proxy(&format!("http://{}", server.address), None, digest())
        .start()
        .await
}

fn content(size: usize, seed: usize) -> Bytes {
    (0..size)
        .map(|i| (i.wrapping_mul(31).wrapping_add(seed) >> 3) as u8)
        .collect::<Vec<_>>()
        .into()
}

async fn exchange(url: &str, http: &reqwest::Client, method: reqwest::Method, body: Bytes) {
    let refused = exchange_or_401(url, http, method.clone(), body).await;
    assert!(!refused, "{method}: 401");
}

/// True: it was answered with 401.
async fn exchange_or_401(url: &str, http: &reqwest::Client, method: reqwest::Method, body: Bytes) -> bool {
    let hash = format!("{:x}", Sha256::digest(&body));
    let size = body.len();
    let response = http.request(method.clone(), url).body(body).send().await.unwrap();
    let status = response.status();
    let text = response.text().await.unwrap();
    if status == 401 {
        return true;
    }
    assert_eq!(status, 200, "{method} with {size} bytes: {text}");
    assert_eq!(
        text.split_whitespace().collect::<Vec<_>>()[..2],
        [method.as_str(), &hash],
        "{method}, {size} bytes"
    );
    false
}

/// Rounds of all methods and sizes, until `enough` says so.
async fn hammer<F, Fut>(proxy: &Proxy, enough: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = bool>,
{
    let url = proxy.url("/hash.cgi?q=%7Bx%7D&a=b");
    let http = client();
    let methods = [
        reqwest::Method::GET,
        reqwest::Method::POST,
        reqwest::Method::PATCH,
        reqwest::Method::DELETE,
    ];
    let mut round = 0;
    loop {
        let calls: Vec<_> = (0..AT_ONCE)
            .map(|n| {
                let (url, http) = (url.clone(), http.clone());
                let method = methods[n % methods.len()].clone();
                let size = if method == reqwest::Method::GET {
                    0
                } else {
                    SIZES[(n / 4 + round) % SIZES.len()]
                };
                tokio::spawn(async move { exchange(&url, &http, method, content(size, n)).await })
            })
            .collect();
        for call in calls {
            call.await.unwrap();
        }
        round += 1;
        if enough().await {
            break;
        }
    }
    for method in &methods[1..] {
        exchange(&url, &http, method.clone(), content(LARGE, 7)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_with_md5_and_short_lived_nonces() {
    let Some(server) = apache("AuthDigestNonceLifetime 2").await else {
        return;
    };
    let proxy = before(&server).await;
    // Four lives of a nonce. Apache offers the next in `Authentication-Info` while there is traffic.
    let end = tokio::time::Instant::now() + Duration::from_secs(8);
    hammer(&proxy, || async move { tokio::time::Instant::now() >= end }).await;
    // Without traffic the nonce goes stale: its age is what is tested here, so there is nothing else to wait for.
    tokio::time::sleep(Duration::from_millis(3100)).await;
    exchange(
        &proxy.url("/hash.cgi"),
        &client(),
        reqwest::Method::POST,
        content(1000, 1),
    )
    .await;
    assert!(
        proxy
            .metric("atlas_auth_proxy_digest_challenges_total", &[("cause", "stale")])
            .await
            >= 1.0
    );
    assert_no_errors(&proxy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_sees_one_request_each_in_the_steady_state() {
    let Some(server) = apache("AuthDigestNonceLifetime 300").await else {
        return;
    };
    let proxy = before(&server).await;
    let (url, http) = (proxy.url("/hash.cgi"), client());
    exchange(&url, &http, reqwest::Method::GET, Bytes::new()).await;
    let attempts = || proxy.metric("atlas_auth_proxy_upstream_attempts_total", &[]);
    let before = attempts().await;
    for n in 0..20 {
        exchange(&url, &http, reqwest::Method::POST, content(1000, n)).await;
    }
    assert_eq!(attempts().await - before, 20.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lighttpd_with_sha_256() {
    let Some(server) = lighttpd().await else { return };
    let proxy = before(&server).await;
    let rounds = std::sync::atomic::AtomicUsize::new(0);
    hammer(&proxy, || async {
        rounds.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 3
    })
    .await;
    assert_no_errors(&proxy).await;
}

const EACH: usize = 25;
const REQUESTS: usize = AT_ONCE * EACH;

/// 32 clients without a pause between their requests: no 401 to any of them, every body whole.
///
/// `forgets`: the server forgets nonces in use. What is larger than `replay_limit` can't be sent again, so that it may refuse
/// some of that, and nothing else.
async fn no_client_is_refused(proxy: &Proxy, url: &str, forgets: bool) {
    // Made beforehand: the proxy runs in this process, too.
    let bodies: Vec<Bytes> = SIZES.into_iter().map(|size| content(size, 3)).collect();
    let clients: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            let (url, http, bodies) = (url.to_owned(), client(), bodies.clone());
            tokio::spawn(async move {
                let mut refused = 0;
                for n in 0..EACH {
                    let body = bodies[(number + n) % bodies.len()].clone();
                    let method = match body.len() {
                        0 => reqwest::Method::GET,
                        _ => reqwest::Method::POST,
                    };
                    let size = body.len();
                    if exchange_or_401(&url, &http, method, body).await {
                        assert!(forgets && size > REPLAY_LIMIT, "401 to {size} bytes");
                        refused += 1;
                    }
                }
                refused
            })
        })
        .collect();
    let mut refused = 0;
    for client in clients {
        refused += client.await.unwrap();
    }
    let large = REQUESTS * SIZES.into_iter().filter(|size| *size > REPLAY_LIMIT).count() / SIZES.len();
    assert!(refused * 5 <= large, "{refused} of {large} large ones");
    assert_no_errors(proxy).await;
}

async fn assert_no_errors(proxy: &Proxy) {
    let metrics = metrics(proxy.admin).await;
    // A connection that a client opened beside and never used ends with a 408 that nobody sees.
    let errors: Vec<_> = metrics
        .lines()
        .filter(|l| l.contains("proxy_errors_total{") && !l.ends_with(" 0") && !l.contains("REQUEST_TIMEOUT"))
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_that_checks_the_order_of_counts_refuses_no_client() {
    let Some(server) = apache("AuthDigestNcCheck On").await else {
        return;
    };
    let proxy = before(&server).await;
    no_client_is_refused(&proxy, &proxy.url("/hash.cgi"), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_with_one_time_nonces_refuses_no_client() {
    let Some(server) = apache("AuthDigestNonceLifetime 0").await else {
        return;
    };
    let proxy = before(&server).await;
    no_client_is_refused(&proxy, &proxy.url("/hash.cgi"), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apache_that_is_not_strict_sees_hardly_more_requests_than_there_are() {
    let Some(server) = apache("AuthDigestNonceLifetime 300").await else {
        return;
    };
    let proxy = before(&server).await;
    let url = proxy.url("/hash.cgi");
    no_client_is_refused(&proxy, &url, false).await;
    let attempts = || proxy.metric("atlas_auth_proxy_upstream_attempts_total", &[]);
    let before = attempts().await;
    no_client_is_refused(&proxy, &url, false).await;
    let each = (attempts().await - before) / REQUESTS as f64;
    assert!(each <= 1.02, "{each} requests upstream for each");
}

/// A server of our own that demands a count that grows, and hashes what it gets, as the script does.
async fn server_that_demands_a_growing_count() -> Upstream {
    let last: Arc<Mutex<HashMap<String, u32>>> = Arc::default();
    let nonces = Arc::new(AtomicUsize::new(0));
    Upstream::start(move |request| {
        let (last, nonces) = (Arc::clone(&last), Arc::clone(&nonces));
        async move {
            let method = request.method().clone();
            let accepted = answer_of(&request).is_some_and(|(nonce, count)| {
                let mut last = last.lock();
                last.get_mut(&nonce)
                    .is_some_and(|last| count > std::mem::replace(last, count.max(*last)))
            });
            if !accepted {
                let nonce = format!("n{}", nonces.fetch_add(1, Ordering::Relaxed));
                last.lock().insert(nonce.clone(), 0);
                let mut refused = json(401, "{}");
                let challenge =
                    format!("Digest realm=\"{REALM}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\", stale=false");
                refused
                    .headers_mut()
                    .insert("www-authenticate", challenge.parse().unwrap());
                return refused;
            }
            let body = request.into_body().collect().await.unwrap().to_bytes();
            http::Response::new(full(format!("{method} {:x}", Sha256::digest(&body))))
        }
    })
    .await
}

/// Nonce and count of a request whose Digest answer is right.
fn answer_of(request: &http::Request<hyper::body::Incoming>) -> Option<(String, u32)> {
    let sent = request.headers().get("authorization")?.to_str().ok()?;
    let field = |name: &str| {
        Some(
            sent.split_once(name)?
                .1
                .trim_start_matches('"')
                .split(['"', ','])
                .next()?
                .to_owned(),
        )
    };
    let (nonce, count, client_nonce) = (field(" nonce=")?, field(" nc=")?, field(" cnonce=")?);
    let hash = |text: String| format!("{:x}", Md5::digest(text));
    let user = hash(format!("{PUBLIC_KEY}:{REALM}:{PRIVATE_KEY}"));
    let target = hash(format!("{}:{}", request.method(), request.uri().path_and_query()?));
    let right = hash(format!("{user}:{nonce}:{count}:{client_nonce}:auth:{target}"));
    (field(" response=")? == right).then(|| Some((nonce, u32::from_str_radix(&count, 16).ok()?)))?
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_demands_a_growing_count_refuses_no_client() {
    let server = server_that_demands_a_growing_count().await;
    let proxy = server.proxy_with(digest()).start().await;
    no_client_is_refused(&proxy, &proxy.url("/api/atlas/v2/groups"), false).await;
}
