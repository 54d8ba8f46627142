//! The driver's decisions on a machine that is a script: what is run, in which order, and what never is.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream;
use kedge_workflows::names::SiteName;
use kedge_workflows::ports::{
    Access, ConfigTest, Files, Get, PortError, PortResult, Reach, Scope, Vhost, VhostMode, WebServer,
};
use kedge_workflows::testing::{FakeDisk, FakeFiles, Faults};

use crate::host::{Command, Finished, Host, Output, Stdin};
use crate::web::{PhpFpm, VhostServer, WebServerConfig, WebServerKind, WebServerShared};

/// Answers a command, by its words and its input.
type Answer = Box<dyn Fn(&str, &str) -> (i32, String) + Send + Sync>;

/// A machine that answers by a function and remembers every command and every input.
pub(super) struct Scripted {
    answer: Answer,
    commands: Mutex<Vec<String>>,
    inputs: Mutex<Vec<String>>,
}

impl Scripted {
    pub(super) fn new(answer: impl Fn(&str, &str) -> (i32, String) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { answer: Box::new(answer), commands: Mutex::default(), inputs: Mutex::default() })
    }

    fn ask(&self, command: Command) -> (i32, String) {
        let words = command.argv.join(" ");
        let input = match command.stdin {
            Stdin::Bytes(bytes) => String::from_utf8(bytes).unwrap(),
            Stdin::Empty | Stdin::Stream(_) => String::new(),
        };
        let answer = (self.answer)(&words, &input);
        self.commands.lock().unwrap().push(words);
        self.inputs.lock().unwrap().push(input);
        answer
    }

    fn ran(&self, words: &str) -> usize {
        self.commands.lock().unwrap().iter().filter(|command| command.contains(words)).count()
    }
}

#[async_trait]
impl Host for Scripted {
    fn name(&self) -> &str {
        "web1"
    }

    async fn run(&self, command: Command) -> PortResult<Finished> {
        tokio::task::yield_now().await;
        let (status, output) = self.ask(command);
        let stderr = if status == 0 { Vec::new() } else { output.clone().into_bytes() };
        Ok(Finished { status, stdout: output.into_bytes(), stderr })
    }

    async fn stream(&self, command: Command) -> PortResult<Output> {
        let (status, output) = self.ask(command);
        let end = PortError::Refused(format!("curl on web1: exit status {status}: {output}"));
        Ok(Box::pin(stream::iter([if status == 0 { Ok(Bytes::from(output)) } else { Err(end) }])))
    }

    async fn clear(&self, _scope: &Scope) -> PortResult<()> {
        Ok(())
    }
}

pub(super) fn site() -> SiteName {
    SiteName::parse("a.test").unwrap()
}

pub(super) fn scope() -> Scope {
    Scope { task: "task".into(), step: "step".into() }
}

pub(super) fn shared(kind: WebServerKind, change: impl FnOnce(&mut WebServerConfig)) -> Arc<WebServerShared> {
    let mut config =
        WebServerConfig::new("web1", kind, "/etc/vhosts", PhpFpm::parse("unix:/run/fpm.sock").unwrap());
    change(&mut config);
    WebServerShared::new(config).unwrap()
}

fn files() -> Arc<dyn Files> {
    Arc::new(FakeFiles::new(FakeDisk::new(), Faults::new()))
}

fn server(kind: WebServerKind, host: &Arc<Scripted>) -> VhostServer {
    shared(kind, |_| ()).handle(host.clone(), files(), &scope())
}

/// nginx, waited for in vain.
fn impatient(host: &Arc<Scripted>) -> VhostServer {
    let shared = shared(WebServerKind::Nginx, |config| config.revision_limit = Duration::from_millis(400));
    shared.handle(host.clone(), files(), &scope())
}

