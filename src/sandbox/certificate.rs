//! A root and a leaf certificate that live as long as one sandbox.
//!
//! The leaf is good for `localhost`, `127.0.0.1` and `::1`, and nothing signed by the root is ever good for anything else:
//! its key is thrown away as soon as the leaf exists.

use std::{io, sync::Arc};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// What the servers show and what their clients must trust.
pub(super) struct Certificates {
    /// The root, as PEM.
    pub(super) ca_pem: String,
    /// For the listeners. Offers HTTP/2 and HTTP/1.1.
    pub(super) tls: Arc<rustls::ServerConfig>,
}

impl Certificates {
    /// Makes a fresh root and leaf.
    pub(super) fn fresh() -> io::Result<Self> {
        // Somebody else in this process may have installed one before us; both are the same kind.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let root_key = KeyPair::generate().map_err(io::Error::other)?;
        let root_params = root_params()?;
        let root = root_params.self_signed(&root_key).map_err(io::Error::other)?;
        let leaf_key = KeyPair::generate().map_err(io::Error::other)?;
        let leaf = leaf_params()?
            .signed_by(&leaf_key, &Issuer::from_params(&root_params, &root_key))
            .map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .map_err(io::Error::other)?;
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { ca_pem: root.pem(), tls: Arc::new(tls) })
    }
}

fn root_params() -> io::Result<CertificateParams> {
    let mut params = CertificateParams::new(Vec::new()).map_err(io::Error::other)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "Handover sandbox root");
    Ok(params)
}

fn leaf_params() -> io::Result<CertificateParams> {
    let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let mut params = CertificateParams::new(names.to_vec()).map_err(io::Error::other)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    // Strict verifiers (Python 3.13 and later) refuse a leaf that doesn't name its issuer's key.
    params.use_authority_key_identifier_extension = true;
    params.distinguished_name.push(DnType::CommonName, "localhost");
    Ok(params)
}
