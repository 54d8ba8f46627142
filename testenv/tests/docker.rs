//! What the test environment promises, on real containers. Runs where `KEDGE_DOCKER_TESTS=1` is set, as the recipe for
//! the whole test run does; elsewhere each test says in one line that it did not run.

#![expect(clippy::unwrap_used, reason = "the helpers of a test fail as the test itself does")]

use std::process::Stdio;
use std::time::{Duration, Instant};

use kedge_testenv::wordpress::{self, SeedSpec, SiteSpec};
use kedge_testenv::{DataDir, Docker, Exec, Host, HostSpec, Progress, Service, Testenv, Things};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;

/// Set in the environment of the process that a test kills.
const VICTIM: &str = "KEDGE_TESTENV_VICTIM";

/// Opens a run, or says why the test does not run.
async fn env() -> Option<Testenv> {
    if std::env::var("KEDGE_NO_DOCKER").is_ok_and(|value| value == "1") {
        eprintln!("not run: KEDGE_NO_DOCKER=1 is set");
        return None;
    }
    if std::env::var("KEDGE_DOCKER_TESTS").is_ok_and(|value| value == "1") {
        return Some(Testenv::open(&Progress::stderr()).await.unwrap());
    }
    eprintln!(
        "not run: this needs Docker; run it with KEDGE_DOCKER_TESTS=1 cargo test -p kedge-testenv --test docker"
    );
    None
}

async fn ssh(host: &Host, user: &str, command: &str) -> std::process::Output {
    let mut ssh = Command::new("ssh");
    ssh.args([
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=yes",
        "-o",
        "IdentitiesOnly=yes",
    ])
    .arg("-o")
    .arg(format!("UserKnownHostsFile={}", host.known_hosts_path().display()))
    .arg("-i")
    .arg(host.ssh_key_path())
    .args(["-p", &host.ssh_port().to_string(), &format!("{user}@127.0.0.1"), command])
    .stdin(Stdio::null());
    ssh.output().await.unwrap()
}

/// Addresses on which this machine listens at a TCP port, from `/proc/net/tcp` (proc(5): hexadecimal, state 0A).
fn listening_addresses(port: u16) -> Vec<String> {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap()
        + &std::fs::read_to_string("/proc/net/tcp6").unwrap();
    let lines = table.lines().filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (address, local) = fields.get(1)?.split_once(':')?;
        (fields[3] == "0A" && local == format!("{port:04X}")).then(|| address.to_owned())
    });
    lines.collect()
}

#[tokio::test]
async fn a_host_has_all_its_services_and_answers_on_loopback_only() {
    let Some(env) = env().await else { return };
    let host = Host::start(&env, &HostSpec::web_and_database("web1")).await.unwrap();

    for user in ["root", "deploy"] {
        let output = ssh(&host, user, "id -un && sudo -n id -u && hostname").await;
        let (said, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(said, format!("{user}\n0\nweb1\n"), "{complaint}");
    }
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(host.ssh_key_path()).unwrap().permissions(),
    );
    assert_eq!(mode & 0o7777, 0o600);

    for server in [Service::Nginx, Service::Apache] {
        assert_eq!(host.get(server, "nobody.example.test", "/").await.unwrap().status, 404, "{server}");
    }
    assert_eq!(
        host.exec_ok(["mariadb", "--defaults-file=/etc/mysql/debian.cnf", "-Ne", "SELECT 6*7"])
            .await
            .unwrap(),
        "42"
    );
    assert_eq!(
        host.exec_ok(["php", "-r", "echo PHP_MAJOR_VERSION, '.', PHP_MINOR_VERSION;"]).await.unwrap(),
        "8.2"
    );
    assert_eq!(
        host.exec_ok(["stat", "-L", "-c", "%F %U", "/run/php/php-fpm.sock"]).await.unwrap(),
        "socket www-data"
    );
    host.exec_ok(["sh", "-c", "nginx -t && apachectl configtest && apachectl -M | grep -q mpm_event"])
        .await
        .unwrap();
    for tool in ["rsync", "zstd", "curl", "setfacl", "setfattr", "flock", "ps", "mariadb-dump"] {
        host.exec_ok(["which", tool]).await.unwrap();
    }
    for service in [Service::Ssh, Service::Nginx, Service::Apache, Service::Mariadb] {
        let addresses = listening_addresses(host.port(service));
        assert_eq!(addresses, ["0100007F"], "{service} is published elsewhere than on 127.0.0.1");
    }
    host.shutdown().await.unwrap();
    env.shutdown().await.unwrap();
}

