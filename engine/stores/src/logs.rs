//! Step logs as files beside the journal: bounded, readable while they grow, and gone without harm. They are not synced, and
//! nothing is ever decided by them; lines arrive with their secrets masked.
//!
//! A log keeps its head and its tail: `<step>.log` takes lines until it is full, then two files take turns behind it
//! (`<step>.log.tail`, the newer, and `<step>.log.tail.old`). A tail file starts with a line of 20 digits: how many bytes of the
//! log came before it.

use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use kedge_engine::ports::LogSink;
use kedge_engine::store::ReadError;

/// Most bytes a log keeps in all: enough for the output of a long import, and a thousand logs still fit on any disk.
pub const MAX_LOG: usize = 1024 * 1024;
/// Longest line, in bytes: one query of an import must not push everything else out.
const MAX_LINE: usize = 16 * 1024;
/// Longest name of a task or step, in bytes: with our endings it fits every file system.
const MAX_NAME: usize = 128;
/// 20 digits and a newline.
const HEADER: usize = 21;

/// The logs of all steps, below one folder.
#[derive(Debug)]
pub struct FileLogs {
    folder: PathBuf,
    head: usize,
    tail: usize,
    /// One writer at a time: parallel steps write to different files, but attempts of one step may overlap.
    writing: Mutex<()>,
    lost: AtomicU64,
}

impl FileLogs {
    /// Logs in `<data_folder>/logs`, made when the first line arrives.
    #[must_use]
    pub fn new(data_folder: &Path) -> Self {
        Self::with_bound(data_folder, MAX_LOG)
    }

    /// The same with another bound, in bytes: half is for the head, and a quarter for each of the two files of the tail.
    #[must_use]
    pub fn with_bound(data_folder: &Path, bound: usize) -> Self {
        Self {
            folder: data_folder.join("logs"),
            head: bound / 2,
            tail: bound / 4,
            writing: Mutex::new(()),
            lost: AtomicU64::new(0),
        }
    }

    /// Adds a line to a step's log. A line that cannot be written is counted and traced, never an error: a full disk must not
    /// fail the step that talks about it.
    pub fn append(&self, task: &str, step: &str, line: &str) {
        // The guard protects files, whose state is read anew each time, so poison says nothing.
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.log_path(task, step).and_then(|path| self.write(&path, &one_line(line)));
        if let Err(error) = result {
            let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
            // At powers of two: a disk that stays full must not fill the trace as well.
            if lost.is_power_of_two() {
                tracing::warn!(task, step, %error, lost, "a line of a step's log was lost");
            }
        }
    }

    /// What is kept of a step's log, with a line in place of what is not; none when it has no log.
    ///
    /// # Errors
    /// [`ReadError::Io`] names the file, or the name that cannot be one.
    pub fn read(&self, task: &str, step: &str) -> Result<Option<String>, ReadError> {
        let path = self.log_path(task, step).map_err(|error| ReadError::Io(error.to_string()))?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let named = |path: &Path, error: io::Error| ReadError::Io(format!("{}: {error}", path.display()));
        let Some(mut text) = read_if_there(&path).map_err(|error| named(&path, error))? else {
            return Ok(None);
        };
        for (nth, tail) in [older(&path), newer(&path)].into_iter().enumerate() {
            let Some(bytes) = read_if_there(&tail).map_err(|error| named(&tail, error))? else { continue };
            let (header, lines) = bytes.split_at(HEADER.min(bytes.len()));
            let left_out = start_of(header).map(|start| start.saturating_sub(text.len() as u64));
            match left_out {
                Some(bytes) if bytes > 0 && (nth == 0 || !older(&path).exists()) => {
                    text.extend(format!("[{bytes} bytes left out]\n").into_bytes());
                }
                Some(_) => {}
                None => text.extend(b"[some bytes left out]\n"),
            }
            text.extend(lines);
        }
        Ok(Some(String::from_utf8_lossy(&text).into_owned()))
    }

