//! Starts a test host, says how to reach it, and removes it on Ctrl-C.
//!
//! `cargo run -p kedge-testenv --example host [NAME] [--site PLATFORM:URI:POSTS]...`
//! for example `--site 6.1:harbour.example.test:300`

use std::process::ExitCode;
use std::time::Instant;

use kedge_testenv::wordpress::{self, SeedSpec, SiteSpec};
use kedge_testenv::{Host, HostSpec, Progress, Testenv};

#[tokio::main]
async fn main() -> ExitCode {
    match host().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testenv: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn host() -> anyhow::Result<()> {
    let mut name = "web1".to_owned();
    let mut sites = Vec::new();
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--site" {
            let site = arguments.next().unwrap_or_default();
            let [platform, uri, posts] = site.split(':').collect::<Vec<_>>()[..] else {
                anyhow::bail!("--site takes PLATFORM:URI:POSTS, not {site:?}");
            };
            sites.push((format!("/srv/platforms/wordpress-{platform}"), uri.to_owned(), posts.parse()?));
        } else {
            name = argument;
        }
    }
    let env = Testenv::open(&Progress::stderr()).await?;
    let begin = Instant::now();
    let host = Host::start(&env, &HostSpec::web_and_database(name)).await?;
    eprintln!("testenv: the host is up after {:.1} s", begin.elapsed().as_secs_f32());
    for (root, uri, posts) in &sites {
        let begin = Instant::now();
        let site = wordpress::install(&host, &SiteSpec::new(root, uri)).await?;
        eprintln!(
            "testenv: installed {uri} (WordPress {}) after {:.1} s",
            site.version,
            begin.elapsed().as_secs_f32()
        );
        let report = wordpress::seed(&host, &SeedSpec::new(root, uri, *posts, 1)).await?;
        eprintln!("testenv: seeded after {:.1} s: {report:?}", begin.elapsed().as_secs_f32());
    }
    println!("container  {}", host.container_name());
    println!("nginx      http://127.0.0.1:{}/", host.http_port());
    println!("apache     http://127.0.0.1:{}/", host.apache_port());
    println!("mariadb    127.0.0.1:{}", host.mysql_port());
    println!(
        "ssh        ssh -i {} -o UserKnownHostsFile={} -p {} deploy@127.0.0.1",
        host.ssh_key_path().display(),
        host.known_hosts_path().display(),
        host.ssh_port()
    );
    println!("Ctrl-C removes it.");
    tokio::signal::ctrl_c().await?;
    host.shutdown().await?;
    env.shutdown().await?;
    Ok(())
}