#[tokio::test]
async fn platforms_are_whole_trees_of_two_versions_without_settings() {
    let Some(env) = env().await else { return };
    let host = Host::start(&env, &HostSpec::new("files", [Service::Php])).await.unwrap();
    for version in ["6.1", "6.8"] {
        let root = format!("/srv/platforms/wordpress-{version}");
        let found = host
            .exec_ok(["php", "-r", &format!("include '{root}/wp-includes/version.php'; echo $wp_version;")])
            .await;
        assert!(found.as_ref().unwrap().starts_with(&format!("{version}.")), "{found:?}");
        for (what, arguments) in [
            ("links and other odd things", vec!["!", "-type", "f", "!", "-type", "d"]),
            ("not root's", vec!["!", "-user", "root"]),
            ("writable for others", vec!["-perm", "/022"]),
            ("settings", vec!["-name", "wp-config.php"]),
            ("unreadable", vec!["-type", "f", "!", "-perm", "-444"]),
        ] {
            let found = host.exec_ok([vec!["find", &root], arguments].concat()).await.unwrap();
            assert_eq!(found, "", "{root}: {what}");
        }
        host.exec_ok(["test", "-f", &format!("{root}/wp-content/themes/twentytwentythree/style.css")])
            .await
            .unwrap();
        // The libraries that Debian keeps elsewhere have become files with something in them.
        let libraries = [
            "wp-includes/ID3/getid3.php",
            "wp-includes/js/underscore.min.js",
            "wp-includes/js/crop/cropper.js",
        ];
        for library in libraries {
            host.exec_ok(["test", "-s", &format!("{root}/{library}")]).await.unwrap();
        }
        let syntax = format!("for f in {root}/wp-includes/ID3/*.php; do php -n -l \"$f\" || exit 1; done");
        host.exec_ok(["sh", "-c", &syntax]).await.unwrap();
    }
}

#[tokio::test]
async fn a_service_that_ends_stays_down_until_it_is_started_and_keeps_its_data() {
    let Some(env) = env().await else { return };
    let host = Host::start(&env, &HostSpec::web_and_database("web1")).await.unwrap();
    let sql = |text: &str| Exec::new(["mariadb", "-N"]).stdin(text);
    host.run_ok(sql("CREATE DATABASE kept; CREATE TABLE kept.t (n INT); INSERT INTO kept.t VALUES (7)"))
        .await
        .unwrap();

    host.stop_service(Service::Mariadb).await.unwrap();
    assert!(!host.run(sql("SELECT 1")).await.unwrap().success());
    host.start_service(Service::Mariadb).await.unwrap();

    // A crash that nobody asked for.
    host.exec_ok(["pkill", "-KILL", "-x", "mariadbd"]).await.unwrap();
    let ready = Exec::new(["kedge-service", "ready", "mariadb"]);
    let begin = Instant::now();
    while host.run(ready.clone()).await.unwrap().code != 3 {
        assert!(begin.elapsed() < Duration::from_secs(20), "the crash is not noticed");
    }
    let logs = host.logs().await.unwrap();
    assert!(logs.contains("mariadb ended by itself with 137 and is not restarted"), "{logs}");
    let error = host.wait_ready().await.unwrap_err().to_string();
    assert!(error.contains("mariadb is down"), "{error}");
    host.start_service(Service::Mariadb).await.unwrap();
    assert_eq!(host.run_ok(sql("SELECT n FROM kept.t")).await.unwrap().text(), "7");

    for server in [Service::Nginx, Service::Apache] {
        host.kill_service(server).await.unwrap();
        assert!(host.get(server, "x.test", "/").await.is_err(), "{server} answers though it was killed");
        host.start_service(server).await.unwrap();
        assert_eq!(host.get(server, "x.test", "/").await.unwrap().status, 404);
    }
    host.kill_service(Service::Php).await.unwrap();
    host.start_service(Service::Php).await.unwrap();
    host.kill_service(Service::Ssh).await.unwrap();
    assert!(!ssh(&host, "root", "true").await.status.success());
    host.start_service(Service::Ssh).await.unwrap();
    assert!(ssh(&host, "root", "true").await.status.success());
}

