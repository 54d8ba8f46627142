//! TLS of our own listener: a certificate that can be replaced while serving, and certificates of clients. Reads no files and opens no sockets; speaks over those it is given.

use std::fmt;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::aws_lc_rs;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{RootCertStore, ServerConfig};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::auth::{Token, TokenSpec};
use crate::config::Mistake;
use crate::secret::Secret;

/// Most names of a client's certificate that are looked at.
const MAX_NAMES: usize = 32;

/// TLS as configured, with the files' contents.
#[derive(Clone, Debug, Default)]
pub struct TlsSpec {
    /// The certificate and those that lead to its root, as PEM.
    pub certificate: Vec<u8>,
    /// Its private key, as PEM.
    pub key: Option<Secret>,
    /// Those who sign certificates of clients, as PEM. `None`: clients are not asked for one.
    pub client_ca: Option<Vec<u8>>,
    /// Whether nobody gets in without a certificate.
    pub required: bool,
}

/// Checked TLS.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Checks certificate, key and authorities.
    ///
    /// # Errors
    /// Every mistake, by the field of the configuration.
    pub fn new(spec: &TlsSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let chain = certificates(&spec.certificate, "certificate_file", &mut mistakes);
        let key = spec.key.as_ref().map_or("", Secret::expose);
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes());
        if key.is_err() {
            mistakes.push(Mistake::new("key_file", "holds no private key as PEM (BEGIN PRIVATE KEY)"));
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = spec.client_ca.as_ref().and_then(|pem| {
            let mut roots = RootCertStore::empty();
            for root in certificates(pem, "client_ca_file", &mut mistakes) {
                if let Err(error) = roots.add(root) {
                    mistakes
                        .push(Mistake::new("client_ca_file", format!("holds what signs nothing: {error}")));
                }
            }
            let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
            let builder = if spec.required { builder } else { builder.allow_unauthenticated() };
            builder
                .build()
                .map_err(|error| mistakes.push(Mistake::new("client_ca_file", error.to_string())))
                .ok()
        });
        if spec.required && spec.client_ca.is_none() {
            let detail = "is required, but client_ca_file does not say who signs certificates of clients";
            mistakes.push(Mistake::new("client_auth", detail));
        }
        let (Ok(key), true) = (key, mistakes.is_empty()) else { return Err(mistakes) };
        let mistake = |field: &str, error: &dyn fmt::Display| vec![Mistake::new(field, error.to_string())];
        // TLS 1.2 and 1.3 are what rustls has.
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| mistake("certificate_file", &error))?;
        let builder = match verifier {
            Some(verifier) => builder.with_client_cert_verifier(verifier),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| mistake("key_file", &error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// Speaks with one caller who gets HTTP/1.1, whatever else it knows: where the whole server is not up yet.
    ///
    /// # Errors
    /// When it does not come to that.
    pub async fn accept_http1(
        &self,
        caller: TcpStream,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Unpin + Send + use<>> {
        let mut config = ServerConfig::clone(&self.0);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        TlsAcceptor::from(Arc::new(config)).accept(caller).await
    }
}

fn certificates(pem: &[u8], field: &str, mistakes: &mut Vec<Mistake>) -> Vec<CertificateDer<'static>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(list) if !list.is_empty() => list,
        Ok(_) | Err(_) => {
            mistakes.push(Mistake::new(field, "holds no certificate as PEM (BEGIN CERTIFICATE)"));
            Vec::new()
        }
    }
}

/// TLS that can be replaced while serving. Clones are the same; connections that have begun keep what they began with.
#[derive(Clone, Debug)]
pub struct SharedTls(Arc<RwLock<Tls>>);

impl SharedTls {
    /// This, to begin with.
    #[must_use]
    pub fn new(tls: Tls) -> Self {
        Self(Arc::new(RwLock::new(tls)))
    }

    /// Something else for connections from now on.
    pub fn replace(&self, tls: Tls) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = tls;
    }

    pub(crate) fn now(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner).0)
    }
}

/// The certificate of a client whose signature was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Presented {
    /// SHA-256 of it, in hex.
    fingerprint: String,
    /// Its subject, such as `O=Example, CN=ci`, as it stands there.
    subject: String,
    common_name: String,
    dns_names: Vec<String>,
}

impl Presented {
    /// Reads what rustls has verified.
    pub(crate) fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate.subject_alternative_name().ok().flatten();
        let names = names.iter().flat_map(|names| &names.value.general_names).take(MAX_NAMES);
        let dns_names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
            _ => None,
        });
        // More than one common name is ambiguous: then none counts.
        let mut common = certificate.subject().iter_common_name();
        let common_name = match (common.next(), common.next()) {
            (Some(one), None) => one.as_str().unwrap_or_default().to_owned(),
            _ => String::new(),
        };
        Some(Self {
            fingerprint: hex::encode(Sha256::digest(der)),
            subject: certificate.subject().to_string(),
            common_name,
            dns_names: dns_names.collect(),
        })
    }
}

/// A client's certificate as configured: who it stands for.
#[derive(Clone, Debug, Default)]
pub struct CertificateSpec {
    /// Its name, and what it may do. No secret.
    pub grant: TokenSpec,
    /// SHA-256 of it, in hex, with or without colons.
    pub fingerprint: Option<String>,
    /// Its subject as `openssl x509 -noout -subject -nameopt RFC2253`... or as the log shows it: `CN=ci` alone stands for the common name.
    pub subject: Option<String>,
    /// A DNS name among its alternative names.
    pub dns_name: Option<String>,
}

