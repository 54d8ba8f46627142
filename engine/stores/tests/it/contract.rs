//! The store contract, on the memory store and on the one on disk.

use std::path::PathBuf;
use std::sync::Arc;

use futures::executor::block_on;
use kedge_engine::store::{BlobId, Store};
use kedge_engine::testing::memory_store::{Crash, MemoryStore};
use kedge_engine::testing::store_contract::{self, Subject};
use kedge_stores::SledStore;

use crate::kit::{self, TestDisk};

#[test]
fn the_memory_store_keeps_the_contract() {
    block_on(store_contract::run(|| InMemory { store: MemoryStore::new(), crash: Crash::Before }));
    block_on(store_contract::run(|| InMemory {
        store: MemoryStore::new(),
        crash: Crash::AfterWriteBeforeAck,
    }));
}

#[test]
fn the_sled_store_keeps_the_contract() {
    block_on(store_contract::run(OnDisk::new));
}

struct InMemory {
    store: MemoryStore,
    crash: Crash,
}

impl Subject for InMemory {
    fn store(&self) -> Arc<dyn Store> {
        Arc::new(self.store.clone())
    }

    fn reopen(&mut self) {
        self.store = self.store.reopen();
    }

    fn hold(&self) {
        self.store.hold();
    }

    fn wait_until_held(&self) {
        assert_eq!(self.store.held(), 1, "it is there at the first poll");
    }

    fn release(&self) {
        self.store.release_all();
    }

    fn break_disk(&self) {
        self.store.crash_after(0, self.crash);
    }

    fn damage_blob(&self, id: &BlobId) {
        assert!(self.store.damage_blob(id));
    }
}

struct OnDisk {
    store: Option<Arc<SledStore>>,
    disk: Arc<TestDisk>,
    data: PathBuf,
    _folder: tempfile::TempDir,
}

impl OnDisk {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let (disk, data) = (Arc::new(TestDisk::default()), folder.path().join("data"));
        let store = SledStore::open(&data, disk.options()).expect("open");
        Self { store: Some(Arc::new(store)), disk, data, _folder: folder }
    }
}

impl Subject for OnDisk {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().expect("open")
    }

    fn reopen(&mut self) {
        let store = self.store.take().expect("open");
        drop(Arc::into_inner(store).expect("the suite keeps no handle"));
        self.disk.state().broken = None;
        self.store = Some(Arc::new(SledStore::open(&self.data, self.disk.options()).expect("open")));
    }

    fn hold(&self) {
        self.disk.shut();
    }

    fn wait_until_held(&self) {
        self.disk.wait_until_holding();
    }

    fn release(&self) {
        self.disk.open_gate();
    }

    fn break_disk(&self) {
        self.disk.state().broken = Some("journal");
    }

    fn damage_blob(&self, id: &BlobId) {
        kit::flip_a_bit(&kit::blob_path(&self.data, id));
    }
}
