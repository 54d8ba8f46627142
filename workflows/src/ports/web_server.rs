//! The web server port: one vhost file a site, tested before it counts, reloaded until the new revision answers.

use std::collections::BTreeMap;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PortResult;
use crate::names::SiteName;

/// A web server (nginx, Apache): owns one vhost file a site in its vhost directory.
#[async_trait]
pub trait WebServer: Send + Sync {
    /// Tests the configuration as it is on disk. A failure names the culprit file where the server tells it.
    async fn test(&self) -> PortResult<ConfigTest>;

    /// The vhost file of a site, whoever wrote it, if there is one.
    async fn vhost(&self, site: &SiteName) -> PortResult<Option<SavedFile>>;

    /// The vhost file that serves a host name now (by `server_name`/`ServerName`/aliases of all enabled vhosts), if any:
    /// answers "is this name taken, and by which file".
    async fn server_of(&self, host_name: &SiteName) -> PortResult<Option<String>>;
    /// The same for visitors with HTTPS, which may well be another file.
    async fn tls_server_of(&self, host_name: &SiteName) -> PortResult<Option<String>>;
    /// The vhost file that has this very name for visitors with HTTPS, not a pattern that fits it: with it there,
    /// [`WebServer::put_vhost`] refuses the name to another vhost with a certificate.
    async fn tls_named_in(&self, host_name: &SiteName) -> PortResult<Option<String>>;
    /// Whether denials in `.htaccess` files among a site's own files count. Pure: does not touch the host.
    fn counts_htaccess(&self) -> bool;
    /// The port that visitors with HTTPS come in by. Pure: does not touch the host.
    fn tls_port(&self) -> u16;

    /// The bytes this server would write for a vhost, and their revision. Pure: does not touch the host.
    fn render(&self, vhost: &Vhost) -> RenderedVhost;

    /// Brings about that the host has the certificate: a self-signed one is made there, for all names, when it is missing, names others or
    /// ends within 30 days; the key never leaves the host. One of somebody else has to be there: `Refused` with its path.
    async fn ensure_certificate(&self, names: &[SiteName], tls: &Tls) -> PortResult<()>;

    /// What is wrong with a site's certificate, in lines for people: missing, over, over within 14 days, not for one of the names. Only looks.
    async fn certificate_faults(&self, names: &[SiteName], tls: &Tls) -> PortResult<Vec<String>>;

    /// Writes a site's vhost file (temp, fsync, rename; 0644 root). Does not reload. `expected` is what must be there now
    /// (hash, or `None` for nothing), or the very bytes to be written (a repeated call): otherwise `NotOurs`. What the server does not take
    /// is taken back at once, before anybody else tests or reloads: `Refused`, with the server's words.
    async fn put_vhost(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
    ) -> PortResult<RenderedVhost>;
    /// The same for an undo, which puts a vhost of before in its place again: whoever else serves its names by now, they were its own.
    async fn put_back_vhost(
        &self,
        site: &SiteName,
        vhost: &Vhost,
        expected: Option<&str>,
    ) -> PortResult<RenderedVhost>;

    /// Puts back what was saved (bytes, mode, owner; `None`: removes the file), if what is there now is one of `ours` (hashes)
    /// or already what was saved; otherwise `NotOurs`. Does not reload.
    async fn restore_vhost(
        &self,
        site: &SiteName,
        saved: Option<&SavedFile>,
        ours: &[String],
    ) -> PortResult<()>;

    /// The revision that the server answers under this file, if the file is one of ours: each has a line `# kedge-revision: ...`.
    fn revision_in(&self, file: &[u8]) -> Option<String> {
        let text = std::str::from_utf8(file).ok()?;
        text.lines().find_map(|line| line.strip_prefix("# kedge-revision: ")).map(str::to_owned)
    }

    /// Who wrote a vhost file. Pure: does not touch the host.
    fn origin(&self, file: &[u8]) -> VhostOrigin;

    /// The names that a vhost file serves, in the server's words; where it serves one on another port than that of plain HTTP, with
    /// that port (`shop.example.org:443`). Sorted. Absent: none.
    async fn names_in(&self, path: &str) -> PortResult<Vec<String>>;
    /// Takes away a vhost file of another name than the site's own, so that the site's own can take its names: what is there must be as
    /// saved, or nothing. `false`, and nothing done, where the saved one is the site's own. Does not reload.
    /// [`WebServer::restore_vhost`] puts it back.
    async fn set_aside(&self, site: &SiteName, saved: &SavedFile) -> PortResult<bool>;

    /// Makes the server take its files: config test first (a failure names the culprit and nothing is reloaded: `Refused` where it is the
    /// site's own file, `Unavailable` where somebody else has to mend theirs), reload, then polls until `revision` is answered for `site`
    /// on this host (or, with `None`, until no revision of ours is answered for it). Where that is on disk and answered already, a test or
    /// reload that fails is no failure. Concurrent reloads are coalesced.
    async fn reload(&self, site: &SiteName, revision: Option<&str>) -> PortResult<()>;

    /// A GET from the host to the server itself, for a host name. Redirects are not followed; the body is bounded (1 MiB).
    async fn get(&self, request: &Get) -> PortResult<Answer>;

    /// The same asked on every host that this server runs on, with the host's name where there are several.
    async fn get_everywhere(&self, request: &Get) -> PortResult<Vec<(String, Answer)>> {
        Ok(vec![(String::new(), self.get(request).await?)])
    }
}

