//! The names of the environment variables, in one place. `docs/CONFIGURATION.md` lists each of them, which a test
//! checks. Any other name with our prefix is a mistake: the setting that was meant would not be in force.

use super::inputs::Inputs;
use super::value;

macro_rules! variables {
    ($($name:ident = $text:literal;)*) => {
        $(pub(crate) const $name: &str = $text;)*
        /// Every variable that is read here.
        pub(crate) const ALL: &[&str] = &[$($text,)*];
    };
}

variables! {
    CONFIG = "ATLAS_PROXY_CONFIG";
    LISTEN = "ATLAS_PROXY_LISTEN";
    ALLOW = "ATLAS_PROXY_ALLOW";
    HOSTS = "ATLAS_PROXY_HOSTS";
    REQUIRED_HEADER = "ATLAS_PROXY_REQUIRED_HEADER";
    READ_ONLY = "ATLAS_PROXY_READ_ONLY";
    INSECURE_PLAINTEXT = "ATLAS_PROXY_INSECURE_PLAINTEXT";
    SERVICE = "MONGODB_ATLAS_SERVICE";
    BASE_URL = "ATLAS_PROXY_BASE_URL";
    ATLAS_BASE_URL = "MONGODB_ATLAS_BASE_URL";
    OPS_MANAGER_URL = "MONGODB_ATLAS_OPS_MANAGER_URL";
    GATEWAY = "ATLAS_PROXY_GATEWAY";
    IDENTITY_TOKEN_FILE = "ATLAS_PROXY_IDENTITY_TOKEN_FILE";
    CLIENT_CERTIFICATE = "ATLAS_PROXY_CLIENT_CERTIFICATE";
    CLIENT_KEY = "ATLAS_PROXY_CLIENT_KEY";
    UPSTREAM_CA = "ATLAS_PROXY_UPSTREAM_CA";
    UPSTREAM_HTTP = "ATLAS_PROXY_UPSTREAM_HTTP";
    ADMIN_LISTEN = "ATLAS_PROXY_ADMIN_LISTEN";
    ADMIN_QUIT = "ATLAS_PROXY_ADMIN_QUIT";
    REWRITE_LINKS = "ATLAS_PROXY_REWRITE_LINKS";
    WORKERS = "ATLAS_PROXY_WORKERS";
    DRAIN_TIMEOUT = "ATLAS_PROXY_DRAIN_TIMEOUT";
    DRAIN_DELAY = "ATLAS_PROXY_DRAIN_DELAY";
    LOG_LEVEL = "ATLAS_PROXY_LOG_LEVEL";
    LOG_FORMAT = "ATLAS_PROXY_LOG_FORMAT";
    CLIENT_ID = "MONGODB_ATLAS_CLIENT_ID";
    CLIENT_ID_FILE = "MONGODB_ATLAS_CLIENT_ID_FILE";
    CLIENT_SECRET = "MONGODB_ATLAS_CLIENT_SECRET";
    CLIENT_SECRET_FILE = "MONGODB_ATLAS_CLIENT_SECRET_FILE";
    CLIENT_SECRET_NEXT_FILE = "MONGODB_ATLAS_CLIENT_SECRET_NEXT_FILE";
    PUBLIC_API_KEY = "MONGODB_ATLAS_PUBLIC_API_KEY";
    PUBLIC_API_KEY_FILE = "MONGODB_ATLAS_PUBLIC_API_KEY_FILE";
    PUBLIC_KEY = "MONGODB_ATLAS_PUBLIC_KEY";
    PUBLIC_KEY_FILE = "MONGODB_ATLAS_PUBLIC_KEY_FILE";
    PRIVATE_API_KEY = "MONGODB_ATLAS_PRIVATE_API_KEY";
    PRIVATE_API_KEY_FILE = "MONGODB_ATLAS_PRIVATE_API_KEY_FILE";
    PRIVATE_KEY = "MONGODB_ATLAS_PRIVATE_KEY";
    PRIVATE_KEY_FILE = "MONGODB_ATLAS_PRIVATE_KEY_FILE";
    HTTPS_PROXY = "HTTPS_PROXY";
    HTTPS_PROXY_SMALL = "https_proxy";
    ALL_PROXY = "ALL_PROXY";
    ALL_PROXY_SMALL = "all_proxy";
    NO_PROXY = "NO_PROXY";
    NO_PROXY_SMALL = "no_proxy";
    CREDENTIALS_DIRECTORY = "CREDENTIALS_DIRECTORY";
    OTEL_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT";
    OTEL_TRACES_ENDPOINT = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";
    OTEL_SDK_DISABLED = "OTEL_SDK_DISABLED";
    OTEL_TRACES_EXPORTER = "OTEL_TRACES_EXPORTER";
    OTEL_SERVICE_NAME = "OTEL_SERVICE_NAME";
    OTEL_RESOURCE_ATTRIBUTES = "OTEL_RESOURCE_ATTRIBUTES";
    OTEL_TRACES_SAMPLER = "OTEL_TRACES_SAMPLER";
    OTEL_TRACES_SAMPLER_ARG = "OTEL_TRACES_SAMPLER_ARG";
    OTEL_BSP_SCHEDULE_DELAY = "OTEL_BSP_SCHEDULE_DELAY";
    OTEL_BSP_EXPORT_TIMEOUT = "OTEL_BSP_EXPORT_TIMEOUT";
    OTEL_BSP_MAX_QUEUE_SIZE = "OTEL_BSP_MAX_QUEUE_SIZE";
    OTEL_BSP_MAX_EXPORT_BATCH_SIZE = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE";
}

