//! Values in the wrong field, files of secrets, and the configuration file itself.

use std::fs;

use crate::support::atlas::Atlas;
use crate::support::check::Setup;
use crate::support::proxy::{CLIENT_ID, CLIENT_SECRET, PRIVATE_KEY};

#[tokio::test]
async fn values_in_the_wrong_field() {
    for (setup, variable, found) in [
        (
            Setup::digest().env("MONGODB_ATLAS_PRIVATE_API_KEY", CLIENT_SECRET),
            "MONGODB_ATLAS_PRIVATE_API_KEY: ",
            "part of a service account",
        ),
        (
            Setup::digest().env("MONGODB_ATLAS_PUBLIC_API_KEY", CLIENT_ID),
            "MONGODB_ATLAS_PUBLIC_API_KEY: ",
            "part of a service account",
        ),
        (
            Setup::digest().env("MONGODB_ATLAS_PUBLIC_API_KEY", PRIVATE_KEY),
            "MONGODB_ATLAS_PUBLIC_API_KEY: ",
            "the shape of the private key",
        ),
    ] {
        setup.check().await.fails("configuration", &[variable, found], &[]);
    }
    let said = Setup::default()
        .env("MONGODB_ATLAS_CLIENT_ID", CLIENT_SECRET)
        .env("MONGODB_ATLAS_CLIENT_SECRET", CLIENT_ID)
        .check()
        .await;
    assert_eq!(said.code, Some(1));
    for variable in ["MONGODB_ATLAS_CLIENT_ID: ", "MONGODB_ATLAS_CLIENT_SECRET: "] {
        said.line("FAIL", "configuration", &[variable, "were the two swapped?"], &[]);
    }
    let both = Setup::digest().env("MONGODB_ATLAS_CLIENT_ID", CLIENT_ID);
    both.check()
        .await
        .fails("configuration", &["two kinds of credential", "Remove"], &[]);
    Setup::default().check().await.fails(
        "configuration",
        &["no credential", "MONGODB_ATLAS_CLIENT_ID", "ATLAS_PROXY_GATEWAY"],
        &[],
    );
}

#[tokio::test]
async fn secret_files_that_cannot_be_used() {
    let atlas = Atlas::start().await;
    let folder = atlas.folder.path().to_str().unwrap().to_owned();
    let utf_16: Vec<u8> = [0xFF, 0xFE]
        .into_iter()
        .chain(CLIENT_SECRET.encode_utf16().flat_map(u16::to_le_bytes))
        .collect();
    for (path, found) in [
        (format!("{folder}/gone"), &["No such file", "mounted"][..]),
        (folder, &["directory", "name a file in this directory"]),
        (atlas.file("empty", "", 0o600), &["is empty", "client secret"]),
        (atlas.file("blank", "\n", 0o600), &["is empty", "client secret"]),
        (atlas.file("utf-16", utf_16, 0o600), &["UTF-16", "plain text"]),
        (
            atlas.file("quoted", format!("\"{CLIENT_SECRET}\"\n"), 0o600),
            &["quotation marks"],
        ),
        (
            atlas.file("lines", format!("{CLIENT_SECRET}\n{CLIENT_SECRET}\n"), 0o600),
            &["more than one line"],
        ),
        (atlas.file("blanks", format!("{CLIENT_SECRET} "), 0o600), &["a blank"]),
        (
            atlas.file("large", CLIENT_SECRET.repeat(1000), 0o600),
            &["more than 16384 bytes"],
        ),
        (
            atlas.file("writable", CLIENT_SECRET, 0o606),
            &["can write", "mode 0606", "chmod 600"],
        ),
    ] {
        let said = atlas.with_secret_file(&path).await;
        let mut words = vec!["MONGODB_ATLAS_CLIENT_SECRET_FILE: ", path.as_str()];
        words.extend_from_slice(found);
        said.fails("configuration", &words, &[]);
    }
    let closed = atlas.file("closed", CLIENT_SECRET, 0o000);
    // Root reads everything.
    if fs::read(&closed).is_err() {
        let said = atlas.with_secret_file(&closed).await;
        said.fails("configuration", &[&closed, "denied", "chown"], &[]);
    }
    assert_eq!(atlas.emulator.token_requests(), 0);
}

#[tokio::test]
async fn secret_files_that_others_can_read() {
    let atlas = Atlas::start().await;
    for (mode, who) in [
        (0o644, "every user of this machine can read"),
        (0o660, "its group can write"),
    ] {
        let path = atlas.file("open", CLIENT_SECRET, mode);
        let said = atlas.with_secret_file(&path).await;
        said.works("it works; 1 to look at");
        let mode = format!("mode {mode:04o}");
        said.line("warn", "configuration", &[who, &path, &mode, "chmod 600"], &[]);
    }
}

#[tokio::test]
async fn secret_files_with_a_line_end() {
    let atlas = Atlas::start().await;
    for (end, found) in [("\n", "a line break"), ("\r\n", "CR LF"), ("\r", "a carriage return")] {
        let path = atlas.file("ended", format!("{CLIENT_SECRET}{end}"), 0o600);
        let said = atlas.with_secret_file(&path).await;
        said.works("all is well");
        said.line("ok", "configuration", &[&path, found, "client secret", "ignored"], &[]);
    }
    let marked = atlas.file("marked", format!("\u{feff}{CLIENT_SECRET}"), 0o600);
    atlas.with_secret_file(&marked).await.works("all is well");
}

#[tokio::test]
async fn a_configuration_file_with_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.toml");
    for (text, found) in [
        (
            "[account.default]\nclient_secret = 'mdb_sa_sk_hunter2'\n",
            &["2:1", "no secret in this file"][..],
        ),
        ("[[listener]]\nbin = '127.0.0.1:8080'\n", &["2:1", "bin"]),
        ("[[listener]\n", &["1:"]),
    ] {
        fs::write(&path, text).unwrap();
        let path = path.to_str().unwrap();
        let said = Setup::bearer().args(&["--config", path]).check().await;
        let mut words = vec![path];
        words.extend_from_slice(found);
        said.fails("configuration", &words, &[]);
        assert!(!said.text.contains("hunter2"), "{}", said.text);
    }
}
