//! The promises of the web server port, tested on the fake and on real servers with the same lines.

#![allow(
    clippy::expect_used,
    clippy::panic,
    reason = "a suite fails by panicking, also where it is not compiled as a test"
)]

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::Poll;

use async_trait::async_trait;
use futures::future::{join, join_all};

use super::web_server::REVISION_PATH;
use crate::names::SiteName;
use crate::ports::{
    Answer, AppKind, ConfigTest, Get, PortError, Reach, SavedFile, Tls, Vhost, VhostMode, VhostTarget,
    WebServer,
};

/// What the suite needs to prepare on the machine, and what only a bystander sees.
#[async_trait]
pub trait WebServerBench: Send + Sync {
    /// The server, on behalf of a new attempt.
    fn server(&self) -> Arc<dyn WebServer>;
    /// Where its vhost files are.
    fn vhost_dir(&self) -> String;
    /// Makes the directory of a plain site whose front page is `page`.
    async fn make_site(&self, site: &SiteName, page: &str) -> VhostTarget;
    /// A vhost in the server's language as somebody else would write it: it answers everything with `body`.
    fn foreign_vhost(&self, names: &[&str], body: &str) -> Vec<u8>;
    /// Bytes that the server refuses as a vhost.
    fn broken_vhost(&self) -> Vec<u8>;
    /// Writes a file as somebody else would (mode 0640, group 33), behind a symbolic link if a target is given; `None` removes both.
    async fn write(&self, path: &str, bytes: Option<&[u8]>, symlink: Option<&str>);
    /// A visitor's request from outside the machine.
    async fn visit(&self, host: &SiteName, path: &str) -> Answer;
    /// How often the server was told to take its files.
    fn reloads(&self) -> usize;
}

/// Everything a web server promises. Uses sites below `contract.test` and cleans up behind itself.
pub async fn web_server_contract(bench: &dyn WebServerBench) {
    let second = Second::start(bench).await;
    let scenario = async {
        a_site_comes_and_goes(bench).await;
        every_mode_answers_its_way(bench).await;
        a_put_expects_what_is_there(bench).await;
        unsafe_vhosts_are_refused(bench).await;
        what_was_there_comes_back_exactly(bench).await;
        a_file_of_another_name_makes_way_and_comes_back(bench).await;
        a_change_by_hand_is_nobodys_to_undo(bench).await;
        names_have_one_file(bench).await;
        a_broken_neighbour_stops_reloads_and_nothing_else(bench).await;
        a_vhost_that_the_server_does_not_take_is_not_left(bench).await;
        names_and_ports_send_on(bench).await;
        a_revision_is_really_awaited(bench).await;
        many_reloads_become_few(bench).await;
    };
    let seen = second.watched_during(scenario).await;
    assert!(seen > 0, "the second site was visited");
    second.end().await;
}

fn site(label: &str) -> SiteName {
    SiteName::parse(&format!("{label}.contract.test")).expect("a host name")
}

fn file_of(bench: &dyn WebServerBench, site: &SiteName) -> String {
    format!("{}/{site}.conf", bench.vhost_dir())
}

fn vhost(site: &SiteName, mode: VhostMode, target: Option<&VhostTarget>) -> Vhost {
    Vhost { site: site.clone(), aliases: Vec::new(), mode, target: target.cloned(), reach: Reach::default() }
}

async fn get(bench: &dyn WebServerBench, host: &SiteName, path: &str, bypass: Option<&str>) -> Answer {
    let_others_run().await;
    let request = Get { host: host.clone(), path: path.to_owned(), bypass: bypass.map(str::to_owned) };
    bench.server().get(&request).await.expect("the server answers")
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).into_owned()
}

/// Puts a vhost over whatever is there and reloads.
async fn publish(bench: &dyn WebServerBench, vhost: &Vhost) -> String {
    let server = bench.server();
    let before = server.vhost(&vhost.site).await.expect("readable").map(|file| file.sha256);
    let rendered = server.put_vhost(&vhost.site, vhost, before.as_deref()).await.expect("written");
    let_others_run().await;
    server.reload(&vhost.site, Some(&rendered.revision)).await.expect("reloaded");
    rendered.revision
}

