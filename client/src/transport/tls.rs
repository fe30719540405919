//! TLS, through rustls.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::stream::Inner;
use super::{failed, tcp};
use crate::error::{Error, ErrorKind, Result};
use crate::uri::{Endpoint, EndpointTls, TlsVersion, cipher_suite_name};

pub(super) type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

/// Whom to trust and who to be: what `ssl:` connections need besides their URI (ActiveMQ's
/// `ActiveMQSslConnectionFactory`, or `javax.net.ssl.*`).
///
/// The default trusts the system's authorities and presents no certificate. To clone it is cheap.
///
/// ```no_run
/// # fn main() -> openwire_client::Result<()> {
/// use openwire_client::transport::TlsOptions;
///
/// let tls = TlsOptions::new()
///     .ca_file("broker-ca.pem")?
///     .client_certificate_files("client.pem", "client.key")?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Default)]
pub struct TlsOptions {
    /// Trusted in place of the system's authorities, unless empty.
    own: Vec<CertificateDer<'static>>,
    /// The system's authorities, read once.
    system: Arc<OnceLock<Arc<RootCertStore>>>,
    identity: Option<Arc<CertifiedKey>>,
    accept_invalid_certs: bool,
}

impl TlsOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Trusts the certificates of a PEM text, in place of the system's authorities and besides those given
    /// before.
    ///
    /// A broker may present one of them itself: this is how those with self-signed certificates are reached.
    ///
    /// # Errors
    ///
    /// [`Error::is_security`] if the text holds no certificate or one that cannot be read.
    pub fn ca_pem(mut self, pem: impl AsRef<[u8]>) -> Result<Self> {
        let certificates = certificates(pem.as_ref(), "the authorities to trust")?;
        // Refuses what is no certificate now rather than at each connection.
        trust(&certificates)?;
        self.own.extend(certificates);
        Ok(self)
    }

    /// [`ca_pem`](Self::ca_pem) from a file. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// As [`ca_pem`](Self::ca_pem), and [`Error::is_io`] if the file cannot be read.
    pub fn ca_file(self, path: impl AsRef<Path>) -> Result<Self> {
        self.ca_pem(read(path.as_ref())?)
    }

    /// Presents a certificate to brokers that ask for one (`needClientAuth`): its chain, the own certificate first,
    /// and its private key (PKCS#8, PKCS#1 or SEC1, not encrypted), both PEM. They may be the same text.
    ///
    /// # Errors
    ///
    /// [`Error::is_security`] if one of them holds nothing, or the key is not the certificate's.
    pub fn client_certificate_pem(mut self, chain: impl AsRef<[u8]>, key: impl AsRef<[u8]>) -> Result<Self> {
        let chain = certificates(chain.as_ref(), "the client's certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key.as_ref())
            .map_err(|error| refused("the client's private key cannot be read", error))?;
        let identity = CertifiedKey::from_der(chain, key, &ring::default_provider())
            .map_err(|error| refused("the client's private key does not fit its certificate", error))?;
        self.identity = Some(Arc::new(identity));
        Ok(self)
    }

    /// [`client_certificate_pem`](Self::client_certificate_pem) from files. Blocks while it reads.
    ///
    /// # Errors
    ///
    /// As [`client_certificate_pem`](Self::client_certificate_pem), and [`Error::is_io`] if a file cannot be read.
    pub fn client_certificate_files(self, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Self> {
        self.client_certificate_pem(read(chain.as_ref())?, read(key.as_ref())?)
    }

    /// Believes whatever certificate a broker presents: whoever stands in between can read and change everything.
    /// For experiments. Default false.
    pub fn danger_accept_invalid_certs(mut self, accept: bool) -> Self {
        self.accept_invalid_certs = accept;
        self
    }

    async fn roots(&self) -> Result<Arc<RootCertStore>> {
        if !self.own.is_empty() {
            return trust(&self.own).map(Arc::new);
        }
        if let Some(roots) = self.system.get() {
            return Ok(roots.clone());
        }
        let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs)
            .await
            .map_err(|error| refused("the system's authorities cannot be read", error))?;
        let mut roots = RootCertStore::empty();
        // The system's list may hold what no longer counts as a certificate; the rest of it does.
        roots.add_parsable_certificates(loaded.certs);
        if roots.is_empty() {
            let mut what = "the system has no authorities to trust".to_owned();
            if let Some(error) = loaded.errors.first() {
                what.push_str(&format!(": {error}"));
            }
            return Err(Error::new(ErrorKind::Security, what));
        }
        Ok(self.system.get_or_init(|| Arc::new(roots)).clone())
    }

    async fn config(&self, endpoint: &EndpointTls) -> Result<ClientConfig> {
        let mut provider = ring::default_provider();
        if !endpoint.enabled_cipher_suites.is_empty() {
            provider
                .cipher_suites
                .retain(|suite| endpoint.enabled_cipher_suites.contains(&cipher_suite_name(suite)));
        }
        let provider = Arc::new(provider);
        let verifier = Verifier {
            roots: match self.accept_invalid_certs {
                true => None,
                false => Some(self.roots().await?),
            },
            own: self.own.clone(),
            verify_host_name: endpoint.verify_host_name,
            provider: provider.clone(),
        };
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions(endpoint))
            .map_err(|error| refused("these protocols and cipher suites do not go together", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        Ok(match &self.identity {
            Some(identity) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.clone())))
            }
            None => config.with_no_client_auth(),
        })
    }
}

