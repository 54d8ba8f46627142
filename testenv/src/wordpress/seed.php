// Fills a WordPress site through its own functions. Read by `php` from standard input as www-data, after a line that sets
// $spec. Everything it stores follows from $spec['seed']: no clock, no other randomness. Prints one line of JSON.

define('WP_IMPORTING', true); // no pings, no scheduled jobs
$_SERVER += ['KEDGE_SITE' => $spec['uri'], 'HTTP_HOST' => $spec['uri'], 'REQUEST_URI' => '/', 'REQUEST_METHOD' => 'GET',
    'SERVER_PROTOCOL' => 'HTTP/1.1', 'REMOTE_ADDR' => '127.0.0.1'];
require $spec['platform_root'] . '/wp-load.php';
require_once ABSPATH . 'wp-admin/includes/image.php';
require_once ABSPATH . 'wp-admin/includes/nav-menu.php';

mt_srand($spec['seed']);
const EPOCH = 1704103200; // 2024-01-01 10:00 UTC: the first post
const DISTINCT_IMAGES = 5;
$url = 'http://' . $spec['uri'];
$dir = $spec['site_dir'];
$words = explode(' ', 'anchor bosun capstan davit ensign fathom galley halyard inlet jib keel lanyard mast nautical oar'
    . ' pilot quay rudder sextant tiller upwind vessel windlass yawl zephyr hawser kedge bower stream warp');
$count = array_fill_keys(['posts', 'attachments', 'files', 'revisions', 'comments', 'users', 'terms', 'menu_items',
    'odd_files', 'odd_rows'], 0);

function pick(array $from) { return $from[mt_rand(0, count($from) - 1)]; }
function phrase(int $length): string {
    global $words;
    $said = [];
    for ($i = 0; $i < $length; $i++) { $said[] = pick($words); }
    return implode(' ', $said);
}
function ok($value, string $doing) {
    if ($value === false || $value === 0 || is_wp_error($value)) {
        global $wpdb;
        file_put_contents('php://stderr', "seed: $doing failed: " . (is_wp_error($value) ? $value->get_error_message() : $wpdb->last_error) . "\n"); // read from standard input, PHP has no STDERR
        exit(1);
    }
    return $value;
}
function day(int $n): string { return gmdate('Y-m-d H:i:s', EPOCH + $n * 32400); }

// Values that break careless rewriting: nested, typed, escaped, and serialised inside serialised.
function intricate(int $n): array {
    global $url, $dir;
    $object = new stdClass();
    $object->link = "$url/object/$n/";
    $object->path = "$dir/wp-content/uploads/object-$n.txt";
    $object->{'weird key "quoted"; s:3:"'} = [null, true, false, 0, -7, 1.5, '', 'ümläut ' . mb_chr(0x1F6A2)];
    return [
        'url' => "$url/page-$n/?a=1&b=$url",
        'many' => ["$url", "$url/", "{$url}x", "//{$GLOBALS['spec']['uri']}/relative", "https://{$GLOBALS['spec']['uri']}/secure"],
        "$url/as-key" => ['deep' => ['deeper' => ['deepest' => "$url/wp-content/uploads/$n.jpg"]]],
        'path' => "$dir/wp-content/uploads",
        'json' => json_encode(['href' => "$url/json/$n", 'file' => "$dir/x"]),
        'inner' => serialize(['inner' => "$url/inner/$n", 'path' => $dir, 'again' => serialize(["$url/innermost"])]),
        'emoji' => str_repeat(mb_chr(0x1F9ED), 1 + $n % 3) . " $url " . mb_chr(0x2693),
        'base64' => base64_encode("\x00\xff$url\x80" . $n),
        'encoded' => rawurlencode("$url/encoded?x=$n"),
        'object' => $object,
        'looks_serialised' => "s:99:\"$url\";",
        'tricky' => "\";s:4:\"x\";}$url\"",
    ];
}

wp_defer_term_counting(true);
wp_defer_comment_counting(true);
$wpdb->query('SET autocommit = 0');

// Users. The password hash is fixed: WordPress accepts such old ones, and a fresh one would differ in every run.
$users = [];
for ($i = 0; $i < 8; $i++) {
    $id = ok(wp_insert_user(['user_login' => "sailor$i", 'user_pass' => 'replaced below', 'user_email' => "sailor$i@{$spec['uri']}",
        'display_name' => ucwords(phrase(2)), 'user_url' => "$url/author/sailor$i/", 'role' => $i ? 'author' : 'editor',
        'user_registered' => day($i)]), 'a user');
    ok($wpdb->update($wpdb->users, ['user_pass' => md5("sailor$i")], ['ID' => $id]), 'a password');
    update_user_meta($id, 'kedge_preferences', intricate($i));
    update_user_meta($id, 'description', phrase(12) . " $url/about/ " . mb_chr(0x26F5));
    $users[] = $id;
    $count['users']++;
}