#[tokio::test]
async fn a_host_comes_back_with_its_ports_keys_and_data_after_a_restart_and_a_power_cut() {
    let Some(env) = env().await else { return };
    let host = Host::start(&env, &HostSpec::web_and_database("web1").srv_on_volume()).await.unwrap();
    let file_systems =
        host.exec_ok(["stat", "-f", "-c", "%T", "/srv", "/var/lib/mysql", "/root"]).await.unwrap();
    assert!(!file_systems.contains("tmpfs") && !file_systems.starts_with("overlay"), "{file_systems}");
    host.run_ok(Exec::new(["mariadb"]).stdin("CREATE DATABASE kept")).await.unwrap();
    host.exec_ok(["sh", "-c", "echo kept >/srv/kept && echo kept >/root/kept"]).await.unwrap();
    let same = async |host: &Host| {
        assert_eq!(host.exec_ok(["cat", "/srv/kept", "/root/kept"]).await.unwrap(), "kept\nkept");
        let found =
            host.run_ok(Exec::new(["mariadb", "-N"]).stdin("SHOW DATABASES LIKE 'kept'")).await.unwrap();
        assert_eq!(found.text(), "kept");
        assert!(ssh(host, "deploy", "true").await.status.success());
        assert_eq!(host.get(Service::Nginx, "x.test", "/").await.unwrap().status, 404);
    };
    let begin = Instant::now();
    host.restart().await.unwrap();
    eprintln!("a restart took {:.1} s", begin.elapsed().as_secs_f32());
    same(&host).await;
    host.kill().await.unwrap();
    assert!(host.exec_ok(["true"]).await.is_err());
    host.boot().await.unwrap();
    same(&host).await;
    host.pause().await.unwrap();
    let hangs =
        tokio::time::timeout(Duration::from_millis(300), host.get(Service::Nginx, "x.test", "/")).await;
    assert!(hangs.is_err(), "a paused host answers");
    host.unpause().await.unwrap();
    same(&host).await;
}

#[tokio::test]
async fn commands_have_input_codes_users_and_bounds() {
    let Some(env) = env().await else { return };
    let host = Host::start(&env, &HostSpec::new("exec", [Service::Php])).await.unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    assert!(host.exec(["cat"], &bytes).await.unwrap().stdout == bytes, "bytes changed on their way");
    let output = host.exec(["sh", "-c", "echo out; echo err >&2; exit 9"], b"").await.unwrap();
    assert_eq!(
        (output.code, output.stdout.as_slice(), output.stderr.as_slice()),
        (9, &b"out\n"[..], &b"err\n"[..])
    );
    assert_eq!(host.exec(["no-such-program"], b"").await.unwrap().code, 127);
    assert_eq!(host.exec(["true"], &bytes).await.unwrap().code, 0); // does not read its input
    let exec = Exec::new(["sh", "-c", "id -un; echo $WORD"]).user("www-data").env("WORD", "a b");
    assert_eq!(host.run_ok(exec).await.unwrap().text(), "www-data\na b");

    let slow = Exec::new(["sh", "-c", "sleep 4242 & wait"]).limit(Duration::from_millis(500));
    let error = host.run(slow).await.unwrap_err().to_string();
    assert!(error.contains("killed after"), "{error}");
    assert_eq!(
        host.exec(["pgrep", "-f", "sleep 424[2]"], b"").await.unwrap().code,
        1,
        "its children live on"
    );
    let error = host.exec(["head", "-c", "70000000", "/dev/zero"], b"").await.unwrap_err().to_string();
    assert!(error.contains("bytes of output"), "{error}");
    let error = host.exec_ok(["sh", "-c", "echo because >&2; false"]).await.unwrap_err().to_string();
    assert!(error.contains("because") && error.contains("exit code 1"), "{error}");
}

