//! Gateways and leaves: their settings, and the files that change under them.

use std::path::Path;

use atlas_auth_proxy::emulator::{Emulator, SAMPLE};

use crate::identity::{AUDIENCE, Authorities, ISSUER, KEY_SET_PORT};
use crate::place::{CENTRE, GATEWAYS, Place, Store, gateway_address, write};
use crate::program::{ADMIN_PORT, Program};
use crate::tls::for_clients;
use crate::traffic::Client;

/// Service accounts: name, client id, first secret, and the port of its listener at gateways and balancer.
pub const ACCOUNTS: [Account; 2] = [
    Account {
        name: "one",
        id: "mdb_sa_id_0123456789abcdef01234567",
        secret: "mdb_sa_sk_first-secret-of-account-one-0001",
        next_secret: "mdb_sa_sk_second-secret-of-account-one-0002",
        port: 8443,
    },
    Account {
        name: "two",
        id: "mdb_sa_id_89abcdef0123456701234567",
        secret: "mdb_sa_sk_first-secret-of-account-two-0003",
        next_secret: "mdb_sa_sk_second-secret-of-account-two-0004",
        port: 8444,
    },
];

pub struct Account {
    pub name: &'static str,
    pub id: &'static str,
    pub secret: &'static str,
    pub next_secret: &'static str,
    pub port: u16,
}

/// The project of all traffic, and one that nobody's rules reach.
pub const PROJECT: &str = SAMPLE.0;
pub const FOREIGN_PROJECT: &str = "b0123456789abcdef012345b";
/// The share of a greedy caller in each gateway.
pub const GREEDY_SHARE: usize = 2;
/// Known by a local secret, and without a leaf.
pub const DIRECT: &str = "one-direct";
pub const DIRECT_SECRET: &str = "first-local-secret-0123456789abcdef01234";
pub const DIRECT_NEXT_SECRET: &str = "second-local-secret-0123456789abcdef0123";

/// What the clients of a caller do, and what it may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Habit {
    /// May only read; tries to change.
    Reads,
    /// May read and change; tries to delete.
    Changes,
    /// The same in one project; tries another.
    ChangesOneProject,
    /// The same with a share of two requests at once; has more.
    Greedy,
    /// As `Changes`, at the gateways themselves, by Basic.
    Direct,
}

/// The four callers of each account: habit, whether by token, how many leaves they have, how many clients each leaf has.
const CALLERS: [(&str, Habit, bool, usize, usize); 4] = [
    ("reader", Habit::Reads, true, 2, 2),
    ("deployer", Habit::Changes, true, 1, 3),
    ("builder", Habit::ChangesOneProject, false, 2, 2),
    ("greedy", Habit::Greedy, false, 1, 6),
];

/// What a leaf shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Shows {
    Token,
    Certificate,
}

pub struct Leaf {
    pub program: Program,
    /// The port of its metrics and health.
    pub admin: u16,
    caller: String,
    shows: Shows,
}

pub struct Fleet {
    pub gateways: Vec<Program>,
    pub leaves: Vec<Leaf>,
    pub clients: Vec<Client>,
}

impl Fleet {
    pub fn start(place: &Place, emulator: &Emulator, authorities: &Authorities) -> Self {
        let gateways = (0..GATEWAYS)
            .map(|n| gateway(place, n, emulator, authorities))
            .collect();
        let mut fleet = Self {
            gateways,
            leaves: Vec::new(),
            clients: Vec::new(),
        };
        for account in &ACCOUNTS {
            for (caller, habit, by_token, leaves, clients) in CALLERS {
                let caller = format!("{}-{caller}", account.name);
                let shows = if by_token { Shows::Token } else { Shows::Certificate };
                for _ in 0..leaves {
                    let port = 20_000 + fleet.leaves.len() as u16;
                    fleet
                        .leaves
                        .push(leaf(place, &caller, shows, account, port, authorities));
                    for _ in 0..clients {
                        fleet.client(&caller, habit, port);
                    }
                }
            }
        }
        for _ in 0..2 {
            fleet.client(DIRECT, Habit::Direct, ACCOUNTS[0].port);
        }
        fleet
    }

    fn client(&mut self, caller: &str, habit: Habit, port: u16) {
        self.clients.push(Client {
            number: self.clients.len() as u64,
            caller: caller.to_owned(),
            habit,
            address: format!("127.0.0.1:{port}"),
        });
    }

    /// Gives every gateway a file.
    pub fn give_gateways(&self, name: &str, content: &str) {
        for gateway in &self.gateways {
            write(&gateway.folder, name, content);
        }
    }

    /// Gives every leaf that shows a token a new one.
    pub fn renew_tokens(&self, authorities: &Authorities) {
        for leaf in self.leaves.iter().filter(|leaf| leaf.shows == Shows::Token) {
            write(&leaf.program.folder, "token", &authorities.token(&leaf.caller));
        }
    }

    /// Gives every leaf that shows a certificate a new one.
    pub fn renew_certificates(&self, authorities: &Authorities) {
        for leaf in self.leaves.iter().filter(|leaf| leaf.shows == Shows::Certificate) {
            give_certificate(&leaf.program.folder, &leaf.caller, authorities);
        }
    }
}

