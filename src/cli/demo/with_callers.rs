//! `demo --callers`: the same proxies, which let in only programs that they know by name. Its configuration is a file, so that
//! the other commands can be tried with it.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use super::{
    ADMIN, CLIENT_ID, COMMERCIAL, DIGEST, Files, GOVERNMENT, PRIVATE_KEY, PUBLIC_KEY, addresses, free, program, quoted,
    write,
};
use crate::app::App;
use crate::caller::{make_secret, overflow_uid};
use crate::config::{self, Disk, Flags, Machine, NoCommands, NoNetwork, Sources};
use crate::emulator::{Emulator, SAMPLE};
use crate::settings::Settings;

/// The programs, and what each may do: rules of the configuration file.
const CALLERS: [(&str, &str); 3] = [
    (
        "billing",
        "[[caller.rule]]\nmethods = [\"GET\"]\ntags = [\"Projects\", \"Clusters\"]\naction = \"allow\"\n",
    ),
    (
        "deployer",
        "[[caller.rule]]\noperations = [\"deleteGroup\"]\naction = \"deny\"\n\n\
         [[caller.rule]]\noperations = [\"listGroups\", \"getGroup\", \"getGroupSettings\", \"createGroup\", \"*GroupDatabaseUser*\"]\n\
         action = \"allow\"\n",
    ),
    ("auditor", "[[caller.rule]]\nmethods = [\"GET\"]\naction = \"allow\"\n"),
];

impl Files {
    fn configuration(&self) -> PathBuf {
        self.0.join("gateway.toml")
    }

    fn secret_of(&self, caller: &str) -> PathBuf {
        self.0.join(format!("caller-{caller}"))
    }
}

/// Writes the configuration with a local secret for each caller, and reads it as `run` does.
pub(super) fn settings(
    commercial: &Emulator,
    government: &Emulator,
    files: &Files,
) -> Result<Settings, Box<dyn Error>> {
    write(&files.0.join("private-key"), PRIVATE_KEY)?;
    write(&files.0.join("pass-key"), &pass_key()?)?;
    let mut toml = String::from("# Written by `atlas-auth-proxy demo --callers`.\n");
    for (name, port) in [
        ("commercial", COMMERCIAL),
        ("commercial-digest", DIGEST),
        ("government", GOVERNMENT),
    ] {
        let bind = free(port);
        write!(
            toml,
            "\n[[listener]]\nname = \"{name}\"\nbind = \"{bind}\"\naccount = \"{name}\"\n"
        )?;
    }
    for (name, rules) in CALLERS {
        let secret = make_secret().map_err(|error| format!("no randomness: {error}"))?;
        write(&files.secret_of(name), secret.expose())?;
        write!(
            toml,
            "\n[[caller]]\nname = \"{name}\"\nsecret_file = \"caller-{name}\"\n\n{rules}"
        )?;
    }
    write!(toml, "\n[passes]\nkey_file = \"pass-key\"\n")?;
    let client = format!("client_id = \"{CLIENT_ID}\"\nclient_secret_file = \"client-secret\"\n");
    let key = format!("public_key = \"{PUBLIC_KEY}\"\nprivate_key_file = \"private-key\"\n");
    for (name, emulator, authority, credential) in [
        ("commercial", commercial, 0, &client),
        ("commercial-digest", commercial, 0, &key),
        ("government", government, 1, &client),
    ] {
        let url = emulator.base_url();
        write!(
            toml,
            "\n[account.{name}]\nbase_url = \"{url}\"\nca_file = \"ca-{authority}.pem\"\n{credential}"
        )?;
    }
    let admin = free(ADMIN);
    write!(toml, "\n[admin]\nbind = \"{admin}\"\n")?;
    write(&files.configuration(), &toml)?;
    let flags = Flags {
        config: Some(files.configuration()),
        ..Flags::default()
    };
    let loaded = config::load(Sources {
        flags: &flags,
        environment: &BTreeMap::<String, String>::new(),
        files: &Disk,
        sockets: None,
        commands: &NoCommands,
        network: &NoNetwork,
        machine: Machine {
            cores: NonZeroUsize::MIN,
            overflow_uid: overflow_uid(),
            log_to_terminal: true,
        },
    })?;
    Ok(loaded.settings)
}

