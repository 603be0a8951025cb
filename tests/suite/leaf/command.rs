//! A token that a command prints: run again when it is time, and when the gateway does not know the one before.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;

use atlas_auth_proxy::config::{self, Disk, Flags, Machine, NoNetwork, SecretCommands, Sources};
use serde_json::Value;

use super::*;
use crate::support::clock::StepClock;
use crate::support::program::PROGRAM;
use crate::support::upstream::{Answer, json as answer_json};

async fn groups(request: http::Request<hyper::body::Incoming>) -> Answer {
    let _ = http_body_util::BodyExt::collect(request.into_body()).await;
    answer_json(200, r#"{"results":[],"totalCount":3}"#)
}

/// A folder with a command that counts its runs and prints the file `printed`, and a configuration that shows that to `gateway`.
struct Printing(TempDir);

impl Printing {
    fn to(gateway: &Gateway) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let script = format!("#!/bin/sh\necho >> {at}/runs\ncat {at}/printed\n");
        let command = write(&folder, "command", &script);
        fs::set_permissions(&command, fs::Permissions::from_mode(0o755)).unwrap();
        let toml = format!(
            "[[listener]]\nbind = '127.0.0.1:0'\n[account.default]\ngateway = '{}'\nidentity_token_command = ['{}']\n\
             [admin]\nbind = '127.0.0.1:0'\n",
            gateway.url(""),
            command.display()
        );
        write(&folder, "proxy.toml", &toml);
        Self(folder)
    }

    fn prints(&self, text: &str) {
        let next = write(&self.0, "next", text);
        fs::rename(next, self.0.path().join("printed")).unwrap();
    }

    fn runs(&self) -> usize {
        fs::read(self.0.path().join("runs")).map_or(0, |text| text.len())
    }

    fn settings(&self, commands: &SecretCommands) -> Settings {
        let flags = Flags {
            config: Some(self.0.path().join("proxy.toml")),
            ..Flags::default()
        };
        commands.reading();
        let loaded = config::load(Sources {
            flags: &flags,
            environment: &BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
            files: &Disk,
            sockets: None,
            commands,
            network: &NoNetwork,
            machine: Machine {
                cores: NonZeroUsize::MIN,
                overflow_uid: 65534,
                log_to_terminal: false,
            },
        });
        commands.read();
        loaded.unwrap_or_else(|errors| panic!("{errors}")).settings
    }

    /// Waits for the end of the next run, too: a clock that goes on meanwhile would end it.
    async fn run_again(&self, before: usize, commands: &SecretCommands) {
        until("the command runs again", || async {
            let ended = commands.runs();
            self.runs() == before + 1 && ended.good + ended.failed == before as u64 + 1
        })
        .await;
    }
}

/// The clock alone makes time pass.
#[tokio::test]
async fn a_token_of_a_command_is_renewed_by_time_and_when_the_gateway_does_not_know_it() {
    let key = IssuerKey::p256("1");
    let mut gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "old", "")).await;
    let knows = |gateway: &mut Gateway, subject: &str| {
        let callers = format!("{ISSUER}{}", caller("billing", subject, ""));
        gateway.reload(&crate::callers::listener(""), &callers).unwrap();
    };
    let printing = Printing::to(&gateway);
    printing.prints(&token(&key, "old"));
    let clock = Arc::new(StepClock::default());
    let commands = SecretCommands::new(clock.clone());
    let app = App::start_with_clock(printing.settings(&commands), clock.clone())
        .await
        .unwrap();
    let leaf = Leaf {
        folder: tempfile::tempdir().unwrap(),
        app,
    };
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 200);
    assert_eq!(printing.runs(), 1);

    // The gateway does not know it any more; the command is not run again within 10 s of its last start.
    printing.prints(&token(&key, "new"));
    knows(&mut gateway, "new");
    let refused = leaf.get(GROUPS).send().await.unwrap();
    assert_eq!(refused.headers()["x-atlas-auth-proxy-error"], "PROXY_CALLER_UNKNOWN");
    assert_eq!(printing.runs(), 1);
    clock.advance(10);
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 200);
    assert_eq!(printing.runs(), 2);

    // As SIGHUP does; nobody asks for it.
    clock.advance(10);
    commands.renew();
    printing.run_again(2, &commands).await;
    assert!(!commands.due(), "no reload is needed for it");
    // By the token's own `exp`, an hour on.
    clock.advance(2870);
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 200);
    assert_eq!(printing.runs(), 3);
    let end = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(2890 + 100);
    printing.prints(&format!(
        r#"{{"value": "{}", "expires_at": "{end}"}}"#,
        token(&key, "new")
    ));
    clock.advance(20);
    printing.run_again(3, &commands).await;
    // By `expires_at`, which comes before it.
    clock.advance(70);
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 200);
    assert_eq!(printing.runs(), 4);
    // Four fifths of what was left, which is some time less than 100 s.
    printing.prints("no token");
    clock.advance(15);
    printing.run_again(4, &commands).await;
    // What it prints is none: the one before is shown on, a failure is counted, and the settings are read for another reason.
    assert_eq!(leaf.get(GROUPS).send().await.unwrap().status(), 200);
    assert_eq!((commands.runs().failed, commands.runs().failing), (1, 1));
    let said = format!("{:?}", printing.settings(&commands));
    assert!(!said.contains("eyJ") && printing.runs() == 5, "{said}");
}

#[tokio::test]
async fn check_runs_the_command_and_shows_its_token_to_the_gateway() {
    let key = IssuerKey::p256("1");
    let gateway = gateway_by_token(Upstream::start(groups).await, &key, &caller("billing", "billing", "")).await;
    let printing = Printing::to(&gateway);
    let token = token(&key, "billing");
    printing.prints(&token);
    let config = printing.0.path().join("proxy.toml");
    let run = async |args: &[&str]| {
        let mut command = tokio::process::Command::new(PROGRAM);
        command
            .args(args)
            .arg("--config")
            .arg(&config)
            .env_clear()
            .env("PATH", "/usr/bin:/bin");
        let output = command.output().await.unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (code, said, _) = run(&["check", "--json"]).await;
    assert_eq!(code, Some(0), "{said}");
    let said: Value = serde_json::from_str(&said).unwrap();
    let said = said.to_string();
    for part in ["/command prints (", "subject billing", "`billing`, by jwt"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(&token), "{said}");
    assert_eq!(printing.runs(), 1);
    let (code, _, said) = run(&["rotate-secret"]).await;
    assert!(
        code != Some(0) && printing.runs() == 1,
        "only `run` and `check` run it: {said}"
    );
    printing.prints("hunter2");
    let (code, said, _) = run(&["check"]).await;
    assert_eq!(code, Some(1));
    assert!(
        said.contains("identity_token_command") && said.contains("is no JSON Web Token"),
        "{said}"
    );
    assert!(!said.contains("hunter2"), "{said}");
}