async fn remove(bench: &dyn WebServerBench, site: &SiteName) {
    let server = bench.server();
    let there = server.vhost(site).await.expect("readable").map(|file| file.sha256);
    server.restore_vhost(site, None, there.as_slice()).await.expect("removed");
    server.reload(site, None).await.expect("reloaded");
}

async fn saved(bench: &dyn WebServerBench, site: &SiteName) -> SavedFile {
    let_others_run().await;
    bench.server().vhost(site).await.expect("readable").expect("there")
}

fn not_ours<T: std::fmt::Debug>(result: Result<T, PortError>) {
    assert!(matches!(result, Err(PortError::NotOurs(_))), "{result:?}");
}

fn refused<T: std::fmt::Debug>(result: Result<T, PortError>, naming: &str) {
    assert!(
        matches!(&result, Err(PortError::Refused(what)) if what.contains(naming)),
        "{result:?} should name {naming}"
    );
}

async fn a_site_comes_and_goes(bench: &dyn WebServerBench) {
    let (site, server) = (site("one"), bench.server());
    assert_eq!(server.test().await, Ok(ConfigTest::Valid));
    assert_eq!(server.vhost(&site).await, Ok(None));
    assert_eq!(server.server_of(&site).await, Ok(None));
    server.restore_vhost(&site, None, &[]).await.expect("removing nothing is fine");

    let target = bench.make_site(&site, "the first page").await;
    let live = vhost(&site, VhostMode::Live, Some(&target));
    let rendered = server.put_vhost(&site, &live, None).await.expect("written");
    assert_eq!(rendered, server.render(&live), "rendering is pure");
    let file = saved(bench, &site).await;
    assert_eq!((file.path, file.bytes), (file_of(bench, &site), rendered.text.clone().into_bytes()));
    assert_eq!((file.sha256, file.mode, file.uid, file.symlink), (rendered.sha256.clone(), 0o644, 0, None));
    assert_eq!(server.server_of(&site).await, Ok(Some(file_of(bench, &site))));
    assert_ne!(
        text(&get(bench, &site, REVISION_PATH, None).await).trim(),
        rendered.revision,
        "nothing counts before a reload"
    );

    server.reload(&site, Some(&rendered.revision)).await.expect("reloaded");
    let front = get(bench, &site, "/", None).await;
    assert_eq!(front.status, 200);
    assert!(text(&front).contains("the first page"), "{}", text(&front));
    assert_eq!(text(&bench.visit(&site, "/").await), text(&front), "visitors see what the host sees");
    let revision = get(bench, &site, REVISION_PATH, None).await;
    assert_eq!((revision.status, text(&revision).trim()), (200, rendered.revision.as_str()));

    remove(bench, &site).await;
    assert_eq!(server.vhost(&site).await, Ok(None));
    assert!(!text(&get(bench, &site, "/", None).await).contains("the first page"));
    assert_ne!(text(&get(bench, &site, REVISION_PATH, None).await).trim(), rendered.revision);
}

async fn every_mode_answers_its_way(bench: &dyn WebServerBench) {
    const TOKEN: &str = "a-token-of-the-contract";
    let site = site("modes");
    let target = bench.make_site(&site, "the page of modes").await;
    let mut revisions = Vec::new();
    let modes = [
        VhostMode::Live,
        VhostMode::Maintenance { bypass: Some(TOKEN.to_owned()) },
        VhostMode::Maintenance { bypass: None },
        VhostMode::Disabled,
        VhostMode::Redirect { to: SiteName::parse("elsewhere.test").expect("a host name") },
    ];
    for mode in modes {
        let target = (!matches!(mode, VhostMode::Redirect { .. })).then_some(&target);
        let revision = publish(bench, &vhost(&site, mode.clone(), target)).await;
        assert_eq!(
            text(&get(bench, &site, REVISION_PATH, None).await).trim(),
            revision,
            "{mode:?} answers its revision"
        );
        revisions.push(revision);
        let (plain, bypassed) =
            (get(bench, &site, "/", None).await, get(bench, &site, "/", Some(TOKEN)).await);
        let wrong = get(bench, &site, "/", Some("a-token-of-another-task")).await;
        let statuses = (plain.status, bypassed.status, wrong.status);
        match mode {
            VhostMode::Live => assert_eq!(statuses, (200, 200, 200)),
            VhostMode::Maintenance { bypass: Some(_) } => {
                assert_eq!(statuses, (503, 200, 503));
                assert_eq!(saved(bench, &site).await.mode, 0o600, "the token is in it");
                assert!(
                    text(&bypassed).contains("the page of modes")
                        && !text(&plain).contains("the page of modes")
                );
            }
            VhostMode::Maintenance { bypass: None } | VhostMode::Disabled => {
                assert_eq!(statuses, (503, 503, 503))
            }
            VhostMode::Redirect { .. } => {
                let moved = get(bench, &site, "/a/b?c=d&e=%20", None).await;
                assert_eq!(
                    (moved.status, moved.location.as_deref()),
                    (301, Some("http://elsewhere.test/a/b?c=d&e=%20"))
                );
            }
        }
    }
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), 5, "each text has a revision of its own");
    remove(bench, &site).await;
}