    /// Removes all logs of a task; none is fine.
    ///
    /// # Errors
    /// [`io::Error`] of the system, or for a name that cannot be a task's.
    pub fn remove(&self, task: &str) -> io::Result<()> {
        check_name(task)?;
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        match fs::remove_dir_all(self.folder.join(task)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Lines that could not be written since this was made.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    fn log_path(&self, task: &str, step: &str) -> io::Result<PathBuf> {
        check_name(task)?;
        check_name(step)?;
        Ok(self.folder.join(task).join(format!("{step}.log")))
    }

    fn write(&self, head: &Path, line: &str) -> io::Result<()> {
        let (tail, old) = (newer(head), older(head));
        let head_size = size(head)?;
        let Some(tail_size) = size(&tail)? else {
            if head_size.is_none() {
                fs::create_dir_all(head.parent().unwrap_or(&self.folder))?;
            }
            let head_size = head_size.unwrap_or(0);
            return match head_size + line.len() <= self.head {
                true => add(head, line),
                false => add(&tail, &format!("{head_size:020}\n{line}")),
            };
        };
        if tail_size.saturating_sub(HEADER) + line.len() <= self.tail {
            return add(&tail, line);
        }
        let mut header = Vec::new();
        fs::File::open(&tail)?.take(HEADER as u64).read_to_end(&mut header)?;
        let start = start_of(&header).unwrap_or(0) + tail_size.saturating_sub(HEADER) as u64;
        fs::rename(&tail, &old)?;
        add(&tail, &format!("{start:020}\n{line}"))
    }
}

impl LogSink for FileLogs {
    fn append(&self, task: &str, step: &str, line: &str) {
        self.append(task, step, line);
    }

    fn read(&self, task: &str, step: &str) -> Result<Option<String>, ReadError> {
        self.read(task, step)
    }

    fn remove(&self, task: &str) -> Result<(), ReadError> {
        self.remove(task).map_err(|error| ReadError::Io(format!("the logs of {task}: {error}")))
    }
}

/// A line of its own, at most [`MAX_LINE`] long.
fn one_line(line: &str) -> String {
    let line = line.trim_end_matches(['\n', '\r']);
    let kept = line.floor_char_boundary(MAX_LINE);
    match line.len() - kept {
        0 => format!("{line}\n"),
        cut => format!("{} [{cut} bytes left out]\n", &line[..kept]),
    }
}

/// Names become file names, so they must not be paths, hidden files or longer than a file system takes.
fn check_name(name: &str) -> io::Result<()> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_.-".contains(&byte);
    if !name.is_empty() && name.len() <= MAX_NAME && name.bytes().all(allowed) && !name.starts_with('.') {
        return Ok(());
    }
    let shown: String = name.chars().take(MAX_NAME).collect();
    let why = format!(
        "{shown:?} cannot name a log: 1 to {MAX_NAME} of a-z, 0-9, _, . and -, not starting with a dot"
    );
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

fn newer(log: &Path) -> PathBuf {
    log.with_added_extension("tail")
}

fn older(log: &Path) -> PathBuf {
    log.with_added_extension("tail.old")
}

fn start_of(header: &[u8]) -> Option<u64> {
    std::str::from_utf8(header).ok()?.trim_end().parse().ok()
}

fn size(path: &Path) -> io::Result<Option<usize>> {
    match fs::metadata(path) {
        // No file here comes near the end of usize.
        Ok(file) => Ok(Some(usize::try_from(file.len()).unwrap_or(usize::MAX))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn add(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().create(true).append(true).open(path)?.write_all(text.as_bytes())
}

fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn logs(bound: usize) -> (tempfile::TempDir, FileLogs) {
        let folder = tempfile::tempdir().expect("folder");
        let logs = FileLogs::with_bound(folder.path(), bound);
        (folder, logs)
    }

    fn bytes_on_disk(folder: &Path) -> u64 {
        let files = folder.join("logs/t").read_dir().expect("folder");
        files.map(|file| file.expect("file").metadata().expect("file").len()).sum()
    }

    #[test]
    fn lines_come_back_in_order_and_by_step() {
        let (_folder, logs) = logs(MAX_LOG);
        assert_eq!(logs.read("t-1", "dump"), Ok(None));
        logs.append("t-1", "dump", "one");
        logs.append("t-1", "dump", "two\r\n");
        logs.append("t-1", "import", "other");
        logs.append("t-1", "dump", "");
        assert_eq!(logs.read("t-1", "dump"), Ok(Some("one\ntwo\n\n".to_owned())));
        assert_eq!(logs.read("t-1", "import"), Ok(Some("other\n".to_owned())));
        assert_eq!(logs.read("t-2", "dump"), Ok(None));
        logs.remove("t-1").expect("remove");
        logs.remove("t-1").expect("again");
        assert_eq!(logs.read("t-1", "dump"), Ok(None));
        assert_eq!(logs.lost(), 0);
    }

    /// At every length, for several bounds: head and tail are whole lines, the gap is exact, and the files stay bounded.
    #[test]
    fn a_long_log_keeps_head_and_tail_and_says_what_is_missing() {
        for bound in [200, 400, 1000] {
            let (folder, logs) = logs(bound);
            let mut all = String::new();
            for n in 0..300 {
                let line = format!("line {n} {}", "x".repeat(n % 40));
                logs.append("t", "s", &line);
                all += &format!("{line}\n");
                let kept = logs.read("t", "s").expect("read").expect("log");
                let rebuilt = match kept.split_once(" bytes left out]\n") {
                    None => kept,
                    Some((head, tail)) => {
                        let (head, gap) = head.rsplit_once('[').expect("a marker");
                        let gap: usize = gap.parse().expect("bytes");
                        assert!(head.ends_with('\n') && all.is_char_boundary(head.len() + gap));
                        assert!(tail.len() + 60 >= bound / 4, "enough of the tail is kept: {}", tail.len());
                        format!("{head}{}{tail}", &all[head.len()..head.len() + gap])
                    }
                };
                assert_eq!(rebuilt, all, "bound {bound}, line {n}");
                assert!(bytes_on_disk(folder.path()) <= (bound + 2 * HEADER) as u64);
            }
        }
    }

    #[test]
    fn a_restart_goes_on_where_the_log_was() {
        let (folder, logs) = logs(200);
        for n in 0..40 {
            logs.append("t", "s", &format!("line {n}"));
        }
        let before = logs.read("t", "s");
        let again = FileLogs::with_bound(folder.path(), 200);
        assert_eq!(again.read("t", "s"), before);
        again.append("t", "s", "the end");
        let text = again.read("t", "s").expect("read").expect("log");
        assert!(text.starts_with("line 0\n") && text.ends_with("line 39\nthe end\n"), "{text}");
    }

    #[test]
    fn a_line_is_bounded_on_a_character() {
        let (_folder, logs) = logs(MAX_LOG);
        logs.append("t", "s", &"\u{e4}".repeat(MAX_LINE));
        let text = logs.read("t", "s").expect("read").expect("log");
        assert!(text.ends_with(&format!("\u{e4} [{MAX_LINE} bytes left out]\n")));
        assert_eq!(text.matches('\u{e4}').count(), MAX_LINE / 2);
    }

    #[test]
    fn names_never_leave_the_folder() {
        let (folder, logs) = logs(MAX_LOG);
        let long = "x".repeat(MAX_NAME + 1);
        let bad =
            ["", ".", "..", "../x", "a/b", "/etc", "A", "a b", "a\0", "\u{e4}", ".hidden", "a\n", &long];
        for (nth, name) in bad.into_iter().enumerate() {
            logs.append(name, "step", "x");
            logs.append("task", name, "x");
            assert!(logs.read(name, "step").is_err() && logs.read("task", name).is_err(), "{name:?}");
            assert!(logs.remove(name).is_err(), "{name:?}");
            assert_eq!(logs.lost(), 2 * (nth as u64 + 1));
        }
        assert_eq!(folder.path().read_dir().expect("folder").count(), 0, "nothing was written");
        logs.append("0-task.name_x", &"x".repeat(MAX_NAME), "fine");
        assert_eq!(logs.read("0-task.name_x", &"x".repeat(MAX_NAME)), Ok(Some("fine\n".to_owned())));
    }
}
