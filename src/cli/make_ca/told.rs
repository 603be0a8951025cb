//! What `make-ca` prints: what to put where.

use std::path::Path;
use std::time::SystemTime;

use super::{CA, CA_KEY, SERVER, SERVER_KEY};
use crate::cli::shell;
use crate::upstream::Origin;

/// The lines of configuration are right as they stand; each of the others begins with what it is for.
pub(super) fn told(folder: &Path, names: &[String], keeps_key: bool, until: SystemTime) -> String {
    let ca = shell::word(&folder.join(CA).display().to_string());
    let first = names.first().map_or("", String::as_str);
    let of_key = if keeps_key {
        format!(
            "  {CA_KEY}      the authority's key: whoever has it can be these hosts to every client that trusts {CA}; keep it offline"
        )
    } else {
        "  The authority's key is kept nowhere: no other certificate can be made with it.".to_owned()
    };
    let several = if names.len() > 1 {
        "\n# More than one upstream needs a listener, on an address of its own, and an account for each.\n"
    } else {
        ""
    };
    let (hosts, names_in_toml) = (names.join(" "), list(names));
    let (certificate, key) = (path_in_toml(folder, SERVER), path_in_toml(folder, SERVER_KEY));
    let upstream = upstream(first);
    format!(
        r#"In {folder}, for {hosts}, valid until {until}:
  {CA}      the certificate authority, which clients must trust; it can vouch for servers, by these names and those
              below them; for no other host, no address and no mailbox
  {SERVER}  the certificate of the proxy's listener
  {SERVER_KEY}  its key, for the proxy alone
{of_key}

1. The proxy's configuration file. `connect_to` is where Atlas is in truth: with a dot at its end a name is looked up in DNS, and not
   in /etc/hosts. (systemd-resolved ignores the dot and reads /etc/hosts as well; the proxy then refuses to start: write an address.)

[[listener]]
bind = "127.0.0.1:443"
hosts = {names_in_toml}

[listener.tls]
certificate = {certificate}
key = {key}
{several}
[account.default]
{upstream}connect_to = "{first}.:443"

2. The name, where the clients run.
   /etc/hosts      127.0.0.1 {hosts}
   pod             hostAliases: [{{ip: "127.0.0.1", hostnames: {names_in_toml}}}]
   egress proxy    NO_PROXY={no_proxy} for the clients, not for the proxy

3. Trust, where the clients run. Never give the proxy itself one of these variables.
   Debian, Ubuntu  install -m 0644 {ca} /usr/local/share/ca-certificates/atlas-auth-proxy-{until}.crt && update-ca-certificates
   Red Hat         install -m 0644 {ca} /etc/pki/ca-trust/source/anchors/atlas-auth-proxy-{until}.crt && update-ca-trust
   Go, OpenSSL     SSL_CERT_FILE={ca}  (in place of the system's: for programs that call Atlas alone)
   Python requests REQUESTS_CA_BUNDLE={ca}  (in place of its own, likewise)
   Node.js         NODE_EXTRA_CA_CERTS={ca}
   curl            CURL_CA_BUNDLE={ca}  (in place of the system's)
   Java            keytool -importcert -noprompt -cacerts -alias atlas-auth-proxy-{until} -file {ca}

4. Try it, once the proxy runs: atlas-auth-proxy run --config FILE
   curl --cacert {ca} --resolve {first}:443:127.0.0.1 -H 'Accept: application/vnd.atlas.2025-03-12+json' https://{first}/api/atlas/v2/groups
   What does not work on the way to Atlas: atlas-auth-proxy check --config FILE
"#,
        folder = folder.display(),
        until = date(until),
        no_proxy = names.join(","),
    )
}

/// The line that makes an account's base URL this host.
fn upstream(name: &str) -> String {
    if name == Origin::commercial().host() {
        String::new()
    } else if name == Origin::government().host() {
        "environment = \"gov\"\n".to_owned()
    } else {
        format!("base_url = \"https://{name}\"\n")
    }
}

/// A list of names, in TOML and YAML alike.
fn list(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
    format!("[{}]", quoted.join(", "))
}

fn path_in_toml(folder: &Path, file: &str) -> String {
    // What JSON writes for a text, TOML reads.
    serde_json::Value::from(folder.join(file).display().to_string()).to_string()
}

/// `2028-11-26`.
fn date(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(
        |_| "an unknown day".to_owned(),
        |at| at.strftime("%Y-%m-%d").to_string(),
    )
}
