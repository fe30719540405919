//! The grammar of simple, composite and nested URIs, before any of it means something.

use super::place::{Place, masked};
use super::query::Query;
use crate::error::Result;

/// A longer URI is refused: no list of brokers comes near, and it bounds what parsing one can cost.
const MAX_LENGTH: usize = 65_536;

/// A URI nested deeper is refused: the deepest that means something has three levels.
const MAX_NESTING: usize = 8;

/// The schemes whose list may stand without parentheses.
const LIST_SCHEMES: [&str; 7] = [
    "failover",
    "masterslave",
    "static",
    "simple",
    "discovery",
    "fanout",
    "broker",
];

/// A URI of the kinds that ActiveMQ has, for connectors as well as for clients.
///
/// ```text
/// uri        = scheme ":" ( simple | composite )
/// simple     = [ "//" authority [ "/" path ] | opaque ] [ "?" query ] [ "#" fragment ]
/// composite  = [ "//" ] ( "(" list ")" [ "/" path ] [ "?" query ] [ "#" fragment ] | list )
/// list       = uri *( "," uri )
/// query      = option *( "&" option )
/// option     = name [ "=" value ]
/// ```
///
/// This follows ActiveMQ's `URISupport` with these exceptions, each of which it would misunderstand or refuse:
///
/// * blanks are dropped, except within the names and values of options, where they are an error;
/// * an empty URI within a list is an error, unless it is the last one;
/// * a second `?` is an error, where ActiveMQ forgets what is before it;
/// * pairs without a name or value between two `&` are dropped.
///
/// What stands without parentheses belongs to the list: the options of `failover:tcp://a:1?x=y` are those of the
/// `tcp:` URI.
#[derive(Debug, Clone)]
pub struct Uri {
    /// The scheme, in lower case.
    pub scheme: String,
    /// What stands between the scheme and the options.
    pub body: Body,
    /// The path without its `/`, empty if there is none.
    pub path: String,
    /// The options.
    pub query: Query,
    /// What stands behind a `#`, if there is one.
    pub fragment: Option<String>,
    pub(super) text: String,
    pub(super) place: Place,
}

/// What stands between the scheme of a URI and its options.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Body {
    /// `//host:port`
    Authority(Authority),
    /// `(uri,uri,…)`, or the same without parentheses.
    List(Vec<Uri>),
    /// Anything else.
    Opaque(String),
}

/// The host and port of a URI.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Authority {
    /// The host, an IPv6 address without its brackets; empty if there is none.
    pub host: String,
    /// The port, if there is one.
    pub port: Option<u16>,
}

impl Uri {
    /// Parses a URI and those within it.
    ///
    /// # Errors
    ///
    /// [`Error::is_uri`](crate::Error::is_uri) with what is wrong and where.
    pub fn parse(text: &str) -> Result<Self> {
        let start = Place::start(text);
        if text.len() > MAX_LENGTH {
            return Err(start.error(&format!("the URI is longer than {MAX_LENGTH} bytes")));
        }
        Self::parse_part(&start, text.len(), MAX_NESTING)
    }

    /// Splits a comma separated list of URIs, such as brokers send, and parses each.
    ///
    /// # Errors
    ///
    /// As [`parse`](Self::parse), for each by itself; one error if the list cannot be split.
    pub fn parse_list(text: &str) -> Result<Vec<Result<Self>>> {
        let start = Place::start(text);
        if text.len() > MAX_LENGTH {
            return Err(start.error(&format!("the list of URIs is longer than {MAX_LENGTH} bytes")));
        }
        Ok(split_list(&start, text.len())?
            .into_iter()
            .map(|(place, end)| Self::parse_part(&place, end, MAX_NESTING))
            .collect())
    }

    /// Parses the text of `place` up to byte `end`.
    fn parse_part(place: &Place, end: usize, depth: usize) -> Result<Self> {
        let place = &skip_blanks(place, end);
        let text = place.text_to(end).trim_end();
        let end = place.at() + text.len();
        let Some(depth) = depth.checked_sub(1) else {
            return Err(place.error(&format!("URIs are nested more than {MAX_NESTING} deep")));
        };
        if text.is_empty() {
            return Err(place.error("there is an empty URI"));
        }
        if text.starts_with('(') {
            return Err(place.error("there is no scheme before the ("));
        }
        let Some((scheme, _)) = text.split_once(':') else {
            return Err(place.error("a URI has no scheme"));
        };
        let body = skip_blanks(&place.forward(scheme.len() + 1), end);
        let scheme = without_blanks(scheme).to_ascii_lowercase();
        if !is_scheme(&scheme) {
            return Err(place.error("this is not a scheme"));
        }
        let (hierarchical, body) = match body.text_to(end).starts_with("//") {
            true => (true, skip_blanks(&body.forward(2), end)),
            false => (false, body),
        };

        let mut uri = Self {
            scheme,
            body: Body::Opaque(String::new()),
            path: String::new(),
            query: Query::default(),
            fragment: None,
            text: without_blanks(&masked(text)),
            place: place.clone(),
        };
        if body.text_to(end).starts_with('(') {
            let close = partner(&body, end)?;
            uri.body = Body::List(parse_list(&body.forward(1), close, depth)?);
            uri.parse_tail(&body.to(close + 1), end)?;
        } else if LIST_SCHEMES.contains(&uri.scheme.as_str()) {
            uri.body = Body::List(parse_list(&body, end, depth)?);
        } else {
            let head = uri.parse_query(&body, end)?;
            if hierarchical {
                let text = body.text_to(head);
                let (authority, path) = text.split_once('/').unwrap_or((text, ""));
                uri.path = without_blanks(path);
                let end = body.at() + authority.len();
                uri.body = Body::Authority(Authority::parse(&body, end)?);
            } else {
                uri.body = Body::Opaque(without_blanks(body.text_to(head)));
            }
        }
        Ok(uri)
    }

