//! The table: the 73 failure cases in words, each with its end in brackets. Without more words the end is: rolled back, the site answers exactly
//! as before, files, rows, grants and vhosts are equal, nothing is left, no other site noticed, the safety backup stays.

use super::{
    Case, Play, app, archives, batch, database, disk, drupal, dumps, engine, names, remote, sites, space,
    task, vhosts, web,
};

/// All cases. Some are played in several ways.
pub(super) const CASES: &[Case] = &[
    case(
        1,
        "kill -9 of engine after every single step of migrate/install/delete/restore (systematic matrix) [resume: forward after pivot, else full undo; end state byte-equal to before or complete]",
        |scene| Box::pin(engine::killed_anywhere(scene)),
    ),
    case(
        2,
        "Host reboot between the two renames of a swap [site dir exists; EXCHANGE or journal repairs]",
        |scene| Box::pin(engine::between_two_renames(scene)),
    ),
    case(3, "Engine dies during compensation [compensation itself resumed, idempotent]", |scene| {
        Box::pin(engine::dies_while_compensating(scene))
    }),
    case(
        4,
        "Step result unknown: ssh drops after remote command ran [probe, no double run]; worker hangs [timeout kills the process group, remote child too]",
        |scene| Box::pin(engine::result_unknown(scene)),
    ),
    case(
        4,
        "a command hangs, with a grandchild in a session of its own [its limit ends both, on the host too]",
        |scene| Box::pin(engine::hanging_command(scene)),
    ),
    case(
        4,
        "Kedge is killed while a command of it runs, with a grandchild [its next life ends both before it acts]",
        |scene| Box::pin(engine::orphans(scene)),
    ),
    case(
        5,
        "Compensation fails (DB down) [retry with backoff, then 'stuck: needs human' with exact remaining list, lock kept, other sites unaffected]; press `Fatal/Broken`",
        |scene| Box::pin(database::down_in_the_rollback(scene)),
    ),
    case(
        6,
        "Duplicate webhook delivery / CI retries same idempotency key / two bots ask clone same uri [one saga, same id returned; second uri refused 409]",
        |scene| Box::pin(task::doubles(scene)),
    ),
    case(7, "Stale lock after crash [lease expiry + fencing; no manual rm]", |scene| {
        Box::pin(engine::stale_locks(scene))
    }),
    case(
        8,
        "Task for same site while one runs; cancel while running [queue or 409; cancel = compensate]",
        |scene| Box::pin(task::queue_and_cancel(scene)),
    ),
    case(
        9,
        "ENOSPC during dump, tar, extract, import, settings write [step fails, partial removed, old config bytes intact, no truncation]",
        |scene| Box::pin(space::files_full(scene)),
    ),
    case(9, "the database server's disk is full in the import", |scene| {
        Box::pin(space::database_full(scene))
    }),
    case(9, "the backup directory is full in the middle of the archive [nothing of it stays]", |scene| {
        Box::pin(space::backups_full(scene))
    }),
    case(
        10,
        "ENOSPC while compensating or in the journal itself [journal preallocated; refuse new sagas]",
        |scene| Box::pin(space::journal_full(scene)),
    ),
    case(11, "Inode exhaustion, quota, read-only remount [caught in preflight, else default]", |scene| {
        Box::pin(space::known_before(scene))
    }),
    case(11, "the old side's file system is read-only [the wait ends when it is repaired]", |scene| {
        Box::pin(space::old_side_read_only(scene))
    }),
    case(12, "Unwritable backup dir, other fs [fallback copy+fsync]", |scene| {
        Box::pin(disk::no_backup_dir(scene))
    }),
    case(
        13,
        "tar exit 1 'file changed as we read it' [warn, recorded in manifest] vs exit 2 [fail]; file vanishes; pipe member fails (`tar|gzip` without pipefail, HES) [fail]",
        |scene| Box::pin(disk::busy_files(scene)),
    ),
    case(
        14,
        "Files owned by www-data in dirs without group write at delete/migrate [helper privileges or report exact paths before anything destructive]",
        |scene| Box::pin(sites::files_of_the_web_server(scene)),
    ),
    case(
        15,
        "chattr +i file, NFS .nfsXXXX, fifo/socket/sparse/hardlinks/xattr/ACL, 255-byte and non-UTF8 names, >8 GiB file [preserved or reported]",
        |scene| Box::pin(disk::odd_files(scene)),
    ),
    case(
        16,
        "Symlink in files/ to / or ../ ; tarball with `../`, absolute, or symlink-then-write entries [never followed; reject]",
        |scene| Box::pin(sites::links_out(scene)),
    ),
    case(
        16,
        "tarball with `../`, absolute, or symlink-then-write entries, devices, hard links [nothing is written outside]",
        |scene| Box::pin(archives::hostile(scene)),
    ),
    case(
        17,
        "1 M small files; 50 GB files dir [verify does not rewrite inodes; pre-sync keeps downtime < delta]",
        |scene| Box::pin(sites::many_files(scene)),
    ),
    case(
        18,
        "leftover `database.sql`, `<site>.restore`, `.tmp`, `.maintenance` from an old crash [next task recovers]",
        |scene| Box::pin(disk::leftovers(scene)),
    ),
    case(
        19,
        "DEFINER of missing user on views, triggers, routines, events [imports as site user]",
        |scene| Box::pin(dumps::definer_is_gone(scene)),
    ),
    case(
        20,
        "Content row that contains dump syntax (`/*!50013 DEFINER=`, `-- Dump completed`) [unchanged byte for byte]",
        |scene| Box::pin(dumps::dump_in_a_row(scene)),
    ),
    case(
        21,
        "Routines/events present (mysqldump omits by default; Aegir loses them) [dumped or warned]",
        |scene| Box::pin(dumps::routines_and_events(scene)),
    ),
    case(22, "GTID on [no SET @@GLOBAL.GTID_PURGED]", |scene| Box::pin(dumps::global_ids(scene))),
    case(23, "MariaDB 'sandbox mode' first line to MySQL/old client [handled]", |scene| {
        Box::pin(archives::sandbox_line(scene))
    }),
    case(24, "utf8mb4_0900_ai_ci to MariaDB [map or refuse in preflight]", |scene| {
        Box::pin(archives::foreign_collation(scene))
    }),
    case(25, "Error 1412 during dump [retry, then fail]", |scene| {
        Box::pin(dumps::changed_while_dumped(scene))
    }),
    case(
        26,
        "MyISAM/mixed engines [dump taken under fence or locked; manifest says which tables are not snapshot-consistent]",
        |scene| Box::pin(dumps::outside_transactions(scene)),
    ),
    case(27, "max_allowed_packet / gone away [preflight compare, fail clean]", |scene| {
        Box::pin(database::small_packets(scene))
    }),
    case(28, "--no-tablespaces / PROCESS privilege (5.7.31+) [dump works with least privilege]", |scene| {
        Box::pin(dumps::least_privilege(scene))
    }),
    case(29, "MySQL 8: GRANT..IDENTIFIED BY removed [CREATE/ALTER USER path; also MariaDB 10.x]", |scene| {
        Box::pin(dumps::accounts_by_create_user(scene))
    }),
    case(30, "Import error in the middle [stop; BOA `mysql --force` hides it]", |scene| {
        Box::pin(archives::error_in_the_middle(scene))
    }),
    case(31, "Dump truncated but exit 0 [trailer check]", |scene| Box::pin(dumps::cut_dump(scene))),
    case(
        32,
        "Name clash: two uris with same 16-char base; two concurrent creates (race in suggest_db_name) [unique claim]; uri > 64 chars; user limit 32/16; IDN/punycode; digits only [names valid, recorded before creation, never reused by mistake]",
        |scene| Box::pin(names::clashes(scene)),
    ),
    case(
        33,
        "DROP/RENAME blocked by metadata lock (long SELECT) [lock_wait_timeout, retry, no hang]",
        |scene| Box::pin(database::table_lock(scene)),
    ),
    case(34, "Pre-existing user/DB with that name not ours [never dropped by undo]", |scene| {
        Box::pin(database::foreign_names(scene))
    }),
    case(
        35,
        "User used by second DB [REVOKE only] ; grant hosts changed between create and delete",
        |scene| Box::pin(names::shared_account(scene)),
    ),
    case(
        36,
        "DB restarts mid import; too many connections; read-only/super_read_only replica; OOM-killed mysqldump [retry by class: transient vs permanent, then default]",
        |scene| Box::pin(database::killed_in_the_copy(scene)),
    ),
    case(36, "a server that takes no writes [preflight refuses]", |scene| {
        Box::pin(database::read_only(scene))
    }),
    case(
        37,
        "binary/blob, zero dates with strict sql_mode, generated columns, FK cycles, reserved-word tables, 4-byte UTF-8, table prefix [round-trip checksums equal]",
        |scene| Box::pin(database::odd_schema(scene)),
    ),
    case(
        38,
        "Another site's vhost/cert is already broken: nginx -t fails before we start [preflight reports culprit; our task refuses or isolates, never leaves pending bad state]",
        |scene| Box::pin(web::neighbour_before(scene)),
    ),
    case(38, "a neighbour's vhost breaks in the middle [as before, the culprit named]", |scene| {
        Box::pin(web::neighbour_during(scene))
    }),
    case(39, "Our new vhost is invalid [W1 undone, live config unchanged]", |scene| {
        Box::pin(vhosts::invalid(scene))
    }),
    case(40, "configtest ok but reload fails/times out; reload storm of 50 tasks [coalesced]", |scene| {
        Box::pin(vhosts::reload_fails(scene))
    }),
    case(40, "the web server is restarted in the middle [done or as before]", |scene| {
        Box::pin(web::restarted(scene))
    }),
    case(40, "six tasks reload one server at once [coalesced]", |scene| {
        Box::pin(vhosts::reload_storm(scene))
    }),
    case(
        41,
        "Old workers still serve old root (long requests) [drain/fence before final dump; no write lost]",
        |scene| Box::pin(web::visitors(scene)),
    ),
    case(
        41,
        "the site writes to its database all through the copy [every acknowledged write is in the new one]",
        |scene| Box::pin(database::written_all_along(scene)),
    ),
    case(
        42,
        "Duplicate server_name/alias already used by other site; alias with `/` (subdir); wildcard; >235 chars [refused before any change]",
        |scene| Box::pin(task::taken_names(scene)),
    ),
    case(43, "php-fpm: last pool removed, pool user gone [fpm -t first]", |scene| {
        Box::pin(web::php_fpm_dead(scene))
    }),
    case(43, "pools are the host's own [no task writes one, so none can lose its last]", |scene| {
        Box::pin(vhosts::no_pools(scene))
    }),
    case(44, "Empty db_port/creds in fastcgi_param breaks nginx [template refuses empty values]", |scene| {
        Box::pin(vhosts::no_credentials(scene))
    }),
    case(45, "Site migrated fine but vhost still points to old root -> 404 [A6 catches]", |scene| {
        Box::pin(app::pages_fail(scene))
    }),
    beside(
        46,
        "sites.php edited by two tasks on one platform at once [no lost alias]",
        "an_alias_that_is_written_at_the_same_time_is_not_lost",
        |scene| Box::pin(drupal::aliases_at_once(scene)),
    ),
    case(
        47,
        "Cert missing/expired, ACME fails, rename invalidates cert, cert deleted on migrate, shared cert [http vhost keeps working, cert refcounted, task warns]",
        |scene| Box::pin(batch::certificates(scene)),
    ),
    case(
        48,
        "updatedb fails at update N of M [target dropped, old site live]; updb leaves maintenance=1",
        |scene| Box::pin(app::update_fails(scene)),
    ),
    case(48, "the update ends the process without a word [target dropped, old site live]", |scene| {
        Box::pin(app::update_dies(scene))
    }),
    case(
        49,
        "Backup taken while in maintenance, restored later [site comes up live: flag lives outside DB]",
        |scene| Box::pin(archives::backup_of_a_closed_site(scene)),
    ),
    case(50, "WP maintenance expires after 10 min in a long job [vhost 503 stays]", |scene| {
        Box::pin(vhosts::closed_by_the_server(scene))
    }),
    beside(
        51,
        "Module missing on target; site-local module paths; registry/autoload fatals (recipes for disaster) [compare fresh facts]",
        "a_module_that_the_platform_lacks_has_to_be_acknowledged",
        |scene| Box::pin(drupal::module_missing(scene)),
    ),
    case(
        51,
        "what a Drupal platform gives is read from its files as they are now: releases, profiles and what comes with them",
        |scene| Box::pin(drupal::trees(scene)),
    ),
    beside(
        52,
        "Stale package data [compare recomputed inside the saga]",
        "a_task_compares_what_there_is_when_it_looks",
        |scene| Box::pin(drupal::stale_packages(scene)),
    ),
    case(
        52,
        "the other platform's code changes between the table and the task [the task looks again]",
        |scene| Box::pin(drupal::changed_meanwhile(scene)),
    ),
    beside(
        53,
        "No same profile on target [refused in preflight with the reason]",
        "a_platform_without_the_profile_of_the_site_is_refused_and_says_which_it_has",
        |scene| Box::pin(drupal::no_profile(scene)),
    ),
    case(
        54,
        "URL rewrite: sites/foo.com vs sites/foo.com.au; old uri substring of new (a.com -> aa.com) run twice; serialised lengths; JSON-escaped `\\/`; case",
        |scene| Box::pin(app::name_in_name(scene)),
    ),
    case(55, "Clone sends mail / runs cron / hits payment webhooks [paused]", |scene| {
        Box::pin(app::quiet_copy(scene))
    }),
    case(56, "hash_salt/password/cron key changed by verify [must not]", |scene| {
        Box::pin(web::put_right(scene))
    }),
    case(
        57,
        "Custom settings in local.settings.php, wp-config edits, hand-edited vhost [kept or reported as drift, never silently lost]",
        |scene| Box::pin(web::hand_edited(scene)),
    ),
    case(58, "CLI ok but web 500 (opcache, php version of fpm differs) [HTTP smoke]", |scene| {
        Box::pin(app::white_page(scene))
    }),
    case(58, "the pages of the new side cannot reach their database [HTTP smoke]", |scene| {
        Box::pin(app::no_database_in_pages(scene))
    }),
    case(59, "Site already disabled/maintenance before task [prior state returned]", |scene| {
        Box::pin(sites::closed_before(scene))
    }),
    case(
        60,
        "Prints/notices on stdout pollute drush/wp JSON; 200 MB output; secrets in output [bounded, redacted]",
        |scene| Box::pin(app::noise(scene)),
    ),
    case(
        61,
        "ssh host key changed, auth lost midway, sudo asks password [no hang, classified error, undo resumes when host is back]",
        |scene| Box::pin(remote::key_refused(scene)),
    ),
    case(62, "One of 3 web hosts down during push [compensate or mark degraded, per policy]", |scene| {
        Box::pin(crate::cluster::one_is_down(scene.server))
    }),
    case(
        63,
        "rsync 23/24/30; clock skew; container restarted during docker exec; master/remote `files` authority (remote wins on backup, master on restore) [no file lost in either direction]",
        |scene| Box::pin(remote::rebooted(scene)),
    ),
    case(63, "the host stands still for seconds [no file lost]", |scene| Box::pin(remote::paused(scene))),
    case(
        64,
        "Delete with DB missing / dir missing / vhost missing / alias missing, each alone and all [succeeds, reports]",
        |scene| Box::pin(sites::half_gone(scene)),
    ),
    case(65, "Delete again after success [no-op]", |scene| Box::pin(sites::deleted_twice(scene))),
    case(66, "Install retry after failure with same uri", |scene| Box::pin(task::install_again(scene))),
    case(67, "Clone onto existing uri [409]", |scene| Box::pin(names::onto_existing(scene))),
    case(
        68,
        "Restore from corrupt/truncated/foreign/old Aegir tarball; missing database.sql [detected before the live site is touched]",
        |scene| Box::pin(archives::damaged(scene)),
    ),
    case(69, "Restore after platform deleted [refused, offers compatible platforms]", |scene| {
        Box::pin(archives::platform_gone(scene))
    }),
    case(70, "Rename to own alias [works]; swap names of two sites [refused or done as one saga]", |scene| {
        Box::pin(names::own_alias(scene))
    }),
    case(70, "swap names of two sites [refused]", |scene| Box::pin(vhosts::swap(scene))),
    case(71, "Purge while restore reads that backup [pinned]", |scene| {
        Box::pin(archives::purged_while_read(scene))
    }),
    case(72, "Schedule across DST/downtime [no double run, one catch-up]", |scene| {
        Box::pin(batch::schedules(scene))
    }),
    case(73, "Batch migrate: site 7 of 40 fails [others as policy]", |scene| {
        Box::pin(batch::one_of_many_fails(scene))
    }),
];

const fn case(number: u8, words: &'static str, play: Play) -> Case {
    Case { number, words, play, beside: None }
}

/// A case that needs code which is not everywhere at hand; `test` carries its claim where it is not.
const fn beside(number: u8, words: &'static str, test: &'static str, play: Play) -> Case {
    Case { number, words, play, beside: Some(test) }
}
