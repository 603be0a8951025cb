//! What the admin port says in numbers.

use std::net::SocketAddr;

use prometheus_parse::{Scrape, Value};

use super::client::get;

/// All metrics, as text.
pub async fn metrics(admin: SocketAddr) -> String {
    get(&format!("http://{admin}/metrics")).await
}

/// The value of a metric, by name and labels that must all be present; sums what matches.
pub async fn metric(admin: SocketAddr, name: &str, labels: &[(&str, &str)]) -> f64 {
    let text = metrics(admin).await;
    let parsed = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let matching = parsed.samples.iter().filter(|sample| {
        sample.metric == name
            && labels
                .iter()
                .all(|(label, value)| sample.labels.get(label) == Some(value))
    });
    matching
        .map(|sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            _ => 0.0,
        })
        .sum()
}
