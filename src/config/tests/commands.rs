//! Secrets that commands print: with each key, and with what they may be.

use std::collections::BTreeSet;
use std::sync::Arc;

use parking_lot::Mutex;
use zeroize::Zeroizing;

use super::super::source::{Check, Output};
use super::*;
use crate::credential::CredentialSettings;
use crate::credential::identity::IdentityFiles;
use crate::secret_command::{CommandError, Printer, Runner, SecretCommand};
use crate::time::{SharedClock, SystemClock};

/// Prints what stands behind the program, and remembers what ran.
#[derive(Default)]
struct Echo {
    ran: Mutex<Vec<SecretCommand>>,
    ahead: Mutex<BTreeSet<SecretCommand>>,
    failed: Option<CommandError>,
}

impl Commands for Echo {
    fn output(&self, command: &SecretCommand, good: Check<'_>) -> Result<Output, CommandError> {
        self.ran.lock().push(command.clone());
        let value = Zeroizing::new(command.arguments.join("\n").into_bytes());
        good(&value).map_err(CommandError::Unusable)?;
        Ok(Output {
            value,
            failed: self.failed.clone(),
        })
    }

    fn run_ahead(&self, commands: BTreeSet<SecretCommand>) {
        self.ahead.lock().extend(commands);
    }

    /// This one runs.
    fn printer(&self, command: &SecretCommand) -> Result<Arc<Printer>, CommandError> {
        let clock: SharedClock = Arc::new(SystemClock);
        let runner = Arc::new(Runner::new(Arc::clone(&clock)));
        Ok(Arc::new(Printer::new(command.clone(), runner, clock, Arc::default())))
    }
}

fn try_load(case: &Case, commands: &dyn Commands) -> Result<Loaded, Vec<String>> {
    load(Sources {
        flags: &case.flags,
        environment: &case.environment,
        files: &case.files,
        sockets: None,
        commands,
        network: &super::connect_to::Names,
        machine: Machine {
            overflow_uid: 65534,
            cores: NonZeroUsize::MIN,
            log_to_terminal: true,
        },
    })
    .map_err(|errors| errors.lines().collect())
}

/// The error of each text, with the command `echo`.
fn refused(toml: &str) -> String {
    let case = Case::new().toml(toml);
    try_load(&case, &Echo::default()).unwrap_err().join("\n")
}

#[test]
fn each_secret_may_come_from_a_command() {
    let case = Case::bare().toml(&format!(
        "[account.keys]
         public_key_command = ['/bin/echo', 'abcdefgh']
         private_key_command = ['/bin/echo', 'no-uuid-but-a-key']
         base_url = 'https://ops.example.org'
         proxy = 'http://egress.example.org:3128'
         proxy_credentials_command = ['/bin/echo', 'user:password']
         [[listener]]
         account = 'keys'
         [[caller]]
         name = 'billing'
         secret_command = ['/bin/echo', '{LOCAL_SECRET}', '{LOCAL_SECRET}-next']
         [[caller.rule]]
         operations = ['listGroups']
         action = 'allow'
         [[issuer]]
         name = 'cluster'
         issuer = 'https://cluster.example.org'
         audience = 'gateway'
         jwks_url = 'https://cluster.example.org/keys'
         ca_file = '/ca.pem'
         token_command = ['/bin/echo', 'token']
         [passes]
         key_command = ['/bin/echo', '{STORE_KEY}']
         "
    ));
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let case = case.file("/ca.pem", made.cert.pem());
    let echo = Echo::default();
    let settings = try_load(&case, &echo).unwrap().settings;
    let CredentialSettings::ApiKey(pair) = &settings.accounts["keys"].credential else {
        panic!("an API key")
    };
    assert_eq!(
        (&*pair.public_key, pair.private_key.expose()),
        ("abcdefgh", "no-uuid-but-a-key")
    );
    assert!(
        settings.accounts["keys"]
            .upstream
            .egress
            .as_ref()
            .unwrap()
            .has_credentials()
    );
    let caller = &settings.callers.identification.callers()[0];
    assert_eq!(caller.secrets.current.as_ref().unwrap().expose(), LOCAL_SECRET);
    assert_eq!(
        caller.secrets.next.as_ref().unwrap().expose(),
        format!("{LOCAL_SECRET}-next")
    );
    let ran: BTreeSet<_> = echo.ran.lock().drain(..).collect();
    assert_eq!(ran.len(), 6);
    assert_eq!(*echo.ahead.lock(), ran, "side by side");
}

