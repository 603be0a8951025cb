//! The addresses of listeners and of the admin port: free, taken, or the running proxy's.

use tokio::net::TcpListener;
use tokio::process::Command;

use crate::support::atlas::Atlas;
use crate::support::check::{Fake, OTHER_SECRET, Setup, http};
use crate::support::program::{PROGRAM, Program, SERVICE_ACCOUNT};
use crate::support::proxy::CLIENT_ID;
use crate::support::until;

#[tokio::test]
async fn ports_that_cannot_be_bound() {
    let atlas = Atlas::start().await;
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let said = atlas
        .before(Setup::bearer().args(&["--listen", &address]))
        .check()
        .await;
    said.fails("listener", &[&address, "in use"], &["another program has it"]);
    let said = atlas
        .before(Setup::bearer().args(&["--admin-listen", &address]))
        .check()
        .await;
    said.fails("admin port", &[&address, "in use"], &["another program has it"]);

    // An address for documentation, which no machine has (RFC 5737).
    let elsewhere = [
        "--listen",
        "192.0.2.1:8080",
        "--allow",
        "192.0.2.0/24",
        "--insecure-plaintext",
    ];
    let said = atlas.before(Setup::bearer().args(&elsewhere)).check().await;
    said.line(
        "FAIL",
        "listener",
        &["192.0.2.1:8080"],
        &["this machine has no such address"],
    );
    assert_eq!(said.code, Some(1));
}

/// `check` does not get the sockets: it says nothing of an address that it does not know.
#[tokio::test]
async fn sockets_of_systemd_are_not_said_to_be_free() {
    let atlas = Atlas::start().await;
    let setup = Setup::bearer().args(&["--listen", "systemd:web", "--admin-listen", "systemd:admin"]);
    let said = atlas.before(setup).check().await;
    assert_eq!(said.code, Some(0), "{}", said.text);
    for (check, name) in [("listener", "`web`"), ("admin port", "`admin`")] {
        said.line("skip", check, &["systemd hands over the socket", name], &[]);
    }
    assert!(!said.text.contains("is free"), "{}", said.text);
}

#[tokio::test]
async fn unix_sockets_that_cannot_be_bound() {
    let atlas = Atlas::start().await;
    let file = atlas.file("file", "", 0o600);
    let folder = atlas.folder.path().display().to_string();
    let check = async |path: &str| {
        let setup = Setup::bearer().args(&["--listen", &format!("unix:{path}")]);
        atlas.before(setup).check().await
    };
    let homeless = format!("{folder}/gone/proxy.sock");
    let said = check(&homeless).await;
    said.fails(
        "listener",
        &[&homeless, "its folder does not exist"],
        &["make the folder"],
    );
    let said = check(&file).await;
    said.fails("listener", &[&file, "a file that is not a socket"], &["another path"]);

    let socket = format!("{folder}/proxy.sock");
    check(&socket).await.works("all is well");
    let taken = tokio::net::UnixListener::bind(&socket).unwrap();
    let said = check(&socket).await;
    said.fails("listener", &[&socket, "in use"], &["another program has it"]);
    drop(taken);
    // The file is left behind, as after a kill; the next start replaces it.
    check(&socket).await.works("all is well");
}

#[tokio::test]
async fn ports_of_the_proxy_that_runs() {
    let atlas = Atlas::start().await;
    let (url, ca) = (atlas.emulator.base_url(), atlas.ca_file());
    let program = Program::start_at(Command::new(PROGRAM), &url, &ca, &SERVICE_ACCOUNT, &[]).await;
    until("it has a token", || async { atlas.emulator.live_tokens() == 1 }).await;
    let (listen, admin) = (program.address.to_string(), program.admin.to_string());
    let setup = Setup::bearer().args(&["--listen", &listen, "--admin-listen", &admin]);
    let said = atlas.before(setup).check().await;
    said.line("ok", "listener", &[&listen, "in use by the running proxy"], &[]);
    said.line("ok", "admin port", &[&admin, "in use by the running proxy"], &[]);
    said.line("ok", "running", &["a proxy runs here"], &[]);
    said.works("all is well");
    assert_eq!(atlas.emulator.live_tokens(), 1, "the running proxy's own");

    // Its other listener is another program's.
    let other = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let other = (other.local_addr().unwrap().to_string(), other);
    let setup = Setup::bearer().args(&["--listen", &other.0, "--admin-listen", &admin]);
    let said = atlas.before(setup).check().await;
    said.fails("listener", &[&other.0], &["another program has it"]);
    program.stop().await;
}

/// Its status is for loopback peers; its metrics are for everybody.
#[tokio::test]
async fn a_running_proxy_that_keeps_its_status_to_itself() {
    let atlas = Atlas::start().await;
    let admin = Fake::start(|head| match head.starts_with("GET /metrics ") {
        true => http("200 OK", "", "atlas_auth_proxy_build_info{version=\"0.1.0\"} 1\n"),
        false => http("403 Forbidden", "", r#"{"error":403}"#),
    })
    .await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (admin, listen) = (admin.address.to_string(), listener.local_addr().unwrap().to_string());
    let setup = Setup::bearer().args(&["--listen", &listen, "--admin-listen", &admin]);
    let said = atlas.before(setup).check().await;
    said.works("all is well");
    said.line("ok", "listener", &[&listen, "in use by the running proxy"], &[]);
    said.line("ok", "admin port", &[&admin, "in use by the running proxy"], &[]);
}

#[tokio::test]
async fn a_proxy_that_runs_with_another_credential() {
    let atlas = Atlas::start().await;
    let environment = [
        ("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID),
        ("MONGODB_ATLAS_CLIENT_SECRET", OTHER_SECRET),
    ];
    let (url, ca) = (atlas.emulator.base_url(), atlas.ca_file());
    let program = Program::start_at(Command::new(PROGRAM), &url, &ca, &environment, &[]).await;
    let setup = Setup::bearer().args(&["--admin-listen", &program.admin.to_string()]);
    let said = atlas.before(setup).check().await;
    said.works("it works; 1 to look at");
    said.line(
        "warn",
        "running",
        &["no usable credential for 1 of its accounts"],
        &["its log", "/status.json"],
    );
    program.stop().await;
}
