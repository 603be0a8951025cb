//! Whether the ports are free, or a running proxy has them.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};

use super::Report;
use crate::report::{Status, Step};
use crate::server::{Bind, PORT_NEEDS_RIGHT};
use crate::settings::Settings;

/// The bound on a request to the admin port: it is on this machine.
const PATIENCE: Duration = Duration::from_secs(2);
/// The most of its answer that is read, bytes.
const MOST_PAGE: u64 = 1 << 20;
const OUR_METRIC: &str = "atlas_auth_proxy_build_info";

pub(super) async fn examine(settings: &Settings, report: &mut Report) {
    let running = match &settings.admin.bind {
        Some(bind) => RunningProxy::find(bind).await,
        None => None,
    };
    if let Some(running) = &running {
        running.say(report);
    }
    let has = |what: &str| running.as_ref().is_some_and(|running| running.has(what));
    for listener in &settings.listeners {
        match &listener.bind {
            Bind::Tcp(address) => {
                let ours = ["http", "https"]
                    .iter()
                    .any(|scheme| has(&format!("{scheme}://{address}")));
                port(*address, ours, "listener", report).await;
            }
            Bind::Localhost { .. } => {
                for address in listener.bind.addresses() {
                    // Without IPv6 there is nothing to bind.
                    if address.is_ipv4() || TcpListener::bind((address.ip(), 0)).await.is_ok() {
                        // The status of a running proxy shows the first address only.
                        let ours = ["http", "https"]
                            .iter()
                            .any(|scheme| has(&format!("{scheme}://127.0.0.1:{}", address.port())));
                        port(address, ours, "listener", report).await;
                    }
                }
            }
            Bind::Unix { path, .. } => socket(path, has(&format!("unix:{}", path.display())), "listener", report).await,
            Bind::Elsewhere { name } => report.add(handed_over(name, "listener")),
        }
    }
    match &settings.admin.bind {
        Some(bind @ (Bind::Tcp(_) | Bind::Localhost { .. })) => {
            if let Some(address) = bind.addresses().first() {
                port(*address, running.is_some(), "admin_port", report).await;
            }
        }
        Some(Bind::Unix { path, .. }) => socket(path, running.is_some(), "admin_port", report).await,
        Some(Bind::Elsewhere { name }) => report.add(handed_over(name, "admin_port")),
        None => report.add(Step::new("admin_port", Status::Ok, "there is none (`off`)")),
    }
}

/// A proxy that already runs on this machine.
struct RunningProxy {
    /// `/status.json`; `None`: the proxy shows it to loopback peers only.
    status: Option<Value>,
}

impl RunningProxy {
    async fn find(admin: &Bind) -> Option<Self> {
        let status: Value = serde_json::from_slice(&page(admin, "/status.json").await?).unwrap_or_default();
        // Another program may listen there and answer with JSON.
        if status["version"].is_string() && status["listeners"].is_array() && status["accounts"].is_array() {
            return Some(Self { status: Some(status) });
        }
        let metrics = page(admin, "/metrics").await?;
        let ours = metrics
            .windows(OUR_METRIC.len())
            .any(|bytes| bytes == OUR_METRIC.as_bytes());
        ours.then_some(Self { status: None })
    }

    fn has(&self, url: &str) -> bool {
        let Some(status) = &self.status else { return true };
        let mut listeners = status["listeners"].as_array().into_iter().flatten();
        listeners.any(|listener| listener["address"] == url)
    }

    /// Reports that it runs, and how many of its accounts can't be used: it may have been started with other settings.
    fn say(&self, report: &mut Report) {
        let accounts = self.status.iter().filter_map(|status| status["accounts"].as_array());
        let useless = accounts.flatten().filter(|account| account["usable"] == false).count();
        if useless == 0 {
            return report.add(Step::new("running", Status::Ok, "a proxy runs here already"));
        }
        report.add(Step {
            hint: Some("its log says why; /status.json of the admin port lists what Atlas refused".to_owned()),
            ..Step::new(
                "running",
                Status::Warn,
                format!("a proxy runs here already, and has no usable credential for {useless} of its accounts"),
            )
        });
    }
}

/// A port bound to every address is asked on loopback.
fn reachable(admin: SocketAddr) -> SocketAddr {
    let ip = match admin.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, admin.port())
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, host: &str, path: &str) -> io::Result<Vec<u8>> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MOST_PAGE).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// A page of the admin port.
async fn page(admin: &Bind, path: &str) -> Option<Vec<u8>> {
    let ask = async {
        match admin {
            Bind::Tcp(_) | Bind::Localhost { .. } => {
                let address = admin.addresses().first().copied().map(reachable);
                let address = address.ok_or(ErrorKind::AddrNotAvailable)?;
                ask(TcpStream::connect(address).await?, &address.to_string(), path).await
            }
            Bind::Unix { path: socket, .. } => ask(UnixStream::connect(socket).await?, "localhost", path).await,
            Bind::Elsewhere { .. } => Err(ErrorKind::AddrNotAvailable.into()),
        }
    };
    let answer = tokio::time::timeout(PATIENCE, ask).await.ok()?.ok()?;
    let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    Some(answer[body..].to_vec())
}

/// Nothing is to be free there: the service manager has it, whether the proxy runs or not.
fn handed_over(name: &str, check: &'static str) -> Step {
    let found = format!(
        "not tried: systemd hands over the socket `{name}`, and listens on it meanwhile; `systemctl list-sockets` tells where"
    );
    Step::new(check, Status::Skip, found)
}

const TAKEN: &str = "another program has it: `ss -ltnp` names it. Stop that, or choose another address";

async fn port(address: SocketAddr, ours: bool, check: &'static str, report: &mut Report) {
    let (status, found, hint) = match TcpListener::bind(address).await {
        Ok(_) => (Status::Ok, format!("{address} is free"), None),
        Err(error) if error.kind() == ErrorKind::AddrInUse && ours => {
            (Status::Ok, format!("{address} is in use by the running proxy"), None)
        }
        Err(error) => {
            let hint = match error.kind() {
                ErrorKind::AddrInUse => TAKEN,
                ErrorKind::AddrNotAvailable => "this machine has no such address: choose one that it has",
                ErrorKind::PermissionDenied => PORT_NEEDS_RIGHT,
                _ => "choose another address",
            };
            let found = format!("{address} can't be bound: {error}");
            (Status::Fail, found, Some(hint.to_owned()))
        }
    };
    report.add(Step {
        hint,
        ..Step::new(check, status, found)
    });
}

async fn socket(path: &Path, ours: bool, check: &'static str, report: &mut Report) {
    let shown = path.display();
    let fail = |found: String, hint: &str| Step {
        hint: Some(hint.to_owned()),
        ..Step::new(check, Status::Fail, found)
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let step = match UnixStream::connect(path).await {
        Ok(_) if ours => Step::new(check, Status::Ok, format!("{shown} is in use by the running proxy")),
        Ok(_) => fail(format!("{shown} is in use"), TAKEN),
        Err(_) if folder.is_some_and(|folder| !folder.is_dir()) => fail(
            format!("{shown} can't be bound: its folder does not exist"),
            "make the folder first",
        ),
        Err(_) if std::fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) => fail(
            format!("{shown} can't be bound: a file that is not a socket is in the way"),
            "move that away, or choose another path",
        ),
        // A socket without a listening process is a leftover, which the next start replaces.
        Err(error) if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => fail(
            format!("{shown} can't be bound: {error}"),
            "choose another path, or look at its owner and mode",
        ),
        Err(_) => Step::new(check, Status::Ok, format!("{shown} is free")),
    };
    report.add(step);
}