async fn a_put_expects_what_is_there(bench: &dyn WebServerBench) {
    let (site, server) = (site("expected"), bench.server());
    let target = bench.make_site(&site, "page").await;
    let live = vhost(&site, VhostMode::Live, Some(&target));
    let closed = vhost(&site, VhostMode::Disabled, Some(&target));
    let first = server.put_vhost(&site, &live, None).await.expect("written");
    for expected in [None, Some("0".repeat(64)), Some(first.sha256.clone())] {
        let again = server.put_vhost(&site, &live, expected.as_deref()).await;
        assert_eq!(again.as_ref(), Ok(&first), "the same bytes are there already");
    }
    not_ours(server.put_vhost(&site, &closed, None).await);
    not_ours(server.put_vhost(&site, &closed, Some(&"0".repeat(64))).await);
    assert_eq!(saved(bench, &site).await.sha256, first.sha256, "nothing was touched");
    let second = server.put_vhost(&site, &closed, Some(&first.sha256)).await.expect("written");
    not_ours(server.put_vhost(&site, &live, Some(&first.sha256)).await);
    remove(bench, &site).await;
    not_ours(server.put_vhost(&site, &live, Some(&second.sha256)).await);
    assert_eq!(server.vhost(&site).await, Ok(None));
}

async fn unsafe_vhosts_are_refused(bench: &dyn WebServerBench) {
    let (site, server) = (site("unsafe"), bench.server());
    let good = bench.make_site(&site, "page").await;
    let mut bad =
        vec![vhost(&site, VhostMode::Live, None), vhost(&self::site("other"), VhostMode::Disabled, None)];
    for path in ["", "srv/site", "/srv/a;b", "/srv/a\"b", "/srv/a\nb", "/srv/a{b", "/srv/a$b"] {
        let target = VhostTarget { site_dir: path.to_owned(), app: AppKind::Plain, ..good.clone() };
        bad.push(vhost(&site, VhostMode::Live, Some(&target)));
        let target = VhostTarget { platform_root: path.to_owned(), ..good.clone() };
        bad.push(vhost(&site, VhostMode::Live, Some(&target)));
    }
    for vhost in bad {
        refused(server.put_vhost(&site, &vhost, None).await, site.as_str());
        assert_eq!(server.vhost(&site).await, Ok(None), "nothing was written");
    }
}

