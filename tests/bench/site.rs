//! The site that is measured on: a seeded WordPress, grown to a realistic size. Never part of what is measured.

use std::time::Duration;

use anyhow::{Result, ensure};
use kedge_testenv::wordpress::{SeedSpec, seed};
use kedge_testenv::{Exec, Host};
use serde_json::json;
use support::face::Face;

/// The site that things happen to; `grow.sql` names it too.
pub(crate) const SITE: &str = "shop.example.test";
const PLATFORM: &str = "/srv/platforms/wordpress-6.1";
const LIMIT: Duration = Duration::from_secs(600);
/// Posts of the seed, each with a picture in seven sizes.
const POSTS: u32 = 300;
/// Pictures besides, in files of half a MiB that do not compress: 250 MiB.
const PICTURES: &str = r#"set -eu
dir=$1/wp-content/uploads/2023
for month in 01 02 03 04 05; do
    mkdir -p "$dir/$month"
    for n in $(seq 100); do head -c 524288 /dev/urandom >"$dir/$month/scan-$n.jpg"; done
done
chown -R www-data:www-data "$dir""#;

/// Installs the site, fills it and says how large it is. The other platform gets a site of its own, so that it is prepared.
pub(crate) async fn prepare(host: &Host, face: &Face) -> Result<()> {
    for (site, platform) in [(SITE, "wordpress-61"), ("neighbour.example.test", "wordpress-68")] {
        let params = json!({ "site": site, "platform": platform, "database_server": "db1" });
        let id = face.submit("install", &params).await?;
        let task = face.settled(&id, LIMIT, |_| ()).await?;
        ensure!(task["state"] == "succeeded", "install: {task}");
    }
    seed(host, &SeedSpec::new(PLATFORM, SITE, POSTS, 7)).await?;
    let dir = format!("{PLATFORM}/sites/{SITE}");
    let grow = format!("mariadb \"$(sed -nE \"s/.*'DB_NAME', *'([^']+)'.*/\\1/p\" {dir}/wp-config.php)\"");
    host.run_ok(Exec::new(["sh", "-c", &grow]).stdin(include_str!("grow.sql")).limit(LIMIT)).await?;
    host.run_ok(Exec::new(["sh", "-c", PICTURES, "pictures", &dir]).limit(LIMIT)).await?;
    search_replace(host).await?;
    let size = format!(
        "du -sm {dir} | cut -f1; mariadb-dump \"$(sed -nE \"s/.*'DB_NAME', *'([^']+)'.*/\\1/p\" {dir}/wp-config.php)\" | wc -c"
    );
    let size = host.run_ok(Exec::new(["sh", "-c", &size]).limit(LIMIT)).await?.text();
    let (files, sql) = size.split_once('\n').unwrap_or((&size, "0"));
    println!("a site with {files} MiB of files and {} MB of SQL", sql.trim().parse::<u64>()? / 1_000_000);
    Ok(())
}

/// What rewrites host names by hand: WP-CLI where `KEDGE_WP_CLI` names its phar, else its way of doing it with WordPress' own functions.
async fn search_replace(host: &Host) -> Result<()> {
    let (file, bytes) = match std::env::var_os("KEDGE_WP_CLI") {
        Some(phar) => {
            println!("by hand, host names are rewritten by WP-CLI");
            ("/opt/wp-cli.phar", std::fs::read(phar)?)
        }
        None => {
            println!(
                "by hand, host names are rewritten as WP-CLI does it, by a script (KEDGE_WP_CLI=<phar>: by WP-CLI itself)"
            );
            ("/opt/search-replace.php", include_bytes!("search_replace.php").to_vec())
        }
    };
    host.run_ok(Exec::new(["sh", "-c", &format!("cat >{file}")]).stdin(bytes)).await?;
    Ok(())
}