impl fmt::Debug for TlsOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsOptions")
            .field("own_authorities", &self.own.len())
            .field("client_certificate", &self.identity.is_some())
            .field("accept_invalid_certs", &self.accept_invalid_certs)
            .finish()
    }
}

/// Opens a connection and goes through the handshake.
pub(super) async fn connect(endpoint: &Endpoint, tls: &TlsOptions) -> Result<Inner> {
    let name = server_name(endpoint)?;
    let config = tls.config(&endpoint.tls).await?;
    let stream = tcp::connect(endpoint).await?;
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|error| failed(endpoint, "the TLS handshake failed", error))?;
    Ok(Inner::Tls(Box::new(stream)))
}

/// The name to tell the broker and to find in its certificate.
fn server_name(endpoint: &Endpoint) -> Result<ServerName<'static>> {
    // A zone says how this machine reaches an address and is no part of it.
    let host = endpoint.host.split('%').next().unwrap_or_default();
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(ServerName::from(address));
    }
    ServerName::try_from(host.to_owned()).map_err(|_| {
        let what = format!("{endpoint}: {host} cannot be the name in a certificate");
        Error::new(ErrorKind::Invalid, what)
    })
}

fn versions(endpoint: &EndpointTls) -> Vec<&'static SupportedProtocolVersion> {
    let enabled =
        |version| endpoint.enabled_protocols.is_empty() || endpoint.enabled_protocols.contains(&version);
    let mut versions = Vec::with_capacity(2);
    if enabled(TlsVersion::Tls13) {
        versions.push(&rustls::version::TLS13);
    }
    if enabled(TlsVersion::Tls12) {
        versions.push(&rustls::version::TLS12);
    }
    versions
}

fn certificates(pem: &[u8], of: &str) -> Result<Vec<CertificateDer<'static>>> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refused(&format!("{of} cannot be read"), error))?;
    match certificates.is_empty() {
        true => Err(Error::new(
            ErrorKind::Security,
            format!("{of}: there is no certificate in the PEM"),
        )),
        false => Ok(certificates),
    }
}

fn trust(certificates: &[CertificateDer<'static>]) -> Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots
            .add(certificate.clone())
            .map_err(|error| refused("an authority to trust cannot be read", error))?;
    }
    Ok(roots)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path)
        .map_err(|error| Error::new(ErrorKind::Io, format!("{}: {error}", path.display())).with_source(error))
}

fn refused(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::Security, format!("{what}: {error}")).with_source(error)
}

/// What kind of error it is that TLS reports through a stream.
pub(super) fn error_kind(error: &io::Error) -> Option<ErrorKind> {
    use AlertDescription as Alert;
    Some(match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented => ErrorKind::Security,
        rustls::Error::AlertReceived(
            Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired,
        ) => ErrorKind::Security,
        _ => ErrorKind::Protocol,
    })
}

/// Checks what a broker presents.
///
/// The usual verifier can neither leave out the name nor accept an authority's certificate as a broker's, which is what
/// many self-signed ones are that were given to be trusted.
#[derive(Debug)]
struct Verifier {
    /// Whom to trust; none is anybody.
    roots: Option<Arc<RootCertStore>>,
    /// Certificates that were trusted by themselves.
    own: Vec<CertificateDer<'static>>,
    verify_host_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(roots) = &self.roots else {
            return Ok(ServerCertVerified::assertion());
        };
        let certificate = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms) {
            Err(rustls::Error::InvalidCertificate(error))
                if self.own.contains(end_entity) && !is_out_of_date(&error) => {}
            result => result?,
        }
        if self.verify_host_name {
            verify_server_name(&certificate, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            cert,
            dss,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn is_out_of_date(error: &CertificateError) -> bool {
    use CertificateError as E;
    matches!(
        error,
        E::Expired | E::ExpiredContext { .. } | E::NotValidYet | E::NotValidYetContext { .. }
    )
}

/// One half of a TLS stream. Both take the lock for the length of a poll.
#[derive(Debug)]
pub(super) struct SharedTls(Arc<Mutex<TlsStream>>);

impl SharedTls {
    pub(super) fn split(stream: TlsStream) -> (Self, Self) {
        let stream = Arc::new(Mutex::new(stream));
        (Self(stream.clone()), Self(stream))
    }

    pub(super) fn set_nodelay(&self, nodelay: bool) -> io::Result<()> {
        self.0.lock().get_ref().0.set_nodelay(nodelay)
    }
}

impl AsyncRead for SharedTls {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(cx, buf)
    }
}

impl AsyncWrite for SharedTls {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.lock().is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(cx)
    }
}
