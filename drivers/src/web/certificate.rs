//! Certificates on the web server's host: a self-signed one is made there by openssl, one of somebody else has to be there. A key never
//! leaves its host, and is never read by us.

use std::time::Duration;

use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{PortError, PortResult, Tls};

use super::server::VhostServer;
use super::vhost::safe_path;

/// A key of 2048 bits takes a busy machine some seconds.
const LIMIT: Duration = Duration::from_secs(120);
/// Longest common name of a certificate (X.520); the names that count are the alternative ones.
const MAX_COMMON_NAME: usize = 64;
/// Makes a certificate and its key unless they are there, for the same names, for 30 days more. Arguments: certificate, key, common name,
/// alternative names. The key comes first: a certificate without its key is made anew.
const MAKE: &str = r#"set -eu
umask 077
if [ -s "$2" ] && openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null 2>&1 &&
    [ "$(openssl x509 -in "$1" -noout -ext subjectAltName | tail -n +2 | tr -d ' \n')" = "$4" ]; then
    exit 0
fi
command -v openssl >/dev/null || { echo "openssl is not there; install it" >&2; exit 127; }
mkdir -p "$(dirname "$1")" "$(dirname "$2")"
openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 365 -subj "/CN=$3" -addext "subjectAltName=$4" \
    -keyout "$2.new" -out "$1.new" 2>/dev/null
mv "$2.new" "$2"
chmod 644 "$1.new"
mv "$1.new" "$1"
"#;
/// Says what is wrong with a certificate, a line each. Arguments: certificate, key, names. `-checkhost` tells by its words only.
const LOOK: &str = r#"certificate=$1 key=$2
shift 2
for path in "$certificate" "$key"; do [ -s "$path" ] || echo "$path is not there"; done
[ -s "$certificate" ] || exit 0
end=$(openssl x509 -in "$certificate" -noout -enddate 2>/dev/null) ||
    { echo "$certificate is no certificate that openssl can read"; exit 0; }
if ! openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null; then
    echo "$certificate is over since ${end#*=}"
elif ! openssl x509 -in "$certificate" -noout -checkend 1209600 >/dev/null; then
    echo "$certificate ends soon: ${end#*=}"
fi
for name; do
    openssl x509 -in "$certificate" -noout -checkhost "$name" | grep -q 'does match' || echo "$certificate is not for $name"
done
"#;

impl VhostServer {
    /// What is wrong with a certificate.
    pub(super) async fn faults_of(&self, names: &[SiteName], tls: &Tls) -> PortResult<Vec<String>> {
        let refused = |what: String| PortError::Refused(format!("{}: {what}", self.what()));
        for path in [&tls.certificate, &tls.key] {
            safe_path(path).map_err(|why| refused(format!("{path:?} {why}")))?;
        }
        let look = ["sh", "-c", LOOK, "kedge-certificate", &tls.certificate, &tls.key];
        let argv = look.into_iter().chain(names.iter().map(SiteName::as_str));
        let finished = self.run(argv.map(str::to_owned).collect(), LIMIT).await?;
        if finished.status != 0 {
            return Err(refused(format!("looking at {}: {}", tls.certificate, finished.last_error())));
        }
        Ok(String::from_utf8_lossy(&finished.stdout).lines().map(str::to_owned).collect())
    }

    /// Brings about that a vhost with this certificate can be written.
    pub(super) async fn certificate_for(&self, names: &[SiteName], tls: &Tls) -> PortResult<()> {
        let refused = |what: String| PortError::Refused(format!("{}: {what}", self.what()));
        for path in [&tls.certificate, &tls.key] {
            safe_path(path).map_err(|why| refused(format!("{path:?} {why}")))?;
        }
        if !tls.self_signed {
            for path in [&tls.certificate, &tls.key] {
                let argv = ["test", "-s", path].map(str::to_owned).to_vec();
                if self.run(argv, LIMIT).await?.status != 0 {
                    return Err(refused(format!(
                        "{path} is not there: put the site's certificate and key there first"
                    )));
                }
            }
            return Ok(());
        }
        let Some(first) = names.first() else { return Ok(()) };
        let common = if first.as_str().len() > MAX_COMMON_NAME { "site" } else { first.as_str() };
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let (names, make) = (names.join(","), ["sh", "-c", MAKE, "kedge-certificate"]);
        let argv = make.into_iter().chain([tls.certificate.as_str(), &tls.key, common, &names]);
        let finished = self.run(argv.map(str::to_owned).collect(), LIMIT).await?;
        if finished.status == 0 {
            return Ok(());
        }
        Err(refused(format!("making the certificate {}: {}", tls.certificate, finished.last_error())))
    }
}