$terms = [];
for ($i = 0; $i < 9; $i++) {
    $parent = $i % 3 ? $terms[$i - $i % 3] : 0;
    $term = ok(wp_insert_term(ucfirst($words[$i]) . " $i", 'category', ['parent' => $parent,
        'description' => "See <a href=\"$url/category/$i\">" . phrase(4) . '</a>']), 'a category');
    $terms[] = $term['term_id'];
    update_term_meta($term['term_id'], 'kedge_term', intricate($i));
    $count['terms']++;
}

// A few distinct pictures go through GD with all their sizes; the attachments of the posts are copies of them.
$prototypes = [];
for ($i = 0; $i < DISTINCT_IMAGES; $i++) {
    $image = imagecreatetruecolor(1280, 853);
    for ($row = 0; $row < 853; $row += 4) { // sky above sea, in this picture's colours
        $sea = $row > 480;
        $colour = imagecolorallocate($image, ($sea ? 10 : 120 + $row / 6) + $i * 12, ($sea ? 60 : 150) + $row / 12, 200 - $row / 8 + $i * 6);
        imagefilledrectangle($image, 0, $row, 1280, $row + 3, $colour);
    }
    for ($j = 0; $j < 40; $j++) {
        $colour = imagecolorallocatealpha($image, mt_rand(0, 255), mt_rand(0, 255), mt_rand(0, 255), 80);
        imagefilledellipse($image, mt_rand(0, 1280), mt_rand(0, 853), mt_rand(20, 220), mt_rand(20, 220), $colour);
    }
    $upload = wp_upload_dir(gmdate('Y/m', EPOCH));
    $file = "{$upload['path']}/prototype-$i.jpg";
    ok(imagejpeg($image, $file, 82), 'a picture');
    imagedestroy($image);
    $id = ok(wp_insert_attachment(['post_title' => "Prototype $i", 'post_mime_type' => 'image/jpeg', 'post_status' => 'inherit',
        'post_date' => day(0), 'guid' => "{$upload['url']}/prototype-$i.jpg"], $file), 'an attachment');
    $meta = ok(wp_generate_attachment_metadata($id, $file), 'the sizes of a picture');
    wp_update_attachment_metadata($id, $meta);
    $prototypes[] = ['dir' => $upload['path'], 'base' => "prototype-$i", 'meta' => $meta];
    $count['attachments']++;
    $count['files'] += 1 + count($meta['sizes']);
}

// attach POST N: a copy of a prototype with all its sizes, under names of its own. Gives its id and URL.
function attach(int $post, int $n): array {
    global $prototypes, $count;
    $prototype = $prototypes[$n % DISTINCT_IMAGES];
    $upload = wp_upload_dir(gmdate('Y/m', EPOCH + $n * 32400));
    $base = "voyage-$n";
    $meta = $prototype['meta'];
    $rename = fn (string $file): string => str_replace($prototype['base'], $base, wp_basename($file));
    $copy = function (string $file) use ($prototype, $upload, $rename, $n, &$count): void {
        $target = "{$upload['path']}/" . $rename($file);
        ok(copy("{$prototype['dir']}/" . wp_basename($file), $target), "copying $file");
        touch($target, EPOCH + $n);
        $count['files']++;
    };
    $copy($meta['file']);
    foreach ($meta['sizes'] as &$size) {
        $copy($size['file']);
        $size['file'] = $rename($size['file']);
    }
    unset($size);
    $meta['file'] = ltrim($upload['subdir'], '/') . "/$base.jpg";
    $meta['image_meta']['caption'] = "Voyage $n " . mb_chr(0x1F30A);
    $id = ok(wp_insert_attachment(['post_title' => "Voyage $n", 'post_mime_type' => 'image/jpeg', 'post_status' => 'inherit',
        'post_date' => day($n), 'guid' => "{$upload['url']}/$base.jpg"], "{$upload['path']}/$base.jpg", $post), 'an attachment');
    wp_update_attachment_metadata($id, $meta);
    update_post_meta($id, '_wp_attachment_image_alt', phrase(3));
    $count['attachments']++;
    return [$id, "{$upload['url']}/$base.jpg"];
}