fn give_certificate(folder: &Path, caller: &str, authorities: &Authorities) {
    let identity = authorities
        .leaves
        .identity(&[&format!("{caller}.example.org")], for_clients);
    write(folder, "tls.crt", &identity.certificate);
    write(folder, "tls.key", &identity.key);
}

fn leaf(place: &Place, caller: &str, shows: Shows, account: &Account, port: u16, authorities: &Authorities) -> Leaf {
    let folder = place.folder(&format!("leaf-{port}"));
    write(&folder, "ca.pem", &authorities.servers.pem);
    let identity = match shows {
        Shows::Token => {
            write(&folder, "token", &authorities.token(caller));
            "identity_token_file = 'token'"
        }
        Shows::Certificate => {
            give_certificate(&folder, caller, authorities);
            "client_certificate = 'tls.crt'\nclient_key = 'tls.key'"
        }
    };
    let settings = format!(
        "workers = 1\n[[listener]]\nbind = '127.0.0.1:{port}'\n[account.default]\ngateway = 'https://localhost:{}'\n\
         ca_file = 'ca.pem'\n{identity}\n[admin]\nbind = '127.0.0.1:{}'\n[log]\nlevel = 'warn'\n",
        account.port,
        port + 1000,
    );
    write(&folder, "proxy.toml", &settings);
    Leaf {
        program: Program::start(&format!("leaf-{port} ({caller})"), &folder, None),
        admin: port + 1000,
        caller: caller.to_owned(),
        shows,
    }
}

/// Gives a gateway a certificate of its own; returns it, PEM.
pub fn give_server_certificate(folder: &Path, authorities: &Authorities) -> String {
    let identity = authorities.servers.identity(&["localhost"], |_| ());
    write(folder, "tls.crt", &identity.certificate);
    write(folder, "tls.key", &identity.key);
    identity.certificate
}

fn gateway(place: &Place, n: usize, emulator: &Emulator, authorities: &Authorities) -> Program {
    let name = format!("gateway-{n}");
    let folder = place.folder(&name);
    let address = gateway_address(n);
    give_server_certificate(&folder, authorities);
    write(&folder, "upstream-ca.pem", emulator.ca_pem());
    write(&folder, "servers-ca.pem", &authorities.servers.pem);
    write(&folder, "leaves-ca.pem", &authorities.leaves.pem);
    write(&folder, "pass-key", &"3c".repeat(32));
    write(&folder, "audit-key", &"a7".repeat(32));
    write(&folder, "direct-secret", DIRECT_SECRET);
    let mut settings = format!(
        "drain_delay = '3s'\nworkers = 1\n[admin]\nbind = '{address}:{ADMIN_PORT}'\n[log]\nlevel = 'info'\n\
         [audit]\nfile = 'disk/audit.jsonl'\nchain_key_file = 'audit-key'\n[passes]\nkey_file = 'pass-key'\n\
         [[issuer]]\nname = 'cluster'\nissuer = '{ISSUER}'\naudience = '{AUDIENCE}'\n\
         jwks_url = 'https://{CENTRE}:{KEY_SET_PORT}/keys'\nca_file = 'servers-ca.pem'\n"
    );
    settings.push_str(&Store::settings(&folder));
    let url = emulator.base_url();
    for account in &ACCOUNTS {
        let Account { name, id, port, .. } = account;
        write(&folder, &format!("client-secret-{name}"), account.secret);
        settings.push_str(&format!(
            "[[listener]]\nname = '{name}'\nbind = '{address}:{port}'\naccount = '{name}'\n\
             [listener.tls]\ncertificate = 'tls.crt'\nkey = 'tls.key'\nclient_ca = 'leaves-ca.pem'\nclient_certificate = 'optional'\n\
             [account.{name}]\nbase_url = '{url}'\nca_file = 'upstream-ca.pem'\nclient_id = '{id}'\n\
             client_secret_file = 'client-secret-{name}'\n"
        ));
        for (caller, habit, by_token, ..) in CALLERS {
            let caller = format!("{name}-{caller}");
            let known = if by_token {
                format!("jwt = [{{ issuer = 'cluster', subject = '{caller}' }}]")
            } else {
                format!("certificate_names = ['{caller}.example.org']")
            };
            settings.push_str(&table(&caller, name, &known, habit));
        }
    }
    settings.push_str(&table(
        DIRECT,
        ACCOUNTS[0].name,
        "secret_file = 'direct-secret'",
        Habit::Direct,
    ));
    write(&folder, "proxy.toml", &settings);
    Program::start(&name, &folder, Some(name.clone()))
}

/// A caller, its share and its rule.
fn table(caller: &str, listener: &str, known: &str, habit: Habit) -> String {
    let share = match habit {
        Habit::Greedy => format!("max_concurrent_requests = {GREEDY_SHARE}"),
        _ => String::new(),
    };
    let rule = match habit {
        Habit::Reads => "tags = ['Database Users']\nmethods = ['GET']".to_owned(),
        Habit::ChangesOneProject => format!("tags = ['Database Users']\nprojects = ['{PROJECT}']"),
        _ => "operations = ['getGroupDatabaseUser', 'updateGroupDatabaseUser']".to_owned(),
    };
    format!(
        "[[caller]]\nname = '{caller}'\nlisteners = ['{listener}']\n{known}\n{share}\n\
         [[caller.rule]]\n{rule}\naction = 'allow'\n"
    )
}
