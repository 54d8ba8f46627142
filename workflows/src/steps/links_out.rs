//! Symbolic links that lead out of a site's directory: a copy takes the link along, not what it leads to. Never follows one.

use crate::ports::{LinkOut, Usage};

/// Most links of one warning.
const MAX_TOLD: usize = 5;

/// What whoever has a backup or a copy made of a directory should know of its links. `backup`: it goes into one; `copied`: a new side is
/// made of it.
pub(super) fn told(usage: &Usage, dir: &str, backup: bool, copied: bool) -> Option<String> {
    let (own, out): (Vec<&LinkOut>, Vec<&LinkOut>) =
        usage.links_out.iter().partition(|link| leads_into(link, dir));
    let all = usage.links_out_count.saturating_sub(own.len() as u64);
    let means = match (backup, copied) {
        _ if all == 0 => return None,
        (false, false) => return None,
        (true, false) => "what is there is in no backup",
        (false, true) => "both sides will use what is there",
        (true, true) => "what is there is in no backup, and the new side will use it as it is",
    };
    let leads = if all == 1 { "leads" } else { "lead" };
    Some(format!("{} {leads} out of {dir}: {means}", named(&out, all)))
}

/// What whoever moves a directory should know of links that lead into it by its full path: they stay as they are.
pub(super) fn to_itself(usage: &Usage, dir: &str) -> Option<String> {
    let own: Vec<&LinkOut> = usage.links_out.iter().filter(|link| leads_into(link, dir)).collect();
    let (lead, them) = match own.len() {
        0 => return None,
        1 => ("leads", "a relative one of it"),
        _ => ("lead", "relative ones of them"),
    };
    Some(format!(
        "{} {lead} to where the site is now, by the full path, and nowhere once the old side is given up: make {them}",
        named(&own, own.len() as u64)
    ))
}

fn leads_into(link: &LinkOut, dir: &str) -> bool {
    link.target.strip_prefix(dir).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The first of `all` links.
fn named(links: &[&LinkOut], all: u64) -> String {
    let named: Vec<String> = links.iter().take(MAX_TOLD).map(|link| shown(link)).collect();
    let more = all.saturating_sub(named.len() as u64);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    format!("{}{more}", named.join(", "))
}

fn shown(link: &LinkOut) -> String {
    format!("{} -> {}", link.path.escape_debug(), link.target.escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(links: &[(&str, &str)]) -> Usage {
        let mut usage = Usage::default();
        links.iter().for_each(|(path, target)| usage.note_link(path.as_bytes(), target.as_bytes()));
        usage
    }

    #[test]
    fn a_warning_says_what_a_link_means_for_what_is_made() {
        let one = usage(&[("uploads", "/mnt/nfs"), ("a/b", "../c")]);
        assert_eq!(told(&one, "/srv/s", false, false), None);
        assert_eq!(told(&Usage::default(), "/srv/s", true, true), None);
        let text = told(&one, "/srv/s", true, false).unwrap();
        assert_eq!(text, "uploads -> /mnt/nfs leads out of /srv/s: what is there is in no backup");
        let many: Vec<(String, String)> = (0..7).map(|n| (format!("l{n}"), "/x\n".to_owned())).collect();
        let many = usage(&many.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect::<Vec<_>>());
        let text = told(&many, "/srv/s", false, true).unwrap();
        assert!(text.contains("l0 -> /x\\n, ") && text.contains("l4 ") && !text.contains("l5"), "{text}");
        assert!(text.contains(" and 2 more lead out of"), "{text}");
    }

    #[test]
    fn a_link_into_its_own_directory_by_the_full_path_is_told_as_such() {
        for (target, own) in [("/srv/s/x", true), ("/srv/s", true), ("/srv/s2/x", false), ("/srv", false)] {
            let usage = usage(&[("l", target)]);
            assert_eq!(to_itself(&usage, "/srv/s").is_some(), own, "{target}");
            assert_eq!(told(&usage, "/srv/s", true, true).is_some(), !own, "{target}");
        }
    }
}