/// As many answers as curl is asked for.
fn series(options: &str, said: impl Fn() -> (&'static str, u16)) -> String {
    let answer = |_| {
        let (body, status) = said();
        format!("{body}\u{1f}{status}\u{1e}")
    };
    (0..options.matches("url = ").count()).map(answer).collect()
}

const REVISION: &str = "0123456789abcdef0123456789abcdef@a.test";

/// A healthy nginx that answers `REVISION` at once.
fn nginx(words: &str, input: &str) -> (i32, String) {
    match words {
        words if words.starts_with("sh -c for program") => (0, "/usr/sbin/nginx\n".into()),
        "nginx -t" | "nginx -s reload" => (0, String::new()),
        "nginx -T" => (
            0,
            "# configuration file /etc/vhosts/a.test.conf:\nserver { listen 80; server_name a.test; }\n"
                .into(),
        ),
        "curl --disable --config -" => (0, series(input, || (REVISION, 200))),
        other => panic!("nobody said that {other:?} would be run"),
    }
}

fn refused<T: std::fmt::Debug>(result: PortResult<T>, words: &str) {
    assert!(matches!(&result, Err(PortError::Refused(what)) if what.contains(words)), "{result:?}");
}

fn unavailable<T: std::fmt::Debug>(result: PortResult<T>, words: &str) {
    assert!(matches!(&result, Err(PortError::Unavailable(what)) if what.contains(words)), "{result:?}");
}

#[tokio::test]
async fn fifty_reloads_at_once_are_two() {
    let host = Scripted::new(nginx);
    let shared = shared(WebServerKind::Nginx, |_| ());
    let handles: Vec<_> = (0..50).map(|_| shared.handle(host.clone(), files(), &scope())).collect();
    let name = site();
    let results = join_all(handles.iter().map(|server| server.reload(&name, Some(REVISION)))).await;
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert!(host.ran("nginx -s reload") <= 2 && host.ran("nginx -t") <= 2, "{:?}", host.commands);
}

#[tokio::test]
async fn an_invalid_configuration_is_not_reloaded_and_its_culprit_is_found() {
    let host = Scripted::new(|words, input| match words {
        "nginx -t" => (
            1,
            "nginx: [emerg] cannot load certificate \"/etc/ssl/none.pem\": BIO_new_file() failed\n".into(),
        ),
        words if words.starts_with("find ") => {
            (0, "/etc/vhosts/b.conf\0/etc/vhosts/a.conf\0/etc/vhosts/a.conf.bak\0".into())
        }
        "grep -aHZs  -- /etc/vhosts/a.conf /etc/vhosts/b.conf" => (
            0,
            "/etc/vhosts/a.conf\0server { }\n/etc/vhosts/b.conf\0ssl_certificate /etc/ssl/none.pem;\n".into(),
        ),
        words => nginx(words, input),
    });
    let server = server(WebServerKind::Nginx, &host);
    let message = "cannot load certificate \"/etc/ssl/none.pem\": BIO_new_file() failed".to_owned();
    assert_eq!(
        server.test().await,
        Ok(ConfigTest::Invalid { culprit: Some("/etc/vhosts/b.conf".into()), message })
    );
    unavailable(server.reload(&site(), Some(REVISION)).await, "(in /etc/vhosts/b.conf): cannot load");
    assert_eq!((host.ran("reload"), host.ran("curl")), (0, 0));
}

/// Where the server takes no reload any more, an undo has nothing to wait for if what it put back was answered all along.
#[tokio::test]
async fn a_reload_that_fails_for_good_holds_up_no_undo() {
    let answered = Arc::new(AtomicBool::new(false));
    let old = answered.clone();
    let host = Scripted::new(move |words, input| match words {
        "nginx -s reload" => (1, "nginx: [error] invalid PID number \"\" in \"/run/nginx.pid\"\n".into()),
        "curl --disable --config -" if old.load(Ordering::SeqCst) => (0, series(input, || (REVISION, 200))),
        "curl --disable --config -" => (0, series(input, || ("another", 200))),
        words => nginx(words, input),
    });
    let (files, root) = (files(), Access { mode: 0o755, user: None, group: None });
    for dir in ["/etc", "/etc/vhosts"] {
        files.make_dir(dir, &root, false).await.unwrap();
    }
    let server = shared(WebServerKind::Nginx, |_| ()).handle(host.clone(), files.clone(), &scope());
    let vhost = Vhost {
        site: site(),
        aliases: vec![],
        mode: VhostMode::Disabled,
        target: None,
        reach: Reach::default(),
    };
    let written = server.put_vhost(&site(), &vhost, None).await.unwrap();
    unavailable(server.reload(&site(), Some(&written.revision)).await, "invalid PID number");
    // As before, while the server answers what was never taken out of it.
    let before = format!("# kedge-revision: {REVISION}\n");
    files.restore(&format!("/etc/vhosts/{}.conf", site()), None, &[written.sha256]).await.unwrap();
    let access = Access { mode: 0o644, user: None, group: None };
    files.put("/etc/vhosts/a.test.conf", before.as_bytes(), &access, None).await.unwrap();
    unavailable(server.reload(&site(), Some(REVISION)).await, "invalid PID number");
    answered.store(true, Ordering::SeqCst);
    server.reload(&site(), Some(REVISION)).await.unwrap();
}

#[tokio::test]
async fn a_vhost_that_the_server_does_not_take_is_not_left_to_others() {
    let vhost = Vhost {
        site: site(),
        aliases: vec![],
        mode: VhostMode::Disabled,
        target: None,
        reach: Reach::default(),
    };
    let taken = Arc::new(AtomicBool::new(true));
    let takes = taken.clone();
    let host = Scripted::new(move |words, input| match words {
        "nginx -t" if !takes.load(Ordering::SeqCst) => {
            (1, "nginx: [emerg] unknown directive \"x\" in /etc/vhosts/a.test.conf:7\n".into())
        }
        words => nginx(words, input),
    });
    let (shared, files) = (shared(WebServerKind::Nginx, |_| ()), files());
    let root = Access { mode: 0o755, user: None, group: None };
    for dir in ["/etc", "/etc/vhosts"] {
        files.make_dir(dir, &root, false).await.unwrap();
    }
    let server = shared.handle(host.clone(), files.clone(), &scope());
    let first = server.put_vhost(&site(), &vhost, None).await.unwrap();
    taken.store(false, Ordering::SeqCst);
    let second = Vhost { mode: VhostMode::Maintenance { bypass: None }, ..vhost };
    let refusal = server.put_vhost(&site(), &second, Some(&first.sha256)).await;
    refused(refusal, "nginx on web1 does not take the vhost of a.test, /etc/vhosts/a.test.conf is as it was");
    let there = server.vhost(&site()).await.unwrap().unwrap();
    assert_eq!(there.sha256, first.sha256, "the old vhost is back before anybody else tests");
    assert_eq!(host.ran("reload"), 0);
}

/// A server whose test is not content with as many vhosts as there are, where it names nobody, or with another file.
#[tokio::test]
async fn a_vhost_that_breaks_the_server_is_found_without_its_name() {
    const OTHER: &str = "/etc/vhosts/b.test.conf";
    let (site, other) = (site(), SiteName::parse("b.test").unwrap());
    let vhost = |site: &SiteName| Vhost {
        site: site.clone(),
        aliases: vec![],
        mode: VhostMode::Disabled,
        target: None,
        reach: Reach::default(),
    };
    for message in [
        "nginx: [emerg] could not build server_names_hash, you should increase server_names_hash_bucket_size: 64",
        "nginx: [emerg] a duplicate default server for 0.0.0.0:80 in /etc/vhosts/other.conf:2",
    ] {
        let (disk, broken) = (FakeDisk::new(), Arc::new(AtomicBool::new(false)));
        let files: Arc<dyn Files> = Arc::new(FakeFiles::new(disk.clone(), Faults::new()));
        let root = Access { mode: 0o755, user: None, group: None };
        for dir in ["/etc", "/etc/vhosts"] {
            files.make_dir(dir, &root, false).await.unwrap();
        }
        let (looked, always) = (disk.clone(), broken.clone());
        let host = Scripted::new(move |words, input| match words {
            "nginx -t" if always.load(Ordering::SeqCst) || looked.bytes(OTHER).is_some() => {
                (1, format!("{message}\n"))
            }
            words if words.starts_with("find ") => (0, String::new()),
            words => nginx(words, input),
        });
        let server = shared(WebServerKind::Nginx, |_| ()).handle(host.clone(), files, &scope());
        server.put_vhost(&site, &vhost(&site), None).await.unwrap();
        let refusal = server.put_vhost(&other, &vhost(&other), None).await;
        refused(refusal, "does not take the vhost of b.test, /etc/vhosts/b.test.conf is as it was: ");
        assert_eq!(disk.bytes(OTHER), None, "{message}");
        // Invalid without ours as well: somebody else's, and ours stays.
        broken.store(true, Ordering::SeqCst);
        let put = server.put_vhost(&other, &vhost(&other), None).await.unwrap();
        assert_eq!(server.vhost(&other).await.unwrap().unwrap().sha256, put.sha256);
    }
}

/// An administrator saves another file in two halves: the first test meets one half of it.
#[tokio::test]
async fn a_file_of_others_that_is_mended_meanwhile_is_no_fault_of_ours() {
    let tests = Arc::new(AtomicUsize::new(0));
    let count = tests.clone();
    let host = Scripted::new(move |words, input| match words {
        "nginx -t" if count.fetch_add(1, Ordering::SeqCst) == 0 => {
            (1, "nginx: [emerg] unexpected end of file, expecting \"}\" in /etc/vhosts/other.conf:2\n".into())
        }
        words => nginx(words, input),
    });
    let files = files();
    let root = Access { mode: 0o755, user: None, group: None };
    for dir in ["/etc", "/etc/vhosts"] {
        files.make_dir(dir, &root, false).await.unwrap();
    }
    let server = shared(WebServerKind::Nginx, |_| ()).handle(host.clone(), files, &scope());
    let vhost = Vhost {
        site: site(),
        aliases: vec![],
        mode: VhostMode::Disabled,
        target: None,
        reach: Reach::default(),
    };
    let put = server.put_vhost(&site(), &vhost, None).await.unwrap();
    assert_eq!(server.vhost(&site()).await.unwrap().unwrap().sha256, put.sha256);
    assert_eq!(tests.load(Ordering::SeqCst), 3, "with ours, without it, and with it again");
}

#[tokio::test]
async fn a_test_does_not_meet_what_another_task_is_writing() {
    let host = Scripted::new(nginx);
    let shared = shared(WebServerKind::Nginx, |_| ());
    let server = shared.handle(host.clone(), files(), &scope());
    let writing = shared.writing.write().await;
    let mut test = Box::pin(server.test());
    for _ in 0..10 {
        assert!(futures::poll!(&mut test).is_pending(), "tested between a vhost and the verdict on it");
    }
    assert_eq!(host.ran("nginx -t"), 0);
    drop(writing);
    assert_eq!(test.await, Ok(ConfigTest::Valid));
}

#[tokio::test]
async fn a_reload_counts_when_every_fresh_connection_is_new() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    // The old workers answer first, then now and then, then no more.
    let host = Scripted::new(move |words, input| match words {
        "curl --disable --config -" => {
            let old = |n: usize| n < 3 || (n < 25 && n.is_multiple_of(5));
            (
                0,
                series(input, || {
                    if old(count.fetch_add(1, Ordering::SeqCst)) { ("old", 200) } else { (REVISION, 200) }
                }),
            )
        }
        words => nginx(words, input),
    });
    server(WebServerKind::Nginx, &host).reload(&site(), Some(REVISION)).await.unwrap();
    assert!(asked.load(Ordering::SeqCst) > 25, "an old answer among the last ones does not count");
}

