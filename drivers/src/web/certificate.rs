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
/// Whether a certificate is for its key; says why not. Apache ends at its next reload when it is not, and its test does not look. Nobody
/// is asked for a passphrase: 2 means that it cannot be told.
const FITS: &str = r#"fits() {
    theirs=$(openssl x509 -in "$1" -noout -pubkey 2>/dev/null </dev/null) ||
        { echo "$1 is no certificate that openssl can read"; return 1; }
    if ! own=$(openssl pkey -in "$2" -pubout -passin pass: 2>/dev/null </dev/null); then
        grep -qa ENCRYPTED "$2" || { echo "$2 is no key that openssl can read"; return 1; }
        echo "$2 is no key that openssl can read without a passphrase, so whether it belongs to $1 is not known"
        return 2
    fi
    [ "$theirs" = "$own" ] || { echo "$1 is not for the key $2; put the two there that belong together"; return 1; }
}
"#;
/// Looks at a certificate and key of somebody else before a vhost names them. Arguments: certificate, key, and where vhosts are if the
/// server's own test reads no keys. What only the server itself can read, with a passphrase (`ssl_password_file`, `SSLPassPhraseDialog`) or
/// where openssl is not installed, has to be there, and no more where the server looks itself or has that key already.
const BELONG: &str = r#"for path in "$1" "$2"; do
    [ -s "$path" ] || { echo "$path is not there: put the site's certificate and key there first" >&2; exit 1; }
done
if command -v openssl >/dev/null; then
    why=$(fits "$1" "$2") && exit 0
    [ $? -eq 2 ] || { echo "$why" >&2; exit 1; }
else
    why="openssl is not there (install it), so whether $2 belongs to $1 is not known"
fi
[ -z "$3" ] || grep -RqsF -- "$2" "$3" ||
    { echo "$why, and no vhost names that key yet: the server would end at its next reload if it does not" >&2; exit 1; }
"#;
/// Makes a certificate and its key unless they are there, for each other, for the same names, for 30 days more. Arguments: certificate,
/// key, common name, alternative names. The key comes first: a certificate without its key, or beside a newer one, is made anew.
const MAKE: &str = r#"set -eu
umask 077
if [ -s "$2" ] && openssl x509 -in "$1" -noout -checkend 2592000 >/dev/null 2>&1 &&
    [ "$(openssl x509 -in "$1" -noout -ext subjectAltName | tail -n +2 | tr -d ' \n')" = "$4" ] &&
    fits "$1" "$2" >/dev/null; then
    exit 0
fi
command -v openssl >/dev/null || { echo "openssl is not there; install it" >&2; exit 1; }
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
command -v openssl >/dev/null || { echo "openssl is not there, so nothing is known of $certificate; install it"; exit 0; }
end=$(openssl x509 -in "$certificate" -noout -enddate 2>/dev/null) ||
    { echo "$certificate is no certificate that openssl can read"; exit 0; }
[ ! -s "$key" ] || fits "$certificate" "$key"
if ! openssl x509 -in "$certificate" -noout -checkend 0 >/dev/null; then
    echo "$certificate is over since ${end#*=}"
elif ! openssl x509 -in "$certificate" -noout -checkend 1209600 >/dev/null; then
    echo "$certificate ends soon: ${end#*=}"
fi
for name; do
    openssl x509 -in "$certificate" -noout -checkhost "$name" | grep -q 'does match' || echo "$certificate is not for $name"
done
"#;

/// A script that can ask what fits.
fn with_fits(script: &str, arguments: &[&str]) -> Vec<String> {
    let script = [FITS, script].concat();
    let words = ["sh", "-c", &script, "kedge-certificate"].into_iter().chain(arguments.iter().copied());
    words.map(str::to_owned).collect()
}

impl VhostServer {
    /// What is wrong with a certificate.
    pub(super) async fn faults_of(&self, names: &[SiteName], tls: &Tls) -> PortResult<Vec<String>> {
        let refused = |what: String| PortError::Refused(format!("{}: {what}", self.what()));
        for path in [&tls.certificate, &tls.key] {
            safe_path(path).map_err(|why| refused(format!("{path:?} {why}")))?;
        }
        let mut arguments = vec![tls.certificate.as_str(), &tls.key];
        arguments.extend(names.iter().map(SiteName::as_str));
        let finished = self.run(with_fits(LOOK, &arguments), LIMIT).await?;
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
            let config = &self.shared.config;
            let unread = if self.shared.dialect.tests_keys() { "" } else { &config.vhost_dir };
            let finished = self.run(with_fits(BELONG, &[&tls.certificate, &tls.key, unread]), LIMIT).await?;
            if finished.status != 0 {
                return Err(refused(finished.last_error()));
            }
            return Ok(());
        }
        let Some(first) = names.first() else { return Ok(()) };
        let common = if first.as_str().len() > MAX_COMMON_NAME { "site" } else { first.as_str() };
        let names: Vec<String> = names.iter().map(|name| format!("DNS:{name}")).collect();
        let arguments = [tls.certificate.as_str(), &tls.key, common, &names.join(",")];
        let finished = self.run(with_fits(MAKE, &arguments), LIMIT).await?;
        if finished.status == 0 {
            return Ok(());
        }
        Err(refused(format!("making the certificate {}: {}", tls.certificate, finished.last_error())))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::{Command, Output};

    use super::*;

