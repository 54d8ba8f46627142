<?php
// Installs Drupal by its own installer, asked no questions. The first user's password comes on standard input, not as an argument.

/** Whether the first user's password is this one. */
function kedge_is_password(bool $seven, string $root, string $password, string $hash): bool
{
    if ($hash === '' || $hash[0] !== '$' || strncmp($hash, '$2y$', 4) === 0 || strncmp($hash, '$argon', 6) === 0) {
        return password_verify($password, $hash);
    }
    if ($seven) {
        require_once "$root/includes/password.inc";
        return user_check_password($password, (object) ['pass' => $hash]);
    }
    return (new Drupal\Core\Password\PhpassHashedPassword(16, new Drupal\Core\Password\PhpPassword()))->check($password, $hash);
}

$kedge_settings = (static function (array $in, string $root, array $core, string $dir) {
    $there = kedge_state('install_task', 'install_task');
    if ($there !== null) {
        $user = kedge_rows($core['seven'] ? 'SELECT name, pass FROM {users} WHERE uid = 1'
            : 'SELECT name, pass FROM {users_field_data} WHERE uid = 1 AND default_langcode = 1');
        if ($there === 'done' && !empty($user) && $user[0][0] === $in['admin_user'] && kedge_is_password($core['seven'], $root, $in['admin_password'], (string) $user[0][1])) {
            Kedge::answer(['installed' => true]);
            exit(0);
        }
        Kedge::refuse('another Drupal is installed in this database already, or half of one');
    }
    $profile = $in['profile'] === '' ? 'standard' : $in['profile'];
    $info = $core['seven'] ? "$profile/$profile.info" : "$profile/$profile.info.yml";
    $places = array_map(static fn ($place) => "$root/$place", ['profiles', 'core/profiles', 'profiles/contrib', 'profiles/custom', "$dir/profiles"]);
    if (!preg_match('/^[a-z0-9_]+$/D', $profile) || !array_filter($places, static fn ($place) => is_file("$place/$info"))) {
        $has = [];
        foreach ($places as $place) {
            foreach (glob("$place/*/*.info" . ($core['seven'] ? '' : '.yml')) ?: [] as $file) {
                $has[] = basename(dirname($file));
            }
        }
        Kedge::refuse("the platform has no profile $profile; it has " . implode(' ', array_unique($has)));
    }
    $language = strtolower(strtok($in['language'] === '' ? 'en' : $in['language'], '_'));
    $account = ['name' => $in['admin_user'], 'mail' => $in['admin_email'], 'pass' => ['pass1' => $in['admin_password'], 'pass2' => $in['admin_password']]];
    $form = ['site_name' => $in['title'], 'site_mail' => $in['admin_email'], 'account' => $account, 'date_default_timezone' => 'UTC'];
    return [
        'parameters' => ['profile' => $profile, $core['seven'] ? 'locale' : 'langcode' => $language],
        'forms' => ['install_configure_form' => $form + ($core['seven']
            ? ['clean_url' => true, 'update_status_module' => [1 => true, 2 => true]]
            : ['enable_update_status_module' => true, 'enable_update_status_emails' => null])],
    ] + ($core['seven'] ? [] : ['site_path' => $dir]);
})(Kedge::$in, $kedge_root, $kedge_core, $kedge_site_dir);

try {
    if ($kedge_core['seven']) {
        require_once DRUPAL_ROOT . '/includes/install.core.inc';
        install_drupal($kedge_settings);
    } else {
        require_once "$kedge_root/core/includes/install.core.inc";
        install_drupal($kedge_loader, $kedge_settings);
    }
} catch (Throwable $error) {
    Kedge::refuse('Drupal did not install: ' . trim(preg_replace('/\s+/', ' ', strip_tags($error->getMessage()))));
}
if (kedge_state('install_task', 'install_task') !== 'done') {
    Kedge::refuse('Drupal did not install: it gives no reason; it said ' . substr(trim(preg_replace('/\s+/', ' ', strip_tags(Kedge::$printed))), -300));
}
Kedge::answer(['installed' => true]);
