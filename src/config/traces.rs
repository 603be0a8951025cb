//! `OTEL_…`: where traces go, by the variables of OpenTelemetry's specification. They are looked at where one of them names
//! an endpoint; that of the traces alone (`OTEL_EXPORTER_OTLP_TRACES_…`) wins over the general one.

use std::path::Path;
use std::time::Duration;

use http::{HeaderName, HeaderValue, Uri, header};
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::inputs::Inputs;
use super::problem::shown;
use super::source::{Given, Source};
use super::{egress, value, variable};
use crate::secret::Secret;
use crate::trace::{Authorities, BatchLimits, Encoding, Endpoint, Sampler, TraceSettings};
use crate::upstream::{Origin, trusting};

/// The variable for the traces alone, which wins, and that for all that is exported.
type Names = [&'static str; 2];

const LARGEST_CA_FILE: usize = 4 << 20;
/// The most that any time here can be, milliseconds.
const LONGEST_MS: usize = 3_600_000;
/// A span has about a KiB, two at most: some 128 MiB at most wait.
const MOST_QUEUE: usize = 65_536;
/// By convention of OTLP over gRPC, which is not spoken here.
const GRPC_PORT: u16 = 4317;

/// What the variables say; `None`: nothing is traced.
pub(crate) fn build(inputs: &mut Inputs<'_>) -> Option<TraceSettings> {
    let own = inputs.variable(variable::OTEL_TRACES_ENDPOINT);
    let of_traces = own.is_some();
    let given = own.or_else(|| inputs.variable(variable::OTEL_ENDPOINT))?;
    if is_off(inputs) {
        return None;
    }
    if cfg!(not(feature = "otel")) {
        inputs.problems.warn(format_args!(
            "{}: nothing is traced, this build was made without the cargo feature `otel`",
            given.source
        ));
        return None;
    }
    let source = given.source.clone();
    let url = inputs
        .problems
        .parse(given, |text| endpoint(text, of_traces))
        .map(|given| given.value);
    let encoding = choice(inputs, variable::OTEL_PROTOCOL, Encoding::Protobuf, protocol);
    let gzip = choice(inputs, variable::OTEL_COMPRESSION, false, |text| match text {
        "gzip" => Ok(true),
        "none" => Ok(false),
        _ => Err(value::one_of(text, &["gzip", "none"])),
    });
    let timeout = milliseconds(inputs, variable::OTEL_TIMEOUT, Duration::from_secs(10));
    let authorities = authorities(inputs);
    let headers = headers(inputs);
    let (resource, sampler, batch) = (resource(inputs), sampler(inputs), batch(inputs));
    let url = url?;
    let is_tls = url.scheme() == "https";
    if !is_tls && !headers.is_empty() && !is_this_machine(&url) {
        // Not refused: many hold no secret, such as the tenant's name.
        inputs.problems.warn(format_args!(
            "{source}: the headers of {} go to another machine in clear text: use `https://`",
            variable::OTEL_HEADERS[1]
        ));
    }
    if !is_tls && url.port() == Some(GRPC_PORT) {
        inputs.problems.warn(format_args!(
            "{source}: port {GRPC_PORT} is by convention that of gRPC, which is not spoken here; that of HTTP is 4318"
        ));
    }
    // Only TLS goes through a proxy, as to upstreams.
    let origin = is_tls.then(|| Origin::parse(&url[..url::Position::AfterPort]).ok());
    let egress = origin
        .flatten()
        .and_then(|origin| egress::of_machine(&origin, None, inputs));
    let Ok(uri) = url.as_str().parse::<Uri>() else {
        inputs
            .problems
            .add(&source, "this URL has characters that no request can have");
        return None;
    };
    Some(TraceSettings {
        endpoint: Endpoint::new(uri),
        headers,
        encoding,
        gzip,
        timeout,
        authorities,
        egress,
        resource,
        sampler,
        batch,
    })
}

fn is_off(inputs: &mut Inputs<'_>) -> bool {
    let disabled = inputs.variable(variable::OTEL_SDK_DISABLED);
    let disabled = disabled.and_then(|given| inputs.problems.parse(given, value::boolean));
    let exporter = inputs.variable(variable::OTEL_TRACES_EXPORTER);
    let exporter = exporter.and_then(|given| {
        inputs.problems.parse(given, |text| match text.trim() {
            "otlp" => Ok(true),
            "none" => Ok(false),
            _ => Err(value::one_of(text, &["otlp", "none"])),
        })
    });
    disabled.is_some_and(|given| given.value) || exporter.is_some_and(|given| !given.value)
}

/// No message shows the URL: a password or a key may stand in it.
fn endpoint(text: &str, of_traces: bool) -> Result<Url, String> {
    const LIKE: &str = "write it like `http://localhost:4318` or `https://host`";
    let mut url = Url::parse(text.trim()).map_err(|error| format!("this is not a URL ({error}): {LIKE}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("this is neither `http://…` nor `https://…`: {LIKE}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(format!(
            "this has a user name or password: give it as a header, in {}",
            variable::OTEL_HEADERS[1]
        ));
    }
    url.set_fragment(None);
    if !of_traces {
        // OpenTelemetry's specification, "Endpoint URLs for OTLP/HTTP".
        let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
        url.set_path(&path);
    }
    Ok(url)
}

fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => ip.is_loopback(),
        None => false,
    }
}

