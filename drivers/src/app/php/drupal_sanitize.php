<?php
// Takes persons out of a copy: users keep their names and roles, and lose mail address, password, sessions and one-time links; commenters
// lose mail address and IP; what is logged and waiting in forms goes. In the tables of Drupal's core alone. No password fits "!".

(static function (bool $seven) {
    if (kedge_state('install_task', 'install_task') !== 'done') {
        Kedge::refuse('no Drupal is installed in this database');
    }
    $users = $seven ? 'users' : 'users_field_data';
    kedge_rows("UPDATE {{$users}} SET pass = '!', mail = CONCAT('user', uid, '@example.invalid'), init = CONCAT('user', uid, '@example.invalid') WHERE uid > 0");
    [[$count]] = kedge_rows("SELECT COUNT(DISTINCT uid) FROM {{$users}} WHERE uid > 0");
    $comments = $seven ? 'comment' : 'comment_field_data';
    kedge_rows("UPDATE {{$comments}} SET hostname = '', mail = IF(mail IS NULL OR mail = '', mail, CONCAT('comment', cid, '@example.invalid'))");
    foreach (['sessions', 'flood', 'watchdog', 'accesslog', 'authmap', 'key_value_expire'] as $table) {
        kedge_rows("DELETE FROM {{$table}}");
    }
    if ($seven) {
        kedge_rows("UPDATE {contact} SET recipients = 'admin@example.invalid'");
        kedge_rows("UPDATE {variable} SET value = ? WHERE name = 'site_mail'", [serialize('admin@example.invalid')]);
        kedge_rows("DELETE FROM {variable} WHERE name IN ('update_notify_emails', 'smtp_username', 'smtp_password')");
    } else {
        $change = static function (string $like, callable $of) {
            foreach (kedge_rows('SELECT collection, name, data FROM {config} WHERE name LIKE ?', [$like]) ?? [] as [$collection, $name, $data]) {
                $data = unserialize($data, ['allowed_classes' => false]);
                if (is_array($data)) {
                    kedge_rows('UPDATE {config} SET data = ? WHERE collection = ? AND name = ?', [serialize($of($data)), $collection, $name]);
                }
            }
        };
        $mail = static fn (array $data) => isset($data['mail']) ? ['mail' => 'admin@example.invalid'] + $data : $data;
        $change('system.site', static fn ($data) => empty($data['mail_notification']) ? $mail($data) : ['mail_notification' => 'admin@example.invalid'] + $mail($data));
        $change('update.settings', static fn ($data) => isset($data['notification']['emails']) ? ['notification' => ['emails' => []] + $data['notification']] + $data : $data);
        $change('contact.form.%', static fn ($data) => empty($data['recipients']) ? $data : ['recipients' => ['admin@example.invalid']] + $data);
        kedge_rows("DELETE FROM {key_value} WHERE collection = 'state' AND name = 'system.test_mail_collector'");
    }
    Kedge::answer(['sanitized_users' => (int) $count]);
})($kedge_core['seven']);
