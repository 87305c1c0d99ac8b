//! Trust: which certificates a registry may show.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use onedock_common::types::reference::RegistryName;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::error::Error;

/// Whether a registry's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// It is checked.
    Checked,
    /// The administrator named the registry as insecure: it is not.
    Anything,
}

/// The registry's own certificate authorities: `*.crt` beneath `<certs_dir>/<registry>`, as
/// the engine reads them.
pub(crate) fn own_authorities(
    certs_dir: &Path,
    registry: &RegistryName,
) -> Result<Vec<CertificateDer<'static>>, Error> {
    let dir = certs_dir.join(registry.as_str());
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Error::File { path: dir, source }),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = match entry {
            Ok(entry) => entry.path(),
            Err(source) => return Err(Error::File { path: dir, source }),
        };
        if path.extension().is_none_or(|e| e != "crt") {
            continue;
        }
        let bytes = fs::read(&path).map_err(|source| Error::File {
            path: path.clone(),
            source,
        })?;
        for certificate in CertificateDer::pem_slice_iter(&bytes) {
            found.push(certificate.map_err(|_| Error::Settings {
                path: path.clone(),
                expected: "a file of PEM certificates",
            })?);
        }
    }
    Ok(found)
}

/// The TLS settings for one registry. The cryptography is ring's, named here and not as the
/// process's default, so that a program may choose its own.
pub(crate) fn configuration(
    trust: Trust,
    own: Vec<CertificateDer<'static>>,
) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    Ok(match trust {
        Trust::Anything => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AcceptAny(provider)))
            .with_no_client_auth(),
        Trust::Checked => {
            let mut roots = RootCertStore::empty();
            // On a system without any, only the registry's own authorities count.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots.add_parsable_certificates(own);
            builder.with_root_certificates(roots).with_no_client_auth()
        }
    })
}

/// Whether a host is this machine by its name alone: those may speak plain HTTP, as with the
/// engine.
pub(crate) fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse::<IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

/// Accepts any certificate of a registry that the administrator named as insecure. Signatures
/// are still checked, so that the connection is at least what it seems.
#[derive(Debug)]
struct AcceptAny(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAny {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }
    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }
    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
