//! What an `ssl:` listener needs: certificates and keys.

use std::fmt;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::ClientAuth;

/// Who the broker is to its TLS clients, and whose certificates it trusts.
pub(crate) struct Tls {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    clients: Option<RootCertStore>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl Tls {
    /// Reads a certificate chain, its key, and the authorities of client certificates, all PEM.
    pub(crate) fn from_pem(chain: &[u8], key: &[u8], client_ca: Option<&[u8]>) -> Result<Self, String> {
        Ok(Self {
            chain: certificates(chain).map_err(|why| format!("the TLS certificate chain: {why}"))?,
            key: PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the TLS key: {error}"))?,
            clients: client_ca
                .map(authorities)
                .transpose()
                .map_err(|why| format!("the TLS client authorities: {why}"))?,
        })
    }

    /// The settings of a listener.
    pub(crate) fn server_config(&self, client_auth: ClientAuth) -> Result<Arc<ServerConfig>, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = match (client_auth, &self.clients) {
            (ClientAuth::None, _) => WebPkiClientVerifier::no_client_auth(),
            (_, None) => return Err("client certificates need an authority to check them by".into()),
            (wanted, Some(roots)) => {
                let builder =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider.clone());
                let builder = match wanted {
                    ClientAuth::Need => builder,
                    ClientAuth::Want | ClientAuth::None => builder.allow_unauthenticated(),
                };
                builder.build().map_err(|error| error.to_string())?
            }
        };
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_client_cert_verifier(verifier)
            .with_single_cert(self.chain.clone(), self.key.clone_key())
            .map_err(|error| format!("the TLS certificate: {error}"))?;
        Ok(Arc::new(config))
    }
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("there is no certificate in it".into());
    }
    Ok(chain)
}

fn authorities(pem: &[u8]) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    Ok(roots)
}
