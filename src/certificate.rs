//! Reads what a certificate and a revocation list (RFC 5280) contain and rustls does not tell: times and names.
//! Verifies nothing: rustls does that.

use std::time::SystemTime;

/// The most names of one certificate that are shown, and the most characters of each.
const MOST_SHOWN: usize = 8;
const LONGEST_SHOWN: usize = 256;
/// The most characters of each part of a distinguished name: X.520 gives a common name 64.
const LONGEST_PART: usize = 64;

/// The mark of `make-ca`, an organizational unit: in the subject of the authority and of the server's certificate. It stands
/// in names because these are what every chain has: a server need not send its authority, and of a trusted authority rustls
/// keeps the name and the key, no extension.
pub const MAKE_CA_MARK: &str = "a proxy, not Atlas: 5d0c5f2e-86c3-4e0c-9b0e-3f6d2a91c7b4";

/// Whether a certificate in DER is of a chain that `make-ca` began: the mark is in its subject, or in its issuer.
pub fn is_of_make_ca(der: &[u8]) -> bool {
    let marked = |name: &[u8]| {
        name.windows(MAKE_CA_MARK.len())
            .any(|part| part == MAKE_CA_MARK.as_bytes())
    };
    [subject_der(der), issuer_der(der)].into_iter().flatten().any(marked)
}

/// From when until when a certificate in DER is valid (section 4.1.2.5); `None`: it can't be read.
pub fn validity(der: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let (_, validity, _) = element(skip(to_be_signed(der)?, 3)?)?;
    let (before, rest) = time(validity)?;
    let (after, _) = time(rest)?;
    Some((before, after))
}

/// Why rustls does not take a certificate and a private key together; for whoever named their files.
pub fn unfit_pair(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch) => {
            "the key is of another certificate. `openssl x509 -noout -pubkey -in CERTIFICATE` and `openssl pkey -pubout -in KEY` \
             print the same where they belong together; the certificate itself must stand before its intermediates"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// `notAfter` of a certificate in DER.
pub fn not_after(der: &[u8]) -> Option<SystemTime> {
    validity(der).map(|(_, after)| after)
}

/// The issuer's distinguished name, written as [`subject`] is.
pub fn issuer(der: &[u8]) -> Option<String> {
    let (_, name, _) = element(skip(to_be_signed(der)?, 2)?)?;
    Some(shown(&distinguished_name(name)))
}

/// The subject's distinguished name, written as RFC 4514 does; bounded and without control characters.
pub fn subject(der: &[u8]) -> Option<String> {
    let (_, name, _) = element(skip(to_be_signed(der)?, 4)?)?;
    Some(shown(&distinguished_name(name)))
}

/// The names of a certificate that may tell whose it is (section 4.2.1.6), in its order. What is not ASCII is not what such a
/// name may be: its bytes are replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SubjectNames {
    /// uniformResourceIdentifier
    pub uris: Vec<String>,
    /// dNSName, in lower case: it has none.
    pub dns: Vec<String>,
}

impl SubjectNames {
    /// For messages: bounded, without control characters; empty: it has none.
    pub fn told(&self) -> String {
        let dns = self.dns.iter().map(|name| format!("DNS:{name}"));
        let uris = self.uris.iter().map(|name| format!("URI:{name}"));
        let names: Vec<String> = dns.chain(uris).take(MOST_SHOWN).map(|name| shown(&name)).collect();
        names.join(", ")
    }
}

/// All names of a certificate in DER; rustls has verified it before.
pub fn subject_names(der: &[u8]) -> SubjectNames {
    let mut names = SubjectNames::default();
    for (tag, value) in elements(subject_alt_name(der).unwrap_or_default()) {
        let name = String::from_utf8_lossy(value);
        match tag {
            0x82 => names.dns.push(name.to_ascii_lowercase()),
            0x86 => names.uris.push(name.into_owned()),
            _ => {}
        }
    }
    names
}

