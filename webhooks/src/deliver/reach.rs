//! Whether an endpoint can be reached: its name has addresses that are allowed, and one of them takes a connection. Sends nothing.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;
use url::Host;

use super::guard;
use crate::endpoint::{Endpoint, Kind};

/// Longest wait for a name or a connection: somebody looks on.
const LIMIT: Duration = Duration::from_secs(10);

impl Endpoint {
    /// Its name in the configuration.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Looks whether callbacks could be sent to it, and sends none. Mail servers are asked whether they take the login too.
    ///
    /// # Errors
    /// Why they could not, in words without the path of its URL, which may be a secret.
    pub async fn reach(&self) -> Result<(), String> {
        if let Kind::Mail(mail) = &self.kind {
            let asked = timeout(LIMIT, mail.smtp.reach()).await;
            return asked.unwrap_or_else(|_| Err(slow("no answer of the mail server")));
        }
        let port = self.url.port_or_known_default().unwrap_or(443);
        let addresses: Vec<SocketAddr> = match self.url.host() {
            Some(Host::Ipv4(address)) => vec![(IpAddr::V4(address), port).into()],
            Some(Host::Ipv6(address)) => vec![(IpAddr::V6(address), port).into()],
            Some(Host::Domain(name)) => {
                let found = timeout(LIMIT, lookup_host((name, port))).await;
                let found = found.map_err(|_| slow(&format!("no address of {name}")))?;
                found.map_err(|error| format!("{name} has no address: {error}"))?.collect()
            }
            None => Vec::new(),
        };
        let host = self.url.host_str().unwrap_or_default();
        let ips = addresses.iter().map(SocketAddr::ip);
        guard::check(host, ips, &self.allow_private).map_err(|error| error.to_string())?;
        match timeout(LIMIT, TcpStream::connect(addresses.as_slice())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{host}:{port} takes no connection: {error}")),
            Err(_) => Err(slow(&format!("no connection to {host}:{port}"))),
        }
    }
}

fn slow(what: &str) -> String {
    format!("{what} within {} s", LIMIT.as_secs())
}

#[cfg(test)]
mod tests {
    use crate::{Endpoint, EndpointSpec};

    async fn reach(url: &str, allowed: &[&str]) -> Result<(), String> {
        let spec = EndpointSpec {
            name: "ci".to_owned(),
            url: url.to_owned(),
            secrets: vec![crate::Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")],
            allow_private: allowed.iter().map(|net| (*net).to_owned()).collect(),
            ..EndpointSpec::default()
        };
        Endpoint::new(spec).unwrap().reach().await
    }

    #[tokio::test]
    async fn what_is_there_and_allowed_is_reached() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/secret/path", listener.local_addr().unwrap());
        assert_eq!(reach(&url, &["127.0.0.0/8"]).await, Ok(()));
        let told = reach(&url, &["10.0.0.0/8"]).await.unwrap_err();
        assert!(told.contains("127.0.0.1, which is not public; allow its network"), "{told}");
        let told = reach(&url.replace("127.0.0.1", "localhost"), &["10.0.0.0/8"]).await.unwrap_err();
        assert!(told.contains("which is not public"), "{told}");
        drop(listener);
        let told = reach(&url, &["127.0.0.0/8"]).await.unwrap_err();
        assert!(told.contains("takes no connection") && !told.contains("secret"), "{told}");
        let told = reach("https://nowhere.invalid/x", &[]).await.unwrap_err();
        assert!(told.starts_with("nowhere.invalid has no address"), "{told}");
    }
}
