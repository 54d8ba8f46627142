<?php
// What a login link needs: first whom it would log in, and how Drupal 7 would let him in; then the row, written or taken away. The link
// itself is not told here: only its hash, and the way in as the link alone makes it readable. Runs nothing of the site's.

/** The user that is meant, and whether it may log in: number, name, password, last login, mail address. */
function kedge_user(bool $seven, string $given): array
{
    [$table, $only] = $seven ? ['users', ''] : ['users_field_data', 'default_langcode = 1 AND '];
    $what = "SELECT uid, name, pass, login, mail, status FROM {{$table}} WHERE {$only}uid > 0 AND";
    if ($given === '') {
        $rows = kedge_rows("$what uid = 1");
        $whom = 'no first administrator';
    } else {
        $number = ctype_digit($given) ? $given : '0';
        $rows = kedge_rows("$what (name = ? OR mail = ? OR uid = ?) ORDER BY name = ? DESC, mail = ? DESC LIMIT 1", [$given, $given, $number, $given, $given]);
        $whom = 'no such user (a name, a mail address or a number)';
    }
    if (empty($rows)) {
        Kedge::refuse("the site has $whom");
    }
    if (!$rows[0][5]) {
        Kedge::refuse($given === '' ? 'its first administrator is blocked: name another user' : 'this user is blocked');
    }
    return $rows[0];
}

(static function (array $in, bool $seven) {
    if (kedge_state('install_task', 'install_task') !== 'done') {
        $in['what'] === 'revoke' || Kedge::refuse('no Drupal is installed in this database');
        Kedge::answer(['done' => true]);
        return;
    }
    // Where Drupal's cron takes out what is over.
    [$table, $is] = $seven
        ? ['cache_form', "cid = CONCAT('kedge_login_', ?)"]
        : ['key_value_expire', "collection = 'kedge_login' AND name = ?"];
    if ($in['what'] === 'find') {
        [$uid, $user, $password, $login, $mail] = kedge_user($seven, $in['user']);
        $path = null;
        if ($seven) {
            // The module has a class whose parent is there.
            require_once DRUPAL_ROOT . '/includes/entity.inc';
            require_once DRUPAL_ROOT . '/modules/user/user.module';
            $now = time();
            $path = "/?q=user/reset/$uid/$now/" . user_pass_rehash($password, $now, $login, $uid, $mail) . '/login';
        }
        $limit = $seven
            ? kedge_value("SELECT value FROM {variable} WHERE name = 'user_password_reset_timeout'")
            : (kedge_value("SELECT data FROM {config} WHERE collection = '' AND name = 'user.settings'")['password_reset_timeout'] ?? null);
        Kedge::answer(['uid' => (int) $uid, 'user' => $user, 'path' => $path, 'now' => time(), 'limit' => (int) ($limit ?? 86400)]);
        return;
    }
    if ($in['what'] === 'revoke') {
        kedge_rows("DELETE FROM {{$table}} WHERE $is", [$in['id']]);
        Kedge::answer(['done' => true]);
        return;
    }
    // Serialised, as all the others there: nobody's code stumbles over it.
    $row = [serialize($in['row']), min($in['until'], 2147483647)];
    if ($seven) {
        $done = kedge_rows('REPLACE INTO {cache_form} (cid, data, expire, created, serialized) VALUES (?, ?, ?, ?, 1)', ["kedge_login_{$in['id']}", $row[0], $row[1], time()]);
    } else {
        $write = "REPLACE INTO {key_value_expire} (collection, name, value, expire) VALUES ('kedge_login', ?, ?, ?)";
        $done = kedge_rows($write, [$in['id'], $row[0], $row[1]]);
        if ($done === null) {
            // Drupal makes this table when it needs it first, as core's DatabaseStorageExpirable says.
            kedge_rows("CREATE TABLE IF NOT EXISTS {key_value_expire} (
                collection varchar(128) CHARACTER SET ascii NOT NULL DEFAULT '', name varchar(128) CHARACTER SET ascii NOT NULL DEFAULT '',
                value longblob NOT NULL, expire int(11) NOT NULL DEFAULT 2147483647, PRIMARY KEY (collection, name), KEY expire (expire))");
            $done = kedge_rows($write, [$in['id'], $row[0], $row[1]]);
        }
    }
    if ($done === null) {
        Kedge::refuse("the database has no table $table");
    }
    Kedge::answer(['done' => true]);
})(Kedge::$in, $kedge_core['seven']);