/// The subject alternative names (section 4.2.1.6), such as `DNS:app.example.org`; bounded and without control characters.
pub fn alternative_names(der: &[u8]) -> Vec<String> {
    let mut names: Vec<String> = general_names(der)
        .map(|name| shown(&name))
        .take(MOST_SHOWN + 1)
        .collect();
    if names.len() > MOST_SHOWN {
        names[MOST_SHOWN] = "...".to_owned();
    }
    names
}

/// The issuer of a revocation list in DER (section 5.1), written as [`subject`] is.
pub fn list_issuer(der: &[u8]) -> Option<String> {
    let (_, name, _) = element(list_from_issuer(der)?)?;
    Some(shown(&distinguished_name(name)))
}

/// The issuer's name of a revocation list, as it is encoded.
pub fn list_issuer_der(der: &[u8]) -> Option<&[u8]> {
    Some(element(list_from_issuer(der)?)?.1)
}

/// The subject's name of a certificate, as it is encoded.
pub fn subject_der(der: &[u8]) -> Option<&[u8]> {
    Some(element(skip(to_be_signed(der)?, 4)?)?.1)
}

/// The issuer's name of a certificate, as it is encoded.
fn issuer_der(der: &[u8]) -> Option<&[u8]> {
    Some(element(skip(to_be_signed(der)?, 2)?)?.1)
}

/// `nextUpdate` of a revocation list in DER (section 5.1.2.5); `None`: there is none.
pub fn next_update(der: &[u8]) -> Option<SystemTime> {
    let (_, after_this_update) = time(skip(list_from_issuer(der)?, 1)?)?;
    time(after_this_update).map(|(at, _)| at)
}

/// What may be shown of a text that somebody else chose.
fn shown(text: &str) -> String {
    cut(text, LONGEST_SHOWN)
        .chars()
        .flat_map(char::escape_default)
        .collect()
}

/// At most `most` characters, with a mark where text was cut off.
fn cut(text: &str, most: usize) -> String {
    let mut cut: String = text.chars().take(most).collect();
    if text.chars().nth(most).is_some() {
        cut.push_str("...");
    }
    cut
}

/// TBSCertificate from its serialNumber on: serialNumber, signature, issuer, validity, subject, …
fn to_be_signed(der: &[u8]) -> Option<&[u8]> {
    let (_, certificate, _) = element(der)?;
    let (_, rest, _) = element(certificate)?;
    // [0] version
    if rest.first() == Some(&0xa0) {
        skip(rest, 1)
    } else {
        Some(rest)
    }
}

/// TBSCertList from its issuer on: issuer, thisUpdate, nextUpdate, …
fn list_from_issuer(der: &[u8]) -> Option<&[u8]> {
    let (_, list, _) = element(der)?;
    let (_, rest, _) = element(list)?;
    // Only v2 has a version field.
    skip(rest, if rest.first() == Some(&0x02) { 2 } else { 1 })
}

fn general_names(der: &[u8]) -> impl Iterator<Item = String> {
    let names = subject_alt_name(der).unwrap_or_default();
    elements(names).filter_map(|(tag, value)| {
        Some(match tag {
            0x81 => format!("email:{}", String::from_utf8_lossy(value)),
            0x82 => format!("DNS:{}", String::from_utf8_lossy(value)),
            0x86 => format!("URI:{}", String::from_utf8_lossy(value)),
            0x87 => match *value {
                [a, b, c, d] => format!("IP:{}", std::net::Ipv4Addr::new(a, b, c, d)),
                _ => format!("IP:{}", std::net::Ipv6Addr::from(<[u8; 16]>::try_from(value).ok()?)),
            },
            _ => return None,
        })
    })
}

/// The content of GeneralNames.
fn subject_alt_name(der: &[u8]) -> Option<&[u8]> {
    // id-ce-subjectAltName, 2.5.29.17
    extension(der, &[0x55, 0x1d, 0x11])
}

/// Whether a certificate in DER may stand for a client: it has no extended key usage (section 4.2.1.12), or `clientAuth`.
pub fn is_for_clients(der: &[u8]) -> bool {
    /// id-kp-clientAuth, 1.3.6.1.5.5.7.3.2
    const CLIENT_AUTH: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x02];
    // id-ce-extKeyUsage, 2.5.29.37
    extension(der, &[0x55, 0x1d, 0x25]).is_none_or(|usages| elements(usages).any(|(_, usage)| usage == CLIENT_AUTH))
}