/// A checked certificate of a client.
#[derive(Clone, Debug)]
pub struct ClientCertificate {
    grant: Token,
    by: By,
}

/// What a certificate is known by.
#[derive(Clone, Debug, PartialEq, Eq)]
enum By {
    Fingerprint(String),
    Subject(String),
    DnsName(String),
}

impl ClientCertificate {
    /// The workflows that its scopes name.
    pub(crate) fn named_workflows(&self) -> Vec<String> {
        self.grant.named_workflows()
    }

    /// Checks an entry.
    ///
    /// # Errors
    /// Every mistake.
    pub fn new(spec: CertificateSpec) -> Result<Self, Vec<Mistake>> {
        let mut mistakes = Vec::new();
        let by = match (spec.fingerprint, spec.subject, spec.dns_name) {
            (Some(text), None, None) => {
                let plain: String =
                    text.chars().filter(|c| *c != ':').collect::<String>().to_ascii_lowercase();
                let plain = plain.strip_prefix("sha256").unwrap_or(&plain).to_owned();
                if plain.len() != 64 || !plain.bytes().all(|b| b.is_ascii_hexdigit()) {
                    let detail = "is the SHA-256 of the certificate: openssl x509 -noout -fingerprint -sha256 -in FILE";
                    mistakes.push(Mistake::new("fingerprint", detail));
                }
                By::Fingerprint(plain)
            }
            (None, Some(text), None) => {
                if text.trim().is_empty() || !text.contains('=') {
                    mistakes.push(Mistake::new("subject", "is such as CN=ci, or the whole subject"));
                }
                By::Subject(text.trim().to_owned())
            }
            (None, None, Some(text)) => {
                if text.is_empty() || text.contains(['*', ' ']) {
                    mistakes.push(Mistake::new("dns_name", "is a whole name, such as ci.example.org"));
                }
                By::DnsName(text.to_ascii_lowercase())
            }
            _ => {
                mistakes.push(Mistake::new("", "say one of fingerprint, subject and dns_name"));
                By::Fingerprint(String::new())
            }
        };
        match Token::of_certificate(spec.grant) {
            Ok(grant) if mistakes.is_empty() => Ok(Self { grant, by }),
            Ok(_) => Err(mistakes),
            Err(others) => Err(mistakes.into_iter().chain(others).collect()),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.grant.name()
    }

    /// What it may do, if this certificate is it.
    pub(crate) fn grant(&self, presented: &Presented) -> Option<&Token> {
        let fits = match &self.by {
            By::Fingerprint(fingerprint) => *fingerprint == presented.fingerprint,
            By::Subject(subject) => match subject.strip_prefix("CN=").filter(|name| !name.contains(',')) {
                Some(name) => !name.is_empty() && name == presented.common_name,
                None => *subject == presented.subject,
            },
            By::DnsName(name) => presented.dns_names.contains(name),
        };
        fits.then_some(&self.grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> CertificateSpec {
        let grant = TokenSpec {
            name: "ci".to_owned(),
            scopes: vec!["task:*:read".to_owned()],
            sites: vec!["*".to_owned()],
            ..TokenSpec::default()
        };
        CertificateSpec { grant, ..CertificateSpec::default() }
    }

    fn presented() -> Presented {
        Presented {
            fingerprint: "ab".repeat(32),
            subject: "O=Example, CN=ci".to_owned(),
            common_name: "ci".to_owned(),
            dns_names: vec!["ci.example.test".to_owned()],
        }
    }

    #[test]
    fn a_certificate_is_known_by_one_thing() {
        let known =
            |spec: CertificateSpec| ClientCertificate::new(spec).unwrap().grant(&presented()).is_some();
        let colons = vec!["AB"; 32].join(":");
        assert!(known(CertificateSpec { fingerprint: Some(colons), ..spec() }));
        assert!(!known(CertificateSpec { fingerprint: Some("ac".repeat(32)), ..spec() }));
        for (subject, want) in
            [("CN=ci", true), ("CN=c", false), ("O=Example, CN=ci", true), ("O=Other, CN=ci", false)]
        {
            assert_eq!(
                known(CertificateSpec { subject: Some(subject.to_owned()), ..spec() }),
                want,
                "{subject}"
            );
        }
        assert!(known(CertificateSpec { dns_name: Some("CI.example.test".to_owned()), ..spec() }));
        assert!(!known(CertificateSpec { dns_name: Some("example.test".to_owned()), ..spec() }));
    }

    #[test]
    fn mistakes_are_told() {
        let fields = |spec: CertificateSpec| -> Vec<String> {
            ClientCertificate::new(spec).unwrap_err().into_iter().map(|mistake| mistake.field).collect()
        };
        assert_eq!(fields(spec()), [""]);
        let two =
            CertificateSpec { subject: Some("CN=a".to_owned()), dns_name: Some("a".to_owned()), ..spec() };
        assert_eq!(fields(two), [""]);
        assert_eq!(fields(CertificateSpec { fingerprint: Some("ab".to_owned()), ..spec() }), ["fingerprint"]);
        assert_eq!(fields(CertificateSpec { subject: Some("ci".to_owned()), ..spec() }), ["subject"]);
        assert_eq!(fields(CertificateSpec { dns_name: Some("*.a.test".to_owned()), ..spec() }), ["dns_name"]);
        let nothing = Tls::new(&TlsSpec { required: true, ..TlsSpec::default() }).unwrap_err();
        let fields: Vec<&str> = nothing.iter().map(|mistake| mistake.field.as_str()).collect();
        assert_eq!(fields, ["certificate_file", "key_file", "client_auth"]);
    }
}