#[tokio::test]
async fn web_and_database_apart_find_each_other_by_name() {
    let Some(env) = env().await else { return };
    let (web, database) = (HostSpec::web("web1"), HostSpec::database("db1").data_dir(DataDir::Tmpfs(512)));
    let (web, database) = tokio::join!(Host::start(&env, &web), Host::start(&env, &database));
    let (web, database) = (web.unwrap(), database.unwrap());
    let sql = "CREATE USER 'far'@'%' IDENTIFIED BY 'only-in-this-test'; GRANT SELECT ON mysql.* TO 'far'@'%'";
    database.run_ok(Exec::new(["mariadb"]).stdin(sql)).await.unwrap();
    let options = "[client]\nuser=far\npassword=only-in-this-test\nhost=db1\n";
    let query = "cat >/tmp/far.cnf && mariadb --defaults-file=/tmp/far.cnf -Ne 'SELECT @@hostname'";
    let output = web.run_ok(Exec::new(["sh", "-c", query]).stdin(options)).await.unwrap();
    assert_eq!(output.text(), "db1");
    assert_eq!(database.exec_ok(["stat", "-f", "-c", "%T", "/var/lib/mysql"]).await.unwrap(), "tmpfs");
    assert_eq!(web.exec(["pgrep", "mariadbd"], b"").await.unwrap().code, 1);
    assert_eq!(database.exec(["pgrep", "nginx|apache2|php"], b"").await.unwrap().code, 1);
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() {
    let Some(env) = env().await else { return };
    let (docker, run) = (env.docker().clone(), env.run_id().to_owned());
    let panicked = tokio::spawn(async move {
        let host = Host::start(&env, &HostSpec::new("doomed", [Service::Mariadb])).await.unwrap();
        let things = env.docker().things_of(env.run_id()).await.unwrap();
        assert_eq!((things.containers.len(), things.networks.len(), things.volumes.len()), (1, 1, 1));
        panic!("as a failing test would, with {} still running", host.name());
    });
    let message = panicked.await.unwrap_err().into_panic().downcast::<String>().unwrap();
    assert!(message.contains("doomed"), "{message}");
    assert_eq!(docker.things_of(&run).await.unwrap(), Things::default());
}

/// Not a test of its own: the process that the next test kills.
#[tokio::test]
async fn victim() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let env = Testenv::open(&Progress::silent()).await.unwrap();
    let host = Host::start(&env, &HostSpec::new("victim", [Service::Mariadb])).await.unwrap();
    eprintln!("victim {} {}", env.run_id(), host.ssh_key_path().parent().unwrap().display());
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_a_killed_process_leaves_is_swept_and_nothing_else() {
    let Some(env) = env().await else { return };
    let mine = Host::start(&env, &HostSpec::new("survivor", [Service::Php])).await.unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "victim", "--nocapture"])
        .env(VICTIM, "1")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let (run, directory) = loop {
        let line = lines.next_line().await.unwrap().expect("the victim ended before it was ready");
        if let Some(rest) = line.strip_prefix("victim ") {
            let (run, directory) = rest.split_once(' ').unwrap();
            break (run.to_owned(), directory.to_owned());
        }
    };
    let docker = Docker::ready(&Progress::silent()).await.unwrap();
    docker.sweep().await.unwrap();
    assert_eq!(docker.things_of(&run).await.unwrap().containers.len(), 1, "a living run was swept");

    child.kill().await.unwrap(); // SIGKILL, and reaped
    let left = docker.things_of(&run).await.unwrap();
    assert_eq!((left.containers.len(), left.networks.len(), left.volumes.len()), (1, 1, 1));
    assert!(std::path::Path::new(&directory).join("id_ed25519").exists());

    // Opening the next run sweeps; another test that opens one at this moment may have done it already.
    let next = Testenv::open(&Progress::stderr()).await.unwrap();
    assert_eq!(docker.things_of(&run).await.unwrap(), Things::default());
    assert!(!std::path::Path::new(&directory).exists());
    assert_eq!(mine.exec_ok(["echo", "alive"]).await.unwrap(), "alive");
    next.shutdown().await.unwrap();
}