#[tokio::test]
async fn a_revision_that_never_comes_is_told_with_its_reason() {
    let dump = |text: &'static str| {
        Scripted::new(move |words, input| match words {
            "nginx -T" => (0, text.to_owned()),
            "curl --disable --config -" => (22, series(input, || ("", 404))),
            words => nginx(words, input),
        })
    };
    for (text, reason) in [
        (
            "# configuration file /etc/vhosts/b.conf:\nserver { server_name a.test; }\n",
            "a.test is served by /etc/vhosts/b.conf",
        ),
        (
            "# configuration file /etc/nginx/nginx.conf:\n",
            "/etc/vhosts/a.test.conf is not part of its configuration; check vhost_dir",
        ),
        (
            "# configuration file /etc/vhosts/a.test.conf:\nserver { server_name a.test; }\n",
            "its error log may tell why",
        ),
    ] {
        let host = dump(text);
        unavailable(impatient(&host).reload(&site(), Some(REVISION)).await, reason);
    }
}

#[tokio::test]
async fn without_a_revision_none_of_the_site_may_be_left() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let host = Scripted::new(move |words, input| match words {
        "curl --disable --config -" => (
            0,
            series(input, || match count.fetch_add(1, Ordering::SeqCst) {
                0..4 => (REVISION, 200),
                // Another site of ours answers for unknown names: not this one's revision.
                _ => ("0123456789abcdef0123456789abcdef@default.test", 200),
            }),
        ),
        words => nginx(words, input),
    });
    server(WebServerKind::Nginx, &host).reload(&site(), None).await.unwrap();
    assert!(asked.load(Ordering::SeqCst) >= 12);
    let gone = Scripted::new(|words, input| match words {
        "curl --disable --config -" => (7, series(input, || ("", 0))),
        words => nginx(words, input),
    });
    server(WebServerKind::Nginx, &gone).reload(&site(), None).await.unwrap();
    unavailable(impatient(&gone).reload(&site(), Some(REVISION)).await, "no answer");
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let host = Scripted::new(|words, input| match words {
        "nginx -s reload" => {
            (1, "nginx: [error] open() \"/run/nginx.pid\" failed (2: No such file or directory)".into())
        }
        words => nginx(words, input),
    });
    unavailable(
        server(WebServerKind::Nginx, &host).reload(&site(), Some(REVISION)).await,
        "nginx on web1: exit status 1: nginx: [error] open()",
    );
}

