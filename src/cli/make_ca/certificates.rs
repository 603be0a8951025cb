//! A certificate authority for a few names, and a server certificate of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DnType, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, NameConstraints, SerialNumber, date_time_ymd,
};
use zeroize::Zeroizing;

use crate::certificate::MAKE_CA_MARK;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Apple's trust stores take no server certificate that is valid for more than 825 days.
const SERVER_LIFE: Duration = Duration::from_secs(730 * DAY.as_secs());
/// Whoever keeps the key signs another server certificate with it one day.
const KEPT_CA_LIFE: Duration = Duration::from_secs(3650 * DAY.as_secs());
/// Clients' clocks may be behind.
const BACKDATED: Duration = DAY;
/// An address that no mailbox has (RFC 2606 section 2): by permitting it alone every other one is excluded.
const NO_MAILBOX: &str = "invalid";
/// The most characters of a common name (RFC 5280 appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;

/// What `make-ca` makes, as PEM.
pub(super) struct Made {
    pub(super) ca: String,
    pub(super) ca_key: Zeroizing<String>,
    pub(super) server: String,
    pub(super) server_key: Zeroizing<String>,
    /// Until when clients accept the server certificate.
    pub(super) until: SystemTime,
}

/// Why nothing was made.
#[derive(Debug, thiserror::Error)]
pub(super) enum MakeError {
    #[error("the system gives no randomness: {0}")]
    Randomness(#[from] getrandom::Error),
    #[error("no certificate can be made: {0}")]
    Certificate(#[from] rcgen::Error),
}

/// Makes both for these names, of which there is at least one.
pub(super) fn make(names: &[String], keeps_key: bool, now: SystemTime) -> Result<Made, MakeError> {
    let begin = now - BACKDATED;
    let end = begin + SERVER_LIFE;
    let ca_key = KeyPair::generate()?;
    let ca = authority(names, begin, if keeps_key { begin + KEPT_CA_LIFE } else { end })?;
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let ca_key_pem = Zeroizing::new(ca_key.serialize_pem());
    let server_key = KeyPair::generate()?;
    let server = server(names, begin, end)?.signed_by(&server_key, &Issuer::new(ca, ca_key))?;
    Ok(Made {
        ca: ca_pem,
        ca_key: ca_key_pem,
        server: server.pem(),
        server_key: Zeroizing::new(server_key.serialize_pem()),
        until: end,
    })
}

fn authority(names: &[String], begin: SystemTime, end: SystemTime) -> Result<CertificateParams, MakeError> {
    let mut params = common(begin, end)?;
    // Several of them may be trusted in one place: each has a name of its own.
    let [a, b, c, d] = random()?;
    let name = format!("atlas-auth-proxy make-ca {a:02x}{b:02x}{c:02x}{d:02x}");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let everywhere = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    let everything = |address: IpAddr| GeneralSubtree::IpAddress(CidrSubnet::from_addr_prefix(address, 0));
    let permitted = names.iter().cloned().map(GeneralSubtree::DnsName);
    // What a constraint says of one kind of names, it says of no other (RFC 5280 section 4.2.1.10).
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: permitted
            .chain([GeneralSubtree::Rfc822Name(NO_MAILBOX.to_owned())])
            .collect(),
        excluded_subtrees: everywhere.map(everything).into(),
    });
    Ok(params)
}

fn server(names: &[String], begin: SystemTime, end: SystemTime) -> Result<CertificateParams, MakeError> {
    let mut params = common(begin, end)?;
    if let Some(name) = names.first().filter(|name| name.len() <= LONGEST_COMMON_NAME) {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    params.subject_alt_names = CertificateParams::new(names)?.subject_alt_names;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

/// What both have: the mark, a random serial number, a time, and that they are for servers.
fn common(begin: SystemTime, end: SystemTime) -> Result<CertificateParams, MakeError> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "atlas-auth-proxy");
    params
        .distinguished_name
        .push(DnType::OrganizationalUnitName, MAKE_CA_MARK);
    let since_epoch = |at: SystemTime| at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    params.not_before = date_time_ymd(1970, 1, 1) + Duration::from_secs(since_epoch(begin).as_secs());
    params.not_after = date_time_ymd(1970, 1, 1) + Duration::from_secs(since_epoch(end).as_secs());
    let mut serial: [u8; 16] = random()?;
    // Positive, and always as long (RFC 5280 section 4.1.2.2).
    serial[0] = serial[0] & 0x7f | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    Ok(params)
}

fn random<const N: usize>() -> Result<[u8; N], getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}