async fn what_was_there_comes_back_exactly(bench: &dyn WebServerBench) {
    let (site, server) = (site("restored"), bench.server());
    let path = file_of(bench, &site);
    let target = bench.make_site(&site, "ours").await;
    let foreign = bench.foreign_vhost(&[site.as_str()], "somebody else's page");
    let elsewhere = format!("{}/../kedge-contract-{site}", bench.vhost_dir());
    for symlink in [None, Some(elsewhere.as_str())] {
        bench.write(&path, Some(&foreign), symlink).await;
        server.reload(&site, None).await.expect("reloaded");
        let before = saved(bench, &site).await;
        assert_eq!(before.symlink.as_deref(), symlink);
        assert!(symlink.is_some() || before.bytes == foreign, "a link's bytes are its own");
        let live = vhost(&site, VhostMode::Live, Some(&target));
        let first = server
            .put_vhost(&site, &live, Some(&before.sha256))
            .await
            .expect("it holds nothing but the site");
        server.reload(&site, Some(&first.revision)).await.expect("reloaded");
        let closed = vhost(&site, VhostMode::Disabled, Some(&target));
        let second = server.put_vhost(&site, &closed, Some(&first.sha256)).await.expect("written");

        not_ours(server.restore_vhost(&site, Some(&before), std::slice::from_ref(&first.sha256)).await);
        let ours = [first.sha256, second.sha256];
        for _ in 0..2 {
            server.restore_vhost(&site, Some(&before), &ours).await.expect("put back");
            assert_eq!(
                saved(bench, &site).await,
                before,
                "bytes, mode, owner, time and link are what they were"
            );
        }
        server.reload(&site, None).await.expect("reloaded");
        assert!(text(&get(bench, &site, "/", None).await).contains("somebody else's page"));
        bench.write(&path, None, symlink).await;
    }
    server.reload(&site, None).await.expect("reloaded");
}

async fn a_file_of_another_name_makes_way_and_comes_back(bench: &dyn WebServerBench) {
    let (server, site, alias) = (bench.server(), site("found"), site("also-found"));
    let target = bench.make_site(&site, "ours").await;
    let path = format!("{}/by-hand.conf", bench.vhost_dir());
    assert_eq!(server.names_in(&path).await, Ok(Vec::new()), "nothing is there");
    let foreign = bench.foreign_vhost(&[site.as_str(), alias.as_str()], "by hand");
    bench.write(&path, Some(&foreign), None).await;
    assert_eq!(server.names_in(&path).await, Ok(vec![alias.to_string(), site.to_string()]));
    let there = saved(bench, &site).await;
    assert_eq!(there.path, path);
    let both = Vhost { aliases: vec![alias.clone()], ..vhost(&site, VhostMode::Live, Some(&target)) };
    assert!(server.put_vhost(&site, &both, None).await.is_err(), "its names are served by another file");
    for _ in 0..2 {
        assert_eq!(server.set_aside(&site, &there).await, Ok(true));
    }
    let ours = server.put_vhost(&site, &both, None).await.expect("the names are free");
    server.reload(&site, Some(&ours.revision)).await.expect("reloaded");
    assert!(text(&get(bench, &alias, "/", None).await).contains("ours"));
    let own = saved(bench, &site).await;
    assert_eq!(server.set_aside(&site, &own).await, Ok(false), "the site's own file stays");
    assert_eq!(saved(bench, &site).await, own);
    for _ in 0..2 {
        server
            .restore_vhost(&site, Some(&there), std::slice::from_ref(&ours.sha256))
            .await
            .expect("put back");
    }
    server.reload(&site, None).await.expect("reloaded");
    assert_eq!(saved(bench, &site).await, there);
    assert!(text(&get(bench, &site, "/", None).await).contains("by hand"));
    bench.write(&path, Some(&bench.foreign_vhost(&[site.as_str()], "changed")), None).await;
    not_ours(server.set_aside(&site, &there).await);
    bench.write(&path, None, None).await;
    server.reload(&site, None).await.expect("reloaded");
}

async fn a_change_by_hand_is_nobodys_to_undo(bench: &dyn WebServerBench) {
    let (site, server) = (site("edited"), bench.server());
    let target = bench.make_site(&site, "page").await;
    let live = vhost(&site, VhostMode::Live, Some(&target));
    let ours = server.put_vhost(&site, &live, None).await.expect("written");
    let path = file_of(bench, &site);
    bench.write(&path, Some(format!("{}# by hand\n", ours.text).as_bytes()), None).await;
    let edited = saved(bench, &site).await;
    let closed = vhost(&site, VhostMode::Disabled, Some(&target));
    not_ours(server.put_vhost(&site, &closed, Some(&ours.sha256)).await);
    not_ours(server.put_vhost(&site, &closed, Some(&edited.sha256)).await);
    not_ours(server.restore_vhost(&site, None, &[ours.sha256]).await);
    assert_eq!(saved(bench, &site).await, edited, "nothing was touched");
    bench.write(&path, None, None).await;
}