#[tokio::test]
async fn apache_is_never_started() {
    for (name, runs) in
        [((1, String::new()), false), ((0, "sshd\n".to_owned()), false), ((0, "apache2\n".to_owned()), true)]
    {
        let answer = name.clone();
        let host = Scripted::new(move |words, input| match words {
            words if words.starts_with("sh -c for program") => (0, "/usr/sbin/apache2ctl\n".into()),
            words if words.starts_with("apache2ctl -t") => (0, "PidFile: \"/run/apache2.pid\"\n".into()),
            words if words.ends_with("kedge-running /run/apache2.pid") => answer.clone(),
            "apache2ctl -k graceful" => (0, String::new()),
            words => nginx(words, input),
        });
        let result = server(WebServerKind::Apache, &host).reload(&site(), Some(REVISION)).await;
        if runs {
            result.unwrap();
        } else {
            unavailable(result, "Apache on web1 is not running");
        }
        assert_eq!(host.ran("graceful"), usize::from(runs), "{name:?}");
    }
}

#[tokio::test]
async fn systemd_reloads_what_it_runs() {
    for (active, expected) in [(0, "systemctl reload nginx.service"), (3, "nginx -s reload")] {
        let host = Scripted::new(move |words, input| match words {
            words if words.starts_with("sh -c for program") => (0, "/usr/sbin/nginx\nsystemd\n".into()),
            "systemctl is-active --quiet nginx.service" => (active, String::new()),
            "systemctl reload nginx.service" => (0, String::new()),
            words => nginx(words, input),
        });
        server(WebServerKind::Nginx, &host).reload(&site(), Some(REVISION)).await.unwrap();
        assert_eq!(host.ran("reload"), host.ran(expected));
        assert_eq!(host.ran(expected), 1);
    }
}

