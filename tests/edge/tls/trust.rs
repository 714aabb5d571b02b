//! Whom a client trusts, and with which certificates: given ones, self-signed ones, those of the system.

use super::*;

#[test]
fn certificate_for_another_name_is_a_permanent_rejection() {
    let authority = Authority::new();
    let site = serve(&authority.issue("other.example"));
    let error = failure(&client(&site, authority.trust()));
    assert!(matches!(&error, WsError::CertificateName { names, .. } if names.contains("other.example")), "{error:?}");
    let persistent = RxWsClient::builder(wss(&site, "/"), WsStr)
        .tls(authority.trust())
        .retry(RetryPolicy::exponential().on_rejected(OnRejected::GiveUp))
        .connect()
        .unwrap();
    assert!(persistent.wait_connected(PATIENCE).unwrap_err().to_string().contains("gave up"));
}

#[test]
fn expired_certificate_has_an_error_of_its_own() {
    let authority = Authority::new();
    let site = serve(&authority.issue_expired("127.0.0.1"));
    let error = failure(&client(&site, authority.trust()));
    assert!(matches!(error, WsError::CertificateExpired(_)), "{error:?}");
}

#[test]
fn unknown_issuer_has_an_error_that_names_the_way_to_trust_it() {
    let site = serve(&Authority::new().issue("127.0.0.1"));
    let error = failure(&client(&site, Authority::new().trust()));
    assert!(matches!(error, WsError::UnknownIssuer(_)), "{error:?}");
    assert!(error.to_string().contains("with_roots_pem"), "{error}");
    let (_, reason) = site.refusal();
    assert!(reason.contains("refuses the server's certificate"), "{reason}");
}

/// Self-signed and marked as an authority's, as `openssl req -x509` makes it.
fn self_signed(name: &str, marked: IsCa) -> Identity {
    self_signed_as(CertificateParams::new(vec![name.into()]).unwrap(), marked)
}

fn self_signed_as(mut params: CertificateParams, marked: IsCa) -> Identity {
    params.is_ca = marked;
    let key = KeyPair::generate().unwrap();
    Identity { certificate: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

const AUTHORITY: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

fn trust(identity: &Identity) -> ClientTls {
    ClientTls::with_roots_pem(&identity.certificate).unwrap()
}

/// Why a client that trusts `trusted` does not talk to a server that is `shown`.
fn mistrust(shown: &Identity, trusted: ClientTls) -> WsError {
    failure(&client(&serve(shown), trusted))
}

#[test]
fn self_signed_certificate_is_its_own_root_however_it_is_marked() {
    for marked in [AUTHORITY, IsCa::Ca(BasicConstraints::Constrained(0)), IsCa::ExplicitNoCa, IsCa::NoCa] {
        let own = self_signed("127.0.0.1", marked);
        is_served(&client(&serve(&own), trust(&own)));
        let known = Authority::new().issue("someone");
        let tls = ClientTls::with_roots_and_identity_pem(&own.certificate, known.certificate, known.key).unwrap();
        is_served(&client(&serve(&own), tls));
    }
}

#[test]
fn self_signed_certificate_not_given_is_refused_with_a_way_to_trust_it() {
    let shown = self_signed("127.0.0.1", AUTHORITY);
    // The same names and marks, and another key.
    let others = [self_signed("127.0.0.1", AUTHORITY), self_signed("127.0.0.1", IsCa::NoCa)];
    for trusted in others.iter().map(trust).chain([Authority::new().trust()]) {
        let error = mistrust(&shown, trusted);
        assert!(matches!(error, WsError::UnknownIssuer(_)), "{error:?}");
        assert!(error.to_string().contains("a self-signed certificate, with ClientTls::with_roots_pem"), "{error}");
    }
}

#[test]
fn authority_below_a_given_one_is_no_server() {
    let authority = Authority::new();
    let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    params.is_ca = AUTHORITY;
    let error = mistrust(&authority.issue_with(params), authority.trust());
    assert!(matches!(error, WsError::UnknownIssuer(_)), "{error:?}");
}

#[test]
fn self_signed_certificate_for_another_name_is_refused() {
    for (name, names) in [("other.example", "other.example"), ("127.0.0.2", "127.0.0.2")] {
        let own = self_signed(name, AUTHORITY);
        let error = mistrust(&own, trust(&own));
        assert!(matches!(&error, WsError::CertificateName { names: told, .. } if told.contains(names)), "{error:?}");
    }
    let mut common_name_only = CertificateParams::new(Vec::new()).unwrap();
    common_name_only.distinguished_name.push(DnType::CommonName, "127.0.0.1");
    let own = self_signed_as(common_name_only, AUTHORITY);
    let error = mistrust(&own, trust(&own)).to_string();
    assert!(error.contains("it is for: none") && error.contains("subjectAltName"), "{error}");
}

#[test]
fn self_signed_certificate_out_of_date_is_refused() {
    let dated = |from, to| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(to, 1, 1));
        self_signed_as(params, AUTHORITY)
    };
    let past = dated(2001, 2002);
    let error = mistrust(&past, trust(&past));
    assert!(matches!(error, WsError::CertificateExpired(_)), "{error:?}");
    let future = dated(4000, 4001);
    let error = mistrust(&future, trust(&future));
    assert!(matches!(&error, WsError::Certificate { reason, .. } if reason.contains("not valid yet")), "{error:?}");
}

