//! Lists of brokers that somebody else keeps (`updateURIsURL`).

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::handshake::within;
use crate::error::{Error, ErrorKind, Result};
use crate::uri::{Endpoint, FailoverOptions, UpdateUrl};

/// The longest list that is read, in bytes: the longest URI there may be.
const MAX_LENGTH: u64 = 65_536;

/// How long reading may take: a reconnect waits for it.
const READ_TIMEOUT: Duration = Duration::from_secs(3);

/// A list and where it is read from.
#[derive(Debug)]
pub(super) struct Updates {
    url: UpdateUrl,
    interval: Option<Duration>,
    next: Instant,
    last: Option<String>,
    /// The last attempt to read it failed.
    failing: bool,
}

impl Updates {
    /// None if there is no list.
    pub(super) fn new(options: &FailoverOptions) -> Option<Self> {
        Some(Self {
            url: options.update_uris_url.clone()?,
            interval: options.update_uris_interval,
            next: Instant::now(),
            last: None,
            failing: false,
        })
    }

    /// Reads the list. None if it is the one that was read before, or of no use: then what was known stays, and the log
    /// says so once.
    ///
    /// Cancel safe: the list is read again.
    pub(super) async fn read(&mut self, options: &FailoverOptions) -> Option<Vec<Endpoint>> {
        let result = match read(self.url.clone()).await {
            Ok(text) if self.last.as_ref() == Some(&text) => Ok(None),
            Ok(text) => parse(&text, options).map(|list| {
                self.last = Some(text);
                Some(list)
            }),
            Err(error) => Err(error),
        };
        if let Some(interval) = self.interval {
            self.next = Instant::now() + interval;
        }
        match result {
            Ok(list) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!(url = %self.url, "updateURIsURL can be read again");
                }
                list
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!(url = %self.url, %error, "updateURIsURL is of no use, what was known stays");
                }
                None
            }
        }
    }

    /// Waits until the list is to be read again, and reads it. Returns when there is another one.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self, options: &FailoverOptions) -> Vec<Endpoint> {
        if self.interval.is_none() {
            return std::future::pending().await;
        }
        loop {
            sleep_until(self.next).await;
            if let Some(list) = self.read(options).await {
                return list;
            }
        }
    }
}

/// Reads the text of a list, on a thread that may block.
async fn read(url: UpdateUrl) -> Result<String> {
    let blocking = tokio::task::spawn_blocking(move || match &url {
        UpdateUrl::File(path) => read_file(path),
        UpdateUrl::Http(url) => read_http(url),
    });
    within(Some(READ_TIMEOUT), "reading the list", blocking)
        .await?
        .unwrap_or_else(|error| Err(Error::new(ErrorKind::Io, error.to_string())))
}

fn read_file(path: &Path) -> Result<String> {
    if !path.metadata()?.is_file() {
        // Whoever opens a pipe waits for its other end.
        return Err(Error::new(ErrorKind::Io, "it is not a regular file"));
    }
    limited(File::open(path)?)
}

#[cfg(feature = "http")]
fn read_http(url: &str) -> Result<String> {
    use ureq::tls::{Certificate, RootCerts, TlsConfig};

    let roots = rustls_native_certs::load_native_certs().certs;
    let roots: Vec<_> = roots
        .iter()
        .map(|root| Certificate::from_der(root).to_owned())
        .collect();
    let agent = ureq::Agent::config_builder()
        .timeout_global(Some(READ_TIMEOUT))
        .tls_config(
            TlsConfig::builder()
                .root_certs(RootCerts::new_with_certs(&roots))
                .build(),
        )
        .build()
        .new_agent();
    let mut response = agent
        .get(url)
        .call()
        .map_err(|error| Error::new(ErrorKind::Io, error.to_string()).with_source(error))?;
    limited(response.body_mut().as_reader())
}

/// A URI with such a URL is refused.
#[cfg(not(feature = "http"))]
fn read_http(_: &str) -> Result<String> {
    Err(Error::new(ErrorKind::Unsupported, "the feature http is off"))
}

fn limited(from: impl Read) -> Result<String> {
    let mut text = String::new();
    from.take(MAX_LENGTH + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_LENGTH {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("the list is longer than {MAX_LENGTH} bytes"),
        ));
    }
    Ok(text)
}

/// The URIs of a list, separated by commas, line ends or both. All of them must be right: half a list is none.
fn parse(text: &str, options: &FailoverOptions) -> Result<Vec<Endpoint>> {
    let lines: Vec<&str> = text
        .lines()
        .map(|line| line.trim_matches(|char: char| char == ',' || char.is_whitespace()))
        .filter(|line| !line.is_empty())
        .collect();
    if lines.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "the list is empty"));
    }
    options.learn_list(&lines.join(",")).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(text: &str) -> Result<Vec<String>> {
        let list = parse(text, &FailoverOptions::default())?;
        Ok(list.into_iter().map(|endpoint| endpoint.host).collect())
    }

    #[test]
    fn a_list_is_separated_by_commas_or_lines() {
        for text in [
            "tcp://a:1,tcp://b:2",
            "tcp://a:1\ntcp://b:2\n",
            "tcp://a:1,\r\n\r\n  tcp://b:2",
        ] {
            assert_eq!(hosts(text).unwrap(), ["a", "b"], "{text:?}");
        }
    }

    #[test]
    fn half_a_list_is_none() {
        for text in [
            "",
            " \n,\n",
            "tcp://a:1,tcp://b:99999",
            "tcp://a:1\nnonsense",
            "tcp://a:1,,tcp://b:1",
        ] {
            assert!(hosts(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_list_without_end_is_refused() {
        assert!(limited(std::io::repeat(b'x')).unwrap_err().is_invalid());
        assert!(limited(&b"\xff"[..]).is_err());
    }

    #[test]
    fn only_a_regular_file_is_read() {
        let error = read_file(Path::new("/dev/zero")).unwrap_err();
        assert!(error.to_string().contains("regular"), "{error}");
        assert!(read_file(Path::new("/nonexistent/list")).is_err());
    }

    #[tokio::test]
    async fn a_list_that_is_of_no_use_changes_nothing_and_one_that_did_not_change_is_no_news() {
        let options = FailoverOptions {
            update_uris_url: Some(UpdateUrl::File("/nonexistent/list".into())),
            ..FailoverOptions::default()
        };
        let mut updates = Updates::new(&options).unwrap();
        assert!(updates.read(&options).await.is_none() && updates.failing);
        let dir = std::env::temp_dir().join(format!("list-{}", std::process::id()));
        std::fs::write(&dir, "tcp://a:1").unwrap();
        updates.url = UpdateUrl::File(dir.clone());
        assert_eq!(updates.read(&options).await.map(|list| list.len()), Some(1));
        assert!(!updates.failing);
        assert!(updates.read(&options).await.is_none() && !updates.failing);
        std::fs::remove_file(dir).unwrap();
    }
}
