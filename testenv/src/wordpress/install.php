// Installs WordPress by its own functions. Read by `php` from standard input as www-data, after a line that sets $spec.

define('WP_INSTALLING', true);
$_SERVER += ['KEDGE_SITE' => $spec['uri'], 'HTTP_HOST' => $spec['uri'], 'REQUEST_URI' => '/', 'REQUEST_METHOD' => 'GET',
    'SERVER_PROTOCOL' => 'HTTP/1.1', 'REMOTE_ADDR' => '127.0.0.1'];
function wp_new_blog_notification() {} // takes the place of the one that would send mail
require $spec['platform_root'] . '/wp-load.php';
require_once ABSPATH . 'wp-admin/includes/upgrade.php';
require_once ABSPATH . 'wp-admin/includes/translation-install.php';

wp_install($spec['title'], $spec['admin'], "admin@{$spec['uri']}", true, '', $spec['admin_password']);
if (!is_blog_installed()) {
    fwrite(STDERR, "install: WordPress did not install: $wpdb->last_error\n");
    exit(1);
}
switch_theme($spec['theme']);
$wp_rewrite->set_permalink_structure('/%year%/%monthnum%/%postname%/');
$wp_rewrite->flush_rules(false);
echo json_encode(['version' => $wp_version, 'db_version' => (int) get_option('db_version')]), "\n";