async fn names_have_one_file(bench: &dyn WebServerBench) {
    let (mine, taken, server) = (site("names"), site("taken"), bench.server());
    let target = bench.make_site(&mine, "page").await;
    let neighbour = format!("{}/zz-kedge-contract.conf", bench.vhost_dir());
    bench.write(&neighbour, Some(&bench.foreign_vhost(&[taken.as_str()], "taken")), None).await;
    assert_eq!(server.server_of(&taken).await, Ok(Some(neighbour.clone())));
    let reported = server.vhost(&taken).await.expect("readable").expect("whoever wrote it");
    assert_eq!(reported.path, neighbour);

    refused(server.put_vhost(&taken, &vhost(&taken, VhostMode::Live, Some(&target)), None).await, &neighbour);
    let mut with_alias = vhost(&mine, VhostMode::Live, Some(&target));
    with_alias.aliases = vec![taken.clone()];
    refused(server.put_vhost(&mine, &with_alias, None).await, &neighbour);
    assert_eq!(server.vhost(&mine).await, Ok(None));
    bench.write(&neighbour, None, None).await;

    let revision = publish(bench, &with_alias).await;
    assert_eq!(server.server_of(&taken).await, Ok(Some(file_of(bench, &mine))));
    assert_eq!(server.vhost(&taken).await, Ok(None), "an alias of a site of ours has no vhost of its own");
    assert_eq!(text(&get(bench, &taken, REVISION_PATH, None).await).trim(), revision);
    remove(bench, &mine).await;
}

async fn a_broken_neighbour_stops_reloads_and_nothing_else(bench: &dyn WebServerBench) {
    let (site, server) = (site("beside"), bench.server());
    let target = bench.make_site(&site, "as before").await;
    let revision = publish(bench, &vhost(&site, VhostMode::Live, Some(&target))).await;
    let before = saved(bench, &site).await;
    let neighbour = format!("{}/aa-kedge-contract.conf", bench.vhost_dir());
    bench.write(&neighbour, Some(&bench.broken_vhost()), None).await;
    let told = bench.reloads();

    let test = server.test().await.expect("testable");
    let ConfigTest::Invalid { culprit, message } = test else { panic!("a broken neighbour is seen") };
    assert_eq!(culprit.as_deref(), Some(neighbour.as_str()));
    assert!(!message.is_empty());
    assert_eq!(
        server.server_of(&site).await,
        Ok(Some(file_of(bench, &site))),
        "also while the configuration is invalid"
    );

    let closed = vhost(&site, VhostMode::Disabled, Some(&target));
    let ours = server.put_vhost(&site, &closed, Some(&before.sha256)).await.expect("a put does not test");
    match server.reload(&site, Some(&ours.revision)).await {
        Err(PortError::Unavailable(why)) => assert!(why.contains(&neighbour), "{why}"),
        other => panic!("until somebody mends the neighbour: {other:?}"),
    }
    assert_eq!(bench.reloads(), told, "nothing was reloaded");
    assert_eq!(text(&get(bench, &site, REVISION_PATH, None).await).trim(), revision);
    server.restore_vhost(&site, Some(&before), &[ours.sha256]).await.expect("put back");
    for revision in [Some(revision.as_str()), None] {
        let undone = server.reload(&site, revision).await;
        assert_eq!(undone, Ok(()), "what is on disk is what was answered all along: an undo is not held up");
    }
    assert_eq!(bench.reloads(), told, "nothing was reloaded");

    bench.write(&neighbour, None, None).await;
    server.reload(&site, None).await.expect("what is on disk is what is answered");
    assert!(bench.reloads() > told);
    assert_eq!(saved(bench, &site).await, before);
    assert!(text(&get(bench, &site, "/", None).await).contains("as before"));

    // Our own file broken, by whomever.
    bench.write(&file_of(bench, &site), Some(&bench.broken_vhost()), None).await;
    refused(server.reload(&site, Some(&revision)).await, &file_of(bench, &site));
    assert!(text(&get(bench, &site, "/", None).await).contains("as before"));
    bench.write(&file_of(bench, &site), None, None).await;
    server.reload(&site, None).await.expect("reloaded");
}

