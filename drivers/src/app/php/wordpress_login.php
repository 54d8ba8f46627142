<?php
// Writes the row that a login link needs, or takes it away. The link itself is not told here: only its hash.

(static function (array $in) {
    global $wpdb;
    $row = "kedge_login_{$in['id']}";
    if ($in['hash'] === '') {
        if (kedge_option('siteurl') !== null) {
            $wpdb->query($wpdb->prepare("DELETE FROM $wpdb->options WHERE option_name IN (%s, %s)", "_transient_$row", "_transient_timeout_$row"));
        }
        Kedge::answer(['user' => '', 'url' => '']);
        return;
    }
    if (kedge_option('siteurl') === null) {
        Kedge::refuse('no WordPress is installed in this database');
    }
    if ($in['user'] === '') {
        // The first administrator, by what his role is stored as.
        $user = $wpdb->get_row($wpdb->prepare(
            "SELECT u.ID, u.user_login FROM $wpdb->users u JOIN $wpdb->usermeta m ON m.user_id = u.ID
             WHERE m.meta_key = %s AND m.meta_value LIKE %s ORDER BY u.ID LIMIT 1",
            $wpdb->prefix . 'capabilities',
            '%"administrator";b:1;%'
        ));
        $whom = 'no administrator';
    } else {
        $number = ctype_digit($in['user']) ? $in['user'] : '0';
        $user = $wpdb->get_row($wpdb->prepare(
            "SELECT ID, user_login FROM $wpdb->users WHERE user_login = %s OR user_email = %s OR ID = %d
             ORDER BY user_login = %s DESC, user_email = %s DESC LIMIT 1",
            $in['user'],
            $in['user'],
            $number,
            $in['user'],
            $in['user']
        ));
        $whom = 'no such user (a name, a mail address or a number)';
    }
    if (!$user) {
        Kedge::refuse("the site has $whom");
    }
    foreach (["_transient_timeout_$row" => $in['until'], "_transient_$row" => "{$user->ID}:{$in['until']}:{$in['hash']}"] as $name => $value) {
        $done = $wpdb->query($wpdb->prepare(
            "INSERT INTO $wpdb->options (option_name, option_value, autoload) VALUES (%s, %s, 'no')
             ON DUPLICATE KEY UPDATE option_value = VALUES(option_value)",
            $name,
            $value
        ));
        if ($done === false) {
            Kedge::refuse('the database refused the link: ' . $wpdb->last_error);
        }
    }
    Kedge::answer(['user' => $user->user_login, 'url' => defined('WP_SITEURL') ? WP_SITEURL : kedge_option('siteurl')]);
})(Kedge::$in);
