//! A `kedge serve` of its own: configuration, data and secrets in a temporary directory; killed when dropped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kedge_testenv::Host;
use tempfile::TempDir;

use crate::face::Face;
use crate::signing::new_secret;
use crate::wait_until;

/// An installation: started, killed and started again at will.
pub struct Kedge {
    binary: PathBuf,
    dir: TempDir,
    port: u16,
    child: Option<Child>,
    /// The secret of its callbacks.
    pub callback_secret: String,
    hook_secret: String,
    token: String,
}

/// How the test host is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// By docker exec.
    Docker,
    /// Over SSH, as a user with sudo.
    Ssh,
}

/// The `kedge` binary: `KEDGE_BIN`, or the one beside this program's folder.
///
/// # Errors
/// When there is none.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("KEDGE_BIN") {
        return Ok(path.into());
    }
    let here = std::env::current_exe()?;
    let mut dirs = here.ancestors().skip(1).take(2).map(|dir| dir.join("kedge"));
    dirs.find(|path| path.is_file())
        .context("there is no kedge binary; run `cargo build -p kedge` first, or set KEDGE_BIN")
}

impl Kedge {
    /// Makes an installation for a test host; `callbacks` is the port of a receiver. Does not start it.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn prepare(host: &Host, transport: Transport, callbacks: u16) -> Result<Self> {
        let reached = match transport {
            Transport::Docker => format!("transport = \"docker\"\ncontainer = {:?}", host.container_name()),
            Transport::Ssh => format!(
                "transport = \"ssh\"\naddress = \"deploy@127.0.0.1:{}\"\nidentity_file = {:?}\nknown_hosts = {:?}\nsudo = true",
                host.ssh_port(),
                host.ssh_key_path(),
                host.known_hosts_path()
            ),
        };
        Self::reaching(&reached, callbacks)
    }

    /// Makes an installation whose only host is reached as these lines of its configuration say. Does not start it.
    ///
    /// # Errors
    /// When files cannot be written.
    pub fn reaching(reached: &str, callbacks: u16) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("kedge-test-").tempdir()?;
        let port = std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let kedge = Self {
            binary: binary()?,
            dir,
            port,
            child: None,
            callback_secret: new_secret(),
            hook_secret: new_secret(),
            token: new_secret(),
        };
        for (name, secret) in
            [("hook", &kedge.hook_secret), ("callback", &kedge.callback_secret), ("token", &kedge.token)]
        {
            let file = kedge.dir.path().join(name);
            fs::write(&file, secret)?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600))?;
        }
        fs::write(kedge.config(), kedge.toml(reached, callbacks))?;
        Ok(kedge)
    }

    /// Adds parts to the configuration, which is read at the start and by [`Kedge::reload`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn configure(&self, parts: &str) -> Result<()> {
        let text = fs::read_to_string(self.config())?;
        Ok(fs::write(self.config(), format!("{text}\n{parts}"))?)
    }

    /// The configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.dir.path().join("kedge.toml")
    }

    /// The directory of configuration, data and log.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The secrets of this installation: they must not be seen anywhere else.
    #[must_use]
    pub fn secrets(&self) -> [&str; 3] {
        [&self.callback_secret, &self.hook_secret, &self.token]
    }

    /// A caller of it.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn face(&self) -> Result<Face> {
        Face::new(&format!("http://127.0.0.1:{}", self.port), &self.token, &self.hook_secret)
    }

    /// Starts it and waits until it is ready.
    ///
    /// # Errors
    /// When it ends or does not get ready: with its log.
    pub async fn start(&mut self) -> Result<()> {
        self.spawn()?;
        let ready = format!("http://127.0.0.1:{}/readyz", self.port);
        let http = reqwest::Client::builder().no_proxy().build()?;
        let waited = wait_until("a ready kedge", Duration::from_secs(60), || async {
            http.get(&ready).send().await.is_ok_and(|response| response.status().is_success())
        });
        let ended = waited.await.is_err() || !self.runs()?;
        ensure!(!ended, "kedge does not serve; its log ends with:\n{}", self.log_end(30));
        Ok(())
    }

    /// Starts it, and does not wait until it is ready.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn spawn(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_file())?;
        let child = Command::new(&self.binary)
            .args(["serve", "--log", "json", "--config"])
            .arg(self.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .with_context(|| self.binary.display().to_string())?;
        self.child = Some(child);
        Ok(())
    }

    /// The most memory that it has held since it was started, in KiB (VmHWM).
    ///
    /// # Errors
    /// When it does not run.
    pub fn peak_kib(&self) -> Result<u64> {
        let pid = self.child.as_ref().context("it does not run")?.id();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Whether the process runs.
    ///
    /// # Errors
    /// When that cannot be told.
    pub fn runs(&mut self) -> Result<bool> {
        match &mut self.child {
            Some(child) => Ok(child.try_wait()?.is_none()),
            None => Ok(false),
        }
    }

    /// SIGKILL: what a power cut is to a process.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        if let Some(mut child) = self.child.take() {
            child.kill()?;
            child.wait()?;
        }
        Ok(())
    }

    /// SIGTERM, and waits for a clean end.
    ///
    /// # Errors
    /// When it does not end cleanly.
    pub async fn stop(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        signal(&child, "-TERM")?;
        let status = tokio::task::spawn_blocking(move || child.wait()).await??;
        ensure!(status.success(), "kedge ended with {status}:\n{}", self.log_end(30));
        Ok(())
    }

    /// SIGHUP: it reads its configuration again.
    ///
    /// # Errors
    /// When it does not run.
    pub fn reload(&self) -> Result<()> {
        signal(self.child.as_ref().context("kedge does not run")?, "-HUP")
    }

    /// Runs a command of the binary on this installation; standard output, and whether the exit code was 0.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn command(&self, args: &[&str]) -> Result<(bool, String)> {
        let output = Command::new(&self.binary)
            .args(args)
            .env("KEDGE_URL", format!("http://127.0.0.1:{}", self.port))
            .env("KEDGE_TOKEN", &self.token)
            .env("KEDGE_CONFIG", self.config())
            .output()?;
        let text = [output.stdout, output.stderr].concat();
        Ok((output.status.success(), String::from_utf8_lossy(&text).into_owned()))
    }

    /// The log file.
    #[must_use]
    pub fn log_file(&self) -> PathBuf {
        self.dir.path().join("kedge.log")
    }

    /// The last lines of the log, without the requests that it answered and the attempts that went well.
    #[must_use]
    pub fn log_end(&self, lines: usize) -> String {
        let text = fs::read_to_string(self.log_file()).unwrap_or_default();
        let all: Vec<&str> =
            text.lines().filter(|line| !line.contains("kedge::http") && !line.contains("\"done\"")).collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    fn toml(&self, reached: &str, callbacks: u16) -> String {
        let dir = self.dir.path().display();
        let mut platforms = String::new();
        for (name, server, version) in [
            ("wordpress-61", "nginx1", "6.1"),
            ("wordpress-68", "nginx1", "6.8"),
            ("apache-61", "apache1", "6.1"),
            ("apache-68", "apache1", "6.8"),
        ] {
            platforms.push_str(&format!(
                "[platforms.{name}]\nweb_server = \"{server}\"\nroot = \"/srv/platforms/wordpress-{version}\"\napp = \"wordpress\"\n\n"
            ));
        }
        format!(
            r#"data_dir = "{dir}/data"
backup_dir = "{dir}/backups"

[http]
listen = "127.0.0.1:{port}"

[hosts.web1]
{reached}

[web_servers.nginx1]
host = "web1"
kind = "nginx"
vhost_dir = "/etc/nginx/sites-enabled"
php_fpm = "unix:/run/php/php-fpm.sock"

[web_servers.apache1]
host = "web1"
kind = "apache"
vhost_dir = "/etc/apache2/sites-enabled"
php_fpm = "unix:/run/php/php-fpm.sock"
port = 8080
tls_port = 8443

[database_servers.db1]
host = "web1"
kind = "mysql"

{platforms}[[tokens]]
name = "test"
secret_file = "token"
scopes = ["task:*:*"]
sites = ["*"]

[[hooks]]
name = "deploy"
provider = "standard"
secret_files = ["hook"]
workflow = "migrate"
params = {{ site = "{{/site}}", target_platform = "{{/platform}}" }}

[[hooks]]
name = "any"
provider = "standard"
secret_files = ["hook"]
workflow = "{{/workflow}}"
params = "{{/params}}"

[[endpoints]]
name = "ci"
url = "http://127.0.0.1:{callbacks}/kedge"
secret_file = "callback"
allow_private = ["127.0.0.0/8"]
"#,
            port = self.port
        )
    }
}

impl Drop for Kedge {
    fn drop(&mut self) {
        if let Err(error) = self.kill() {
            eprintln!("kedge could not be ended: {error}");
        }
    }
}

fn signal(child: &Child, signal: &str) -> Result<()> {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status()?;
    ensure!(sent.success(), "kill {signal} failed");
    Ok(())
}
