//! `connect_to`: every connection of the account goes there, and the base URL stays what is verified and said.

use std::fs;

use atlas_auth_proxy::upstream::ConnectTo;
use tokio::process::Command;

use super::{ATLAS, Made, address, ask, get, real_atlas};
use crate::support::atlas::{GROUPS, write_secret};
use crate::support::check::{Fake, Setup, http};
use crate::support::client::client;
use crate::support::ports::free_address;
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, bearer, digest, proxy};
use crate::support::tls::TestCa;
use crate::support::until;

#[tokio::test]
async fn api_token_and_revocation_go_there_for_both_kinds_of_credential() {
    let atlas = real_atlas().await;
    let to = ConnectTo::parse(&address(&atlas).to_string()).unwrap();
    for credential in [bearer(), digest()] {
        let proxy = proxy(&format!("https://{ATLAS}"), Some(&atlas.ca_file()), credential)
            .upstream(|upstream| upstream.connect_to = Some(to.clone()))
            .start()
            .await;
        let answer = client().get(proxy.url(GROUPS)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        proxy.app.shutdown().await;
    }
    let emulator = &atlas.emulator;
    assert_eq!((emulator.token_requests(), emulator.revoke_requests()), (1, 1));
}

#[tokio::test]
async fn check_and_rotate_secret_go_there() {
    let (atlas, made) = (real_atlas().await, Made::new(&[]).await);
    let ca_file = format!("ca_file = \"{}\"\n", atlas.ca_file().display());
    let secret = made.folder.path().join("secret");
    write_secret(&secret, CLIENT_SECRET);
    let account = format!(
        "{ca_file}client_id = \"{CLIENT_ID}\"\nclient_secret_file = \"{}\"\n",
        secret.display()
    );
    let config = made.config_anywhere(address(&atlas), &account);
    let said = Setup::default().args(&["--config", &config]).check().await;
    assert_eq!(said.code, Some(0), "{}", said.text);
    said.line(
        "ok",
        "account",
        &["(https://cloud.mongodb.com), reached at 127.0.0.1:"],
        &[],
    );
    said.line("ok", "dns", &["127.0.0.1 is an address already"], &[]);
    said.line("ok", "tls", &["cloud.mongodb.com speaks"], &[]);

    let output = Command::new(PROGRAM)
        .args(["rotate-secret", "--config", &config])
        .env_clear()
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_ne!(fs::read_to_string(&secret).unwrap().trim(), CLIENT_SECRET);
}

#[tokio::test]
async fn the_host_that_is_asked_for_stays_the_base_urls_and_links_are_what_the_client_used() {
    let ca = TestCa::new();
    let tls = ca.server(&[ATLAS], &["http/1.1"]);
    let real = Fake::start_tls(tls, |head| {
        let host = head
            .lines()
            .find_map(|line| line.strip_prefix("host: "))
            .unwrap_or_default();
        let link = "https://cloud.mongodb.com/api/atlas/v2/groups/5";
        http(
            "200 OK",
            &format!("Content-Type: application/json\r\nX-Host: {host}\r\n"),
            &format!(r#"{{"asked":"{host}","links":[{{"href":"{link}","rel":"self"}}]}}"#),
        )
    })
    .await;
    let made = Made::new(&[]).await;
    let config = |name: &str| {
        let keys = "public_key = \"abcdefgh\"\nprivate_key_file = \"private\"\n";
        let more = format!("ca_file = \"{}\"\n{keys}", ca.pem_file.path().display());
        made.config(&made.lines_to(format!("{name}:{}", real.address.port()), &more))
    };
    write_secret(
        &made.folder.path().join("private"),
        "01234567-89ab-cdef-0123-456789abcdef",
    );
    let program = || Command::new(PROGRAM);
    let file = config("localhost");
    let proxy = Program::start_alone(program(), &[], &["--config", &file]).await;
    let (status, body) = ask(made.client(), proxy.address, get("/api/atlas/v2/groups")).await;
    assert_eq!(status, 200, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["asked"], ATLAS);
    // The origin that the client used is Atlas's own.
    assert_eq!(
        body["links"][0]["href"],
        "https://cloud.mongodb.com/api/atlas/v2/groups/5"
    );
}

#[tokio::test]
async fn a_reload_that_leads_back_is_refused_and_one_that_leads_elsewhere_is_followed() {
    let (atlas, other, made) = (real_atlas().await, real_atlas().await, Made::new(&[]).await);
    let admin = free_address().to_string();
    let ca_file = format!("ca_file = \"{}\"\n", atlas.ca_file().display());
    let file = made.config(&made.lines_to(address(&atlas), &ca_file));
    let args = ["--config", &file, "--admin-listen", &admin];
    let proxy = Program::start_alone(Command::new(PROGRAM), &SERVICE_ACCOUNT, &args).await;
    assert_eq!(ask(made.client(), proxy.address, get(GROUPS)).await.0, 200);
    let both = made.folder.path().join("both.pem");
    fs::write(&both, [atlas.emulator.ca_pem(), other.emulator.ca_pem()].concat()).unwrap();
    let ca_file = format!("ca_file = \"{}\"\n", both.display());

    made.config(&made.lines_to(&admin, &ca_file));
    proxy
        .until_said(&format!("`{admin}` is this proxy's own admin port"))
        .await;
    assert_eq!(ask(made.client(), proxy.address, get(GROUPS)).await.0, 200);

    made.config(&made.lines_to(address(&other), &ca_file));
    until("requests go to the other", || async {
        assert_eq!(ask(made.client(), proxy.address, get(GROUPS)).await.0, 200);
        other.emulator.api_requests() > 0
    })
    .await;
    assert!(other.emulator.token_requests() > 0, "the token is of there, too");
}

/// A server of another name, where Atlas should be, and a port at which nobody listens.
#[tokio::test]
async fn check_and_the_log_say_where_connections_went_and_clients_do_not_learn_it() {
    let ca = TestCa::new();
    let other = Fake::start_tls(ca.server(&["other.example.org"], &["http/1.1"]), |_| {
        http("200 OK", "", "")
    })
    .await;
    let made = Made::new(&[]).await;
    let keys = format!(
        "public_key = \"abcdefgh\"\nprivate_key_file = \"{}\"\n",
        made.folder.path().join("private").display()
    );
    let account = format!(
        "client_id = \"{CLIENT_ID}\"\nclient_secret_file = \"{}\"\n",
        made.folder.path().join("secret").display()
    );
    write_secret(
        &made.folder.path().join("private"),
        "01234567-89ab-cdef-0123-456789abcdef",
    );
    write_secret(&made.folder.path().join("secret"), CLIENT_SECRET);
    let nobody = format!("localhost:{}", free_address().port());
    let other = format!("localhost:{}", other.address.port());
    for (to, check, hint) in [
        (&other, "tls", "what stands at `connect_to` is not Atlas"),
        (&nobody, "tcp", "check the port in `connect_to`"),
    ] {
        let way = format!("{ATLAS} at {to}, by `connect_to`");
        for credential in [&keys, &account] {
            let more = format!("ca_file = \"{}\"\n{credential}", ca.pem_file.path().display());
            let config = made.config_anywhere(to, &more);
            let said = Setup::default().args(&["--config", &config]).check().await;
            said.fails(check, &["connection to ", &way], &[hint]);
            assert!(!said.text.contains("must have the name"), "{}", said.text);

            let config = made.config(&made.lines_to(to, &more));
            let proxy = Program::start_alone(Command::new(PROGRAM), &[], &["--config", &config]).await;
            let (status, body) = ask(made.client(), proxy.address, get(GROUPS)).await;
            assert!(status == 502 || status == 503, "{body}");
            proxy.until_said(&format!("({way}: is that the right place?)")).await;
            assert!(!body.contains("is that the right place"), "{body}");
            // The port of a server that is there was never told.
            assert!(to == &nobody || !body.contains(to), "{body}");
        }
    }
}

#[tokio::test]
async fn check_says_it_of_a_tunnel_that_is_refused() {
    let egress = Fake::start(|_| http("403 Forbidden", "", "")).await;
    let made = Made::new(&[]).await;
    let proxy = format!("proxy = \"http://{}\"\n", egress.address);
    let config = made.config_anywhere("203.0.113.7:443", &proxy);
    let mut setup = Setup::default();
    for (name, value) in SERVICE_ACCOUNT {
        setup = setup.env(name, value);
    }
    let said = setup.args(&["--config", &config]).check().await;
    let way = format!("{ATLAS} at 203.0.113.7:443, by `connect_to`");
    said.fails("tunnel", &["through the egress proxy", &way], &["`proxy`"]);
}