$previous = $url . '/';
for ($n = 0; $n < $spec['posts']; $n++) {
    $title = ucfirst(phrase(4)) . ($n % 10 === 0 ? ' ' . mb_chr(0x1F6F3) : '');
    $post = ['post_title' => $title, 'post_name' => "post-$n", 'post_status' => $n % 25 === 24 ? 'draft' : 'publish',
        'post_type' => $n % 20 === 19 ? 'page' : 'post', 'post_author' => $users[$n % count($users)], 'post_date' => day($n),
        'post_category' => [$terms[$n % 9], $terms[($n * 5 + 1) % 9]], 'tags_input' => [pick($words), pick($words)],
        'post_excerpt' => phrase(8) . " $url/", 'post_content' => 'filled below'];
    $id = ok(wp_insert_post(wp_slash($post), true), 'a post');
    [$picture, $source] = attach($id, $n);
    set_post_thumbnail($id, $picture);
    $escaped = json_encode(['id' => $picture, 'href' => "$url/gallery/$n", 'emoji' => mb_chr(0x1F40B)]);
    $content = "<!-- wp:paragraph -->\n<p>" . phrase(40) . " <a href=\"$previous\">before</a> " . mb_chr(0x1F6A4) . "</p>\n<!-- /wp:paragraph -->\n\n"
        . "<!-- wp:image {\"id\":$picture,\"sizeSlug\":\"large\"} -->\n<figure class=\"wp-block-image size-large\"><img src=\"$source\" "
        . "alt=\"\" class=\"wp-image-$picture\"/></figure>\n<!-- /wp:image -->\n\n"
        . "<!-- wp:kedge/gallery $escaped /-->\n\n<!-- wp:html -->\n<pre>$dir/wp-content/uploads/list-$n.txt</pre>\n<!-- /wp:html -->\n"
        . "<!-- wp:paragraph -->\n<p>" . phrase(60) . "</p>\n<!-- /wp:paragraph -->";
    // Written past wp_update_post, which would stamp the present time; that nothing is cached yet is seen to below.
    ok($wpdb->update($wpdb->posts, ['post_content' => $content], ['ID' => $id]), 'the content of a post');
    for ($revision = 1; $revision <= $n % 3; $revision++) {
        ok(wp_insert_post(wp_slash(['post_type' => 'revision', 'post_status' => 'inherit', 'post_parent' => $id, 'post_title' => $title,
            'post_name' => "$id-revision-v$revision", 'post_date' => day($n), 'post_author' => $users[0],
            'post_content' => $content . "<!-- draft $revision of $url -->"]), true), 'a revision');
        $count['revisions']++;
    }
    update_post_meta($id, 'kedge_meta', wp_slash(intricate($n)));
    update_post_meta($id, 'kedge_plain', "$url/plain/$n");
    if ($n % 7 === 0) { // handed over serialised: WordPress serialises it once more
        update_post_meta($id, 'kedge_twice', wp_slash(serialize(intricate($n))));
    }
    for ($c = 0; $c < $n % 4; $c++) {
        $comment = ok(wp_insert_comment(wp_slash(['comment_post_ID' => $id, 'comment_author' => ucfirst(pick($words)),
            'comment_author_email' => "c$c@{$spec['uri']}", 'comment_author_url' => "$url/visitor/$c", 'comment_author_IP' => '192.0.2.7',
            'comment_date' => day($n + $c), 'comment_date_gmt' => day($n + $c), 'comment_approved' => $c === 2 ? '0' : '1',
            'comment_content' => phrase(15) . " $url/?p=$id " . mb_chr(0x1F44D)])), 'a comment');
        update_comment_meta($comment, 'kedge_comment', ['rating' => $c, 'from' => "$url/rating/$c"]);
        $count['comments']++;
    }
    $previous = "$url/?p=$id";
    $count['posts']++;
    if ($n % 50 === 49) { wp_cache_flush(); } // one process for all: memory stays flat
}
wp_cache_flush();