fn protocol(text: &str) -> Result<Encoding, String> {
    match text {
        "http/protobuf" => Ok(Encoding::Protobuf),
        "http/json" => Ok(Encoding::Json),
        "grpc" => Err(
            "gRPC is not spoken here: write `http/protobuf`, and the receiver's port for HTTP, which is 4318 by convention"
                .to_owned(),
        ),
        _ => Err(value::one_of(text, &["http/protobuf", "http/json"])),
    }
}

fn either(inputs: &mut Inputs<'_>, names: Names) -> Option<Given<String>> {
    names.into_iter().find_map(|name| inputs.variable(name))
}

fn choice<T>(inputs: &mut Inputs<'_>, names: Names, default: T, parse: impl FnOnce(&str) -> Result<T, String>) -> T {
    let given = either(inputs, names);
    let parsed = given.and_then(|given| inputs.problems.parse(given, |text| parse(text.trim())));
    parsed.map_or(default, |given| given.value)
}

fn milliseconds(inputs: &mut Inputs<'_>, names: Names, default: Duration) -> Duration {
    choice(inputs, names, default, |text| {
        let number = within(text, LONGEST_MS, "milliseconds")?;
        Ok(Duration::from_millis(number as u64))
    })
}

fn within(text: &str, most: usize, what: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|number| (1..=most).contains(number))
        .ok_or_else(|| format!("{} is not a number of {what} from 1 to {most}", shown(text)))
}

fn authorities(inputs: &mut Inputs<'_>) -> Option<Authorities> {
    let given = either(inputs, variable::OTEL_CERTIFICATE)?;
    let path = Path::new(&given.value);
    let pem = inputs.read(path, LARGEST_CA_FILE, &given.source)?;
    if let Err(error) = trusting(path, &pem) {
        inputs.problems.add(&given.source, error);
        return None;
    }
    Some(Authorities {
        path: path.to_owned(),
        pem: pem.to_vec(),
    })
}

/// No message shows anything of the value.
fn headers(inputs: &mut Inputs<'_>) -> Vec<(HeaderName, Secret)> {
    let given = variable::OTEL_HEADERS
        .into_iter()
        .find_map(|name| Some((Source::Variable(name), inputs.secret_variable(name)?)));
    let Some((source, bytes)) = given else {
        return Vec::new();
    };
    let Ok(text) = std::str::from_utf8(&bytes) else {
        inputs.problems.add(&source, "the value is not UTF-8 text");
        return Vec::new();
    };
    let mut headers = Vec::new();
    for (at, entry) in (1..).zip(text.split(',')).filter(|(_, entry)| !entry.trim().is_empty()) {
        match one_header(entry) {
            Ok(header) => headers.push(header),
            Err(why) => inputs.problems.add(
                &source,
                format_args!(
                    "entry {at} {why}: write `name=value,name=value`, in values `%2C` for a comma (it is not shown)"
                ),
            ),
        }
    }
    headers
}

