//! What was meant by flags that people try and that there are none of.

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Flags, without dashes, and what to do instead.
const MEANT: &[(&[&str], &str)] = &[
    (
        &["client-id", "client-secret", "service-account", "sa-id", "sa-secret"],
        "credentials never come by flag, since everybody on this machine can read a command line. For a service account set \
         MONGODB_ATLAS_CLIENT_ID, and MONGODB_ATLAS_CLIENT_SECRET or, to keep it out of the environment, \
         MONGODB_ATLAS_CLIENT_SECRET_FILE to the name of a file",
    ),
    (
        &[
            "public-key",
            "private-key",
            "api-key",
            "public-api-key",
            "private-api-key",
            "user",
            "username",
            "password",
        ],
        "credentials never come by flag, since everybody on this machine can read a command line. For an API key set \
         MONGODB_ATLAS_PUBLIC_API_KEY, and MONGODB_ATLAS_PRIVATE_API_KEY or, to keep it out of the environment, \
         MONGODB_ATLAS_PRIVATE_API_KEY_FILE to the name of a file",
    ),
    (
        &["token", "access-token", "secret", "credential", "credentials"],
        "credentials never come by flag, since everybody on this machine can read a command line: MONGODB_ATLAS_CLIENT_ID and \
         MONGODB_ATLAS_CLIENT_SECRET_FILE are for a service account, MONGODB_ATLAS_PUBLIC_API_KEY and \
         MONGODB_ATLAS_PRIVATE_API_KEY_FILE for an API key",
    ),
    (
        &["port", "p", "bind", "address", "addr"],
        "the address to listen on is --listen 127.0.0.1:8080",
    ),
    (
        &["gov", "government", "cloudgov", "service", "realm"],
        "Atlas for Government is --environment gov, or MONGODB_ATLAS_SERVICE=cloudgov",
    ),
    (
        &["upstream", "url", "target", "endpoint", "ops-manager-url"],
        "another upstream than Atlas is --base-url https://HOST[:PORT]",
    ),
    (
        &[
            "insecure",
            "k",
            "skip-verify",
            "tls-skip-verify",
            "insecure-skip-tls-verify",
            "no-verify",
        ],
        "the upstream's certificate is always verified: name the authorities to trust with --upstream-ca FILE",
    ),
    (
        &["ca", "cacert", "ca-file", "ca-cert"],
        "the authorities to trust upstream are --upstream-ca FILE",
    ),
    (
        &["gateway", "identity-token-file", "client-certificate", "client-key"],
        "a leaf of a gateway is set up by ATLAS_PROXY_GATEWAY with ATLAS_PROXY_IDENTITY_TOKEN_FILE, or with \
         ATLAS_PROXY_CLIENT_CERTIFICATE and ATLAS_PROXY_CLIENT_KEY, or in the configuration file",
    ),
    (
        &["proxy", "egress-proxy"],
        "the egress proxy is HTTPS_PROXY, or `proxy` of the account in the configuration file",
    ),
    (&["verbose", "v", "debug", "d"], "more is logged with --log-level debug"),
];

/// What to do instead, when the error is about such a flag.
pub(super) fn tip(error: &clap::Error) -> Option<&'static str> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else {
        return None;
    };
    let name = argument.trim_start_matches('-').split('=').next()?;
    let (_, tip) = MEANT.iter().find(|(names, _)| names.contains(&name))?;
    Some(tip)
}
