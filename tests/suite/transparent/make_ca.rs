//! `make-ca`: files, and what its authority can vouch for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::{Duration, SystemTime};

use atlas_auth_proxy::certificate::{alternative_names, validity};
use atlas_auth_proxy::time::{Clock, SystemClock};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use tokio::process::Command;

use super::{ATLAS, Made, make_ca};
use crate::support::needs::needs;
use crate::support::program::PROGRAM;

const DAY: u64 = 24 * 60 * 60;

fn files(made: &Made) -> Vec<(String, u32)> {
    let entries = fs::read_dir(made.path("")).unwrap();
    let mut all: Vec<(String, u32)> = entries
        .map(|entry| {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o7777;
            (entry.file_name().into_string().unwrap(), mode)
        })
        .collect();
    all.sort();
    all
}

fn named(files: &[(&str, u32)]) -> Vec<(String, u32)> {
    files.iter().map(|(name, mode)| ((*name).to_owned(), *mode)).collect()
}

#[tokio::test]
async fn three_files_are_made_and_never_written_over() {
    let made = Made::new(&[]).await;
    let three = [("ca.crt", 0o644), ("server.crt", 0o644), ("server.key", 0o600)];
    assert_eq!(files(&made), named(&three));
    let before = made.read("server.key");
    assert!(before.contains("PRIVATE KEY") && !made.read("server.crt").contains("PRIVATE KEY"));
    assert!(
        !made.told.contains("PRIVATE KEY") && made.told.contains("kept nowhere"),
        "{}",
        made.told
    );

    let again = make_ca(made.folder.path(), &[]).await;
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let said = String::from_utf8_lossy(&again.stderr);
    assert!(said.contains("made/ca.crt is there already"), "{said}");
    // One of them is enough, and a key of another authority, too.
    for left in ["server.key", "ca.key"] {
        for (file, _) in files(&made) {
            fs::remove_file(made.path(&file)).unwrap();
        }
        fs::write(made.path(left), &before).unwrap();
        assert_eq!(
            make_ca(made.folder.path(), &["--keep-ca-key"]).await.status.code(),
            Some(1)
        );
        assert_eq!(make_ca(made.folder.path(), &[]).await.status.code(), Some(1));
        assert_eq!(files(&made).len(), 1, "nothing was made");
        assert_eq!(made.read(left), before);
    }
}

/// Clients of other users read `ca.crt`, whatever umask the administrator works with.
#[tokio::test]
async fn modes_are_as_promised_under_any_umask() {
    for umask in ["077", "000"] {
        let place = tempfile::tempdir().unwrap();
        let there = place.path().join("there");
        fs::create_dir(&there).unwrap();
        fs::set_permissions(&there, fs::Permissions::from_mode(0o750)).unwrap();
        let output = Command::new("sh")
            .args(["-c", &format!("umask {umask}; exec \"$0\" \"$@\"")])
            .args([PROGRAM, "make-ca", "--keep-ca-key", "--out", "there/new/tls"])
            .current_dir(place.path())
            .env_clear()
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let mode = |path: &str| fs::metadata(there.join(path)).unwrap().permissions().mode() & 0o7777;
        for (path, wanted) in [
            // It was there.
            ("", 0o750),
            ("new", 0o755),
            ("new/tls", 0o755),
            ("new/tls/ca.crt", 0o644),
            ("new/tls/server.crt", 0o644),
            ("new/tls/server.key", 0o600),
            ("new/tls/ca.key", 0o600),
        ] {
            assert_eq!(
                format!("{:o}", mode(path)),
                format!("{wanted:o}"),
                "umask {umask}: {path}"
            );
        }
    }
}

#[tokio::test]
async fn a_file_in_place_of_the_folder_is_told_as_that() {
    let place = tempfile::tempdir().unwrap();
    fs::write(place.path().join("made"), "").unwrap();
    let output = make_ca(place.path(), &[]).await;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("made is a file, not a folder") && !said.contains("os error"),
        "{said}"
    );
}

#[tokio::test]
async fn the_key_of_the_authority_is_kept_only_when_asked_for() {
    let made = Made::new(&["--keep-ca-key"]).await;
    assert!(
        files(&made).contains(&("ca.key".to_owned(), 0o600)),
        "{:?}",
        files(&made)
    );
    assert!(made.told.contains("keep it offline"), "{}", made.told);
}