/// Who wrote a vhost file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VhostOrigin {
    /// Kedge, this one or an earlier one, and nobody changed it since.
    Ours,
    /// Kedge, and somebody changed it since.
    Edited,
    /// Somebody else.
    Foreign,
}

/// What a configuration test said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", rename_all = "snake_case")]
pub enum ConfigTest {
    /// The configuration is valid.
    Valid,
    /// It is not.
    Invalid {
        /// The file at fault, where the server names one.
        culprit: Option<String>,
        /// The server's words, bounded.
        message: String,
    },
}

/// A vhost as the workflows mean it; each driver renders it in its own language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vhost {
    /// The site's host name.
    pub site: SiteName,
    /// Other names it answers to.
    pub aliases: Vec<SiteName>,
    /// What visitors get.
    pub mode: VhostMode,
    /// Where the site's code and files are: absent for `Redirect`.
    pub target: Option<VhostTarget>,
    /// Its certificate, and where its other names lead.
    #[serde(default, skip_serializing_if = "Reach::is_plain")]
    pub reach: Reach,
}

/// How visitors reach a site. The default: every name answers, by plain HTTP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reach {
    /// Its certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The one of its names that visitors of all others are sent to while the site is live (301, path kept).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canonical: Option<SiteName>,
    /// Pages that it answers in its own way, by which it is known to be well. No vhost tells of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pages: Vec<UsualPage>,
}

/// How a site answers for a page, where its application usually answers otherwise: a login page that is hidden, a front page that leads on
/// to a language.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UsualPage {
    /// The path, and a query.
    #[schemars(length(min = 1, max = 1024), regex(pattern = r"^/[!-~]*$"))]
    pub path: String,
    /// The status of its answer.
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
}

impl Reach {
    /// Whether it is the default.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        *self == Self::default()
    }

    /// Whether visitors are sent to HTTPS.
    #[must_use]
    pub fn https_only(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.only)
    }
}

/// A certificate on the web server's host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Absolute path of the certificate and its chain, PEM.
    pub certificate: String,
    /// Absolute path of its private key. Kedge names it to the server and never reads it.
    pub key: String,
    /// Whether Kedge makes both, signed by itself.
    #[serde(default)]
    pub self_signed: bool,
    /// Whether visitors who come by plain HTTP are sent to HTTPS while the site is live.
    #[serde(default)]
    pub only: bool,
}

/// What visitors of a vhost get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "mode", rename_all = "snake_case")]
pub enum VhostMode {
    /// The site.
    Live,
    /// 503 with Retry-After for everybody, except requests with cookie `kedge_bypass=<token>`: they get the site.
    Maintenance {
        /// A random token, made for this task; `None`: nobody passes.
        bypass: Option<String>,
    },
    /// A static "disabled" page with 503 and no Retry-After.
    Disabled,
    /// 301 to another site, path kept.
    Redirect {
        /// Where to.
        to: SiteName,
    },
}

/// What a live vhost serves. All paths are absolute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VhostTarget {
    /// The platform's root: document root.
    pub platform_root: String,
    /// The site's directory. Its `wp-content/` (WordPress) is served under `/wp-content/`; everything else in the platform's
    /// `sites/` is denied to visitors. PHP gets `KEDGE_SITE=<file name of site_dir>`.
    pub site_dir: String,
    /// The application, which decides rewrite rules and what is denied.
    pub app: super::AppKind,
}

/// A rendered vhost file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderedVhost {
    /// The file's text.
    pub text: String,
    /// Its SHA-256 in hex.
    pub sha256: String,
    /// What the server answers at `/.well-known/kedge-revision` under this vhost: changes with every change of the text.
    pub revision: String,
}

/// A file as it was, to be put back exactly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavedFile {
    /// Where it is: for a vhost, the real path (a symlink in `sites-enabled` is kept as such: `symlink` is its target).
    pub path: String,
    /// Its bytes, base64 in JSON. At most 256 KiB.
    #[serde(with = "crate::encoding::base64_bytes")]
    pub bytes: Vec<u8>,
    /// SHA-256 of the bytes in hex.
    pub sha256: String,
    /// Permission bits.
    pub mode: u32,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Modification time in nanoseconds since 1970: put back too.
    pub mtime_ns: i64,
    /// The link's target when the path is a symbolic link.
    pub symlink: Option<String>,
    /// What the other hosts of a cluster have in its place, by host; `None`: nothing.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub elsewhere: BTreeMap<String, Option<SavedFile>>,
}

impl SavedFile {
    /// Hashes of it on every host.
    #[must_use]
    pub fn hashes(&self) -> Vec<String> {
        let elsewhere = self.elsewhere.values().flatten().map(|file| file.sha256.clone());
        std::iter::once(self.sha256.clone()).chain(elsewhere).collect()
    }
}

/// A request to the server on its own host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Get {
    /// The host name in the request.
    pub host: SiteName,
    /// Path and query, beginning with a slash.
    pub path: String,
    /// The bypass token of a maintenance vhost; never in argv.
    pub bypass: Option<String>,
}

/// What the server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// `Location`, if any.
    pub location: Option<String>,
    /// `Content-Type`, if any.
    pub content_type: Option<String>,
    /// The body's first MiB.
    pub body: Vec<u8>,
}
