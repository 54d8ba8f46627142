//! The fake keeps the contract.

use super::print::like;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::super::{DatabaseBench, FakeSecrets, FakeTable, Moment, database_contract};
use super::*;

struct Bench {
    database: FakeDatabase,
    secrets: FakeSecrets,
}

/// A fake never waits for anything outside itself.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("a fake never waits")
}

fn bench(faults: &Faults) -> Bench {
    let secrets = FakeSecrets::new(faults.clone());
    Bench { database: FakeDatabase::new(faults.clone(), Arc::new(secrets.clone())), secrets }
}

#[async_trait]
impl DatabaseBench for Bench {
    fn database(&self) -> Arc<dyn Database> {
        Arc::new(self.database.clone())
    }

    fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(self.secrets.clone())
    }

    async fn add_foreign(&self, name: &DatabaseName) {
        let tables = FakeTables::from([("notes".to_owned(), FakeTable::new(&["text"]))]);
        self.database.add_foreign(name, tables);
    }

    async fn remove_foreign(&self, name: &DatabaseName) {
        let mut server = self.database.lock();
        server.schemas.remove(name.as_str());
        server.users.remove(name.as_str());
    }

    async fn make_table(&self, schema: &DatabaseName, user: &DatabaseName, password: &Secret) {
        self.database
            .as_site(user.as_str(), password.expose(), schema.as_str(), |tables| {
                tables.insert("kc_options".to_owned(), FakeTable::new(&["name", "value"]));
            })
            .unwrap();
    }

    async fn add_option(
        &self,
        schema: &DatabaseName,
        login: (&DatabaseName, &Secret),
        name: &str,
        value: &str,
    ) -> bool {
        let add = |tables: &mut FakeTables| tables.get_mut("kc_options").unwrap().insert(&[name, value]);
        self.database.as_site(login.0.as_str(), login.1.expose(), schema.as_str(), add).is_ok()
    }

    async fn options(&self, schema: &DatabaseName) -> Vec<(String, String)> {
        let read = |tables: &mut FakeTables| {
            tables["kc_options"]
                .rows
                .values()
                .map(|row| (row[0].clone().unwrap(), row[1].clone().unwrap()))
                .collect()
        };
        self.database.with_tables(schema, read).unwrap()
    }

    async fn open_session(&self, _user: &DatabaseName, _password: &Secret) -> BoxFuture<'static, ()> {
        futures::future::ready(()).boxed()
    }
}

#[test]
fn the_fake_keeps_the_contract() {
    let bench = bench(&Faults::new());
    let empty = bench.database.state();
    block_on(database_contract(&bench));
    assert_eq!(bench.database.state(), empty, "the suite cleans up");
}

#[test]
fn an_import_can_stop_in_the_middle() {
    let (faults, name) = (Faults::new(), DatabaseName::parse("half").unwrap());
    let bench = bench(&faults);
    let mark = Mark { task: "t".into(), site: "a.test".into() };
    let login = Login { user: name.clone(), password: SecretRef("half".into()) };
    let tables =
        FakeTables::from([("a".to_owned(), FakeTable::new(&[])), ("b".to_owned(), FakeTable::new(&[]))]);
    let sql = dump(&tables, &FakeEvents::new());
    let stream = || -> ByteStream { Box::pin(futures::stream::iter([Ok(Bytes::from(sql.clone()))])) };
    block_on(async {
        bench.database.create_schema(&name, &mark, None).await.unwrap();
        bench.database.create_user(&name, &name, &login.password, &mark).await.unwrap();
        faults.fail_next(Moment::Before, "database.import_rest", PortError::Lost("gone".into()));
        assert!(bench.database.import(&name, &mark, &login, stream()).await.is_err());
        assert_eq!(bench.database.with_tables(&name, |tables| tables.len()), Some(1));
        assert!(bench.database.import(&name, &mark, &login, stream()).await.is_err(), "not empty");
        bench.database.empty_schema(&name, &mark).await.unwrap();
        bench.database.import(&name, &mark, &login, stream()).await.unwrap();
    });
}

#[test]
fn like_is_that_of_sql() {
    for (pattern, value, expected) in [
        (r"\_transient%", "_transient_x", true),
        (r"\_transient%", "xtransient_x", false),
        ("cron", "cron", true),
        ("cron", "crons", false),
        ("a_c%", "abc", true),
        ("%x%", "aax", true),
        (r"100\%", "100%", true),
        (r"100\%", "100x", false),
    ] {
        assert_eq!(like(pattern.as_bytes(), value.as_bytes()), expected, "{pattern} {value}");
    }
}
