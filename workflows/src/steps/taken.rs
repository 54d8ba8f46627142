//! Whether a database server can take what a schema holds. Pure.

use kedge_engine::step::StepError;

use crate::names::DatabaseName;
use crate::ports::{DatabaseFacts, SchemaFacts};

/// Whether a server can take what a schema holds: found out before the site is closed, not by the import behind closed doors.
pub(super) fn demand_taken(name: &str, facts: &DatabaseFacts, schema: &SchemaFacts) -> Result<(), StepError> {
    let lacks = |collation: &&String| !facts.collations.contains(collation);
    let missing: Vec<&str> = schema.collations.iter().filter(lacks).map(String::as_str).collect();
    if !missing.is_empty() {
        let (missing, version) = (missing.join(", "), &facts.version);
        return Err(StepError::fatal(format!(
            "the database server {name} ({version}) lacks collations that the site's database uses: {missing}; convert those tables \
             first, or choose a server that has them"
        )));
    }
    if schema.flavour != facts.flavour && !schema.only_here.is_empty() {
        let (only, version) = (schema.only_here.join(", "), &facts.version);
        return Err(StepError::fatal(format!(
            "the database server {name} is {} ({version}) and cannot hold what only {} has: {only}; change those first, or choose a \
             server of the same kind",
            word(&facts.flavour),
            word(&schema.flavour),
        )));
    }
    if facts.refuses_triggers && schema.triggers > 0 {
        return Err(StepError::fatal(format!(
            "the database server {name} lets site users make no triggers and functions (error 1419), and the site has {}; \
             set log_bin_trust_function_creators=1 there",
            schema.triggers
        )));
    }
    Ok(())
}

/// Whether a schema can be copied under another name: what names it in its own text would go on using the old one, which the new side's
/// user may not, and fail when it first runs, which is too late.
pub(super) fn demand_unnamed(
    from: &DatabaseName,
    to: &DatabaseName,
    schema: &SchemaFacts,
) -> Result<(), StepError> {
    if from == to || schema.names_itself.is_empty() {
        return Ok(());
    }
    Err(StepError::fatal(format!(
        "in the site's database {from} these name the database itself, and would go on using it from the new one, {to}: {}; make them \
         anew without `{from}`. in their text",
        schema.names_itself.join(", ")
    )))
}

fn word(flavour: &str) -> &str {
    match flavour {
        "mysql" => "MySQL",
        "mariadb" => "MariaDB",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Charset;

    fn facts(flavour: &str) -> DatabaseFacts {
        DatabaseFacts {
            flavour: flavour.into(),
            version: "9.7.4".into(),
            max_allowed_packet: 1 << 26,
            read_only: false,
            free_bytes: None,
            collations: vec!["utf8mb4_bin".into()],
            refuses_triggers: true,
            logs_statements: false,
        }
    }

    fn schema() -> SchemaFacts {
        SchemaFacts {
            charset: Charset { charset: "utf8mb4".into(), collation: "utf8mb4_bin".into() },
            bytes: 1,
            tables: 1,
            collations: vec!["utf8mb4_bin".into()],
            triggers: 0,
            events_on: 0,
            names_itself: Vec::new(),
            flavour: "mariadb".into(),
            only_here: vec!["table orders (sequence)".into()],
            not_in_the_snapshot: vec![],
        }
    }

    fn refused(flavour: &str, schema: &SchemaFacts) -> String {
        demand_taken("db2", &facts(flavour), schema)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_only_one_flavour_has_goes_to_no_other() {
        let told = refused("mysql", &schema());
        for words in ["db2 is MySQL (9.7.4)", "only MariaDB has: table orders (sequence);"] {
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(refused("mariadb", &schema()), "", "its own flavour takes it");
        assert_eq!(refused("mysql", &SchemaFacts { only_here: vec![], ..schema() }), "");
    }

    #[test]
    fn a_collation_or_a_trigger_that_a_server_does_not_take_is_named() {
        let foreign = SchemaFacts { collations: vec!["utf8mb4_0900_ai_ci".into()], ..schema() };
        assert!(
            refused("mariadb", &foreign).contains("lacks collations"),
            "{}",
            refused("mariadb", &foreign)
        );
        let triggers = SchemaFacts { triggers: 2, ..schema() };
        let told = refused("mariadb", &triggers);
        assert!(
            told.contains("the site has 2") && told.contains("log_bin_trust_function_creators=1"),
            "{told}"
        );
    }

    #[test]
    fn what_names_its_own_schema_cannot_be_copied_under_another_name() {
        let [old, new] = ["shop", "shop_2"].map(|name| DatabaseName::parse(name).unwrap());
        let facts = SchemaFacts { names_itself: vec!["trigger log_order".into()], ..schema() };
        let told = demand_unnamed(&old, &new, &facts).unwrap_err().to_string();
        assert!(told.contains("trigger log_order; make them anew without `shop`."), "{told}");
        assert!(demand_unnamed(&old, &old, &facts).is_ok() && demand_unnamed(&old, &new, &schema()).is_ok());
    }
}
