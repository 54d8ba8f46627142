//! PHP values as trees: a small serialiser of our own, and the rewrite done on the tree. Independent of the code under test.

use proptest::prelude::*;

/// A PHP value.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Int(i64),
    Float(String),
    Text(Vec<u8>),
    Array(Vec<(Key, Tree)>),
    Object(String, Vec<(Vec<u8>, Tree)>),
    Reference(bool, u32),
    Case(String),
    /// A string that holds a serialised value.
    Packed(Box<Tree>),
    /// An object that serialises itself as PHP's own do.
    Custom(Box<Tree>),
}

#[derive(Clone, Debug)]
pub(super) enum Key {
    Int(i64),
    Text(Vec<u8>),
}

/// What is rewritten in texts: how the tree is written with old names, and with new ones.
pub(super) fn serialise(tree: &Tree, text: &dyn Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    write(tree, text, &mut out);
    out
}

fn write(tree: &Tree, text: &dyn Fn(&[u8]) -> Vec<u8>, out: &mut Vec<u8>) {
    match tree {
        Tree::Null => out.extend_from_slice(b"N;"),
        Tree::Bool(value) => out.extend_from_slice(format!("b:{};", u8::from(*value)).as_bytes()),
        Tree::Int(value) => out.extend_from_slice(format!("i:{value};").as_bytes()),
        Tree::Float(value) => out.extend_from_slice(format!("d:{value};").as_bytes()),
        Tree::Text(value) => string(b's', &text(value), out),
        Tree::Reference(hard, number) => {
            out.extend_from_slice(format!("{}:{number};", if *hard { 'R' } else { 'r' }).as_bytes());
        }
        Tree::Case(name) => string(b'E', name.as_bytes(), out),
        Tree::Packed(inside) => string(b's', &serialise(inside, text), out),
        Tree::Array(entries) => {
            out.extend_from_slice(format!("a:{}:{{", entries.len()).as_bytes());
            for (key, value) in entries {
                match key {
                    Key::Int(number) => out.extend_from_slice(format!("i:{number};").as_bytes()),
                    Key::Text(name) => string(b's', name, out),
                }
                write(value, text, out);
            }
            out.push(b'}');
        }
        Tree::Object(class, properties) => {
            out.extend_from_slice(
                format!("O:{}:\"{class}\":{}:{{", class.len(), properties.len()).as_bytes(),
            );
            for (name, value) in properties {
                string(b's', name, out);
                write(value, text, out);
            }
            out.push(b'}');
        }
        Tree::Custom(inside) => {
            let inside = [b"x:i:0;".to_vec(), serialise(inside, text), b";m:a:0:{}".to_vec()].concat();
            out.extend_from_slice(format!("C:11:\"ArrayObject\":{}:{{", inside.len()).as_bytes());
            out.extend_from_slice(&inside);
            out.push(b'}');
        }
    }
}

fn string(letter: u8, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(format!("{}:{}:\"", char::from(letter), text.len()).as_bytes());
    out.extend_from_slice(text);
    out.extend_from_slice(b"\";");
}

/// Texts with old names, things that look like them, and things that look like serialised data; never anything the rewrite refuses.
pub(super) fn any_text() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just("http://old.test/".to_owned()),
        2 => Just("Old.Test".to_owned()),
        2 => Just("http:\\/\\/old.test\\/a".to_owned()),
        2 => Just("%2F%2Fold.test%2F".to_owned()),
        2 => Just("/srv/sites/old".to_owned()),
        1 => Just("\\/srv\\/sites\\/old\\/".to_owned()),
        1 => Just("old.test.au www.old.test a@old.test /srv/sites/older".to_owned()),
        1 => Just("\";s:3:}{'\"\n\\".to_owned()),
        1 => Just("é😀".to_owned()),
        2 => "[ -~]{0,12}",
    ];
    prop::collection::vec(piece, 0..5).prop_map(|pieces| pieces.join(" ").into_bytes())
}

/// Any tree of a few dozen values; the leaves are from `texts`.
pub(super) fn any_tree(texts: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        6 => texts.clone().prop_map(Tree::Text),
        1 => Just(Tree::Null),
        1 => any::<bool>().prop_map(Tree::Bool),
        1 => any::<i64>().prop_map(Tree::Int),
        1 => prop::sample::select(vec!["0.5", "-1.0E+25", "INF", "-INF", "NAN", "3", "1.0e-7"])
            .prop_map(|text| Tree::Float(text.to_owned())),
        1 => (any::<bool>(), 1..9u32).prop_map(|(hard, number)| Tree::Reference(hard, number)),
        1 => Just(Tree::Case("Suit:Hearts".to_owned())),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        let key = prop_oneof![any::<i64>().prop_map(Key::Int), texts.clone().prop_map(Key::Text)];
        let property = prop::sample::select(vec![&b"url"[..], b"\0*\0old.test", b"\0A\0p", b""]).prop_map(<[u8]>::to_vec);
        prop_oneof![
            4 => prop::collection::vec((key, inner.clone()), 0..6).prop_map(Tree::Array),
            2 => (prop::sample::select(vec!["stdClass", "A\\B", "Old_test"]), prop::collection::vec((property, inner.clone()), 0..4))
                .prop_map(|(class, properties)| Tree::Object(class.to_owned(), properties)),
            2 => inner.clone().prop_map(|tree| Tree::Packed(Box::new(tree))),
            1 => inner.prop_map(|tree| Tree::Custom(Box::new(tree))),
        ]
    })
}