/// 64 hexadecimal digits.
fn pass_key() -> Result<String, Box<dyn Error>> {
    let mut key = [0_u8; 32];
    getrandom::fill(&mut key).map_err(|error| format!("no randomness: {error}"))?;
    Ok(key.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// What to try.
pub(super) fn announcement(running: &App, files: &Files) -> String {
    let listeners = running.listeners();
    let urls: Vec<&str> = listeners.iter().map(|listener| listener.url.as_str()).collect();
    let [bearer, digest, gov] = urls[..] else {
        return String::new();
    };
    let (group, _) = SAMPLE;
    let secret = |caller: &str| format!("\"$(cat {})\"", quoted(&files.secret_of(caller)));
    let (billing, deployer, auditor) = (secret("billing"), secret("deployer"), secret("auditor"));
    let v2 = "-H 'Accept: application/vnd.atlas.2023-01-01+json'";
    let json = "-H 'Content-Type: application/json'";
    let rules = format!("{} rules", quoted(&program()));
    let config = format!("--config {}", quoted(&files.configuration()));
    let admin = running.admin().to_string();
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing to a string can't fail.
        let _ = writeln!(text, "{line}");
    };
    line("atlas-auth-proxy demo --callers: an Atlas emulator, and proxies that know their callers by name".to_owned());
    line(addresses([bearer, digest, gov], &admin));
    line(format!(
        "  configuration                         {}",
        files.configuration().display()
    ));
    line("ready".to_owned());
    line(String::new());
    line("Try, in another terminal; each request is logged here with its caller and its operation:".to_owned());
    line("Nobody knows who this is (401):".to_owned());
    line(format!("  curl -i {v2} {bearer}/api/atlas/v2/groups"));
    line(
        "billing reads projects and clusters, known by its local secret, as an API key (Digest) or a service account:"
            .to_owned(),
    );
    line(format!(
        "  curl {v2} --digest --user billing:{billing} {bearer}/api/atlas/v2/groups"
    ));
    line(format!(
        "  token=$(curl -s --user billing:{billing} -d grant_type=client_credentials {bearer}/api/oauth/token | sed 's/.*access_token\":\"\\([^\"]*\\).*/\\1/')"
    ));
    line(format!(
        "  curl -H \"Authorization: Bearer $token\" {bearer}/api/oauth/caller"
    ));
    line("A wrong secret (401), and what a caller may not do (403):".to_owned());
    line(format!(
        "  curl -i {v2} --user billing:wrong-wrong-wrong-wrong-wrong-wrong {bearer}/api/atlas/v2/groups"
    ));
    line(format!(
        "  curl -i -X DELETE {v2} --digest --user billing:{billing} {bearer}/api/atlas/v2/groups/{group}"
    ));
    line("deployer writes; auditor reads everything, by the API key and in government, too:".to_owned());
    line(format!(
        "  curl {v2} {json} --digest --user deployer:{deployer} {digest}/api/atlas/v2/groups --data '{{\"name\":\"MyProject\",\"orgId\":\"5a0a1e7e0f2912c554080adc\"}}'"
    ));
    line(format!(
        "  curl {v2} --user auditor:{auditor} {gov}/api/atlas/v2/groups"
    ));
    line("Who may do what, before it happens:".to_owned());
    line(format!(
        "  {rules} explain {config} --caller deployer DELETE /api/atlas/v2/groups/{group}"
    ));
    line(format!("  {rules} table {config} --caller billing"));
    line(format!("  curl {admin}/metrics | grep by_caller"));
    line("Ctrl-C ends the demo.".to_owned());
    text
}
