//! Watches the argument vectors of all processes that this machine can see, those in containers included: no secret may be in one.

use std::collections::BTreeSet;
use std::fs;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Pause between two looks: shorter than any tool takes to start.
const PAUSE: Duration = Duration::from_millis(3);

/// A running watch.
pub struct Argv {
    seen: Arc<Mutex<BTreeSet<String>>>,
    /// The watch ends when this is dropped.
    stop: Option<Sender<()>>,
    watching: Option<JoinHandle<()>>,
}

impl Argv {
    /// Starts to watch.
    #[must_use]
    pub fn watch() -> Self {
        let seen = Arc::default();
        let kept = Arc::clone(&seen);
        let (stop, stopped) = channel();
        let watching = std::thread::spawn(move || {
            while stopped.recv_timeout(PAUSE) == Err(RecvTimeoutError::Timeout) {
                look(&kept);
            }
        });
        Self { seen, stop: Some(stop), watching: Some(watching) }
    }

    /// The argument vectors with one of these in them.
    #[must_use]
    pub fn with(&self, secrets: &[String]) -> Vec<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.iter().filter(|argv| secrets.iter().any(|secret| argv.contains(secret))).cloned().collect()
    }

    /// How many different ones were seen: a watch that saw none proves nothing.
    #[must_use]
    pub fn count(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Argv {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(watching) = self.watching.take() {
            // A watch that panicked has nothing more to say.
            let _ = watching.join();
        }
    }
}

fn look(seen: &Mutex<BTreeSet<String>>) {
    let Ok(processes) = fs::read_dir("/proc") else { return };
    for process in processes.flatten() {
        if !process.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit) {
            continue;
        }
        // Processes end while they are looked at.
        let Ok(argv) = fs::read(process.path().join("cmdline")) else { continue };
        let argv = String::from_utf8_lossy(&argv).replace('\0', " ");
        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(argv);
    }
}
