-- Makes of a seeded site one of a realistic size: the content that the seed made, many times over, and two tables of a plugin that logs.
SET SESSION unique_checks = 0;
INSERT INTO wp_posts (post_author, post_date, post_date_gmt, post_content, post_title, post_excerpt, post_status, comment_status, ping_status,
    post_password, post_name, to_ping, pinged, post_modified, post_modified_gmt, post_content_filtered, post_parent, guid, menu_order, post_type,
    post_mime_type, comment_count)
SELECT post_author, post_date, post_date_gmt, post_content, post_title, post_excerpt, post_status, comment_status, ping_status,
    post_password, CONCAT(post_name, '-', seq), to_ping, pinged, post_modified, post_modified_gmt, post_content_filtered, post_parent, guid,
    menu_order, post_type, post_mime_type, comment_count
FROM wp_posts JOIN seq_1_to_10 WHERE post_type IN ('post', 'page', 'revision');
INSERT INTO wp_postmeta (post_id, meta_key, meta_value)
SELECT post_id, CONCAT(meta_key, '_', seq), meta_value FROM wp_postmeta JOIN seq_1_to_8;
INSERT INTO wp_comments (comment_post_ID, comment_author, comment_author_email, comment_author_url, comment_author_IP, comment_date,
    comment_date_gmt, comment_content, comment_approved, comment_agent, comment_type)
SELECT comment_post_ID, comment_author, comment_author_email, comment_author_url, comment_author_IP, comment_date, comment_date_gmt,
    comment_content, comment_approved, 'Mozilla/5.0 (X11; Linux x86_64)', 'comment' FROM wp_comments JOIN seq_1_to_40;
CREATE TABLE wp_visits (id bigint unsigned NOT NULL AUTO_INCREMENT, at datetime NOT NULL, url varchar(255) NOT NULL, referer varchar(255) NOT NULL,
    agent varchar(255) NOT NULL, PRIMARY KEY (id), KEY at (at), KEY url (url(60)));
INSERT INTO wp_visits (at, url, referer, agent)
SELECT '2024-01-01' + INTERVAL seq SECOND, CONCAT('http://shop.example.test/?p=', seq % 900), CONCAT('http://shop.example.test/?s=', MD5(seq)),
    'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36' FROM seq_1_to_60000;
CREATE TABLE wp_index (word varchar(32) NOT NULL, post bigint unsigned NOT NULL, weight double NOT NULL, excerpt text NOT NULL,
    PRIMARY KEY (word, post), KEY post (post));
INSERT INTO wp_index SELECT MD5(seq), seq % 1200, seq / 7, REPEAT(SHA2(seq, 256), 4) FROM seq_1_to_120000;
ANALYZE TABLE wp_posts, wp_postmeta, wp_comments, wp_visits, wp_index;
