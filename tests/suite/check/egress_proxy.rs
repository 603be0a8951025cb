//! The proxy on the way to Atlas.

use crate::support::atlas::Atlas;
use crate::support::check::{PASSWORD, Setup, tunnel};
use crate::support::ports::free_address;

#[tokio::test]
async fn http_proxy_alone() {
    let atlas = Atlas::start().await;
    for name in ["HTTP_PROXY", "http_proxy"] {
        let setup = Setup::bearer().env(name, &format!("http://user:{PASSWORD}@127.0.0.1:1"));
        let said = atlas.before(setup).check().await;
        said.works("it works; 1 to look at");
        said.line("warn", "proxy", &["directly", name], &["HTTPS_PROXY"]);
    }
}

#[tokio::test]
async fn an_egress_proxy() {
    let atlas = Atlas::start().await;
    let port = atlas.emulator.base_url().rsplit(':').next().unwrap().parse().unwrap();
    // `user:proxy-password`
    let way = tunnel(
        (std::net::Ipv4Addr::LOCALHOST, port).into(),
        Some("dXNlcjpwcm94eS1wYXNzd29yZA=="),
    )
    .await;
    let (with, without) = (
        format!("http://user:{PASSWORD}@{}", way.address),
        format!("http://{}", way.address),
    );
    let check = async |variables: &[(&str, &str)]| {
        let mut setup = atlas.before(Setup::bearer());
        for (name, value) in variables {
            setup = setup.env(name, value);
        }
        setup.check().await
    };
    let said = check(&[("HTTPS_PROXY", &with)]).await;
    said.works("all is well");
    said.line(
        "ok",
        "proxy",
        &[&format!("through {without} (with credentials)"), "HTTPS_PROXY"],
        &[],
    );
    said.line("ok", "dns", &["the egress proxy 127.0.0.1"], &[]);
    said.line("ok", "tunnel", &["connects to"], &[]);

    let said = check(&[("HTTPS_PROXY", &without)]).await;
    said.line("ok", "proxy", &["without credentials"], &[]);
    said.fails("tunnel", &["HTTP 407"], &["proxy_credentials_file"]);
    said.skips(&["tls", "credential"]);

    let closed = format!("http://user:{PASSWORD}@{}", free_address());
    let said = check(&[("https_proxy", &closed)]).await;
    said.fails("tcp", &["refused"], &["the egress proxy is not there", "HTTPS_PROXY"]);

    let said = check(&[("HTTPS_PROXY", &closed), ("NO_PROXY", "localhost")]).await;
    said.works("all is well");
    said.line("ok", "proxy", &["directly, as NO_PROXY"], &[]);

    let said = check(&[("HTTPS_PROXY", &format!("socks5://user:{PASSWORD}@127.0.0.1"))]).await;
    said.fails("configuration", &["HTTPS_PROXY", "socks5", "not supported"], &[]);
}
