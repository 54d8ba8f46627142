//! Our own listener with TLS: its certificate, a new one while it serves, and certificates of clients.

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use reqwest::{Certificate, Identity};

use super::*;
use crate::{CertificateSpec, ClientCertificate, SharedTls, Tls, TlsSpec};

/// Somebody who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "an authority");
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key, as PEM.
    fn signs(&self, common_name: &str, names: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common_name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn tls(&self, required: bool) -> Tls {
        let (certificate, key) = self.signs("kedge", &["127.0.0.1"]);
        let spec = TlsSpec {
            certificate: certificate.into_bytes(),
            key: Some(Secret::new(key)),
            client_ca: Some(self.pem.clone().into_bytes()),
            required,
        };
        Tls::new(&spec).unwrap()
    }

    /// A client that trusts this authority, and may have a certificate of its own.
    fn client(&self, own: Option<&(String, String)>) -> Client {
        let root = Certificate::from_pem(self.pem.as_bytes()).unwrap();
        let mut builder = Client::builder().no_proxy().tls_certs_only([root]);
        if let Some((certificate, key)) = own {
            builder = builder.identity(Identity::from_pem(format!("{certificate}{key}").as_bytes()).unwrap());
        }
        builder.build().unwrap()
    }
}

async fn start_tls(tls: SharedTls) -> (Harness, impl Fn(&Client, &str) -> RequestBuilder) {
    let h = start_with(HttpConfig { tls: Some(tls), ..HttpConfig::default() }).await;
    let base = format!("https://{}", h.address);
    (h, move |client: &Client, path: &str| client.get(format!("{base}{path}")))
}

fn certificate(name: &str, subject: &str) -> ClientCertificate {
    let grant = TokenSpec {
        name: name.to_owned(),
        scopes: vec!["task:*:*".to_owned(), "admin".to_owned()],
        sites: vec!["*".to_owned()],
        ..TokenSpec::default()
    };
    let spec = CertificateSpec { grant, subject: Some(subject.to_owned()), ..CertificateSpec::default() };
    ClientCertificate::new(spec).unwrap()
}

#[tokio::test]
async fn it_speaks_tls_alone_and_takes_a_new_certificate_while_it_serves() {
    let (old, new) = (Authority::new(), Authority::new());
    let tls = SharedTls::new(old.tls(false));
    let (h, get) = start_tls(tls.clone()).await;
    let (kept, stranger) = (old.client(None), new.client(None));
    assert_eq!(get(&kept, "/livez").send().await.unwrap().status(), 200);
    assert!(get(&stranger, "/livez").send().await.unwrap_err().is_connect());
    assert!(h.client.get(h.url("/livez")).send().await.is_err(), "plain HTTP is not answered");
    tls.replace(new.tls(false));
    assert_eq!(get(&stranger, "/livez").send().await.unwrap().status(), 200);
    assert_eq!(
        get(&kept, "/livez").send().await.unwrap().status(),
        200,
        "a connection keeps what it began with"
    );
    assert!(get(&old.client(None), "/livez").send().await.is_err());
    h.end().await;
}

#[tokio::test]
async fn a_client_s_certificate_speaks_for_who_sends_no_token() {
    let authority = Authority::new();
    let tls = SharedTls::new(authority.tls(false));
    let (h, get) = start_tls(tls).await;
    h.app.replace(Access { certificates: vec![certificate("deployer", "CN=ci-7")], ..access() }).unwrap();
    let ours = authority.signs("ci-7", &["ci.example.test"]);
    let client = authority.client(Some(&ours));
    assert_eq!(get(&client, "/v1/tasks").send().await.unwrap().status(), 200);
    let made = client.post(format!("https://{}/v1/tasks", h.address));
    let made =
        made.json(&json!({"workflow": "backup", "params": {"site": "shop.a.test"}})).send().await.unwrap();
    assert_eq!(made.status(), 202);
    assert_eq!(h.tasks.submissions()[0].actor.name, "cert:deployer");
    let wrong_token = get(&client, "/v1/tasks").bearer_auth("wrong").send().await.unwrap();
    assert_eq!(wrong_token.status(), 401, "a token that is sent counts");
    let unknown = authority.client(Some(&authority.signs("ci-8", &[])));
    assert_eq!(
        get(&unknown, "/v1/tasks").send().await.unwrap().status(),
        401,
        "signed, but it stands for nobody"
    );
    assert_eq!(
        get(&authority.client(None), "/v1/tasks").bearer_auth(ADMIN).send().await.unwrap().status(),
        200
    );
    let forged = Authority::new().signs("ci-7", &[]);
    assert!(
        get(&authority.client(Some(&forged)), "/v1/tasks").send().await.is_err(),
        "signed by somebody else"
    );
    h.end().await;
}

#[tokio::test]
async fn where_a_certificate_is_required_nobody_gets_in_without() {
    let authority = Authority::new();
    let (h, get) = start_tls(SharedTls::new(authority.tls(true))).await;
    assert!(get(&authority.client(None), "/livez").send().await.is_err());
    let own = authority.signs("anybody", &[]);
    assert_eq!(get(&authority.client(Some(&own)), "/livez").send().await.unwrap().status(), 200);
    h.end().await;
}

#[tokio::test]
async fn who_does_not_shake_hands_is_cut_off() {
    let tls = SharedTls::new(Authority::new().tls(false));
    let config =
        HttpConfig { tls: Some(tls), header_timeout: Duration::from_millis(200), ..HttpConfig::default() };
    let h = start_with(config).await;
    let mut silent = TcpStream::connect(h.address).await.unwrap();
    assert_eq!(rest(&mut silent).await, "");
    assert!(!raw(h.address, b"GET /livez HTTP/1.1\r\n\r\n").await.contains("200"));
    h.end().await;
}