#[tokio::test]
async fn it_is_for_the_host_of_the_environment_or_for_those_that_are_named() {
    let names = |made: &Made| alternative_names(&CertificateDer::from_pem_file(made.path("server.crt")).unwrap());
    let government = Made::new(&["--environment", "gov"]).await;
    assert_eq!(names(&government), ["DNS:cloud.mongodbgov.com"]);
    assert!(
        government.lines().contains("environment = \"gov\"\n"),
        "{}",
        government.told
    );
    let two = Made::new(&["--name", "Cloud.MongoDB.com", "--name", "opsmanager.example.org"]).await;
    assert_eq!(names(&two), ["DNS:cloud.mongodb.com", "DNS:opsmanager.example.org"]);
    let own = Made::new(&["--name", "opsmanager.example.org"]).await;
    assert!(
        own.lines().contains("base_url = \"https://opsmanager.example.org\"\n"),
        "{}",
        own.told
    );

    let folder = tempfile::tempdir().unwrap();
    let by_variable = Command::new(PROGRAM)
        .args(["make-ca", "--out", "made"])
        .current_dir(folder.path())
        .env_clear()
        .env("MONGODB_ATLAS_SERVICE", "cloudgov")
        .output()
        .await
        .unwrap();
    assert!(
        String::from_utf8_lossy(&by_variable.stdout).contains("cloud.mongodbgov.com"),
        "{by_variable:?}"
    );
    for wrong in [
        &["--name", "127.0.0.1"][..],
        &["--name", "com"],
        &["--environment", "mars"],
        &["--name", "*.x.org"],
    ] {
        let output = make_ca(folder.path().join("made").as_path(), wrong).await;
        assert_eq!(output.status.code(), Some(2), "{output:?}");
        assert!(!folder.path().join("made/made").exists());
        if wrong[0] == "--name" {
            let said = String::from_utf8_lossy(&output.stderr);
            let wanted =
                "write a DNS name with a dot in it, such as cloud.mongodb.com; no address, scheme, port or wildcard";
            assert!(said.contains(wanted), "{said}");
        }
    }
}

#[tokio::test]
async fn what_is_printed_says_until_when_and_is_right() {
    let made = Made::new(&[]).await;
    let now = SystemClock.wall();
    let of = |file: &str| validity(&CertificateDer::from_pem_file(made.path(file)).unwrap()).unwrap();
    let (begin, end) = of("server.crt");
    assert!(begin <= now && now.duration_since(begin).unwrap() < Duration::from_secs(2 * DAY));
    // Apple's bound.
    assert!(end.duration_since(begin).unwrap() <= Duration::from_secs(825 * DAY));
    assert_eq!(of("ca.crt").1, end);
    let day = jiff::Timestamp::try_from(end).unwrap().strftime("%Y-%m-%d").to_string();
    assert!(made.told.contains(&format!("valid until {day}")), "{}", made.told);
    assert!(end > now + Duration::from_secs(700 * DAY) && end > SystemTime::UNIX_EPOCH);
    // The next authority stands beside this one, until all listeners show its certificate.
    for name in [
        format!("/atlas-auth-proxy-{day}.crt "),
        format!("-alias atlas-auth-proxy-{day} "),
    ] {
        assert!(made.told.contains(&name), "{name}: {}", made.told);
    }
    for word in [
        "hostAliases",
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        // Whatever the umask is.
        "install -m 0644",
        "systemd-resolved ignores the dot",
        "atlas-auth-proxy run --config FILE",
        "atlas-auth-proxy check --config FILE",
        "update-ca-certificates",
        // Atlas answers 406 to who names no version.
        "-H 'Accept: application/vnd.atlas.2025-03-12+json' https://cloud.mongodb.com/api/atlas/v2/groups",
        "for no other host, no address and no mailbox",
    ] {
        assert!(made.told.contains(word), "{word}");
    }
}

