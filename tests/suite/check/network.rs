//! Names that can't be resolved, ports that are closed, servers that say nothing.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use crate::support::check::Setup;
use crate::support::ports::free_address;

#[tokio::test]
async fn a_name_that_cannot_be_resolved() {
    let said = Setup::bearer()
        .args(&["--base-url", "https://atlas.invalid"])
        .check()
        .await;
    said.fails("dns", &["atlas.invalid"], &["base URL", "resolv.conf"]);
    said.skips(&["tcp", "tls", "clock", "credential", "api", "secret expiry"]);
}

#[tokio::test]
async fn a_port_that_is_closed() {
    let port = free_address().port();
    let said = Setup::bearer()
        .args(&["--base-url", &format!("https://localhost:{port}")])
        .check()
        .await;
    said.fails("tcp", &["localhost", "refused"], &["base URL", "HTTPS_PROXY"]);
    said.skips(&["tls", "clock", "credential", "api", "secret expiry"]);
}

/// Writes a configuration file that waits for connections no longer than 300 ms.
fn impatient(folder: &Path) -> String {
    let path = folder.join("impatient.toml");
    let text =
        "[limits]\nconnect_timeout = '300ms'\n[admin]\nbind = '127.0.0.1:0'\n[[listener]]\nbind = '127.0.0.1:0'\n";
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let config = impatient(folder.path());
    // The kernel takes the connection, and nobody ever reads from it.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", silent.local_addr().unwrap().port());
    let said = Setup::bearer()
        .args(&["--config", &config, "--base-url", &url])
        .check()
        .await;
    said.fails(
        "tls",
        &["did not answer the TLS handshake within 0.3 s"],
        &["in between"],
    );

    // With a full queue the kernel drops what comes, as a firewall does.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&"127.0.0.1:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    full.listen(0).unwrap();
    let address = full.local_addr().unwrap().as_socket().unwrap();
    let _in_the_queue = std::net::TcpStream::connect(address).unwrap();
    let mut more = Vec::new();
    while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        more.push(stream);
    }
    let url = format!("https://{address}");
    let said = Setup::bearer()
        .args(&["--config", &config, "--base-url", &url])
        .check()
        .await;
    said.fails("tcp", &["within 0.3s"], &["firewall", "HTTPS_PROXY"]);
}
