//! A machine of its own, with names of its own: there the name leads to the proxy, DNS leads to the real one, and everything
//! is as `make-ca` says, ports too.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::process::{Output, Stdio};

use atlas_auth_proxy::config::{Network, SystemNetwork};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::process::{Child, Command};

use super::{ACCEPT, ATLAS, Made, NOT_ATLAS, address, real_atlas};
use crate::support::atlas::GROUPS;
use crate::support::metrics::metric;
use crate::support::needs::{needs, skip};
use crate::support::program::{PROGRAM, SERVICE_ACCOUNT};
use crate::support::until;

const PROXY: &str = "127.0.0.1:443";
const ADMIN: &str = "127.0.0.1:9091";
/// An address of the machine beside loopback's (RFC 5737).
const OWN: &str = "198.51.100.7";
/// Where DNS says that Atlas is.
const REAL: &str = "127.0.0.9:443";

/// Runs a test of this file in namespaces of its own for network and mounts.
async fn inside(test: &str) {
    let (Some(_), Some(_)) = (needs(&["ip"], "iproute2"), needs(&["curl"], "curl")) else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let mounts: String = [
        ("/etc/hosts", write("hosts", &format!("127.0.0.1 localhost {ATLAS}\n"))),
        ("/etc/resolv.conf", write("resolv.conf", "nameserver 127.0.0.1\n")),
        ("/etc/nsswitch.conf", write("nsswitch.conf", "hosts: files dns\n")),
    ]
    .iter()
    .map(|(at, file)| format!("mount --bind '{}' {at} && ", file.display()))
    .collect();
    let links = format!("ip link set lo up && ip address add {OWN}/32 dev lo");
    let script = format!("PATH=$PATH:/usr/sbin:/sbin; {links} && {mounts} exec \"$0\" \"$@\"");
    let run = |program: &Path, args: &[&str]| {
        let mut command = Command::new("unshare");
        command.args(["-m", "-n", "sh", "-c", &script]).arg(program).args(args);
        command.stdin(Stdio::null()).kill_on_drop(true);
        command
    };
    if !run(Path::new("true"), &[])
        .output()
        .await
        .is_ok_and(|output| output.status.success())
    {
        return skip("this user may not have namespaces of its own for network and mounts");
    }
    let this = std::env::current_exe().unwrap();
    let name = format!("{}::{test}", module_path!().split_once("::").unwrap().1);
    let output = run(&this, &["--ignored", "--exact", &name]).output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn on_a_machine_of_its_own_the_printed_lines_work_as_they_stand() {
    inside("served_as_printed").await;
}

#[tokio::test]
async fn on_a_machine_of_its_own_nothing_goes_round() {
    inside("nothing_goes_round").await;
}

#[tokio::test]
async fn on_a_machine_of_its_own_its_addresses_are_known() {
    inside("own_addresses").await;
}

/// A name server that knows one name, and one address for it.
async fn name_server() {
    let socket = UdpSocket::bind("127.0.0.1:53").await.unwrap();
    let mut query = [0; 512];
    loop {
        let (length, peer) = socket.recv_from(&mut query).await.unwrap();
        // RFC 1035 section 4.1: a header of twelve bytes, then the question. Its name has as many labels as ours, or another end.
        let question = &query[12..length];
        let end = question.iter().position(|byte| *byte == 0).unwrap() + 5;
        let name = question[..end - 4].to_ascii_lowercase();
        let known = name == b"\x05cloud\x07mongodb\x03com\0" && question[end - 4..end - 2] == [0, 1];
        let mut answer = query[..2].to_vec();
        answer.extend([0x81, 0x80, 0, 1, 0, u8::from(known), 0, 0, 0, 0]);
        answer.extend(&question[..end]);
        if known {
            answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 9]);
        }
        socket.send_to(&answer, peer).await.unwrap();
    }
}