/// Who follows the page writes what is printed, starts it, and asks for a version.
#[tokio::test]
async fn the_page_has_the_lines_that_are_printed_and_the_commands() {
    let page = include_str!("../../../docs/TRANSPARENT.md");
    let made = Made::new(&[]).await;
    let folder = fs::canonicalize(made.path("")).unwrap();
    let lines = made
        .lines()
        .replace(folder.to_str().unwrap(), "/etc/atlas-auth-proxy/tls");
    let step = page.split_once("```toml").unwrap().1.split_once("```").unwrap().0;
    for line in lines.lines() {
        assert!(step.lines().any(|of_page| of_page.trim() == line), "{line} in {step}");
    }
    for command in [
        "atlas-auth-proxy run --config /etc/atlas-auth-proxy/proxy.toml",
        "atlas-auth-proxy check --config /etc/atlas-auth-proxy/proxy.toml",
        "> /etc/atlas-auth-proxy/hosts\n",
    ] {
        assert!(page.contains(command), "{command}");
    }
    for line in page.lines().filter(|line| line.contains("curl --")) {
        assert!(line.contains("-H 'Accept: application/vnd.atlas."), "{line}");
    }
}

/// OpenSSL's verdict of a server certificate, asked as strictly as it can.
async fn openssl_verify(made: &Made, certificate: &str, name: Option<&str>) -> String {
    let output = Command::new("openssl")
        .args([
            "verify",
            "-x509_strict",
            "-purpose",
            "sslserver",
            "-no-CApath",
            "-no-CAstore",
        ])
        .arg("-CAfile")
        .arg(made.path("ca.crt"))
        .args(name.iter().flat_map(|name| ["-verify_hostname", name]))
        .arg(made.path(certificate))
        .output()
        .await
        .unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Signs a server certificate with the authority's key, as whoever keeps it might.
pub(super) async fn sign(made: &Made, file: &str, subject: &str, extensions: &str) {
    fs::write(made.path("extensions"), extensions).unwrap();
    let script = format!(
        "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {file}.key -out {file}.csr -subj '{subject}' && \
         openssl x509 -req -in {file}.csr -CA ca.crt -CAkey ca.key -set_serial 7 -days 10 -extfile extensions -out {file}.crt"
    );
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(made.path(""))
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

#[tokio::test]
async fn openssl_takes_the_chain_for_this_name_and_the_authority_can_vouch_for_no_other() {
    let Some(_) = needs(&["openssl"], "openssl") else {
        return;
    };
    let made = Made::new(&["--keep-ca-key"]).await;
    let good = openssl_verify(&made, "server.crt", Some(ATLAS)).await;
    assert!(good.contains("server.crt: OK"), "{good}");
    let other = openssl_verify(&made, "server.crt", Some("example.org")).await;
    assert!(other.contains("hostname mismatch"), "{other}");
    for (file, name, why) in [
        ("name", "DNS:example.org", "permitted subtree violation"),
        ("sibling", "DNS:account.mongodb.com", "permitted subtree violation"),
        (
            "address",
            "DNS:cloud.mongodb.com, IP:127.0.0.1",
            "excluded subtree violation",
        ),
        ("six", "DNS:cloud.mongodb.com, IP:::1", "excluded subtree violation"),
        (
            "mail",
            "DNS:cloud.mongodb.com, email:a@example.org",
            "permitted subtree violation",
        ),
    ] {
        let extensions = format!("subjectAltName={name}\nauthorityKeyIdentifier=keyid\n");
        sign(&made, file, "/O=somebody", &extensions).await;
        let said = openssl_verify(&made, &format!("{file}.crt"), None).await;
        assert!(said.contains(why), "{file}: {said}");
    }
    // An authority below it vouches for nobody: the path is as long as it may be.
    sign(
        &made,
        "below",
        "/O=below",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\nauthorityKeyIdentifier=keyid\n",
    )
    .await;
    let script = "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout l.key -out l.csr -subj /O=l && \
        echo subjectAltName=DNS:cloud.mongodb.com > extensions && \
        openssl x509 -req -in l.csr -CA below.crt -CAkey below.key -set_serial 8 -days 9 -extfile extensions -out l.crt && \
        openssl verify -CAfile ca.crt -untrusted below.crt l.crt";
    let output = Command::new("sh")
        .args(["-c", script])
        .current_dir(made.path(""))
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("path length constraint exceeded"), "{output:?}");
}
