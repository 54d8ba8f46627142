//! What gives away a value that may have to be rewritten: few texts, one of which is in every written form of every old name. For asking a
//! server which tables hold nothing to rewrite; it never decides about a value.

use super::pair::Pair;

/// The texts, in lower case: to be looked for in any case.
pub(super) fn telltales(pairs: &[Pair]) -> Vec<String> {
    let changing = || pairs.iter().filter(|pair| pair.from() != pair.to());
    // Who holds a longer path holds the shorter one that it begins with.
    let is_below = |path: &str, other: &Pair| {
        !other.is_host() && path.strip_prefix(other.from()).is_some_and(|rest| rest.starts_with('/'))
    };
    let mut texts: Vec<String> = changing()
        .filter(|pair| pair.is_host() || !changing().any(|other| is_below(pair.from(), other)))
        .map(|pair| longest_part(pair.from(), if pair.is_host() { "--" } else { "/" }))
        .map(str::to_ascii_lowercase)
        .collect();
    texts.sort_by(|a, b| a.len().cmp(&b.len()).then_with(|| a.cmp(b)));
    let mut kept: Vec<String> = Vec::new();
    for text in texts {
        if !kept.iter().any(|other| text.contains(other.as_str())) {
            kept.push(text);
        }
    }
    kept
}

/// Parts are written alike everywhere; what is between them is not (`/`, `\\/`, `%2F`; `--`, `\\u002d\\u002d`).
fn longest_part<'a>(name: &'a str, between: &str) -> &'a str {
    name.split(between).max_by_key(|part| part.len()).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::SiteName;

    fn host(from: &str, to: &str) -> Pair {
        Pair::host(&SiteName::parse(from).unwrap(), &SiteName::parse(to).unwrap())
    }

    fn path(from: &str, to: &str) -> Pair {
        Pair::path(from, to).unwrap()
    }

    #[test]
    fn as_few_as_give_away_every_name() {
        let (old, new) = ("/srv/platforms/wordpress-6.1", "/srv/platforms/wordpress-6.8");
        let dir = path(&format!("{old}/sites/shop.example.test"), &format!("{new}/sites/shop.example.test"));
        assert_eq!(telltales(&[dir.clone(), path(old, new)]), ["wordpress-6.1"]);
        assert_eq!(telltales(std::slice::from_ref(&dir)), ["shop.example.test"]);
        let renamed = [dir, path(old, new), host("Shop.example.test", "www.example.test")];
        assert_eq!(telltales(&renamed), ["wordpress-6.1", "shop.example.test"]);
        assert_eq!(telltales(&[host("a.test", "b.test"), host("www.a.test", "www.b.test")]), ["a.test"]);
        assert_eq!(telltales(&[host("xn--mller-kva.test", "b.test")]), ["mller-kva.test"]);
        assert_eq!(telltales(&[path(old, old)]), [] as [&str; 0], "what stays gives nothing away");
        assert_eq!(telltales(&[]), [] as [&str; 0]);
    }
}