#[tokio::test]
async fn configured_commands_are_used_as_they_are() {
    let host = Scripted::new(|words, input| match words {
        "my test" | "my reload" => (0, String::new()),
        words => nginx(words, input),
    });
    let shared = shared(WebServerKind::Nginx, |config| {
        config.test_command = Some(vec!["my".into(), "test".into()]);
        config.reload_command = Some(vec!["my".into(), "reload".into()]);
    });
    shared.handle(host.clone(), files(), &scope()).reload(&site(), Some(REVISION)).await.unwrap();
    assert_eq!((host.ran("my test"), host.ran("my reload"), host.ran("nginx")), (1, 1, 0));
}

#[tokio::test]
async fn missing_programs_are_named() {
    let host = Scripted::new(|words, input| match words {
        "curl --disable --config -" => (127, "curl: not found".into()),
        words => nginx(words, input),
    });
    let get = Get { host: site(), path: "/".into(), bypass: None };
    refused(server(WebServerKind::Nginx, &host).get(&get).await, "install curl on web1");
    refused(
        server(WebServerKind::Nginx, &host).reload(&site(), Some(REVISION)).await,
        "install curl on web1",
    );
    let host = Scripted::new(|words, _| match words {
        words if words.starts_with("sh -c for program") => (0, String::new()),
        _ => (127, "not found".into()),
    });
    refused(
        server(WebServerKind::Apache, &host).test().await,
        "apache2ctl is not there: install Apache on web1",
    );
}

