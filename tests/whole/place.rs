//! Where it all runs: network namespaces joined by wires, small disks for the audit logs, and the token store. All of it is
//! inside namespaces of this process alone, so that nothing is left on the machine.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::needs::{needs, skip};

/// Of everything that gateways reach: emulator, key set, token store.
pub const CENTRE: &str = "10.17.0.1";
/// How many gateways there are.
pub const GATEWAYS: usize = 3;
const STORE_PASSWORD: &str = "only-for-the-whole";
/// Set for the process that runs inside.
const INSIDE: &str = "ATLAS_AUTH_PROXY_TEST_INSIDE";

/// The address of a gateway, 0 to 2.
pub fn gateway_address(n: usize) -> String {
    format!("10.17.{}.2", n + 1)
}

/// Runs this program again in namespaces of its own. Returns inside them, or `false` where that can't be done, which is said.
pub fn enter() -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    if needs(&["ip"], "iproute2").is_none() || needs(&["redis-server", "valkey-server"], "redis-server").is_none() {
        return false;
    }
    let mut probe = Command::new("unshare");
    probe.args(["--net", "--mount", "ip", "link", "add", "probe", "type", "veth"]);
    if !probe.output().is_ok_and(|output| output.status.success()) {
        skip("this user may not have namespaces of its own with wires between them");
        return false;
    }
    let error = Command::new("unshare")
        .args(["--net", "--mount", "--propagation", "private"])
        .arg(std::env::current_exe().unwrap())
        .args(std::env::args_os().skip(1))
        .env(INSIDE, "1")
        .exec();
    panic!("unshare: {error}");
}

/// Runs a command, which must succeed.
fn run(line: &str) {
    let mut words = line.split(' ');
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(
        output.status.success(),
        "{line}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Folders and wires.
pub struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        run("ip link set lo up");
        run(&format!("ip address add {CENTRE}/32 dev lo"));
        fs::create_dir_all("/run/netns").unwrap();
        run("mount -t tmpfs tmpfs /run/netns");
        let folder = tempfile::tempdir().unwrap();
        for n in 0..GATEWAYS {
            let (name, net) = (format!("gateway-{n}"), n + 1);
            run(&format!("ip netns add {name}"));
            run(&format!("ip link add to-{n} type veth peer name eth0 netns {name}"));
            run(&format!("ip address add 10.17.{net}.1/24 dev to-{n}"));
            run(&format!("ip link set to-{n} up"));
            run(&format!("ip -n {name} link set lo up"));
            run(&format!("ip -n {name} address add 10.17.{net}.2/24 dev eth0"));
            run(&format!("ip -n {name} link set eth0 up"));
            run(&format!("ip -n {name} route add default via 10.17.{net}.1"));
            let disk = folder.path().join(&name).join("disk");
            fs::create_dir_all(&disk).unwrap();
            run(&format!("mount -t tmpfs -o size=64m,mode=700 tmpfs {}", disk.display()));
        }
        Self { folder }
    }

    /// A folder with this name, made if need be.
    pub fn folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        folder
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // The folder can't be removed with disks in it.
        for n in 0..GATEWAYS {
            let disk = self.folder.path().join(format!("gateway-{n}")).join("disk");
            let _ = Command::new("umount").arg("--lazy").arg(disk).status();
        }
    }
}

/// A file takes the place of another as a whole, readable by its owner only.
pub fn write(folder: &Path, name: &str, content: &str) -> PathBuf {
    let (path, next) = (folder.join(name), folder.join(format!(".{name}.next")));
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&next)
        .unwrap();
    file.write_all(content.as_bytes()).unwrap();
    fs::rename(next, &path).unwrap();
    path
}

/// Takes all room that is left on a disk; what it returns is to be removed for room again.
pub fn fill(disk: &Path) -> PathBuf {
    let ballast = disk.join("ballast");
    for size in [1 << 20, 4096, 1] {
        let mut file = OpenOptions::new().create(true).append(true).open(&ballast).unwrap();
        while file.write_all(&vec![b'x'; size]).is_ok() {}
    }
    ballast
}

/// Redis or Valkey, which keeps nothing when it stops.
pub struct Store {
    folder: PathBuf,
    child: Child,
}

impl Store {
    pub fn start(place: &Place) -> Self {
        let folder = place.folder("store");
        let child = Self::spawn(&folder);
        // A gateway that starts without the store takes a token of its own.
        let listens = |_| {
            std::thread::sleep(Duration::from_millis(10));
            TcpStream::connect((CENTRE, 6379)).is_ok()
        };
        assert!((0..3000).any(listens), "the store does not listen");
        Self { folder, child }
    }

    /// Begins the table of an account's replicas as if some had been there for half a minute, after which it gives ranks: three
    /// gateways take more than a minute until then.
    pub fn settle(&self, origin: &str, client_id: &str) {
        let hash = Sha256::digest(format!("{origin}\n{client_id}"));
        let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
        let mut server = TcpStream::connect((CENTRE, 6379)).unwrap();
        write!(
            server,
            "AUTH {STORE_PASSWORD}\r\nSET atlas-auth-proxy:v1:{{{hash}}}:fleet \"30000 0;\" PX 86400000\r\n"
        )
        .unwrap();
        let mut answer = [0; 10];
        server.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"+OK\r\n+OK\r\n");
    }

    fn spawn(folder: &Path) -> Child {
        let program = needs(&["valkey-server", "redis-server"], "redis-server").expect("it was there at the start");
        Command::new(program)
            .args(["--bind", CENTRE, "--port", "6379", "--requirepass", STORE_PASSWORD])
            // What it had is lost when it stops: replicas share one token again all the same when it is back.
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn start_again(&mut self) {
        self.child = Self::spawn(&self.folder);
    }

    pub fn settings(gateway: &Path) -> String {
        write(gateway, "store-password", STORE_PASSWORD);
        write(gateway, "store-key", &"5a".repeat(32));
        format!(
            "[token_store]\nurl = 'redis://{CENTRE}:6379'\nkey_file = 'store-key'\npassword_file = 'store-password'\n"
        )
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.stop();
    }
}
