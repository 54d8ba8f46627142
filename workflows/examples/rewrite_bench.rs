//! How fast the rewrite of a dump is, beside a copy of its bytes and a plain (wrong) replacement, in the same run:
//! `cargo run --release -p kedge-workflows --example rewrite_bench`. Speeds are per second of processor time of the one thread that works,
//! so that a busy machine changes little (wall clock where the system does not tell). Makes its dumps in memory, writes no files.
#![expect(clippy::unwrap_used, reason = "a bench may stop")]

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use kedge_workflows::names::SiteName;
use kedge_workflows::rewrite::{Pair, Report, Rewrite, SqlRewriter};

const SIZE: usize = 128 << 20;
const PIECE: usize = 64 << 10;
const RUNS: usize = 5;
const OLD: &str = "old.example.test";
const NEW: &str = "new-name.example.test";

fn main() {
    for (what, own_links) in [("few hits: 1 row in 1000", 1000), ("many hits: every row", 1)] {
        let dump = wordpress_dump(own_links);
        println!("\n{what} ({} MiB of posts, meta, options and log rows)", dump.len() >> 20);
        let mut out = Vec::with_capacity(dump.len() * 2);
        report("copy", dump.len(), || {
            out.clear();
            for piece in dump.chunks(PIECE) {
                out.extend_from_slice(black_box(piece));
            }
            None
        });
        report("plain replacement (breaks serialised data)", dump.len(), || {
            out.clear();
            let finder = memchr::memmem::Finder::new(OLD);
            let mut at = 0;
            for found in finder.find_iter(&dump) {
                out.extend_from_slice(&dump[at..found]);
                out.extend_from_slice(NEW.as_bytes());
                at = found + OLD.len();
            }
            out.extend_from_slice(&dump[at..]);
            None
        });
        for (name, pairs) in [
            ("rewrite, host", pairs(1)),
            ("rewrite, host and path", pairs(2)),
            ("rewrite, 4 hosts and 2 paths", pairs(6)),
        ] {
            let rewrite = Arc::new(Rewrite::new(pairs).unwrap());
            report(name, dump.len(), || Some(rewrite_once(&rewrite, &dump, &mut out)));
        }
    }
}

fn rewrite_once(rewrite: &Arc<Rewrite>, dump: &[u8], out: &mut Vec<u8>) -> Report {
    let mut rewriter = SqlRewriter::new(Arc::clone(rewrite));
    for piece in dump.chunks(PIECE) {
        out.clear();
        rewriter.push(piece, out);
        black_box(&out);
    }
    rewriter.finish(out).unwrap()
}

fn report(what: &str, bytes: usize, mut run: impl FnMut() -> Option<Report>) {
    let begun = Instant::now();
    let mut times = Vec::new();
    let mut last = None;
    for _ in 0..RUNS {
        let start = seconds(begun);
        last = run();
        times.push(seconds(begun) - start);
    }
    times.sort_by(f64::total_cmp);
    #[expect(clippy::cast_precision_loss, reason = "a speed for people")]
    let speed = bytes as f64 / 1e6 / times[RUNS / 2];
    let details = last.map_or(String::new(), |report| {
        format!(
            "   {} values, {} changed ({} serialised), {} names, {} left alone",
            report.values_seen,
            report.values_changed,
            report.serialised_changed,
            report.replacements,
            report.left_alone
        )
    });
    println!("{what:45} {speed:8.0} MB/s{details}");
}

/// Processor time of this thread; the wall clock since `begun` where Linux does not tell.
fn seconds(begun: Instant) -> f64 {
    let spent = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = spent.as_deref().and_then(|text| text.split(' ').next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| begun.elapsed().as_secs_f64(), |spent| spent / 1e9)
}

