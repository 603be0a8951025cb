//! `[listener.tls]`: reads the files of a listener's TLS.

use super::inputs::Inputs;
use super::problem::shown;
use super::source::Given;
use super::table::tables;
use super::value;
use crate::server::{Clients, ListenerTls, ListenerTlsError, NamePattern};

tables! {
    /// One `[listener.tls]`.
    FileTls {
        /// PEM file of the certificate, then its intermediates; reloaded.
        certificate: text default required,
        /// PEM file of its private key, not encrypted; reloaded.
        key: text default required,
        /// PEM file of the authorities of clients: each must show a certificate of theirs.
        client_ca: text,
        /// DNS names and URIs, one of which a client's certificate must have; `*` is part of one label or path segment. Left out: any.
        client_names: texts,
        /// PEM file of what the authorities have revoked; reloaded.
        client_crl: text,
        /// `optional`: a client may show none, and be known as a caller by something else. Left out: `required` with `client_ca`.
        client_certificate: text as OneOf("required", "optional"),
        "certificate_file" => "there is no such key; write `certificate`",
        "key_file" => "there is no such key; write `key`",
        "client_ca_file" => "there is no such key; write `client_ca`",
        "client_crl_file" => "there is no such key; write `client_crl`",
    }
}

/// Chains and bundles of authorities are some KiB.
const LARGEST_PEM: usize = 4 << 20;

type Pem = zeroize::Zeroizing<Vec<u8>>;

/// Reads the files and puts TLS together; what is wrong is noted at the key that names the file.
pub(crate) fn build(table: &FileTls, inputs: &mut Inputs<'_>) -> Option<ListenerTls> {
    for (key, given) in [("certificate", &table.certificate), ("key", &table.key)] {
        if given.is_none() {
            inputs
                .problems
                .add(&table.place, format_args!("`{key}` is missing: name a PEM file"));
        }
    }
    let names = names(table, inputs);
    let certificate = table.certificate.as_ref().and_then(|given| {
        let path = inputs.credential_path(given);
        inputs.read(&path, LARGEST_PEM, &given.source)
    });
    let key = table.key.as_ref().and_then(|given| {
        let path = inputs.credential_path(given);
        inputs.read_secret(&path, LARGEST_PEM, &given.source)
    });
    let ca = match &table.client_ca {
        Some(given) => Some(pem(given, inputs)?),
        None => None,
    };
    let crl = match &table.client_crl {
        Some(given) if table.client_ca.is_none() => {
            inputs.problems.add(
                &given.source,
                "a revocation list is about client certificates, and without `client_ca` none is asked for: name the \
                 authorities, or remove this",
            );
            None
        }
        Some(given) => Some(pem(given, inputs)?),
        None => None,
    };
    let optional = client_certificate(table, inputs)?;
    let (certificate, key, names) = (certificate?, key?, names?);
    let clients = ca.as_ref().map(|ca| Clients {
        ca,
        names,
        crl: crl.as_ref().map(|pem| pem.as_slice()),
        optional,
    });
    match ListenerTls::new(&certificate, &key, clients) {
        Ok(tls) => Some(tls),
        Err(error) => {
            let at = match &error {
                ListenerTlsError::Key(_) => table.key.as_ref(),
                ListenerTlsError::ClientCa(_) => table.client_ca.as_ref(),
                ListenerTlsError::ClientCrl(_) => table.client_crl.as_ref(),
                ListenerTlsError::Certificate(_) | ListenerTlsError::Pair(_) | ListenerTlsError::Rustls(_) => {
                    table.certificate.as_ref()
                }
            };
            let source = at.map_or(&table.place, |given| &given.source);
            let file = at.map_or_else(String::new, |given| shown(&given.value).to_string() + ": ");
            inputs.problems.add(source, format_args!("{file}{error}"));
            None
        }
    }
}

/// Whether a client may show no certificate.
fn client_certificate(table: &FileTls, inputs: &mut Inputs<'_>) -> Option<bool> {
    let Some(given) = &table.client_certificate else {
        return Some(false);
    };
    if table.client_ca.is_none() {
        inputs.problems.add(
            &given.source,
            "without `client_ca` no client is asked for a certificate: name the authorities, or remove this",
        );
        return None;
    }
    let parsed = inputs.problems.parse(given.clone(), |text| match text {
        "required" => Ok(false),
        "optional" => Ok(true),
        _ => Err(value::one_of(text, &["required", "optional"])),
    });
    parsed.map(|given| given.value)
}

fn pem(given: &Given<String>, inputs: &mut Inputs<'_>) -> Option<Pem> {
    let path = inputs.path(given);
    inputs.read(&path, LARGEST_PEM, &given.source)
}

fn names(table: &FileTls, inputs: &mut Inputs<'_>) -> Option<Vec<NamePattern>> {
    let Some(list) = &table.client_names else {
        return Some(Vec::new());
    };
    if table.client_ca.is_none() {
        inputs.problems.add(
            &list.source,
            "names are looked at in client certificates, and without `client_ca` none is asked for: name the \
             authorities, or remove this",
        );
        return None;
    }
    if list.value.is_empty() {
        inputs.problems.add(
            &list.source,
            "an empty list would let nobody connect: name a client, or remove the key to accept every certificate of \
             `client_ca`",
        );
        return None;
    }
    let parsed: Vec<_> = list
        .value
        .iter()
        .map(|given| {
            inputs.problems.parse(given.clone(), |text| {
                NamePattern::parse(text).map_err(|e| e.to_string())
            })
        })
        .collect();
    parsed.into_iter().map(|given| given.map(|given| given.value)).collect()
}
