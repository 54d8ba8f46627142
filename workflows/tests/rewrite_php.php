<?php
// Makes random values in serialised form, and judges rewritten ones. Run by rewrite_php.rs:
//   make values|damaged SEED CASES    one value a line, in base64
//   judge values|damaged              reads "old new left" lines

/** What PHP refuses for other reasons than the form: references to nothing, classes that want other data; and lengths in characters. */
const BEYOND_FORM = '/\b[rREC]:\d|Modern|ArrayObject|SplObjectStorage|[^\x00-\x7f]/';

class Site { public $url; protected $path; private $inner; public $more = [];
    function __construct($a, $b, $c) { $this->url = $a; $this->path = $b; $this->inner = $c; } }
class Modern { public $data; function __construct($d) { $this->data = $d; }
    function __serialize(): array { return ['d' => $this->data]; } function __unserialize(array $d): void { $this->data = $d['d']; } }
class Sleeper { public $a; public $b = 1; function __sleep() { return ['a']; } }
@eval('class Legacy implements Serializable { public $data;
    function serialize() { return serialize($this->data); } function unserialize($d) { $this->data = unserialize($d); } }');
if (PHP_VERSION_ID >= 80100) eval('enum Suit: string { case Hearts = "old.test"; case Spades = "s"; }');

function pick($list) { return $list[mt_rand(0, count($list) - 1)]; }

function text() {
    $pieces = ['http://old.test/', 'OLD.test', 'http:\/\/old.test\/x', '%2F%2Fold.test%2F', '/srv/sites/old', '\/srv\/sites\/old\/a',
        '/srv/sites/older', 'old.test.au', 'www.old.test', 'me@old.test', "x\nold.test\r", 'é😀', "'\"\\", '";s:3:"', 'x a:1:{', '{', '\nold.test',
        'old.test', 'plain', '', str_repeat('x', mt_rand(0, 200)), '/x/srv/sites/old', 'https:'];
    $text = '';
    for ($i = mt_rand(0, 4); $i >= 0; $i--) $text .= pick($pieces) . ' ';
    return mt_rand(0, 3) ? $text : rtrim($text);
}

function value($depth) {
    $kind = mt_rand(0, $depth > 0 ? 22 : 8);
    if ($kind <= 4) return text();
    if ($kind == 5) return pick([null, true, false, PHP_INT_MAX, PHP_INT_MIN, 0, -1]);
    if ($kind == 6) return pick([0.1, -1.5e300, INF, -INF, NAN, 1e-7, 3.0, -0.0]);
    if ($kind == 7) return mt_rand();
    if ($kind == 8) return PHP_VERSION_ID >= 80100 ? pick(Suit::cases()) : 'x';
    $inner = fn() => value($depth - 1);
    switch ($kind) {
        case 9: case 10: case 11: case 12:
            $list = [];
            for ($i = mt_rand(0, 5); $i > 0; $i--) {
                if (mt_rand(0, 1)) $list[text()] = $inner(); else $list[] = $inner();
            }
            return $list;
        case 13: $object = new stdClass; $object->{'old.test'} = $inner(); $object->{'7'} = $inner(); return $object;
        case 14: return new Site($inner(), text(), $inner());
        case 15: return new Modern($inner());
        case 16: $sleeper = new Sleeper; $sleeper->a = $inner(); return $sleeper;
        case 17: if (!class_exists('Legacy')) return 1; $legacy = new Legacy; $legacy->data = $inner(); return $legacy;
        case 18: $value = $inner(); $list = ['a' => &$value, 'b' => $inner()]; $list['c'] = &$list['a'];
            if (is_object($value)) $list['d'] = $value; return $list;
        case 19: return serialize($inner());
        case 20: return json_encode(['u' => text(), 'v' => text(), 's' => serialize([text(), text()]), 'w' => text()],
            pick([0, JSON_UNESCAPED_SLASHES, JSON_UNESCAPED_UNICODE, JSON_PRETTY_PRINT]));
        case 21: return new ArrayObject([text(), $inner()]);
        default: $store = new SplObjectStorage; $key = new stdClass; $key->u = text(); $store[$key] = text(); return $store;
    }
}

function damage($text) {
    for ($i = mt_rand(0, 2); $i >= 0; $i--) {
        $at = mt_rand(0, max(0, strlen($text) - 1));
        switch (mt_rand(0, 6)) {
            case 0: $text = substr($text, 0, $at); break;
            case 1: if ($text !== '') $text[$at] = chr(mt_rand(32, 126)); break;
            case 2: $text = substr($text, 0, $at) . pick([':', '"', ';', '{', '}', 's:8:"old.test";', 'i:1;', '0', '+', 'R:99;']) . substr($text, $at); break;
            case 3: $text = substr($text, 0, $at) . substr($text, $at + mt_rand(1, 5)); break;
            case 4: $text = preg_replace_callback('/:(\d+):/', fn($m) => mt_rand(0, 3) ? $m[0] : ':' . ($m[1] + mt_rand(-1, 1)) . ':', $text); break;
            case 5: $text .= pick(["\n", ' ', 'x', ';', '}', '"']); break;
            default: $text = preg_replace('/[sa]:(\d+)/', pick(['s:+$1', 's:0$1', 'S:$1', 'a:$1', 'O:$1', 's:9$1']), $text, 1);
        }
    }
    return $text;
}