/// What the seed decides, as text: tables of the seed's own, rows with its dates, files with modes and contents.
async fn digest(host: &Host, site: &wordpress::Site) -> String {
    let script = r#"set -e; db=$1; cd "$2/wp-content/uploads"
        for query in \
            "SELECT * FROM wp_kedge_odd" "SELECT * FROM wp_kedge_odd_child" "SELECT * FROM \`wp_kedge odd-name.log\`" \
            "SELECT * FROM wp_posts WHERE post_date < '2025-01-01'" "SELECT * FROM wp_comments WHERE comment_date < '2025-01-01'" \
            "SELECT * FROM wp_postmeta" "SELECT * FROM wp_commentmeta" "SELECT * FROM wp_termmeta" "SELECT * FROM wp_terms" \
            "SELECT option_name, option_value FROM wp_options WHERE option_name LIKE 'kedge%' OR option_name LIKE 'widget_%' ORDER BY 1" \
            "SELECT * FROM wp_users WHERE ID > 1" "SELECT * FROM wp_usermeta WHERE user_id > 1"
        do printf '%s %s\n' "$(mariadb -N "$db" -e "$query" | sha256sum)" "$query"; done
        printf '%s names\n' "$(find . -printf '%p %y %m %n %u %g %l\0' | sort -z | sha256sum)"
        printf '%s contents\n' "$(find . -type f -print0 | sort -z | xargs -0 sha256sum -- | sha256sum)""#;
    host.exec_ok(["bash", "-c", script, "digest", &site.database, &site.dir]).await.unwrap()
}

#[tokio::test]
async fn a_seeded_site_follows_from_its_number() {
    let Some(env) = env().await else { return };
    let (one, other) = (HostSpec::web_and_database("one"), HostSpec::web_and_database("other"));
    let (one, other) = tokio::join!(Host::start(&env, &one), Host::start(&env, &other));
    let (one, other) = (one.unwrap(), other.unwrap());
    let root = "/srv/platforms/wordpress-6.1";
    let spec = SiteSpec::new(root, "same.example.test");
    let (here, there) = tokio::join!(wordpress::install(&one, &spec), wordpress::install(&other, &spec));
    let (here, there) = (here.unwrap(), there.unwrap());
    let seed = SeedSpec::new(root, "same.example.test", 30, 7);
    let (first, second) = tokio::join!(wordpress::seed(&one, &seed), wordpress::seed(&other, &seed));
    assert_eq!(first.unwrap(), second.unwrap());
    let (first, second) = (digest(&one, &here).await, digest(&other, &there).await);
    assert_eq!(first, second);
    assert_eq!(first.lines().count(), 14, "{first}");
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"; // SHA-256 of nothing
    assert!(!first.contains(empty), "{first}");
}

/// Every file that a page names must be there.
async fn assert_whole(host: &Host, server: Service, site: &str, path: &str) -> String {
    let page = host.get(server, site, path).await.unwrap();
    let text = page.text();
    assert_eq!(page.status, 200, "{server} {site}{path}");
    assert!(
        !text.contains("Fatal error") && !text.contains("critical error"),
        "{server} {site}{path}: {text}"
    );
    let base = format!("http://{site}");
    let named = text.split(['"', '\'']).filter_map(|word| word.strip_prefix(base.as_str()));
    let files = |path: &&str| {
        [".css", ".js", ".jpg", ".png", ".php"]
            .iter()
            .any(|end| path.split('?').next().is_some_and(|p| p.ends_with(end)))
    };
    let paths: std::collections::BTreeSet<String> =
        named.filter(files).map(|path| path.replace("&#038;", "&")).collect();
    for file in &paths {
        let status = host.get(server, site, file).await.unwrap().status;
        assert!(
            status == 200 || file.contains(".php") && status < 500 && status != 404,
            "{server} {site}{file}: {status}"
        );
    }
    text
}