/// What comes to the port of Atlas goes to the emulator.
async fn forward(to: SocketAddr) {
    let listener = TcpListener::bind(REAL).await.unwrap();
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let mut there = TcpStream::connect(to).await.unwrap();
            let _ = copy_bidirectional(&mut stream, &mut there).await;
        });
    }
}

/// The proxy with this file. `trusted` takes the place of the system's authorities.
fn proxy(config: &str, trusted: &Path) -> Child {
    Command::new(PROGRAM)
        .args(["run", "--config", config])
        .env_clear()
        .envs(SERVICE_ACCOUNT)
        .env("SSL_CERT_FILE", trusted)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn served() {
    until("the proxy serves", || async {
        TcpStream::connect(PROXY).await.is_ok() && TcpStream::connect(ADMIN).await.is_ok()
    })
    .await;
}

/// A client that is told nothing but whom to trust.
async fn curl(made: &Made) -> Output {
    Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--write-out",
            "\n%{http_code}",
            "--header",
            &format!("Accept: {ACCEPT}"),
        ])
        .arg(format!("https://{ATLAS}{GROUPS}"))
        .env("CURL_CA_BUNDLE", made.path("ca.crt"))
        .output()
        .await
        .unwrap()
}

#[tokio::test]
#[ignore = "run by on_a_machine_of_its_own_the_printed_lines_work_as_they_stand, in namespaces"]
async fn served_as_printed() {
    let (atlas, made) = (real_atlas().await, Made::new(&[]).await);
    tokio::spawn(name_server());
    tokio::spawn(forward(address(&atlas)));
    let _proxy = proxy(&made.config(&made.lines()), &atlas.ca_file());
    served().await;
    let output = curl(&made).await;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.ends_with("\n200") && text.contains("\"results\""), "{output:?}");
    assert_eq!(atlas.emulator.api_requests(), 1);
}

#[tokio::test]
#[ignore = "run by on_a_machine_of_its_own_nothing_goes_round, in namespaces"]
async fn nothing_goes_round() {
    let made = Made::new(&[]).await;
    // By name it is the proxy itself, as /etc/hosts says: known before anything is served.
    let back = made.config(&made.lines_to(format!("{ATLAS}:443"), ""));
    let output = proxy(&back, &made.path("ca.crt")).wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("own listener") && said.contains("is 127.0.0.1 on this machine"),
        "{said}"
    );

    let lines = made.lines();
    let without = made.config(lines.split("connect_to").next().unwrap());
    let output = proxy(&without, &made.path("ca.crt")).wait_with_output().await.unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("`connect_to` is missing in [account.default]"),
        "{output:?}"
    );

    // What leads back by way of another place is known by its certificate, though its authority is trusted as the system's.
    tokio::spawn(forward(PROXY.parse().unwrap()));
    let _proxy = proxy(&made.config(&made.lines_to(REAL, "")), &made.path("ca.crt"));
    served().await;
    for n in 1..=5 {
        let output = curl(&made).await;
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.ends_with("\n502") && text.contains(NOT_ATLAS), "{output:?}");
        let seen = metric(ADMIN.parse().unwrap(), "atlas_auth_proxy_requests_total", &[]).await;
        assert_eq!(seen, f64::from(n));
    }
}

#[test]
#[ignore = "run by on_a_machine_of_its_own_its_addresses_are_known, in namespaces"]
fn own_addresses() {
    let network = SystemNetwork;
    let is_own = |address: &str| network.is_own(address.parse().unwrap());
    assert!(is_own("127.0.0.1") && is_own("127.0.0.9") && is_own("::1") && is_own(OWN));
    assert!(!is_own("203.0.113.1") && !is_own("2001:db8::7"));
    assert_eq!(network.addresses(ATLAS), ["127.0.0.1".parse::<IpAddr>().unwrap(); 1]);
    assert!(network.addresses("nowhere.invalid").is_empty());
    // Where everything can be bound, nothing is said of addresses.
    let Ok(()) = fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1") else {
        return skip("/proc/sys can't be written here");
    };
    assert!(is_own("127.0.0.1") && !is_own("203.0.113.1"));
}