function new_text($text) {
    $text = preg_replace('/(?:(?<![A-Za-z0-9._@-])|(?<=%0[0-9A-F])|(?<=%1[0-9A-F])|(?<=%2[0-9A-CF])|(?<=%3[A-F])|(?<=\\\\n))old\.test(?![A-Za-z0-9-])(?!\.[A-Za-z0-9])/i', 'a.brand-new.test', $text);
    $text = preg_replace('#(?<![A-Za-z0-9._~/-])/srv/sites/old(?![A-Za-z0-9._~-])#', '/mnt/x/brand-new', $text);
    return preg_replace('#(?<![A-Za-z0-9._~/-])\\\\/srv\\\\/sites\\\\/old(?![A-Za-z0-9._~-])#', '\/mnt\/x\/brand-new', $text);
}

/** The value, or the exception's text behind "!" when PHP does not take it without a complaint. */
function read($text) {
    set_error_handler(function ($no, $message) { if (!($no & E_DEPRECATED)) throw new Exception($message); return true; });
    try { return [true, unserialize(trim($text))]; } catch (Throwable $error) { return [false, $error->getMessage()]; }
    finally { restore_error_handler(); }
}

function same($old, $new, $where) {
    if (gettype($old) !== gettype($new)) throw new Exception("$where: type");
    if (is_string($old)) return same_text($old, $new, $where);
    if (is_array($old)) {
        if (array_keys($old) !== array_keys($new)) throw new Exception("$where: keys");
        foreach ($old as $key => $value) same($value, $new[$key], "$where/" . substr($key, 0, 20));
    } elseif (is_object($old)) {
        if (get_class($old) !== get_class($new)) throw new Exception("$where: class");
        if ($old instanceof UnitEnum) { if ($old !== $new) throw new Exception("$where: case"); return; }
        if ($old instanceof SplObjectStorage) {
            $list = fn($store) => array_map(fn($o) => [$o, $store[$o]], iterator_to_array($store, false));
            same($list($old), $list($new), "$where(storage)");
        } elseif ($old instanceof ArrayObject) same($old->getArrayCopy(), $new->getArrayCopy(), "$where(array)");
        else same((array) $old, (array) $new, "$where(object)");
    } elseif ($old !== $new && !(is_float($old) && is_nan($old) && is_nan($new))) throw new Exception("$where: scalar");
}

function same_text($old, $new, $where) {
    if (preg_match('/^\s*[asOCE]:\d+:/', $old)) {
        [$fine, $value] = read($old);
        if ($fine && trim(serialize($value)) === trim($old)) {
            [$fine, $mine] = read($new);
            if (!$fine) throw new Exception("$where: no longer serialised data: $mine");
            if (serialize($mine) !== trim($new)) throw new Exception("$where: not as PHP writes it");
            return same($value, $mine, "$where(packed)");
        }
        if ($old !== $new && $GLOBALS['way'] !== 'damaged') throw new Exception("$where: broken data was changed: $old");
        return;
    }
    // Parts of damaged data inside text have no meaning that could be compared.
    if ($GLOBALS['way'] === 'damaged' && preg_match('/[sSO]:\d+:|^\s*[{[]|\\\\/', $old)) return;
    $json = json_decode($old, true);
    if (is_array($json) && isset($json['s'])) {
        if (json_encode(json_decode($new)) === 'null') throw new Exception("$where: no longer JSON");
        return same($json, json_decode($new, true), "$where(json)");
    }
    if (new_text($old) !== $new) throw new Exception("$where: text\n  old:  $old\n  new:  $new\n  want: " . new_text($old));
}

[, $job, $way] = $argv;
if ($job === 'make') {
    mt_srand((int) $argv[3]);
    for ($i = (int) $argv[4]; $i > 0; $i--) {
        $text = serialize(value(mt_rand(0, 4)));
        echo base64_encode($way === 'damaged' ? damage($text) : $text), "\n";
    }
    exit;
}
$bad = $number = $valid = $broken = 0;
while (($line = fgets(STDIN)) !== false) {
    [$old, $new, $left] = explode(' ', rtrim($line, "\n"));
    [$old, $new] = [base64_decode($old), base64_decode($new)];
    $number++;
    try {
        [$fine, $value] = read($old);
        $fine ? $valid++ : $broken++;
        if ($way === 'values') {
            if (!$fine) throw new Exception("PHP does not read its own value: $value");
            if ($left === '1') throw new Exception("left alone");
            same_text($old, $new, "#$number");
        } elseif ($fine) {
            [$fine, $mine] = read($new);
            if (!$fine) throw new Exception("#$number: valid before, not now: $mine");
            if ($old !== $new) same($value, $mine, "#$number");
        } elseif ($old !== $new && str_contains($value, 'Error at offset') && preg_match('/^\s*[asSOCE]:\+?\d+:["{]/', $old) && !preg_match(BEYOND_FORM, $old)) {
            throw new Exception("#$number: PHP does not read it ($value), and it was changed");
        }
    } catch (Throwable $error) {
        if (++$bad <= 5) echo $error->getMessage(), "\n  old: ", addcslashes($old, "\0..\37"), "\n  new: ", addcslashes($new, "\0..\37"), "\n";
    }
}
echo "$number judged: $valid that PHP reads, $broken that it does not\n";
echo $bad ? "$bad wrong\n" : "all right\n";
