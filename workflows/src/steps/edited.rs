//! Settings that are not as Kedge wrote them: lines of somebody else inside its block. Whoever moves a site is told, since the new side gets
//! that block anew; the old file stays with the side that goes to the trash. Changes nothing.

use crate::ports::{App, AppSite, PortResult};

/// Most lines told: who has more has to look anyway, and `verify` shows them all.
const MAX_LINES: usize = 5;

/// A warning, where lines would be lost.
pub(super) async fn told(app: &dyn App, site: &AppSite) -> PortResult<Option<String>> {
    let drift = app.settings_drift(site).await?;
    Ok(in_words(&app.settings_files().join(", "), &drift))
}

/// What only would be added is nobody's loss: a newer Kedge writes more.
fn in_words(file: &str, drift: &[String]) -> Option<String> {
    let lost: Vec<&str> = drift.iter().filter_map(|line| line.strip_prefix("- ")).collect();
    let (told, more) = lost.split_at(lost.len().min(MAX_LINES));
    let more = if more.is_empty() { String::new() } else { format!(" and {} more", more.len()) };
    (!told.is_empty()).then(|| {
        format!(
            "{file} was changed inside the lines that Kedge writes; the new side gets those anew, without «{}»{more}: put what you need \
             outside of them",
            told.join("» «")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_lost_is_told_and_what_would_come_is_not() {
        let drift = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            in_words("wp-config.php", &drift(&["+ new();", "! the lines are in another order"])),
            None
        );
        let one = in_words("wp-config.php", &drift(&["- mine();", "+ theirs();"])).unwrap();
        assert!(
            one.starts_with("wp-config.php was changed") && one.contains("without «mine();»: put"),
            "{one}"
        );
        let many = in_words("wp-config.php", &drift(&["- a"; 9])).unwrap();
        assert!(many.contains("«a» «a» «a» «a» «a» and 4 more"), "{many}");
    }
}