#[cfg(feature = "token-store")]
#[test]
fn those_of_the_token_store_too() {
    let case = Case::new().toml(&format!(
        "[token_store]\nurl = 'redis://a'\nkey_command = ['/bin/echo', '{STORE_KEY}']\npassword_command = ['/bin/echo', 'p']"
    ));
    let store = try_load(&case, &Echo::default()).unwrap().settings.token_store.unwrap();
    assert_eq!(store.password.unwrap().expose(), "p");
}

#[test]
fn those_of_a_service_account_too_and_the_next_one_may_be_missing() {
    struct Prints;
    impl Commands for Prints {
        fn output(&self, command: &SecretCommand, good: Check<'_>) -> Result<Output, CommandError> {
            let text = match &*command.arguments[0] {
                "id" => ID,
                "secret" => SECRET,
                _ => "\n",
            };
            good(text.as_bytes()).map_err(CommandError::Unusable)?;
            Ok(Output {
                value: text.as_bytes().to_vec().into(),
                failed: None,
            })
        }
    }
    let case = Case::bare().toml(
        "[account.a]\nclient_id_command = ['/x', 'id']\nclient_secret_command = ['/x', 'secret']\n\
         client_secret_next_command = ['/x', 'none']",
    );
    let settings = try_load(&case, &Prints).unwrap().settings;
    let CredentialSettings::ServiceAccount(key) = &settings.accounts["a"].credential else {
        panic!("a service account")
    };
    assert_eq!((&*key.client_id, key.secrets.current.expose()), (ID, SECRET));
    assert_eq!(key.secrets.next, None);
}

#[test]
fn a_variable_wins_and_then_its_command_alone_is_not_run() {
    let case = Case::new().toml("[account.default]\nclient_secret_command = ['/x', 'secret']");
    assert!(try_load(&case, &NoCommands).is_ok());
    let case = case.toml(
        "[account.default]\nclient_secret_command = ['/x', 'secret']\n\
         [account.other]\npublic_key_command = ['/x', 'abcdefgh']\nprivate_key_command = ['/x', 'no-uuid']\n\
         [[listener]]\naccount = 'default'",
    );
    let echo = Echo::default();
    try_load(&case, &echo).unwrap();
    let ahead = echo.ahead.lock();
    let ran: Vec<_> = ahead.iter().map(|command| &*command.arguments[0]).collect();
    assert_eq!(ran, ["abcdefgh", "no-uuid"]);
}

/// Else nobody asks for it, and it would be run in vain.
#[test]
fn a_secret_that_can_not_be_used_is_refused_whether_in_a_file_or_by_a_command() {
    for (account, key, says) in [
        (
            "public_key = 'abcdefgh'\nprivate_key_file = '/key'",
            "client_secret_next",
            "for service accounts only",
        ),
        (
            "public_key = 'abcdefgh'\nprivate_key_file = '/key'\nproxy = 'none'",
            "proxy_credentials",
            "for a proxy, and `proxy = \"none\"` says that there is none",
        ),
        (
            "public_key = 'abcdefgh'\nprivate_key_file = '/key'",
            "proxy_credentials",
            "for `proxy`, which is not set",
        ),
    ] {
        for given in ["file = '/key'", "command = ['/x', 'a']"] {
            let case = Case::bare()
                .file("/key", "no-uuid-but-a-key")
                .toml(&format!("[account.a]\n{account}\n{key}_{given}"));
            let said = try_load(&case, &Echo::default()).unwrap_err();
            assert!(
                said.len() == 1 && said[0].contains(says) && said[0].contains(&format!("account.a.{key}")),
                "{said:?}"
            );
        }
    }
}

const GATEWAY: &str = "gateway = 'https://gateway:8443'\n";
const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.e30.c2ln";