fn secure(site: &SiteName, self_signed: bool) -> Tls {
    let path = |what: &str| format!("/var/tmp/kedge-contract/{site}/{what}.pem");
    Tls { certificate: path("certificate"), key: path("key"), self_signed, only: false }
}

async fn a_vhost_that_the_server_does_not_take_is_not_left(bench: &dyn WebServerBench) {
    let (site, server) = (site("untaken"), bench.server());
    let target = bench.make_site(&site, "still here").await;
    let plain = vhost(&site, VhostMode::Live, Some(&target));
    let revision = publish(bench, &plain).await;
    let before = saved(bench, &site).await;
    let tls = secure(&site, false);
    let names = [site.clone()];
    refused(server.ensure_certificate(&names, &tls).await, &tls.certificate);
    let faults = server.certificate_faults(&names, &tls).await.expect("looked at");
    assert!(faults.iter().any(|line| line.contains(&tls.certificate)), "{faults:?}");
    // Also where nobody asked first: the server says no, and nobody else's test ever sees it.
    let reach = Reach { tls: Some(tls), ..Reach::default() };
    refused(server.put_vhost(&site, &Vhost { reach, ..plain }, Some(&before.sha256)).await, "does not take");
    assert_eq!(server.test().await, Ok(ConfigTest::Valid));
    let there = saved(bench, &site).await;
    assert_eq!((there.sha256, there.bytes), (before.sha256, before.bytes));
    server.reload(&site, Some(&revision)).await.expect("as before");
    assert!(text(&get(bench, &site, "/", None).await).contains("still here"));
    remove(bench, &site).await;
}

async fn names_and_ports_send_on(bench: &dyn WebServerBench) {
    let (site, www, server) = (site("reached"), self::site("www-reached"), bench.server());
    let target = bench.make_site(&site, "the very page").await;
    let tls = Tls { only: true, ..secure(&site, true) };
    for _ in 0..2 {
        server.ensure_certificate(&[site.clone(), www.clone()], &tls).await.expect("made, once");
        let faults = server.certificate_faults(&[site.clone(), www.clone()], &tls).await;
        assert_eq!(faults.expect("looked at"), Vec::<String>::new());
    }
    let live = Vhost { aliases: vec![www.clone()], ..vhost(&site, VhostMode::Live, Some(&target)) };
    let shown = |answer: &Answer| (answer.status, answer.location.clone());
    let sent = |to: &str| (301, Some(format!("{to}/a/page?q=1")));
    for (only, canonical, at_site, at_www) in [
        (false, None, None, None),
        (false, Some(&www), Some(format!("http://{www}")), None),
        (true, None, Some(format!("https://{site}")), Some(format!("https://{www}"))),
        (true, Some(&site), Some(format!("https://{site}")), Some(format!("https://{site}"))),
    ] {
        let tls = Some(Tls { only, ..tls.clone() });
        let reach = Reach { tls, canonical: canonical.cloned(), ..Reach::default() };
        publish(bench, &Vhost { reach: reach.clone(), ..live.clone() }).await;
        for (name, to) in [(&site, &at_site), (&www, &at_www)] {
            let visit = bench.visit(name, "/a/page?q=1").await;
            match to {
                Some(to) => assert_eq!(shown(&visit), sent(to), "{name}, {reach:?}"),
                None => assert_ne!(visit.status, 301, "{name}, {reach:?}"),
            }
            // Whoever asks for the server's own account of a site gets the page, not the way to it.
            let page = get(bench, name, "/", None).await;
            assert!(
                page.status == 200 && text(&page).contains("the very page"),
                "{name}, {reach:?}: {page:?}"
            );
        }
        // While it is closed nobody is sent anywhere, and who has the token sees the site as it will be.
        let token = "0123456789-contract-token".to_owned();
        let closed = VhostMode::Maintenance { bypass: Some(token.clone()) };
        publish(bench, &Vhost { reach, mode: closed, ..live.clone() }).await;
        for name in [&site, &www] {
            assert_eq!(bench.visit(name, "/").await.status, 503, "{name}");
            assert!(text(&get(bench, name, "/", Some(&token)).await).contains("the very page"));
        }
    }
    remove(bench, &site).await;
}