/// The content of an extension's value.
fn extension<'d>(der: &'d [u8], id: &[u8]) -> Option<&'d [u8]> {
    let behind_key = skip(to_be_signed(der)?, 6)?;
    let (_, extensions) = elements(behind_key).find(|(tag, _)| *tag == 0xa3)?;
    let (_, extensions, _) = element(extensions)?;
    let extension = elements(extensions)
        .map(|(_, extension)| extension)
        .find(|extension| element(extension).is_some_and(|(_, oid, _)| oid == id))?;
    // extnID, perhaps critical, extnValue
    let (_, value) = elements(extension).find(|(tag, _)| *tag == 0x04)?;
    Some(element(value)?.1)
}

fn distinguished_name(name: &[u8]) -> String {
    let mut shown = String::new();
    // RFC 4514 section 2.1: in reverse order.
    let mut relative: Vec<&[u8]> = elements(name).map(|(_, set)| set).take(4 * MOST_SHOWN).collect();
    relative.reverse();
    for set in relative {
        for (_, attribute) in elements(set) {
            let Some((_, oid, rest)) = element(attribute) else {
                continue;
            };
            let Some((tag, value, _)) = element(rest) else { continue };
            if !shown.is_empty() {
                shown.push(',');
            }
            shown.push_str(attribute_name(oid));
            shown.push('=');
            for c in cut(&text(tag, value), LONGEST_PART).chars() {
                if matches!(c, ',' | '+' | '=' | '\\' | '"' | '<' | '>' | ';') {
                    shown.push('\\');
                }
                shown.push(c);
            }
        }
    }
    shown
}

fn attribute_name(oid: &[u8]) -> &'static str {
    match oid {
        [0x55, 0x04, 3] => "CN",
        [0x55, 0x04, 5] => "serialNumber",
        [0x55, 0x04, 6] => "C",
        [0x55, 0x04, 7] => "L",
        [0x55, 0x04, 8] => "ST",
        [0x55, 0x04, 10] => "O",
        [0x55, 0x04, 11] => "OU",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x01] => "UID",
        [0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 0x01, 0x19] => "DC",
        _ => "?",
    }
}

fn text(tag: u8, value: &[u8]) -> String {
    match tag {
        // BMPString
        0x1e => {
            let units: Vec<u16> = value
                .chunks_exact(2)
                .map(|two| u16::from_be_bytes([two[0], two[1]]))
                .collect();
            String::from_utf16_lossy(&units)
        }
        _ => String::from_utf8_lossy(value).into_owned(),
    }
}

/// UTCTime or GeneralizedTime (sections 4.1.2.5.1 and 4.1.2.5.2), and what follows.
fn time(der: &[u8]) -> Option<(SystemTime, &[u8])> {
    let (tag, text, rest) = element(der)?;
    let text = std::str::from_utf8(text).ok()?;
    let text = match tag {
        // UTCTime has two digits for the year: 50 is 1950.
        0x17 => {
            let century = if text.get(..2)?.parse::<u8>().ok()? < 50 {
                "20"
            } else {
                "19"
            };
            format!("{century}{text}")
        }
        0x18 => text.to_owned(),
        _ => return None,
    };
    let civil = jiff::civil::DateTime::strptime("%Y%m%d%H%M%SZ", &text).ok()?;
    Some((civil.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().into(), rest))
}

fn skip(mut der: &[u8], elements: usize) -> Option<&[u8]> {
    for _ in 0..elements {
        der = element(der)?.2;
    }
    Some(der)
}

/// Each element with its tag, up to the first that can't be read.
fn elements(mut der: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    std::iter::from_fn(move || {
        let (tag, content, rest) = element(der)?;
        der = rest;
        Some((tag, content))
    })
}