#[test]
fn the_token_that_a_gateway_is_shown_too_and_nothing_beside_it() {
    let command = format!("{GATEWAY}identity_token_command = ['/bin/echo', '{TOKEN}']\ncommand_environment = ['A']\n");
    let load = |toml: &str| try_load(&Case::bare().toml(&format!("[account.a]\n{toml}")), &Echo::default());
    let settings = load(&command).unwrap().settings;
    let CredentialSettings::Identity(identity) = &settings.accounts["a"].credential else {
        panic!("an identity")
    };
    let IdentityFiles::Command(printer) = &identity.files else {
        panic!("a command")
    };
    assert_eq!(printer.command().arguments, [TOKEN]);
    assert!(!format!("{identity:?}").contains(TOKEN));
    for beside in [
        "identity_token_file = '/t'",
        "client_certificate = '/c'\nclient_key = '/k'",
        "client_key = '/k'",
    ] {
        let said = load(&format!("{command}{beside}")).unwrap_err().join("\n");
        assert!(
            said.contains("a gateway is shown one thing") && said.contains("identity_token_command"),
            "{beside}: {said}"
        );
    }
    let said = load(&command.replace(GATEWAY, "")).unwrap_err().join("\n");
    assert!(said.contains("set `gateway`"), "{said}");
    let said = load(&command.replace(TOKEN, "hunter2")).unwrap_err().join("\n");
    assert!(
        said.contains("is no JSON Web Token") && !said.contains("hunter2"),
        "{said}"
    );
}

#[test]
fn what_will_be_refused_is_not_run_ahead() {
    for toml in [
        "key_command = ['vault', 'kv']",
        "key_command = ['/x', 'mdb_sa_sk_hunter2']",
        "other_command = ['/x']",
    ] {
        let echo = Echo::default();
        let case = Case::new().toml(&format!("[passes]\n{toml}"));
        assert!(
            try_load(&case, &echo).is_err() && echo.ahead.lock().is_empty(),
            "{toml}"
        );
    }
}

#[test]
fn it_gets_path_home_and_what_is_named() {
    let case = Case::new()
        .env("PATH", "/bin")
        .env("HOME", "/root")
        .env("VAULT_TOKEN", "hvs.secret")
        .env("OTHER", "no")
        .toml(&format!(
            "[passes]\nkey_command = ['/bin/echo', '{STORE_KEY}']\ncommand_environment = ['VAULT_TOKEN', 'NOT_SET']"
        ));
    let echo = Echo::default();
    let loaded = try_load(&case, &echo).unwrap();
    let ran = echo.ran.lock();
    let names: Vec<&String> = ran[0].environment.keys().collect();
    assert_eq!(names, ["HOME", "PATH", "VAULT_TOKEN"]);
    assert!(!format!("{ran:?} {loaded:?}").contains("hvs.secret"));
}

#[test]
fn what_is_no_command_is_refused() {
    for (toml, says) in [
        ("key_command = []", "absolute path"),
        ("key_command = ['vault', 'kv']", "absolute path"),
        ("key_command = ['/x', 'mdb_sa_sk_hunter2']", "looks like a secret"),
        ("key_command = [\"/x\", \"a\\u0000b\"]", "NUL"),
        ("key_command = '/x'", "an array of strings"),
        (
            "key_command = ['/x']\nkey_file = '/f'",
            "in another way beside the command",
        ),
        (
            "key_command = ['/x']\ncommand_environment = ['A=B']",
            "no name of a variable",
        ),
        (
            "key_command = ['/x']\ncommand_environment = ['']",
            "no name of a variable",
        ),
        ("command_environment = ['A']", "there is none in this table"),
        (
            "key_command = ['/x', 'hunter2']",
            "what the command printed can't be used",
        ),
    ] {
        let said = refused(&format!("[passes]\n{toml}"));
        assert!(said.contains(says) && said.contains("passes."), "{toml}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
    for toml in [
        "client_secret_command = ['/x', 'a']\nclient_secret_file = '/f'",
        "client_id_command = ['/x', 'a']\nclient_id = 'a'",
        "client_secret_next_command = ['/x', 'a']\nclient_secret_next_file = '/f'",
    ] {
        let case = if toml.contains("next") {
            Case::new()
        } else {
            Case::bare()
        };
        let case = case.file("/f", SECRET).toml(&format!("[account.a]\n{toml}"));
        let said = try_load(&case, &Echo::default()).unwrap_err().join("\n");
        assert!(said.contains("in another way beside the command"), "{toml}: {said}");
    }
}

#[test]
fn a_failure_that_left_the_old_value_is_a_warning() {
    let case = Case::new().toml(&format!("[passes]\nkey_command = ['/bin/echo', '{STORE_KEY}']"));
    let echo = Echo {
        failed: Some(CommandError::Exit(3)),
        ..Echo::default()
    };
    let warnings = try_load(&case, &echo).unwrap().warnings.join("\n");
    assert!(
        warnings.contains("`passes.key_command`") && warnings.contains("exit code 3"),
        "{warnings}"
    );
    let said = try_load(&case, &NoCommands).unwrap_err().join("\n");
    assert!(said.contains("only `run` and `check` run commands"), "{said}");
}