/// Shows a certificate without having its key.
#[derive(Debug)]
struct Impostor(Arc<rustls::sign::CertifiedKey>);

impl rustls::server::ResolvesServerCert for Impostor {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }
}

#[test]
fn certificate_alone_does_not_make_the_server() {
    let (shown, other) = (self_signed("127.0.0.1", AUTHORITY), self_signed("127.0.0.1", AUTHORITY));
    let signing = rustls::crypto::ring::sign::any_supported_type(&key(&other.key)).unwrap();
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let impostor = rustls::sign::CertifiedKey::new(vec![pem(&shown.certificate)], signing.clone());
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(Impostor(Arc::new(impostor))));
        let site = Site::over(|builder| builder.tls(Arc::new(config)));
        let error = failure(&client(&site, trust(&shown)));
        assert!(matches!(&error, WsError::Certificate { reason, .. } if reason.contains("ignature")), "{error:?}");
    }
}

#[test]
fn copy_that_differs_in_a_bit_is_refused() {
    let own = self_signed("127.0.0.1", AUTHORITY);
    let mut copy = pem(&own.certificate).to_vec();
    // In its own signature, which nobody checks.
    *copy.last_mut().unwrap() ^= 1;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![copy.into()], key(&own.key))
        .unwrap();
    let site = Site::over(|builder| builder.tls(Arc::new(config)));
    let error = failure(&client(&site, trust(&own)));
    assert!(matches!(error, WsError::UnknownIssuer(_)), "{error:?}");
}

#[test]
fn client_certificate_is_asked_for_and_shown() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let server = ours.issue("127.0.0.1");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(pem(&theirs.pem)).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let clients = rustls::server::WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(clients.build().unwrap())
        .with_single_cert(vec![pem(&server.certificate)], key(&server.key))
        .unwrap();
    let site = Site::over(|builder| builder.tls(Arc::new(config)));
    let known = theirs.issue("someone");
    let tls = ClientTls::with_roots_and_identity_pem(&ours.pem, known.certificate, known.key).unwrap();
    is_served(&client(&site, tls));
    let error = failure(&client(&site, ours.trust()));
    assert!(matches!(error, WsError::CertificateRequired(_)), "{error:?}");
}

#[test]
fn server_reads_its_certificate_from_files() {
    let authority = Authority::new();
    let identity = authority.issue("127.0.0.1");
    let folder = std::env::temp_dir().join(format!("rxplus-edge-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (certificate, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&certificate, &identity.certificate).unwrap();
    std::fs::write(&key, &identity.key).unwrap();
    let tls = ServerTls::from_pem_files(&certificate, &key).unwrap();
    let swapped = ServerTls::from_pem_files(&key, &certificate).unwrap_err();
    assert!(matches!(swapped, WsError::TlsSetup { .. }), "{swapped:?}");
    std::fs::remove_dir_all(&folder).unwrap();
    let site = Site::over(|builder| builder.tls(tls));
    is_served(&client(&site, authority.trust()));
}

/// Runs a test again, in another process, since the system's roots are read once in the life of one.
fn run_as_client(test: &str, site: &Site, roots: &std::path::Path) {
    let mut client = std::process::Command::new(std::env::current_exe().unwrap());
    client.args(["--exact", test]).env(URL, wss(site, "/")).env(ROOTS, roots).env_remove("SSL_CERT_DIR");
    let output = client.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn roots_of_the_system_are_trusted() {
    if let Ok(url) = std::env::var(URL) {
        return is_served(&RxWsClient::connect(url, WsStr).unwrap());
    }
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let root = temporary("root");
    std::fs::write(&root, &authority.pem).unwrap();
    run_as_client("tls::trust::roots_of_the_system_are_trusted", &site, &root);
    std::fs::remove_file(&root).unwrap();
}

#[test]
fn roots_of_the_system_that_come_later_are_found() {
    if let Ok(url) = std::env::var(URL) {
        let root = std::path::PathBuf::from(std::env::var_os(ROOTS).unwrap());
        assert!(matches!(RxWsClient::connect(&url, WsStr), Err(WsError::TlsSetup { .. })));
        std::fs::rename(root.with_extension("later"), &root).unwrap();
        return is_served(&RxWsClient::connect(&url, WsStr).unwrap());
    }
    let authority = Authority::new();
    let site = serve(&authority.issue("127.0.0.1"));
    let root = temporary("later");
    std::fs::write(root.with_extension("later"), &authority.pem).unwrap();
    run_as_client("tls::trust::roots_of_the_system_that_come_later_are_found", &site, &root);
    std::fs::remove_file(&root).unwrap();
}

#[test]
fn what_connects_trusts_the_system_s_roots_alone_unless_told_otherwise() {
    let site = serve(&Authority::new().issue("127.0.0.1"));
    // Where the system has none, making the client says so.
    match RxWsClient::connect(wss(&site, "/"), WsStr) {
        Ok(client) => assert!(matches!(failure(&client), WsError::UnknownIssuer(_))),
        Err(error) => assert!(matches!(error, WsError::TlsSetup { .. }), "{error:?}"),
    }
}
