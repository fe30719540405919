//! Whose certificate it is: distinguished names, as ActiveMQ's certificate login compares them.

use std::fmt;

use regex_lite::Regex;
use x509_parser::prelude::{FromDer, X509Certificate};

/// The names Java gives to the types of attributes, and the others they are known by.
const TYPES: [(&str, &str); 22] = [
    ("CN", "2.5.4.3"),
    ("SURNAME", "2.5.4.4"),
    ("SN", "2.5.4.4"),
    ("SERIALNUMBER", "2.5.4.5"),
    ("C", "2.5.4.6"),
    ("L", "2.5.4.7"),
    ("ST", "2.5.4.8"),
    ("S", "2.5.4.8"),
    ("STREET", "2.5.4.9"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("T", "2.5.4.12"),
    ("GIVENNAME", "2.5.4.42"),
    ("INITIALS", "2.5.4.43"),
    ("GENERATION", "2.5.4.44"),
    ("DNQ", "2.5.4.46"),
    ("DNQUALIFIER", "2.5.4.46"),
    ("UID", "0.9.2342.19200300.100.1.1"),
    ("DC", "0.9.2342.19200300.100.1.25"),
    ("EMAILADDRESS", "1.2.840.113549.1.9.1"),
    ("E", "1.2.840.113549.1.9.1"),
    ("IP", "1.3.6.1.4.1.42.2.11.2.1"),
];

/// A distinguished name: sets of attributes, the most special first, as one writes it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct DistinguishedName(Vec<Vec<(String, String)>>);

impl DistinguishedName {
    /// The subject of a certificate. That the certificate is right is for TLS to know.
    pub(crate) fn of_subject(certificate: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
        let mut name = certificate
            .subject()
            .iter_rdn()
            .map(|set| {
                let mut set: Vec<_> = set
                    .iter()
                    .map(|attribute| {
                        let value = attribute.as_str().map_or_else(
                            |_| {
                                attribute
                                    .as_slice()
                                    .iter()
                                    .map(|byte| format!("{byte:02x}"))
                                    .collect()
                            },
                            str::to_owned,
                        );
                        (attribute.attr_type().to_id_string(), value)
                    })
                    .collect();
                set.sort_unstable();
                set
            })
            .collect::<Vec<_>>();
        // In a certificate the most general comes first.
        name.reverse();
        (!name.is_empty()).then_some(Self(name))
    }

    /// Reads what is written as `CN=Ada, O="Acme, Inc."` or as RFC 2253 has it, `CN=Ada,O=Acme\, Inc.`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut name = Vec::new();
        let mut set = Vec::new();
        let mut rest = text;
        loop {
            let (kind, after) = rest
                .split_once('=')
                .ok_or_else(|| format!("not a distinguished name such as CN=name, O=company: {text}"))?;
            let kind = kind.trim();
            let id = type_id(kind)
                .ok_or_else(|| format!("{kind} is no attribute of a distinguished name: {text}"))?;
            let (value, end, after) = value(after).ok_or_else(|| format!("{kind}= does not end: {text}"))?;
            set.push((id, value));
            if end != Some('+') {
                set.sort_unstable();
                name.push(std::mem::take(&mut set));
            }
            if end.is_none() {
                return Ok(Self(name));
            }
            rest = after;
        }
    }
}

/// As Java's `X500Name` writes it.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, set) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            for (index, (id, value)) in set.iter().enumerate() {
                if index > 0 {
                    f.write_str(" + ")?;
                }
                match TYPES.iter().find(|(_, known)| known == id) {
                    Some((name, _)) => f.write_str(name)?,
                    None => write!(f, "OID.{id}")?,
                }
                let quoted = value.contains([',', '+', '=', '<', '>', '#', ';', '"', '\\', '\n'])
                    || value.trim() != value
                    || value.contains("  ");
                if quoted {
                    write!(f, "=\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))?;
                } else {
                    write!(f, "={value}")?;
                }
            }
        }
        Ok(())
    }
}

/// The number of an attribute type that is named or numbered.
fn type_id(kind: &str) -> Option<String> {
    if let Some((_, id)) = TYPES.iter().find(|(name, _)| name.eq_ignore_ascii_case(kind)) {
        return Some((*id).to_owned());
    }
    let number = match kind.get(..4) {
        Some(start) if start.eq_ignore_ascii_case("OID.") => &kind[4..],
        _ => kind,
    };
    let is_number = !number.is_empty()
        && number
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
    is_number.then(|| number.to_owned())
}