$menu = ok(wp_create_nav_menu('Main'), 'a menu');
foreach (['Home' => '/', 'Fleet' => '/fleet/', 'Harbour' => '/?cat=' . $terms[0], 'Elsewhere' => 'https://elsewhere.invalid/'] as $label => $target) {
    ok(wp_update_nav_menu_item($menu, 0, ['menu-item-title' => $label, 'menu-item-status' => 'publish', 'menu-item-type' => 'custom',
        'menu-item-url' => $target[0] === '/' ? $url . $target : $target]), 'a menu item');
    $count['menu_items']++;
}
$wpdb->query($wpdb->prepare("UPDATE $wpdb->posts SET post_date = %s, post_date_gmt = %s, post_modified = %s, post_modified_gmt = %s
    WHERE post_type = 'nav_menu_item'", day(0), day(0), day(0), day(0)));

$widgets = [];
for ($i = 2; $i < 6; $i++) {
    $widgets['text'][$i] = ['title' => ucfirst(phrase(2)), 'text' => "<a href=\"$url/w/$i\">" . phrase(4) . '</a> ' . mb_chr(0x1F99C), 'filter' => true];
    $widgets['block'][$i] = ['content' => "<!-- wp:image --><img src=\"$url/wp-content/uploads/logo-$i.png\"><!-- /wp:image -->"];
}
foreach ($widgets as $kind => $instances) { update_option("widget_$kind", $instances + ['_multiwidget' => 1]); }
update_option('sidebars_widgets', ['wp_inactive_widgets' => ['text-2', 'text-3', 'block-2'], 'sidebar-1' => ['text-4', 'block-3'], 'array_version' => 3]);
for ($i = 0; $i < 12; $i++) { update_option("kedge_option_$i", intricate($i), $i % 2 ? 'yes' : 'no'); }
update_option('kedge_json', json_encode(['home' => $url, 'paths' => ["$dir/wp-content"], 'nested' => json_encode(["$url/deep"])]), 'no');
update_option('kedge_large', array_map(fn ($i) => ['n' => $i, 'link' => "$url/large/$i", 'text' => phrase(10)], range(1, 2000)), 'no');
// An object of a class that no longer exists, with private and protected properties, as a removed plugin leaves it.
$alien = 'O:15:"Removed\\Gallery":3:{s:4:"link";s:' . strlen("$url/alien") . ":\"$url/alien\";s:7:\"\0*\0path\";s:" . strlen($dir)
    . ":\"$dir\";s:21:\"\0Removed\\Gallery\0hits\";i:3;}";
ok(unserialize($alien, ['allowed_classes' => false]), 'reading the alien object back');
ok($wpdb->insert($wpdb->options, ['option_name' => 'kedge_alien', 'option_value' => $alien, 'autoload' => 'no']), 'the alien object');
$broken = "a:1:{s:3:\"url\";s:5:\"$url/broken\";}"; // wrong length: must come through byte for byte but for the name
ok($wpdb->insert($wpdb->options, ['option_name' => 'kedge_broken', 'option_value' => $broken, 'autoload' => 'no']), 'the broken value');
update_option('blogdescription', 'Ships, ropes and anchors ' . mb_chr(0x2693));

// Tables that no plugin author thought about twice.
function sql(string $text): void {
    global $wpdb;
    ok($wpdb->query($text) !== false, strtok($text, "\n"));
}
$p = $wpdb->prefix;
sql('COMMIT');
sql("CREATE TABLE `{$p}kedge_odd` (
    `id` bigint unsigned NOT NULL AUTO_INCREMENT, `key` varchar(64) CHARACTER SET ascii NOT NULL, `order` int NOT NULL DEFAULT 0,
    `group` varchar(190) DEFAULT NULL, `select` longtext, `blob` mediumblob, `when` datetime NOT NULL DEFAULT '0000-00-00 00:00:00',
    `day` date DEFAULT NULL, `bits` bit(12) DEFAULT NULL, `price` decimal(20,6) DEFAULT NULL, `ratio` double DEFAULT NULL,
    `kind` enum('','a','b') NOT NULL DEFAULT '', `json` json DEFAULT NULL, `latin` varchar(60) CHARACTER SET latin1 DEFAULT NULL,
    `length` int GENERATED ALWAYS AS (char_length(`select`)) VIRTUAL, `upper` varchar(64) GENERATED ALWAYS AS (upper(`key`)) STORED,
    PRIMARY KEY (`id`), UNIQUE KEY `by key` (`key`), KEY `order` (`order`, `group`), FULLTEXT KEY `words` (`select`)
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci COMMENT='odd; \"quoted\" -- comment'");
sql("CREATE TABLE `{$p}kedge_odd_child` (
    `parent` bigint unsigned NOT NULL, `n` int NOT NULL, `link` varchar(255) DEFAULT NULL, PRIMARY KEY (`parent`, `n`),
    CONSTRAINT `{$p}kedge_fk` FOREIGN KEY (`parent`) REFERENCES `{$p}kedge_odd` (`id`) ON DELETE CASCADE
    ) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_bin");
sql("CREATE TABLE `{$p}kedge odd-name.log` (`line` text, `at` timestamp NULL DEFAULT NULL) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4");
sql("CREATE TABLE `{$p}kedge_odd_myisam` (`id` int NOT NULL, `t` text, PRIMARY KEY (`id`)) ENGINE=MyISAM DEFAULT CHARSET=utf8mb4");
sql("SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')");
$bytes = implode('', array_map('chr', range(0, 255)));
for ($i = 0; $i < 40; $i++) {
    $text = $i % 5 === 4 ? 'NULL' : "'" . esc_sql(serialize(intricate($i))) . "'";
    $blob = bin2hex($bytes . serialize(["$url/blob/$i"]) . $bytes . pack('N', $i));
    $rest = $i === 0
        ? "'0000-00-00 00:00:00', '0000-00-00', b'0', 0, 0, '', NULL, ''" // id 0 with nothing but zeroes
        : "'" . day($i) . "', '2024-02-29', b'" . decbin($i * 97 % 4096) . "', -0.000001, " . ($i / 3) . ", 'b', '"
            . esc_sql(json_encode(['u' => "$url/$i"])) . "', 'caf\u{e9}'";
    sql("INSERT INTO `{$p}kedge_odd` (`id`, `key`, `order`, `group`, `select`, `blob`, `when`, `day`, `bits`, `price`, `ratio`, `kind`, `json`,
        `latin`) VALUES ($i, 'key-$i', -$i, '$url/group/$i', $text, x'$blob', $rest)");
    sql("INSERT INTO `{$p}kedge_odd_child` VALUES ($i, 1, '$url/child/$i'), ($i, 2, NULL)");
    sql("INSERT INTO `{$p}kedge odd-name.log` VALUES ('$url visited, path $dir', '" . day($i) . "')");
    $count['odd_rows'] += 5;
}
sql('COMMIT');
for ($i = 0; $i < 40; $i++) {
    // MySQL with global transaction ids takes it only in a transaction of its own.
    sql("INSERT INTO `{$p}kedge_odd_myisam` VALUES ($i, '$url/myisam/$i')");
    sql('COMMIT');
}
if ($spec['view_and_trigger']) {
    sql("CREATE VIEW `{$p}kedge_view` AS SELECT o.`id`, o.`key`, c.`link` FROM `{$p}kedge_odd` o JOIN `{$p}kedge_odd_child` c ON c.`parent` = o.`id`");
    sql("CREATE TRIGGER `{$p}kedge_trigger` BEFORE INSERT ON `{$p}kedge_odd_child` FOR EACH ROW SET NEW.`link` = COALESCE(NEW.`link`, '$url/by-trigger')");
}

if ($spec['odd_files']) {
    $odd = "$dir/wp-content/uploads/odd";
    ok(mkdir($odd), 'the directory of odd files');
    $names = ['with space.txt', "new\nline.txt", '-rf', "not-utf8-\xff\xfe.txt", '.hidden', 'quote\'"`$(x).txt', 'ünïcode-' . mb_chr(0x1F419) . '.txt',
        'back\\slash', str_repeat('long-', 50) . '.txt'];
    foreach ($names as $i => $name) {
        ok(file_put_contents("$odd/$name", "file $i of $url in $dir\n"), 'an odd file');
        touch("$odd/$name", EPOCH + $i);
    }
    ok(file_put_contents("$odd/empty.txt", '') !== false && mkdir("$odd/empty dir") && mkdir("$odd/a/b/c", 0755, true), 'empty things');
    ok(file_put_contents("$odd/private.key", "for nobody else\n") && chmod("$odd/private.key", 0600), 'a private file');
    ok(file_put_contents("$odd/read-only.txt", "fixed\n") && chmod("$odd/read-only.txt", 0444), 'a read-only file');
    ok(mkdir("$odd/setgid", 0755) && chmod("$odd/setgid", 02775), 'a setgid directory');
    ok(symlink('../odd/with space.txt', "$odd/link") && symlink('empty dir', "$odd/link-to-dir") && symlink('nowhere', "$odd/dangling"), 'links');
    ok(symlink("$odd/private.key", "$odd/absolute-link"), 'an absolute link into the tree');
    ok(link("$odd/with space.txt", "$odd/hard-link.txt"), 'a hard link');
    $sparse = fopen("$odd/sparse.bin", 'w');
    ok(fseek($sparse, 4 << 20) === 0 && fwrite($sparse, "end\n") && fclose($sparse), 'a sparse file');
    $count['odd_files'] = count($names) + 12;
}

wp_defer_term_counting(false);
wp_defer_comment_counting(false);
sql('COMMIT');
echo json_encode($count), "\n";