    /// What stands behind the parentheses.
    fn parse_tail(&mut self, place: &Place, end: usize) -> Result<()> {
        let place = skip_blanks(place, end);
        let head = self.parse_query(&place, end)?;
        let path = place.text_to(head).trim_end();
        match path.strip_prefix('/') {
            Some(path) if !path.contains(['(', ')']) => {
                self.path = without_blanks(path);
                Ok(())
            }
            None if path.is_empty() => Ok(()),
            None if path.starts_with(')') => Err(place.error("there is no ( for this )")),
            _ => Err(place.error("only /path, ?options or #fragment can stand behind the )")),
        }
    }

    /// Parses query and fragment, and says where they begin.
    fn parse_query(&mut self, place: &Place, end: usize) -> Result<usize> {
        let text = place.text_to(end);
        let fragment = text.find('#').unwrap_or(text.len());
        let query = text[..fragment].find('?').unwrap_or(fragment);
        if fragment < text.len() {
            self.fragment = Some(without_blanks(&text[fragment + 1..]));
        }
        if query < fragment {
            self.query = Query::parse(&place.forward(query + 1), place.at() + fragment)?;
        }
        Ok(place.at() + query)
    }

    /// The URI as it was written, without blanks and with `***` for passwords.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// An error about this URI that names its place.
    pub fn error(&self, what: &str) -> crate::Error {
        self.place.error(what)
    }
}

impl Authority {
    fn parse(place: &Place, end: usize) -> Result<Self> {
        let text = place.text_to(end);
        if text.contains('@') {
            return Err(place.error(
                "a user in the address of a broker has no effect; options for them are jms.userName and \
                 jms.password",
            ));
        }
        let (host, port) = match text.trim_start().strip_prefix('[') {
            Some(bracketed) => match bracketed.split_once(']') {
                Some((host, rest)) => match rest.trim_start().strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if rest.trim().is_empty() => (host, None),
                    None => return Err(place.error("only a port can stand behind the ]")),
                },
                None => return Err(place.error("there is no ] for this [")),
            },
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let host = without_blanks(host);
        let bracketed = text.trim_start().starts_with('[');
        let wrong = |char: char| {
            char.is_control()
                || matches!(
                    char,
                    '(' | ')' | '[' | ']' | '"' | '<' | '>' | '\\' | ',' | '|' | '^' | '`'
                )
                || (char == '%' && !bracketed)
        };
        if let Some(char) = host.chars().find(|char| wrong(*char)) {
            return Err(place.error(&format!("{char:?} cannot be part of a host name")));
        }
        let port = match port {
            Some(port) => {
                let port_place = place.forward(text.len() - port.len());
                let digits = without_blanks(port);
                match digits.parse() {
                    Ok(port) if digits.bytes().all(|digit| digit.is_ascii_digit()) => Some(port),
                    _ => return Err(port_place.error("this is not a port number from 0 to 65535")),
                }
            }
            None => None,
        };
        Ok(Self { host, port })
    }
}

fn parse_list(place: &Place, end: usize, depth: usize) -> Result<Vec<Uri>> {
    split_list(place, end)?
        .into_iter()
        .map(|(place, end)| Uri::parse_part(&place, end, depth))
        .collect()
}

/// Splits at the commas that are in no parentheses, into the place and end of each piece.
fn split_list(place: &Place, end: usize) -> Result<Vec<(Place, usize)>> {
    let mut open: Vec<usize> = Vec::new();
    let mut pieces = Vec::new();
    let mut piece = place.clone();
    for (index, char) in place.text_to(end).char_indices() {
        let at = place.at() + index;
        match char {
            '(' => open.push(at),
            ')' if open.pop().is_none() => return Err(place.to(at).error("there is no ( for this )")),
            ',' if open.is_empty() => {
                pieces.push((piece, at));
                piece = place.to(at + 1);
            }
            _ => {}
        }
    }
    if let Some(at) = open.pop() {
        return Err(place.to(at).error("there is no ) for this ("));
    }
    if !piece.text_to(end).trim().is_empty() {
        pieces.push((piece, end));
    }
    Ok(pieces)
}

/// Where the parenthesis that `place` stands on is closed.
fn partner(place: &Place, end: usize) -> Result<usize> {
    let mut depth = 0_usize;
    for (index, char) in place.text_to(end).char_indices() {
        match char {
            '(' => depth += 1,
            ')' if depth == 1 => return Ok(place.at() + index),
            ')' => depth -= 1,
            _ => {}
        }
    }
    Err(place.error("there is no ) for this ("))
}

fn is_scheme(scheme: &str) -> bool {
    let rest = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    scheme.starts_with(|first: char| first.is_ascii_alphabetic()) && scheme.bytes().all(rest)
}

fn skip_blanks(place: &Place, end: usize) -> Place {
    let text = place.text_to(end);
    place.forward(text.len() - text.trim_start().len())
}

fn without_blanks(text: &str) -> String {
    text.chars().filter(|char| !char.is_whitespace()).collect()
}
