//! What a process proves itself with.

use crate::pki::{CellName, ClusterSecrets, PkiError, dns_name};
use escape_proto::Role;
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use std::fmt;
use std::sync::Arc;

/// A process's certificate and key, ready for links in both directions. Cheap to clone.
#[derive(Clone)]
pub struct Identity {
    role: Role,
    cell: CellName,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Identity {
    /// Reads the PEM texts and checks that they belong together.
    ///
    /// # Errors
    /// [`PkiError`] says which part is unusable.
    pub fn new(secrets: &ClusterSecrets) -> Result<Self, PkiError> {
        let root = certificate("authority certificate", &secrets.authority)?;
        let own = certificate("process certificate", &secrets.certificate)?;
        let key = || {
            PrivateKeyDer::from_pem_slice(secrets.key.as_bytes())
                .map_err(|e| PkiError::Pem { what: "process key", detail: e.to_string() })
        };
        check_name(&own, secrets.role, &secrets.cell)
            .map_err(|source| PkiError::WrongRole { expected: dns_name(secrets.role, &secrets.cell), source })?;

        let mut roots = RootCertStore::empty();
        roots.add(root).map_err(|source| PkiError::Tls { what: "authority certificate", source })?;
        let roots = Arc::new(roots);
        let provider = Arc::new(provider());
        let unfit = |source| PkiError::Tls { what: "process certificate and key", source };

        let mut client = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_root_certificates(Arc::clone(&roots))
            .with_client_auth_cert(vec![own.clone()], key()?)
            .map_err(unfit)?;
        // Every link proves itself anew: no tickets, nothing that could be replayed.
        client.resumption = Resumption::disabled();

        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider))
            .build()
            .map_err(|e| PkiError::Pem { what: "authority certificate", detail: e.to_string() })?;
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])
            .map_err(unfit)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![own], key()?)
            .map_err(unfit)?;
        server.send_tls13_tickets = 0;

        Ok(Self { role: secrets.role, cell: secrets.cell.clone(), client: Arc::new(client), server: Arc::new(server) })
    }

    /// Whose it is.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// The cell.
    pub const fn cell(&self) -> &CellName {
        &self.cell
    }

    pub(crate) fn client_config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.client)
    }

    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.server)
    }

    /// The name under which the process of that role must show itself.
    pub(crate) fn name_of(&self, role: Role) -> Result<ServerName<'static>, rustls::Error> {
        server_name(role, &self.cell)
    }

    /// Does this certificate (already verified against the authority) speak for the role?
    pub(crate) fn speaks_for(&self, certificate: &CertificateDer<'_>, role: Role) -> Result<(), rustls::Error> {
        check_name(certificate, role, &self.cell)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("role", &self.role).field("cell", &self.cell).finish_non_exhaustive()
    }
}

/// AES-128-GCM first: it is the quickest on processors with AES instructions; ChaCha20 for those without.
fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: vec![
            ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
            ring::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![ring::kx_group::X25519],
        ..ring::default_provider()
    }
}

fn certificate(what: &'static str, pem: &str) -> Result<CertificateDer<'static>, PkiError> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|e| PkiError::Pem { what, detail: e.to_string() })
}

fn server_name(role: Role, cell: &CellName) -> Result<ServerName<'static>, rustls::Error> {
    // A cell name is a DNS label by construction, so this does not fail; but no panic rests on that.
    ServerName::try_from(dns_name(role, cell)).map_err(|e| rustls::Error::General(e.to_string()))
}

fn check_name(certificate: &CertificateDer<'_>, role: Role, cell: &CellName) -> Result<(), rustls::Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    rustls::client::verify_server_name(&parsed, &server_name(role, cell)?)
}