#[tokio::test]
async fn a_token_is_in_no_argument() {
    const TOKEN: &str = "0123456789-secret-token";
    let host = Scripted::new(|_, _| (0, "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\npage".into()));
    let get = Get { host: site(), path: "/".into(), bypass: Some(TOKEN.into()) };
    let answer = server(WebServerKind::Nginx, &host).get(&get).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"page".as_slice()));
    assert_eq!(host.ran(TOKEN), 0);
    assert!(host.inputs.lock().unwrap()[0].contains(TOKEN));
}

#[tokio::test]
async fn what_may_pass_is_told_from_what_will_not() {
    let failing = |status, text: &'static str| Scripted::new(move |_, _| (status, text.to_owned()));
    let get = Get { host: site(), path: "/".into(), bypass: None };
    let down = server(WebServerKind::Nginx, &failing(7, "curl: (7) Failed to connect to a.test port 80"))
        .get(&get)
        .await;
    unavailable(down, "the web server on web1 at 127.0.0.1:80: (7) Failed to connect");
    let slow = server(WebServerKind::Nginx, &failing(28, "curl: (28) Operation timed out")).get(&get).await;
    unavailable(slow, "timed out");
    refused(
        server(WebServerKind::Nginx, &failing(1, "curl: (1) Received HTTP/0.9 when not allowed"))
            .get(&get)
            .await,
        "HTTP/0.9",
    );
}

#[tokio::test]
async fn problems_are_told_before_a_task_meets_them() {
    let healthy = |words: &str, input: &str| match words {
        words if words.starts_with("sh -c for program") => {
            (0, "/usr/bin/curl\n/usr/sbin/nginx\n/usr/sbin/apache2ctl\n".into())
        }
        words if words.starts_with("test -") => (0, String::new()),
        words if words.contains("kedge-masters ") => (0, "0\n".into()),
        "apache2ctl -M" => {
            (0, modules(&["alias", "authz_core", "dir", "env", "headers", "proxy_fcgi", "rewrite"]))
        }
        words if words.starts_with("apache2ctl -t") => {
            (0, "VirtualHost configuration:\n*:80  is a NameVirtualHost\n".into())
        }
        words => nginx(words, input),
    };
    for kind in [WebServerKind::Nginx, WebServerKind::Apache] {
        let host = Scripted::new(healthy);
        assert_eq!(server(kind, &host).problems().await, Ok(vec![]), "{kind}");
    }

    let host = Scripted::new(move |words, input| match words {
        "test -d /etc/vhosts" | "test -S /run/fpm.sock" => (1, String::new()),
        "apache2ctl -M" => (0, modules(&["alias", "authz_core", "dir", "env", "rewrite"])),
        words if words.ends_with("kedge-masters apache2 httpd") => (0, "33\n".into()),
        words if words.starts_with("apache2ctl -t") => {
            (0, "VirtualHost configuration:\n192.0.2.7:80  b.test (/etc/vhosts/b.conf:1)\n".into())
        }
        "curl --disable --config -" => (7, series(input, || ("", 0))),
        words => healthy(words, input),
    });
    let problems = server(WebServerKind::Apache, &host).problems().await.unwrap();
    let expected = [
        "vhost_dir /etc/vhosts is no",
        "php_fpm /run/fpm.sock",
        "a2enmod headers proxy_fcgi",
        "runs as user 33",
        "listen on 192.0.2.7",
        "start it",
    ];
    assert_eq!(problems.len(), expected.len(), "{problems:#?}");
    for (problem, words) in problems.iter().zip(expected) {
        assert!(problem.contains(words), "{problem} should tell {words}");
    }

    let bare = Scripted::new(|_, _| (0, String::new()));
    let problems = server(WebServerKind::Nginx, &bare).problems().await.unwrap();
    assert!(
        problems.len() == 2 && problems[0].contains("install curl") && problems[1].contains("install nginx"),
        "{problems:?}"
    );
}

/// As `apache2ctl -M` lists them.
fn modules(names: &[&str]) -> String {
    names.iter().map(|name| format!(" {name}_module (shared)\n")).collect()
}