fn one_header(entry: &str) -> Result<(HeaderName, Secret), &'static str> {
    /// Those of the framing, and those that say what is sent.
    const OWN: [HeaderName; 7] = [
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::HOST,
        header::TRANSFER_ENCODING,
        header::USER_AGENT,
    ];
    let (name, value) = entry.split_once('=').ok_or("has no `=`")?;
    let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| "has no name of a header before its `=`")?;
    if OWN.contains(&name) {
        return Err("names a header that is set here");
    }
    let value = percent_decode_str(value.trim()).decode_utf8();
    let value = value.map_err(|_| "has a value that is not UTF-8 text once it is decoded")?;
    HeaderValue::from_str(&value).map_err(|_| "has a value with characters that no header can have")?;
    Ok((name, Secret::new(value.into_owned())))
}

fn resource(inputs: &mut Inputs<'_>) -> Vec<(String, String)> {
    let given = inputs.variable(variable::OTEL_RESOURCE_ATTRIBUTES);
    let parsed = given.and_then(|given| inputs.problems.parse(given, attributes));
    let mut all = parsed.map(|given| given.value).unwrap_or_default();
    if let Some(name) = inputs.variable(variable::OTEL_SERVICE_NAME) {
        all.push(("service.name".to_owned(), name.value));
    }
    all
}

fn attributes(text: &str) -> Result<Vec<(String, String)>, String> {
    let wrong = |entry: &str| {
        format!(
            "{} is not an attribute: write `name=value,name=value`, in values `%2C` for a comma",
            shown(entry)
        )
    };
    text.split(',')
        .filter(|entry| !entry.trim().is_empty())
        .map(|entry| {
            let (name, value) = entry.split_once('=').ok_or_else(|| wrong(entry))?;
            let value = percent_decode_str(value.trim())
                .decode_utf8()
                .map_err(|_| wrong(entry))?;
            match name.trim() {
                "" => Err(wrong(entry)),
                name => Ok((name.to_owned(), value.into_owned())),
            }
        })
        .collect()
}

fn sampler(inputs: &mut Inputs<'_>) -> Sampler {
    const NAMES: [&str; 6] = [
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ];
    let given = inputs.variable(variable::OTEL_TRACES_SAMPLER);
    let name = given.and_then(|given| {
        inputs.problems.parse(given, |text| {
            let found = NAMES.into_iter().find(|name| *name == text.trim());
            found.ok_or_else(|| value::one_of(text, &NAMES))
        })
    });
    let name = name.map_or("parentbased_always_on", |given| given.value);
    let (by_parent, others) = match name.strip_prefix("parentbased_") {
        Some(others) => (true, others),
        None => (false, name),
    };
    let ratio = match others {
        "always_on" => 1.0,
        "always_off" => 0.0,
        _ => {
            let given = inputs.variable(variable::OTEL_TRACES_SAMPLER_ARG);
            let parsed = given.and_then(|given| {
                inputs.problems.parse(given, |text| {
                    let ratio = text.trim().parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
                    ratio.ok_or_else(|| {
                        format!("{} is not a part of all requests, from 0 to 1, like `0.1`", shown(text))
                    })
                })
            });
            parsed.map_or(1.0, |given| given.value)
        }
    };
    Sampler { by_parent, ratio }
}

fn batch(inputs: &mut Inputs<'_>) -> BatchLimits {
    let default = BatchLimits::default();
    let mut spans = |name: &'static str, default: usize| {
        choice(inputs, [name; 2], default, |text| within(text, MOST_QUEUE, "spans"))
    };
    let queue = spans(variable::OTEL_BSP_MAX_QUEUE_SIZE, default.queue);
    let batch = spans(variable::OTEL_BSP_MAX_EXPORT_BATCH_SIZE, default.batch.min(queue));
    if batch > queue {
        inputs.problems.add(
            &Source::Variable(variable::OTEL_BSP_MAX_EXPORT_BATCH_SIZE),
            format_args!("{batch} spans are more than the {queue} that may wait (OTEL_BSP_MAX_QUEUE_SIZE)"),
        );
    }
    let mut time = |name: &'static str, default: Duration| milliseconds(inputs, [name; 2], default);
    BatchLimits {
        queue,
        batch,
        delay: time(variable::OTEL_BSP_SCHEDULE_DELAY, default.delay),
        export_timeout: time(variable::OTEL_BSP_EXPORT_TIMEOUT, default.export_timeout),
    }
}
