//! `OTEL_…`: what is accepted, and one line for what is not.

use super::*;

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const OF_TRACES: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

fn case() -> Case {
    Case::new().env(ENDPOINT, "http://localhost:4318")
}

#[cfg(not(feature = "otel"))]
#[test]
fn a_build_without_it_warns() {
    let case = case().env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert!(case.settings().traces.is_none());
    let said = case.warnings().join("\n");
    assert!(
        said.contains(ENDPOINT) && said.contains("cargo feature `otel`"),
        "{said}"
    );
}

#[test]
fn without_an_endpoint_or_switched_off_nothing_else_is_looked_at() {
    let wrong = |case: Case| {
        case.env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
            .env("OTEL_TRACES_SAMPLER", "x")
    };
    for case in [
        wrong(Case::new()),
        wrong(Case::new().env(ENDPOINT, "")),
        wrong(case().env("OTEL_SDK_DISABLED", "true")),
        wrong(case().env("OTEL_TRACES_EXPORTER", "none")),
    ] {
        assert!(case.settings().traces.is_none());
        assert!(case.warnings().is_empty());
    }
}

#[cfg(feature = "otel")]
mod with_it {
    use std::time::Duration;

    use super::*;
    use crate::trace::{BatchLimits, Encoding, Sampler, TraceSettings};

    fn traces(case: &Case) -> TraceSettings {
        case.settings().traces.unwrap()
    }

    #[test]
    fn the_defaults_are_those_of_the_specification() {
        let traces = traces(&case());
        assert_eq!(traces.endpoint.uri(), "http://localhost:4318/v1/traces");
        assert_eq!(traces.encoding, Encoding::Protobuf);
        assert_eq!(traces.timeout, Duration::from_secs(10));
        assert_eq!(traces.batch, BatchLimits::default());
        assert_eq!(
            traces.sampler,
            Sampler {
                by_parent: true,
                ratio: 1.0
            }
        );
        assert!(!traces.gzip && traces.headers.is_empty() && traces.resource.is_empty());
        assert!(traces.authorities.is_none() && traces.egress.is_none());
    }

    #[test]
    fn the_general_endpoint_is_a_base_and_that_of_the_traces_is_the_place_itself() {
        for (name, given, expected) in [
            (
                ENDPOINT,
                "https://otlp.example.com/",
                "https://otlp.example.com/v1/traces",
            ),
            (ENDPOINT, "http://[::1]:4318/a/", "http://[::1]:4318/a/v1/traces"),
            (OF_TRACES, "https://otlp.example.com", "https://otlp.example.com/"),
            (OF_TRACES, "http://h:1/x?key=y#z", "http://h:1/x?key=y"),
        ] {
            let traces = traces(&case().env(name, given));
            assert_eq!(traces.endpoint.uri(), expected);
            assert!(!format!("{traces:?}").contains("key=y"));
        }
    }

    #[test]
    fn what_is_for_the_traces_alone_wins() {
        let case = case()
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")
            .env("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "http/json")
            .env("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
            .env("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip")
            .env("OTEL_EXPORTER_OTLP_TIMEOUT", "x")
            .env("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500")
            .env("OTEL_EXPORTER_OTLP_HEADERS", "a=general")
            .env("OTEL_EXPORTER_OTLP_TRACES_HEADERS", " Api-Key = s%2Ct , b=2,");
        let traces = traces(&case);
        assert_eq!((traces.encoding, traces.gzip), (Encoding::Json, true));
        assert_eq!(traces.timeout, Duration::from_millis(1500));
        let headers: Vec<_> = traces
            .headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.expose()))
            .collect();
        assert_eq!(headers, [("api-key", "s,t"), ("b", "2")]);
        assert!(!format!("{traces:?}").contains("s,t"));
    }

    #[test]
    fn samplers_are_those_of_the_specification() {
        for (name, argument, by_parent, ratio) in [
            ("always_on", "", false, 1.0),
            ("always_off", "0.5", false, 0.0),
            ("traceidratio", "0.25", false, 0.25),
            ("parentbased_always_on", "x", true, 1.0),
            ("parentbased_always_off", "", true, 0.0),
            ("parentbased_traceidratio", "1e-3", true, 0.001),
            ("parentbased_traceidratio", "", true, 1.0),
        ] {
            let case = case()
                .env("OTEL_TRACES_SAMPLER", name)
                .env("OTEL_TRACES_SAMPLER_ARG", argument);
            assert_eq!(traces(&case).sampler, Sampler { by_parent, ratio }, "{name}");
        }
    }

