//! Which build this is: its version, its cryptography, and the cargo features that it was made with.

use std::sync::LazyLock;

/// The version, as in Cargo.toml.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// `fips`: the cryptography is the validated module's (docs/SECURITY.md); else `standard`.
pub const FLAVOUR: &str = if cfg!(feature = "fips") { "fips" } else { "standard" };

/// The cargo features besides `fips`.
pub fn features() -> impl Iterator<Item = &'static str> {
    let all = [
        ("emulator", cfg!(feature = "emulator")),
        ("token-store", cfg!(feature = "token-store")),
        ("otel", cfg!(feature = "otel")),
    ];
    all.into_iter().filter(|(_, on)| *on).map(|(name, _)| name)
}

/// `0.1.0 (fips; features: token-store, otel)`. Text of this program alone: computed once, and the same for ever.
pub fn described() -> &'static str {
    static TEXT: LazyLock<String> = LazyLock::new(|| {
        let features: Vec<&str> = features().collect();
        let features = match features[..] {
            [] => "none".to_owned(),
            _ => features.join(", "),
        };
        format!("{VERSION} ({FLAVOUR}; features: {features})")
    });
    &TEXT
}

#[cfg(test)]
mod tests {
    /// Whoever adds a feature to Cargo.toml says so here.
    #[test]
    fn every_feature_is_told() {
        let manifest = include_str!("../Cargo.toml");
        let table = manifest.split("[features]\n").nth(1).expect("a table");
        let table = table.split("\n[").next().expect("its end");
        let names = table.lines().filter_map(|line| line.split_once(" = "));
        let names = names
            .map(|(name, _)| name)
            .filter(|name| *name != "default" && !name.starts_with('#'));
        let all = include_str!("build.rs")
            .split("fn described")
            .next()
            .expect("the beginning");
        let mut seen = 0;
        for name in names {
            assert!(all.contains(&format!("feature = \"{name}\"")), "{name}");
            seen += 1;
        }
        assert_eq!(seen, 4);
    }
}