    const PARTS: [&str; 2] = ["certificate", "key"];

    fn shell(script: &str, dir: &Path) -> Output {
        Command::new("sh").args(["-ec", script]).current_dir(dir).output().expect("sh")
    }

    /// A directory with `names` of certificates and keys; none where there is no openssl.
    fn made(names: &[&str]) -> Option<tempfile::TempDir> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if !shell("command -v openssl", dir.path()).status.success() {
            println!("skipped: tests of certificates need openssl");
            return None;
        }
        for name in names {
            let script = format!(
                "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj /CN=a.test \
                 -addext subjectAltName=DNS:a.test -keyout {name}.key -out {name}.certificate 2>/dev/null"
            );
            assert!(shell(&script, dir.path()).status.success(), "{name}");
        }
        Some(dir)
    }

    fn ran(script: &str, arguments: &[&str], dir: &Path) -> (bool, String) {
        let path = std::env::var("PATH").expect("a path");
        ran_with(&path, script, arguments, dir)
    }

    fn ran_with(path: &str, script: &str, arguments: &[&str], dir: &Path) -> (bool, String) {
        let argv = with_fits(script, arguments);
        let mut command = Command::new("/bin/sh");
        let output = command.args(&argv[1..]).env("PATH", path).current_dir(dir).output().expect("sh");
        let told = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(told).expect("text"))
    }

    #[test]
    fn a_certificate_is_taken_with_its_own_key_only() {
        let Some(dir) = made(&["a", "b"]) else { return };
        let locked = "openssl pkey -in a.key -aes256 -passout pass:secret -out locked.key; echo x >no.key; cp no.key no.certificate; \
                      cp a.certificate a.certificate.key";
        assert!(shell(locked, dir.path()).status.success());
        for (certificate, key, takes, why) in [
            ("a", "a", true, ""),
            ("a", "b", false, "a.certificate is not for the key b.key"),
            // The server may have the passphrase.
            ("a", "locked", true, "locked.key is no key that openssl can read without a passphrase"),
            ("b", "locked", true, "so whether it belongs to b.certificate is not known"),
            ("a", "no", false, "no.key is no key that"),
            ("a", "a.certificate", false, "a.certificate.key is no key that"),
            ("no", "a", false, "no.certificate is no certificate that"),
            ("a", "none", false, "none.key is not there"),
            ("none", "a", false, "none.certificate is not there"),
        ] {
            let files = [format!("{certificate}.certificate"), format!("{key}.key")];
            let (taken, told) = ran(BELONG, &[&files[0], &files[1], ""], dir.path());
            assert_eq!(taken, takes, "{files:?}: {told}");
            assert!(if takes { told.is_empty() } else { told.contains(why) }, "{files:?}: {told}");
            let (looked, told) = ran(LOOK, &[&files[0], &files[1], "a.test"], dir.path());
            assert!(looked && told.contains(why) && told.is_empty() == why.is_empty(), "{files:?}: {told}");
        }
    }

    #[test]
    fn without_openssl_the_files_have_to_be_there() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        for name in ["a.certificate", "a.key"] {
            std::fs::write(dir.path().join(name), "x").expect("written");
        }
        let run =
            |script: &str, key: &str| ran_with("/nowhere", script, &["a.certificate", key, ""], dir.path());
        assert_eq!(run(BELONG, "a.key"), (true, String::new()));
        let (taken, told) = run(BELONG, "b.key");
        assert!(!taken && told.contains("b.key is not there"), "{told}");
        let (looked, told) = run(LOOK, "a.key");
        assert!(looked && told.contains("openssl is not there"), "{told}");
    }

    /// Apache ends where such a key turns out not to belong to its certificate.
    #[test]
    fn a_key_that_cannot_be_read_is_taken_where_the_server_has_it_already() {
        let Some(dir) = made(&["a"]) else { return };
        let locked = "openssl pkey -in a.key -aes256 -passout pass:secret -out locked.key; mkdir vhosts";
        assert!(shell(locked, dir.path()).status.success());
        let take = |key: &str| ran(BELONG, &["a.certificate", key, "vhosts"], dir.path());
        assert_eq!(take("a.key"), (true, String::new()), "one that can be read is read");
        let (taken, told) = take("locked.key");
        assert!(!taken && told.contains("no vhost names that key yet"), "{told}");
        std::fs::write(dir.path().join("vhosts/x.conf"), "SSLCertificateKeyFile locked.key\n")
            .expect("written");
        assert_eq!(take("locked.key"), (true, String::new()));
    }

    #[test]
    fn a_new_key_beside_an_old_certificate_is_made_whole() {
        let Some(dir) = made(&["a", "b"]) else { return };
        let make = |key: &str| ran(MAKE, &["a.certificate", key, "a.test", "DNS:a.test"], dir.path());
        let read = || PARTS.map(|part| std::fs::read(dir.path().join(format!("a.{part}"))).expect("a file"));
        let before = read();
        assert!(make("a.key").0);
        assert!(read() == before, "what is right stays");
        // A kill between the two renames.
        std::fs::copy(dir.path().join("b.key"), dir.path().join("a.key")).expect("copied");
        assert!(make("a.key").0);
        assert_eq!(ran(BELONG, &["a.certificate", "a.key", ""], dir.path()), (true, String::new()));
        assert!(read()[0] != before[0], "the certificate is a new one");
    }
}