/// A value up to the separator that ends it, the separator, and what is behind.
fn value(text: &str) -> Option<(String, Option<char>, &str)> {
    let text = text.trim_start();
    let mut value = Vec::new();
    let mut quoted = false;
    // Blanks before it are part of the value only if they are quoted or escaped.
    let mut kept = 0;
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => quoted = !quoted,
            '\\' => {
                let hex = text.get(at + 1..at + 3).and_then(|hex| {
                    let digits = hex.bytes().all(|byte| byte.is_ascii_hexdigit());
                    digits.then(|| u8::from_str_radix(hex, 16).ok())?
                });
                if let Some(byte) = hex {
                    value.push(byte);
                    chars.nth(1);
                } else {
                    let (_, c) = chars.next()?;
                    value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
                kept = value.len();
                continue;
            }
            ',' | ';' | '+' if !quoted => {
                value.truncate(kept);
                return Some((String::from_utf8(value).ok()?, Some(c), &text[at + 1..]));
            }
            c => value.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        if quoted || !c.is_whitespace() {
            kept = value.len();
        }
    }
    value.truncate(kept);
    (!quoted).then_some((String::from_utf8(value).ok()?, None, ""))
}

/// A user's entry among those who log in with certificates.
#[derive(Debug, Clone)]
pub(super) enum CertificateName {
    Exactly(DistinguishedName),
    /// `/…/`: all names, as Java writes them, that this matches from end to end.
    Matching(Regex),
}

impl CertificateName {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match text.strip_prefix('/').and_then(|text| text.strip_suffix('/')) {
            Some(pattern) => Regex::new(&format!("^(?:{pattern})$"))
                .map(Self::Matching)
                .map_err(|error| format!("/{pattern}/ is no regular expression: {error}")),
            None => DistinguishedName::parse(text).map(Self::Exactly),
        }
    }

    pub(super) fn is(&self, name: &DistinguishedName) -> bool {
        match self {
            Self::Exactly(known) => known == name,
            Self::Matching(pattern) => pattern.is_match(&name.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::*;

    fn certificate(attributes: &[(DnType, &str)]) -> DistinguishedName {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, value) in attributes {
            params.distinguished_name.push(kind.clone(), *value);
        }
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        DistinguishedName::of_subject(certificate.der()).unwrap()
    }

    #[test]
    fn the_subject_as_java_writes_it() {
        let name = certificate(&[
            (DnType::CountryName, "AT"),
            (DnType::StateOrProvinceName, "Wien"),
            (DnType::OrganizationName, "Acme, Inc."),
            (DnType::CommonName, "Ada"),
        ]);
        assert_eq!(name.to_string(), "CN=Ada, O=\"Acme, Inc.\", ST=Wien, C=AT");
        for written in [
            "CN=Ada, O=\"Acme, Inc.\", ST=Wien, C=AT",
            "CN=Ada,O=Acme\\, Inc.,ST=Wien,C=AT",
            "cn = Ada , o=Acme\\2c Inc. , s=Wien ; OID.2.5.4.6=AT",
            "/CN=Ada, O=.*, C=AT/",
        ] {
            assert!(CertificateName::parse(written).unwrap().is(&name), "{written}");
        }
        for other in [
            "CN=ada, O=\"Acme, Inc.\", ST=Wien, C=AT",
            "C=AT, ST=Wien, O=\"Acme, Inc.\", CN=Ada",
            "CN=Ada",
            "CN=Ada + O=\"Acme, Inc.\", ST=Wien, C=AT",
            "/CN=Ada/",
            "/O=.*, C=AT/",
        ] {
            assert!(!CertificateName::parse(other).unwrap().is(&name), "{other}");
        }
    }

    #[test]
    fn blanks_count_where_they_are_quoted() {
        let parse = |text: &str| DistinguishedName::parse(text).unwrap();
        assert_eq!(parse("CN=  a b  ,C=AT"), parse("CN=a b,C=AT"));
        assert_eq!(parse("CN=\" a\""), parse("CN=\\ a"));
        assert_ne!(parse("CN=\" a\""), parse("CN=a"));
        assert_eq!(parse("CN=a+OU=b"), parse("OU=b + CN=a"));
        assert_eq!(parse("CN=").to_string(), "CN=");
        assert_eq!(parse("CN=a\\\"b").to_string(), "CN=\"a\\\"b\"");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in [
            "",
            "Ada",
            "CN=Ada,",
            "XX=1",
            "CN=\"open",
            "CN=x\\",
            "OID.=1",
            "/(/",
            "CN=\\ff",
        ] {
            assert!(CertificateName::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(DistinguishedName::of_subject(b"no certificate"), None);
    }
}