/// Tag, content, and what follows (X.690 section 8.1).
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=127 => (usize::from(*first), rest),
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            let length = bytes
                .iter()
                .fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer, KeyIdMethod,
        KeyPair, SanType, SerialNumber, date_time_ymd,
    };

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn params() -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::OrganizationName, "Apps, and more");
        params.distinguished_name.push(DnType::CommonName, "web\n\u{1b}[31m");
        params
    }

    #[test]
    fn of_a_real_certificate() {
        for (year, expected) in [(2031, 1_924_992_000), (2060, 2_840_140_800)] {
            let mut params = params();
            params.not_after = date_time_ymd(year, 1, 1);
            params.not_before = date_time_ymd(2001, 1, 1);
            params.subject_alt_names = vec![
                SanType::DnsName("app.example.org".try_into().unwrap()),
                SanType::URI("spiffe://example.org/a".try_into().unwrap()),
                SanType::Rfc822Name("a@example.org".try_into().unwrap()),
                SanType::IpAddress("10.0.0.1".parse().unwrap()),
                SanType::IpAddress("fd00::1".parse().unwrap()),
            ];
            let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            assert_eq!(validity(made.der()), Some((at(978_307_200), at(expected))), "{year}");
            assert_eq!(subject(made.der()).unwrap(), r"CN=web\n\u{1b}[31m,O=Apps\\, and more");
            assert_eq!(
                alternative_names(made.der()),
                [
                    "DNS:app.example.org",
                    "URI:spiffe://example.org/a",
                    "email:a@example.org",
                    "IP:10.0.0.1",
                    "IP:fd00::1"
                ]
            );
        }
    }

    #[test]
    fn names_of_a_subject_are_whole_and_in_order() {
        let mut params = params();
        let long = format!("spiffe://example.org/{}", "x".repeat(1_000));
        params.subject_alt_names = vec![
            SanType::URI("spiffe://example.org/b".try_into().unwrap()),
            SanType::DnsName("App.example.org".try_into().unwrap()),
            SanType::Rfc822Name("a@example.org".try_into().unwrap()),
            SanType::URI(long.as_str().try_into().unwrap()),
        ];
        let names = subject_names(params.self_signed(&KeyPair::generate().unwrap()).unwrap().der());
        assert_eq!(names.uris, ["spiffe://example.org/b", &long]);
        assert_eq!(names.dns, ["app.example.org"]);
    }

    #[test]
    fn what_is_shown_is_bounded() {
        let mut params = params();
        params
            .distinguished_name
            .push(DnType::OrganizationalUnitName, "x".repeat(10_000));
        params.subject_alt_names = (0..100)
            .map(|i| SanType::DnsName(format!("{i}.{}", "y".repeat(1_000)).try_into().unwrap()))
            .collect();
        let made = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        assert!(subject(made.der()).unwrap().len() < 300);
        let names = alternative_names(made.der());
        assert_eq!(names.len(), 9);
        assert!(names.iter().all(|name| name.len() < 300));
    }

    #[test]
    fn of_a_real_revocation_list() {
        let mut ca = params();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = ca.self_signed(&key).unwrap();
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2001, 1, 1),
            next_update: date_time_ymd(2031, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        }
        .signed_by(&Issuer::new(ca, key))
        .unwrap();
        assert_eq!(next_update(list.der()), Some(at(1_924_992_000)));
        assert_eq!(list_issuer(list.der()), subject(certificate.der()));
        assert_eq!(
            list_issuer_der(list.der()).unwrap(),
            subject_der(certificate.der()).unwrap()
        );
    }

    proptest! {
        #[test]
        fn anything_else_is_none_or_something(der in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (validity(&der), subject(&der), alternative_names(&der), next_update(&der), list_issuer(&der));
        }

        /// Changes one byte of a real certificate.
        #[test]
        fn a_bent_one_is_none_or_something(at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            thread_local! {
                static MADE: Vec<u8> = params().self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec();
            }
            let mut der = MADE.with(Clone::clone);
            let at = at.index(der.len());
            der[at] = byte;
            let _ = (validity(&der), subject(&der), alternative_names(&der), subject_names(&der));
        }
    }
}