    #[test]
    fn what_a_process_is_called_comes_last() {
        let case = case()
            .env("OTEL_RESOURCE_ATTRIBUTES", "service.name=a,k8s.pod.name = p%201 ,,")
            .env("OTEL_SERVICE_NAME", "b");
        let resource = traces(&case).resource;
        let resource: Vec<_> = resource.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            resource,
            [("service.name", "a"), ("k8s.pod.name", "p 1"), ("service.name", "b")]
        );
    }

    #[test]
    fn bounds_of_batches_are_read() {
        let case = case()
            .env("OTEL_BSP_MAX_QUEUE_SIZE", "100")
            .env("OTEL_BSP_SCHEDULE_DELAY", "1000")
            .env("OTEL_BSP_EXPORT_TIMEOUT", "2000");
        let batch = traces(&case).batch;
        assert_eq!((batch.queue, batch.batch), (100, 100));
        assert_eq!(batch.delay, Duration::from_secs(1));
        assert_eq!(batch.export_timeout, Duration::from_secs(2));
    }

    #[test]
    fn only_tls_goes_through_the_machines_proxy() {
        let through = |url: &str, no: &str| {
            let case = Case::new()
                .env(ENDPOINT, url)
                .env("HTTPS_PROXY", "http://egress:3128")
                .env("NO_PROXY", &format!("cloud.mongodb.com,{no}"));
            traces(&case).egress.is_some()
        };
        assert!(through("https://otlp.example.com", ""));
        assert!(!through("https://otlp.example.com", ".example.com"));
        assert!(!through("http://otlp.example.com", ""));
    }

    #[test]
    fn what_hardly_is_meant_is_warned_of() {
        let said = |case: Case| case.warnings().join("\n");
        assert!(said(case().env(ENDPOINT, "http://collector:4317")).contains("4318"));
        let headers = |url: &str| said(case().env(ENDPOINT, url).env("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2"));
        let warned = headers("http://collector:4318");
        assert!(warned.contains("clear text") && !warned.contains("hunter2"), "{warned}");
        assert_eq!(headers("http://localhost:4318"), "");
        assert_eq!(headers("https://collector"), "");
    }

    #[test]
    fn what_is_wrong_is_told_in_one_line_and_shows_no_secret() {
        for (name, value, expected) in [
            (ENDPOINT, "localhost:4318", "neither `http://…` nor `https://…`"),
            (ENDPOINT, "http://", "not a URL"),
            (
                ENDPOINT,
                "https://u:hunter2@h",
                "user name or password: give it as a header",
            ),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "grpc",
                "gRPC is not spoken here: write `http/protobuf`",
            ),
            (
                "OTEL_EXPORTER_OTLP_PROTOCOL",
                "http/protobuff",
                "did you mean `http/protobuf`?",
            ),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", "is none of `gzip`, `none`"),
            (
                "OTEL_EXPORTER_OTLP_TIMEOUT",
                "10s",
                "`10s` is not a number of milliseconds from 1 to 3600000",
            ),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "0", "from 1 to"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,hunter2", "entry 2 has no `=`"),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "hunter 2=1",
                "entry 1 has no name of a header",
            ),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "a=hunter2%0A",
                "entry 1 has a value with characters",
            ),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "a=hunter2%FF",
                "entry 1 has a value that is not UTF-8",
            ),
            (
                "OTEL_EXPORTER_OTLP_HEADERS",
                "host=hunter2",
                "entry 1 names a header that is set here",
            ),
            (
                "OTEL_EXPORTER_OTLP_CERTIFICATE",
                "/gone",
                "cannot read the file `/gone`",
            ),
            ("OTEL_EXPORTER_OTLP_CERTIFICATE", "/none.pem", "it holds no certificate"),
            ("OTEL_RESOURCE_ATTRIBUTES", "x", "`x` is not an attribute"),
            ("OTEL_TRACES_EXPORTER", "otpl", "did you mean `otlp`?"),
            ("OTEL_TRACES_SAMPLER", "alway_on", "did you mean `always_on`?"),
            ("OTEL_SDK_DISABLED", "maybe", "is neither `true` nor `false`"),
            (
                "OTEL_BSP_MAX_QUEUE_SIZE",
                "65537",
                "is not a number of spans from 1 to 65536",
            ),
            (
                "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                "2049",
                "more than the 2048 that may wait",
            ),
            ("OTEL_BSP_SCHEDULE_DELAY", "3600001", "milliseconds from 1 to 3600000"),
            ("OTEL_BSP_EXPORT_TIMEOUT", "-1", "milliseconds from 1 to 3600000"),
        ] {
            let said = case().file("/none.pem", "x").env(name, value).error();
            assert!(
                said.starts_with(&format!("{name}: ")) && said.contains(expected),
                "{said}"
            );
            assert!(!said.contains("hunter"), "{said}");
        }
        for ratio in ["1.1", "-0.1", "NaN", "x"] {
            let case = case()
                .env("OTEL_TRACES_SAMPLER", "traceidratio")
                .env("OTEL_TRACES_SAMPLER_ARG", ratio);
            assert!(case.error().contains("from 0 to 1"), "{ratio}");
        }
    }
}
