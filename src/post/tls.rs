//! TLS 1.3 by rustls and ring. All servers that are kept up have it since 2018; the older versions would cost more of the
//! image.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, RootCertStore, SignatureScheme, StreamOwned,
    SupportedCipherSuite,
};

use super::{Proof, Tls};
use crate::config::notify::DIGEST;

/// The connection after the handshake: the server is the right one.
pub fn connect(mut stream: TcpStream, tls: &Tls) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(failed)?;
    let builder = match &tls.proof {
        Proof::Authorities(pem) => builder.with_root_certificates(authorities(pem)?),
        Proof::Pinned(digest) => {
            let verifier = Arc::new(Pinned { digest: *digest, provider });
            builder.dangerous().with_custom_certificate_verifier(verifier)
        }
    };
    let mut config = builder.with_no_client_auth();
    config.resumption = Resumption::disabled(); // the process is at its end before it could resume anything
    let name =
        ServerName::try_from(tls.host.clone()).map_err(|_| format!("TLS: no server is called {:?}", tls.host))?;
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(failed)?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(failed)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

fn authorities(pem: &str) -> Result<RootCertStore, String> {
    let mut store = RootCertStore::empty();
    // What can't be read in a bundle is skipped, as everybody does; a server that needs it is refused.
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(Result::ok);
    match store.add_parsable_certificates(certificates) {
        (0, _) => Err("TLS: there is no certificate of an authority in the image's file".to_owned()),
        _ => Ok(store),
    }
}

fn failed(error: impl std::fmt::Display) -> String {
    format!("TLS: the server is not trusted, or not understood: {error}")
}

/// Takes the server whose certificate, or public key, has this digest. That it has the private key is checked as ever.
#[derive(Debug)]
struct Pinned {
    digest: [u8; DIGEST],
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer,
        _intermediates: &[CertificateDer],
        _name: &ServerName,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let key = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
        if [certificate.as_ref(), key.as_ref()].into_iter().any(|der| sha256(der).as_ref() == self.digest) {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::General("neither its certificate nor its key is the pinned one".to_owned()))
    }

    /// Never called: only TLS 1.3 is spoken.
    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// By the hash of a cipher suite that has it: the only way to ring's that rustls leaves open.
fn sha256(bytes: &[u8]) -> rustls::crypto::hash::Output {
    match ring::cipher_suite::TLS13_AES_128_GCM_SHA256 {
        SupportedCipherSuite::Tls13(suite) => suite.common.hash_provider.hash(bytes),
        #[allow(unreachable_patterns)] // there is another kind where the feature tls12 is on
        _ => unreachable!("its name says that it is one of TLS 1.3"),
    }
}
