//! A real browser, and the servers of the pages that it is led to.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};
use tokio::sync::MutexGuard;

use super::needs::needs;
use super::{PATIENCE, until};

/// One at a time: each is many processes.
static ONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// A profile: what a browser remembers from one run to the next.
pub struct Chromium {
    program: PathBuf,
    profile: tempfile::TempDir,
    args: Vec<String>,
    _one: MutexGuard<'static, ()>,
}

impl Chromium {
    /// `None`: there is none, which was said.
    pub async fn new(args: &[&str]) -> Option<Self> {
        let program = needs(&["chromium", "chromium-browser", "google-chrome"], "chromium")?;
        Some(Self {
            program,
            profile: tempfile::tempdir().unwrap(),
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            _one: ONE.lock().await,
        })
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args([
                "--headless",
                // Needed by root.
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
            ])
            .arg(format!("--user-data-dir={}", self.profile.path().display()))
            .args(&self.args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Opens an address as if it were typed, and stays open.
    pub fn open(&self, url: &str) -> Child {
        self.command().args(["--remote-debugging-port=0", url]).spawn().unwrap()
    }

    /// Opens an address as if it were typed; gives what the page has become once it is loaded.
    pub async fn typed(&self, url: &str) -> String {
        let mut command = self.command();
        command.args(["--dump-dom", url]).stdout(Stdio::piped());
        let output = tokio::time::timeout(PATIENCE, command.output()).await;
        String::from_utf8_lossy(&output.expect("the page is loaded").unwrap().stdout).into_owned()
    }
}

/// A request to a [`Site`].
#[derive(Debug, Clone)]
pub struct Asked {
    pub path: String,
    pub body: String,
}

/// A web server of somebody else's: pages by path, `/to?URL` a redirect, and `/phase`, which pages wait for. Answers may be read
/// by pages of any origin.
pub struct Site {
    pub address: SocketAddr,
    pages: Pages,
    asked: Arc<Mutex<Vec<Asked>>>,
    phase: Arc<Mutex<String>>,
    /// Where connections go from now on, in place of this site: somebody else has the port.
    successor: Arc<Mutex<Option<SocketAddr>>>,
}

type Pages = Arc<Mutex<VecDeque<(String, &'static str, String)>>>;

impl Site {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let site = Self {
            address: listener.local_addr().unwrap(),
            pages: Arc::default(),
            asked: Arc::default(),
            phase: Arc::default(),
            successor: Arc::default(),
        };
        let (pages, asked, phase) = (
            Arc::clone(&site.pages),
            Arc::clone(&site.asked),
            Arc::clone(&site.phase),
        );
        let successor = Arc::clone(&site.successor);
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let next = *successor.lock();
                let (pages, asked, phase) = (Arc::clone(&pages), Arc::clone(&asked), Arc::clone(&phase));
                tokio::spawn(async move {
                    if let Some(next) = next {
                        let Ok(mut to) = TcpStream::connect(next).await else {
                            return;
                        };
                        let _ = tokio::io::copy_bidirectional(&mut stream, &mut to).await;
                    } else {
                        let _ = serve(stream, &pages, &asked, &phase).await;
                    }
                });
            }
        });
        site
    }

    /// Adds a page, of this media type.
    pub fn page(&self, path: &str, media_type: &'static str, text: impl Into<String>) {
        self.pages.lock().push_back((path.to_owned(), media_type, text.into()));
    }

    /// As a loopback name, to which browsers send `Sec-Fetch-*`.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.address.port())
    }

    /// The port belongs to somebody else from now on.
    pub fn hand_over_to(&self, next: SocketAddr) {
        *self.successor.lock() = Some(next);
    }

    pub fn enter(&self, phase: &str) {
        phase.clone_into(&mut self.phase.lock());
    }

    pub fn asked(&self, path: &str) -> Vec<Asked> {
        let asked = self.asked.lock();
        asked.iter().filter(|asked| asked.path == path).cloned().collect()
    }

    /// Waits for a request with this path; gives its body.
    pub async fn said(&self, path: &str) -> String {
        until(&format!("a page says {path}"), || async {
            !self.asked(path).is_empty()
        })
        .await;
        self.asked(path).remove(0).body
    }
}

async fn serve(
    stream: TcpStream,
    pages: &Mutex<VecDeque<(String, &'static str, String)>>,
    asked: &Mutex<Vec<Asked>>,
    phase: &Mutex<String>,
) -> std::io::Result<()> {
    let mut stream = BufReader::new(stream);
    let (mut first, mut length) = (String::new(), 0);
    stream.read_line(&mut first).await?;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let (status, media_type, text) = match path.split_once('?') {
        Some(("/to", url)) => (format!("302 Found\r\nLocation: {url}"), "text/plain", String::new()),
        _ if path == "/phase" => ("200 OK".to_owned(), "text/plain", phase.lock().clone()),
        _ => {
            let pages = pages.lock();
            let page = pages.iter().find(|page| page.0 == path);
            let found = page.map(|(_, media_type, text)| ("200 OK".to_owned(), *media_type, text.clone()));
            found.unwrap_or_else(|| ("404 Not Found".to_owned(), "text/plain", String::new()))
        }
    };
    asked.lock().push(Asked {
        path,
        body: String::from_utf8_lossy(&body).into_owned(),
    });
    let answer = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\nAccess-Control-Allow-Origin: *\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n{text}",
        text.len()
    );
    stream.write_all(answer.as_bytes()).await
}
