//! Settings that contradict each other: nothing is started, and the exit code says that only a change of them helps.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tokio::process::Command;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::program::{PROGRAM, SERVICE_ACCOUNT};

const LEAF: &str = "gateway = 'https://gateway.example.org'\nidentity_token_file = 'token'";

#[tokio::test]
async fn what_contradicts_itself_is_not_started() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, content: &str| {
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    };
    write("key", &"0f".repeat(32));
    write("token", "e30.e30.c2ln");
    let leaf = |more: &str| format!("[account.default]\n{LEAF}\n{more}");
    let balancer = |network: &str| {
        format!(
            "[[listener]]\nproxy_protocol = ['10.0.0.1/32']\nallow = ['10.0.0.0/8']\n[[caller]]\nname = 'a'\n\
             networks = ['{network}']\n[[caller.rule]]\noperations = ['listGroups']\naction = 'allow'"
        )
    };
    for (account, toml, says) in [
        (true, "[audit]\nfile = 'stdout'".to_owned(), "when_full = \"drop\""),
        (
            true,
            "[audit]\nfile = 'stdout'\nwhen_full = 'drop'\nchain_key_file = 'key'".to_owned(),
            "takes no chain",
        ),
        (
            false,
            leaf("base_url = 'https://ops.example.org'"),
            "in place of a base URL",
        ),
        (
            false,
            leaf("client_id = 'mdb_sa_id_1'"),
            "belongs to a credential of Atlas",
        ),
        (true, leaf(""), "belongs to a credential of Atlas"),
        (false, leaf("").replace("https:", "http:"), "gateway"),
        (true, balancer("10.0.0.0/24"), "overlaps with load balancers"),
    ] {
        let config = write("proxy.toml", &toml);
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--listen", "127.0.0.1:0", "--admin-listen", "off", "--config"]);
        command.arg(config).env_clear().kill_on_drop(true);
        if account {
            command.envs(SERVICE_ACCOUNT);
        }
        let output = timeout(PATIENCE, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("it serves: {toml}")).unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{toml}: {said}");
        assert!(said.contains(says), "{toml}: {said}");
        assert_eq!(output.stdout, b"");
    }
}