/// WordPress itself reads what was seeded, and calls nobody.
async fn read_back(host: &Host, site: &wordpress::Site) {
    let script = r#"<?php $_SERVER['HTTP_HOST'] = 'URI'; require 'ROOT/wp-load.php';
        $post = $wpdb->get_var("SELECT post_id FROM $wpdb->postmeta WHERE meta_key = 'kedge_twice' LIMIT 1");
        $option = get_option('kedge_option_1');
        $call = wp_remote_get('http://192.0.2.1/');
        echo implode("\n", [$option['object']->link, unserialize(unserialize($option['inner'])['again'])[0],
            unserialize(get_post_meta($post, 'kedge_twice', true))['many'][1], json_decode($option['json'])->href,
            get_class(get_option('kedge_alien')), var_export(get_option('kedge_broken'), true), mb_strlen($option['emoji']) - mb_strlen(home_url()),
            count(wp_get_attachment_metadata(get_post_thumbnail_id($post))['sizes']), $call->get_error_code()]);"#;
    let script = script.replace("URI", &site.uri).replace("ROOT", &site.platform_root);
    let read = host.run_ok(Exec::new(["php"]).user("www-data").stdin(script)).await.unwrap().text();
    let base = format!("http://{}", site.uri);
    let expected = [
        format!("{base}/object/1/"),
        format!("{base}/innermost"),
        format!("{base}/"),
        format!("{base}/json/1"),
        "__PHP_Incomplete_Class".into(),
        "false".into(),
        "5".into(),
        "4".into(),
        "http_request_not_executed".into(),
    ];
    assert_eq!(read.lines().collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn seeded_sites_of_both_versions_serve_whole_pages_on_both_servers() {
    let Some(env) = env().await else { return };
    let host = Host::start(&env, &HostSpec::web_and_database("web1")).await.unwrap();
    let mut schema = Vec::new();
    for version in ["6.1", "6.8"] {
        let (root, uri) = (
            format!("/srv/platforms/wordpress-{version}"),
            format!("v{}.example.test", version.replace('.', "")),
        );
        let site = wordpress::install(&host, &SiteSpec::new(&root, &uri)).await.unwrap();
        assert!(site.version.starts_with(version), "{site:?}");
        schema.push(site.db_version);
        let begin = Instant::now();
        let report = wordpress::seed(&host, &SeedSpec::new(&root, &uri, 60, 3)).await.unwrap();
        eprintln!("seeded {uri} in {:.1} s: {report:?}", begin.elapsed().as_secs_f32());
        assert_eq!((report.posts, report.attachments), (60, 65));
        assert!(
            report.files >= 300 && report.comments > 50 && report.revisions > 30 && report.odd_files > 15,
            "{report:?}"
        );
        for server in [Service::Nginx, Service::Apache] {
            let front = assert_whole(&host, server, &uri, "/").await;
            assert!(front.contains(&format!("The harbour of {uri}")), "{front}");
            let post = assert_whole(&host, server, &uri, "/2024/01/post-3/").await;
            assert!(post.contains("wp-content/uploads/2024/01/voyage-3"), "{post}");
            assert_whole(&host, server, &uri, "/wp-login.php").await;
            let inside = host.get(server, &uri, &format!("/sites/{uri}/wp-config.php")).await.unwrap();
            assert!(inside.status >= 400, "{server} serves settings");
            assert_eq!(host.get(server, &uri, "/no/such/page/").await.unwrap().status, 404);
        }
        let mode =
            host.exec_ok(["stat", "-c", "%a %U:%G", &format!("{}/wp-config.php", site.dir)]).await.unwrap();
        read_back(&host, &site).await;
        assert_eq!(mode, "440 root:www-data");
        assert!(wordpress::install(&host, &SiteSpec::new(&root, &uri)).await.is_err(), "installed twice");
    }
    assert!(schema[0] < schema[1], "an update from 6.1 to 6.8 changes the schema's version: {schema:?}");
    for name in ["no-such.example.test", "../../etc", "v61.example.test/../x"] {
        assert_eq!(
            host.get(Service::Nginx, name, "/").await.map(|page| page.status).unwrap_or(400) / 100,
            4,
            "{name}"
        );
    }
}