async fn a_revision_is_really_awaited(bench: &dyn WebServerBench) {
    let (site, server) = (site("awaited"), bench.server());
    let target = bench.make_site(&site, "page").await;
    let live = publish(bench, &vhost(&site, VhostMode::Live, Some(&target))).await;
    let never = server.render(&vhost(&site, VhostMode::Disabled, Some(&target))).revision;
    let result = server.reload(&site, Some(&never)).await;
    assert!(
        matches!(&result, Err(PortError::Unavailable(what)) if what.contains(site.as_str())),
        "{result:?}"
    );
    server.reload(&site, Some(&live)).await.expect("the old one is still there");
    for round in 0..6 {
        let mode = if round % 2 == 0 { VhostMode::Disabled } else { VhostMode::Live };
        let status = if round % 2 == 0 { 503 } else { 200 };
        publish(bench, &vhost(&site, mode, Some(&target))).await;
        let visits = join_all((0..8).map(|_| bench.visit(&site, "/"))).await;
        assert!(
            visits.iter().all(|answer| answer.status == status),
            "round {round}: a visitor met an old worker"
        );
    }
    remove(bench, &site).await;
}

async fn many_reloads_become_few(bench: &dyn WebServerBench) {
    let mut sites = Vec::new();
    for i in 0..5 {
        let (site, server) = (site(&format!("many-{i}")), bench.server());
        let closed = vhost(&site, VhostMode::Disabled, None);
        let rendered = server.put_vhost(&site, &closed, None).await.expect("written");
        sites.push((site, rendered));
    }
    let before = bench.reloads();
    let calls = (0..CALLERS).map(|i| {
        let (server, (site, rendered)) = (bench.server(), &sites[i % sites.len()]);
        async move { server.reload(site, Some(&rendered.revision)).await }
    });
    for result in join_all(calls).await {
        assert_eq!(result, Ok(()));
    }
    let told = bench.reloads() - before;
    assert!((1..=COALESCED).contains(&told), "{told} reloads for {CALLERS} callers");
    for (site, rendered) in &sites {
        let ours = std::slice::from_ref(&rendered.sha256);
        bench.server().restore_vhost(site, None, ours).await.expect("removed");
    }
    bench.server().reload(&sites[0].0, None).await.expect("reloaded");
}

/// A storm of tasks.
const CALLERS: usize = 50;
/// Most reloads that they may cost: the first one's, one for those who came meanwhile, and stragglers.
const COALESCED: usize = 5;

/// A second site on the same server, visited all the time.
struct Second<'a> {
    bench: &'a dyn WebServerBench,
    site: SiteName,
}

impl<'a> Second<'a> {
    async fn start(bench: &'a dyn WebServerBench) -> Self {
        let site = site("second");
        let target = bench.make_site(&site, "the second site").await;
        publish(bench, &vhost(&site, VhostMode::Live, Some(&target))).await;
        Self { bench, site }
    }

    /// Visits the site again and again while the scenario runs, and checks every answer. Returns how many there were.
    async fn watched_during(&self, scenario: impl Future<Output = ()>) -> usize {
        let (over, visits) = (AtomicBool::new(false), AtomicUsize::new(0));
        let scenario = async {
            scenario.await;
            over.store(true, Ordering::SeqCst);
        };
        let watch = async {
            while !over.load(Ordering::SeqCst) {
                let answer = self.bench.visit(&self.site, "/").await;
                let number = visits.fetch_add(1, Ordering::SeqCst);
                let body = text(&answer);
                assert!(
                    answer.status == 200 && body.contains("the second site"),
                    "visit {number}: {} {body}",
                    answer.status
                );
                let_others_run().await;
            }
        };
        join(pin!(scenario), pin!(watch)).await;
        visits.into_inner()
    }

    async fn end(self) {
        remove(self.bench, &self.site).await;
    }
}

/// Gives way once: a fake's visits never wait.
async fn let_others_run() {
    let mut given = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut given, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}
