<?php
// Empties every cache in the database, so that whoever comes next builds them anew from where the site is then; and moves the few
// places in which Drupal writes down the site's directory: Drupal 7 where it found code of the site's own, newer ones the routes to
// files that are made when they are asked for.

(static function (bool $seven, string $from, string $to) {
    global $kedge_pdo, $kedge_prefix;
    $like = addcslashes($kedge_prefix, '%_\\') . 'cache%';
    $caches = $kedge_pdo->prepare(
        "SELECT table_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name LIKE ?
            AND column_name IN ('cid', 'expire') GROUP BY table_name HAVING COUNT(*) = 2"
    );
    $caches->execute([$like]);
    $emptied = 0;
    foreach ($caches->fetchAll(PDO::FETCH_COLUMN) as $table) {
        $kedge_pdo->exec('TRUNCATE TABLE `' . str_replace('`', '``', $table) . '`');
        ++$emptied;
    }
    $moved = 0;
    if ($seven && $from !== $to) {
        $columns = [['system', 'filename'], ['registry', 'filename'], ['registry_file', 'filename'], ['menu_router', 'include_file']];
        $values = ["sites/$to/", strlen("sites/$from/") + 1, addcslashes("sites/$from/", '%_\\') . '%'];
        foreach ($columns as [$table, $column]) {
            $table = "`$kedge_prefix$table`";
            if ($column === 'filename') {
                // Of two rows for one file the one that was found last is right.
                $older = "DELETE b FROM $table a JOIN $table b ON b.filename = CONCAT(?, SUBSTRING(a.filename, ?)) WHERE a.filename LIKE ?";
                $kedge_pdo->prepare($older)->execute($values);
            }
            $update = $kedge_pdo->prepare("UPDATE $table SET $column = CONCAT(?, SUBSTRING($column, ?)) WHERE $column LIKE ?");
            $update->execute($values);
            $moved += $update->rowCount();
        }
        // The routes to pictures that are made when they are asked for begin with the directory too.
        $kedge_pdo->exec("REPLACE INTO `{$kedge_prefix}variable` (name, value) VALUES ('menu_rebuild_needed', 'b:1;')");
    }
    if (!$seven && $from !== $to) {
        $like = addcslashes("/sites/$from/", '%_\\') . '%';
        foreach (kedge_rows('SELECT name, route FROM {router} WHERE path LIKE ?', [$like]) ?? [] as [$name, $route]) {
            $route = unserialize($route);
            if ($route instanceof Symfony\Component\Routing\Route) {
                $route->setPath("/sites/$to/" . substr($route->getPath(), strlen("/sites/$from/")));
                $outline = $route->compile()->getPatternOutline();
                kedge_rows('UPDATE {router} SET path = ?, pattern_outline = ?, route = ? WHERE name = ?', [$route->getPath(), $outline, serialize($route), $name]);
                ++$moved;
            }
        }
    }
    Kedge::answer(['emptied' => $emptied, 'moved' => $moved]);
})($kedge_core['seven'], Kedge::$in['from'], Kedge::$in['to']);