/// Those of OpenTelemetry that are there for the traces alone, which wins, and for all that it exports.
macro_rules! of_traces_or_all {
    ($($name:ident = $traces:literal, $all:literal;)*) => {
        $(pub(crate) const $name: [&str; 2] = [$traces, $all];)*
        /// Every one of them.
        pub(crate) const PAIRS: &[[&str; 2]] = &[$($name,)*];
    };
}

of_traces_or_all! {
    OTEL_HEADERS = "OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS";
    OTEL_PROTOCOL = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL";
    OTEL_COMPRESSION = "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "OTEL_EXPORTER_OTLP_COMPRESSION";
    OTEL_TIMEOUT = "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT";
    OTEL_CERTIFICATE = "OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "OTEL_EXPORTER_OTLP_CERTIFICATE";
}

/// The prefix of our names.
const OURS: &str = "ATLAS_PROXY_";
/// Read by `rotate-secret`, beside the settings.
pub(crate) const ELSEWHERE: &[&str] = &["ATLAS_PROXY_POD_CREDENTIALS"];

/// Notes each unknown variable with our prefix. Those that Kubernetes sets for a Service whose name has this prefix are
/// only worth a warning: no setting has their endings.
pub(crate) fn check_unknown(inputs: &mut Inputs<'_>) {
    let environment = inputs.sources.environment;
    let known = || ALL.iter().chain(ELSEWHERE).copied();
    let mut unknown: Vec<String> = environment
        .names()
        .into_iter()
        .filter(|name| name.starts_with(OURS) && !known().any(|known| known == name))
        .filter(|name| environment.var(name).is_some_and(|value| !value.is_empty()))
        .collect();
    unknown.sort();
    // A bare number is what somebody means who has no Service.
    let is_number = |name: &str| {
        let value = environment.var(name).and_then(|value| value.into_string().ok());
        name == "ATLAS_PROXY_PORT" && value.is_some_and(|value| value.parse::<u16>().is_ok())
    };
    let (links, mistakes): (Vec<String>, Vec<String>) = unknown
        .into_iter()
        .partition(|name| is_service_link(name) && !is_number(name));
    if !links.is_empty() {
        inputs.problems.warn(format_args!(
            "not settings, but what Kubernetes sets for a Service: {} (`enableServiceLinks: false` in the pod leaves them out)",
            links.join(", ")
        ));
    }
    for name in mistakes {
        let meant = match name.as_str() {
            "ATLAS_PROXY_PORT" => LISTEN,
            name => value::closest(name, known().filter(|known| known.starts_with(OURS))).unwrap_or(CONFIG),
        };
        inputs.problems.add(
            &super::source::Source::Nowhere,
            format_args!(
                "{name}: there is no such variable; did you mean `{meant}`? (docs/CONFIGURATION.md lists them all)"
            ),
        );
    }
}

/// What Kubernetes sets for each Service (`{SVCNAME}_SERVICE_HOST` and its like, and those of Docker's links).
fn is_service_link(name: &str) -> bool {
    if ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT"]
        .iter()
        .any(|end| name.ends_with(end))
    {
        return true;
    }
    if name
        .split_once("_SERVICE_PORT_")
        .is_some_and(|(_, port)| !port.is_empty())
    {
        return true;
    }
    let link = ["_PROTO", "_ADDR"]
        .iter()
        .find_map(|end| name.strip_suffix(end))
        .unwrap_or(name);
    let mut parts = link.rsplitn(4, '_');
    let (protocol, number, port) = (parts.next(), parts.next(), parts.next());
    matches!(protocol, Some("TCP" | "UDP" | "SCTP"))
        && number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        && port == Some("PORT")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_links_have_their_shapes() {
        for link in [
            "ATLAS_PROXY_SERVICE_HOST",
            "ATLAS_PROXY_SERVICE_PORT",
            "ATLAS_PROXY_ADMIN_SERVICE_PORT",
            "ATLAS_PROXY_SERVICE_PORT_HTTP_METRICS",
            "ATLAS_PROXY_PORT",
            "ATLAS_PROXY_PORT_8080_TCP",
            "ATLAS_PROXY_X_PORT_53_UDP_PROTO",
            "ATLAS_PROXY_PORT_8080_TCP_PORT",
            "ATLAS_PROXY_PORT_9_SCTP_ADDR",
        ] {
            assert!(is_service_link(link), "{link}");
        }
        for other in [
            "ATLAS_PROXY_READONLY",
            "ATLAS_PROXY_HOST",
            "ATLAS_PROXY_PORT_8080",
            "ATLAS_PROXY_PORT_HTTP_TCP",
            "ATLAS_PROXY_PORT_8080_TCP_NAME",
            "ATLAS_PROXY_8080_TCP",
            "ATLAS_PROXY_SERVICE_PORT_",
            "ATLAS_PROXY_ADDR",
        ] {
            assert!(!is_service_link(other), "{other}");
        }
        for setting in ALL.iter().chain(ELSEWHERE) {
            assert!(!is_service_link(setting), "{setting}");
        }
    }
}