fn pairs(count: usize) -> Vec<Pair> {
    let host =
        |from: &str, to: &str| Pair::host(&SiteName::parse(from).unwrap(), &SiteName::parse(to).unwrap());
    let all = [
        host(OLD, NEW),
        Pair::path(
            "/srv/platforms/wordpress-6.1/sites/old.example.test",
            "/srv/platforms/wordpress-6.8/sites/new",
        )
        .unwrap(),
        host("www.old.example.test", "www.new-name.example.test"),
        host("shop.test", "store.test"),
        host("static.another-site.org", "static.new-name.example.test"),
        Pair::path("/var/aegir/platforms/drupal-7.98", "/var/aegir/platforms/drupal-7.105").unwrap(),
    ];
    all.into_iter().take(count).collect()
}

/// A dump like WordPress's: one row in `own_links` names the site's own host.
fn wordpress_dump(own_links: u64) -> Vec<u8> {
    let words = [
        "lorem",
        "ipsum",
        "the",
        "example",
        "next",
        "box",
        "of",
        "a",
        "paragraph",
        "with",
        "text.",
        "and",
        "it\\'s",
        "\\\"quoted\\\"",
        "http://elsewhere.org/x",
        "<p>",
        "</p>\\r\\n",
        "&nbsp;",
        "expert",
        "2024",
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut dump = Vec::with_capacity(SIZE + (2 << 20));
    let mut id = 0u64;
    while dump.len() < SIZE {
        for table in ["wp_posts", "wp_postmeta", "wp_options", "watchdog"] {
            dump.extend_from_slice(format!("INSERT INTO `{table}` VALUES ").as_bytes());
            let end = dump.len() + (1 << 20);
            let mut first = true;
            while dump.len() < end {
                id += 1;
                let host = if id.is_multiple_of(own_links) { OLD } else { "cdn.other.org" };
                let row = row(table, id, host, &words, &mut random);
                dump.extend_from_slice(if first { b"(" } else { b",(" });
                dump.extend_from_slice(row.as_bytes());
                dump.push(b')');
                first = false;
            }
            dump.extend_from_slice(b";\n");
        }
    }
    dump
}

fn row(table: &str, id: u64, host: &str, words: &[&str], random: &mut Random) -> String {
    let text = |random: &mut Random, count: u64| {
        (0..count)
            .map(|_| words[usize::try_from(random.below(words.len() as u64)).unwrap()])
            .collect::<Vec<_>>()
            .join(" ")
    };
    match table {
        "wp_posts" => {
            let content = format!(
                "{} <img src=\\\"https://{host}/wp-content/uploads/{id}.jpg\\\" /> {}",
                text(random, 200),
                text(random, 150)
            );
            format!(
                "{id},1,'2024-01-01 00:00:00','2024-01-01 00:00:00','{content}','Title {id}','','publish','open','open','','post-{id}','','','2024-01-01 00:00:00',0,'http://{host}/?p={id}',0,'post','',0"
            )
        }
        "wp_postmeta" => {
            let url = format!("http://{host}/wp-content/uploads/2024/01/image-{id}.jpg");
            let path = format!("/srv/platforms/wordpress-6.1/sites/{host}/wp-content/uploads/{id}.jpg");
            let value = format!(
                "a:4:{{s:5:\\\"width\\\";i:1200;s:6:\\\"height\\\";i:800;s:4:\\\"file\\\";s:{}:\\\"{path}\\\";s:5:\\\"sizes\\\";a:1:{{s:9:\\\"thumbnail\\\";a:2:{{s:3:\\\"url\\\";s:{}:\\\"{url}\\\";s:9:\\\"mime-type\\\";s:10:\\\"image/jpeg\\\";}}}}}}",
                path.len(),
                url.len()
            );
            format!("{id},{},'_wp_attachment_metadata','{value}'", id / 2)
        }
        "wp_options" => format!(
            "{id},'_transient_{id}','{{\\\"url\\\":\\\"https:\\\\/\\\\/{host}\\\\/{id}\\\",\\\"text\\\":\\\"{}\\\"}}','yes'",
            text(random, 30)
        ),
        _ => format!(
            "{id},{},'page','{}',5,'http://{host}/node/{id}','127.0.0.{}',17{}",
            id % 97,
            text(random, 3),
            id % 255,
            10_000_000 + id
        ),
    }
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}
