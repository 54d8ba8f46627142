//! Secrets in a directory of this machine: one encrypted file each, and a key file beside them that is made on first use. Whoever
//! has both reads everything: the key is for copies and disks that get lost, not for root. Never logs, never returns a file's bytes.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use kedge_engine::task::Millis;
use kedge_workflows::ports::{PortError, PortResult, Secret, SecretRef, Secrets};
use sha2::{Digest, Sha256};

/// Letters and digits that do not look alike: Aegir's 57.
const ALPHABET: &[u8; 57] = b"abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789";
/// Characters of a secret: 186 bits.
const LENGTH: usize = 32;
/// Longest name.
const MAX_NAME: usize = 200;
/// First byte of a file: how the rest is to be read. Kept for good; or until a time, which stands in clear in front of the rest.
const VERSION: u8 = 1;
const PASSING: u8 = 2;
/// Bytes of that time: milliseconds since 1970, big-endian.
const UNTIL: usize = 8;
/// Longest secret that is taken from elsewhere, in bytes: a link with a token in it is far shorter.
const MAX_SECRET: usize = 2000;
/// Bytes of a nonce: so many that random ones never meet.
const NONCE: usize = 24;
/// Name of the key's file.
const KEY: &str = "key";
/// End of the name of a secret's file.
const SUFFIX: &str = ".secret";
/// Start of the names of files that are being written.
const TEMPORARY: &str = ".new-";
/// Most bytes of a file: a secret is far shorter.
const MAX_FILE: u64 = 4096;

/// Secrets encrypted with XChaCha20-Poly1305 under one key.
#[derive(Clone)]
pub struct FileSecrets {
    inner: Arc<Inner>,
}

struct Inner {
    dir: PathBuf,
    cipher: XChaCha20Poly1305,
}

impl FileSecrets {
    /// Opens the directory; makes it (0700) and the key (0600) if they are not there.
    ///
    /// # Errors
    /// `Refused` when others may read the directory or the key, or when the key is not one; `NoSpace`.
    pub fn open(dir: impl Into<PathBuf>) -> PortResult<Self> {
        let dir = dir.into();
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|error| failed(&dir, &error))?;
        must_be_private(&dir, "chmod 700")?;
        for entry in fs::read_dir(&dir).map_err(|error| failed(&dir, &error))?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path()).map_err(|error| failed(&entry.path(), &error))?;
            }
        }
        let key = key(&dir)?;
        Ok(Self { inner: Arc::new(Inner { dir, cipher: XChaCha20Poly1305::new(&key.into()) }) })
    }

    /// Removes the files of secrets whose time is over: how many. What was written by then is unreadable already.
    ///
    /// # Errors
    /// When the directory cannot be read or a file cannot be removed.
    pub async fn sweep(&self) -> PortResult<usize> {
        let inner = self.inner.clone();
        let swept = tokio::task::spawn_blocking(move || inner.sweep(now())).await;
        swept.map_err(|error| PortError::Lost(format!("secrets: the work on disk ended early: {error}")))?
    }

    async fn on_disk<T: Send + 'static>(
        &self,
        name: &SecretRef,
        work: impl FnOnce(&Inner, &str) -> PortResult<T> + Send + 'static,
    ) -> PortResult<T> {
        let (inner, name) = (self.inner.clone(), checked(name)?.to_owned());
        let done = tokio::task::spawn_blocking(move || work(&inner, &name)).await;
        done.map_err(|error| PortError::Lost(format!("secrets: the work on disk ended early: {error}")))?
    }
}

#[async_trait]
impl Secrets for FileSecrets {
    async fn ensure(&self, name: &SecretRef) -> PortResult<Secret> {
        self.on_disk(name, |inner, name| {
            if let Some(secret) = inner.read(name)? {
                return Ok(secret);
            }
            inner.make(name)?;
            // Whoever was first: it is one and the same for everybody.
            inner
                .read(name)?
                .ok_or_else(|| PortError::Unavailable(format!("secret {name}: it was removed meanwhile")))
        })
        .await
    }

    async fn put(&self, name: &SecretRef, secret: &Secret, until: Millis) -> PortResult<()> {
        let secret = secret.clone();
        self.on_disk(name, move |inner, name| inner.put(name, &secret, until)).await
    }

    async fn get(&self, name: &SecretRef) -> PortResult<Option<Secret>> {
        self.on_disk(name, Inner::read).await
    }

    async fn remove(&self, name: &SecretRef) -> PortResult<()> {
        self.on_disk(name, |inner, name| {
            let path = inner.path(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, &error)),
                _ => sync_dir(&inner.dir),
            }
        })
        .await
    }
}

impl Inner {
    /// A file's name tells nothing, and is never too long.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{}{SUFFIX}", hex::encode(Sha256::digest(name))))
    }

    fn read(&self, name: &str) -> PortResult<Option<Secret>> {
        let path = self.path(name);
        let bytes = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => contents(file.map_err(|error| failed(&path, &error))?)
                .map_err(|error| failed(&path, &error))?,
        };
        let unreadable = || {
            PortError::Refused(format!(
                "secret {name}: {} is damaged, or {} is not the key that it was written with; put the right key back",
                path.display(),
                self.dir.join(KEY).display()
            ))
        };
        let (until, rest) = parts(&bytes).ok_or_else(unreadable)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE>().ok_or_else(unreadable)?;
        let aad = aad(name, until);
        let payload = Payload { msg: sealed, aad: &aad };
        let open = self.cipher.decrypt(&XNonce::from(*nonce), payload).map_err(|_| unreadable())?;
        if until.is_some_and(|until| until <= now()) {
            return Ok(None);
        }
        Ok(Some(Secret::new(String::from_utf8(open).map_err(|_| unreadable())?)))
    }

    fn sweep(&self, now: Millis) -> PortResult<usize> {
        let mut swept = 0;
        for entry in fs::read_dir(&self.dir).map_err(|error| failed(&self.dir, &error))?.flatten() {
            let path = entry.path();
            if !entry.file_name().to_string_lossy().ends_with(SUFFIX) {
                continue;
            }
            // Gone meanwhile: somebody else was quicker.
            let Ok(bytes) = File::open(&path).and_then(contents) else { continue };
            if parts(&bytes).and_then(|(until, _)| until).is_some_and(|until| until <= now) {
                fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
                swept += 1;
            }
        }
        sync_dir(&self.dir)?;
        Ok(swept)
    }

    fn make(&self, name: &str) -> PortResult<()> {
        let sealed = self.seal(name, &generate()?, None)?;
        write(&self.dir, &self.path(name), &sealed, false)
    }

    fn put(&self, name: &str, secret: &Secret, until: Millis) -> PortResult<()> {
        let bytes = secret.expose().as_bytes();
        if bytes.len() > MAX_SECRET {
            return Err(PortError::Refused(format!(
                "secret {name}: it has {} bytes, {MAX_SECRET} are allowed",
                bytes.len()
            )));
        }
        let sealed = self.seal(name, bytes, Some(until))?;
        write(&self.dir, &self.path(name), &sealed, true)
    }

    /// A file's bytes.
    fn seal(&self, name: &str, secret: &[u8], until: Option<Millis>) -> PortResult<Vec<u8>> {
        let mut nonce = [0; NONCE];
        random(&mut nonce)?;
        let aad = aad(name, until);
        let payload = Payload { msg: secret, aad: &aad };
        let sealed = self.cipher.encrypt(&XNonce::from(nonce), payload);
        let sealed =
            sealed.map_err(|_| PortError::Refused(format!("secret {name}: it cannot be encrypted")))?;
        let head = match until {
            None => vec![VERSION],
            Some(until) => [&[PASSING], until.to_be_bytes().as_slice()].concat(),
        };
        Ok([head.as_slice(), nonce.as_slice(), &sealed].concat())
    }
}

/// A file's time, if it has one, and what is sealed.
fn parts(bytes: &[u8]) -> Option<(Option<Millis>, &[u8])> {
    match bytes.split_first()? {
        (&VERSION, rest) => Some((None, rest)),
        (&PASSING, rest) => {
            let (until, rest) = rest.split_first_chunk::<UNTIL>()?;
            Some((Some(Millis::from_be_bytes(*until)), rest))
        }
        _ => None,
    }
}

/// What a sealed secret is good for, besides its key: its name, and its time.
fn aad(name: &str, until: Option<Millis>) -> Vec<u8> {
    let mut aad = name.as_bytes().to_vec();
    if let Some(until) = until {
        aad.push(0);
        aad.extend(until.to_be_bytes());
    }
    aad
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

/// A new secret: bytes that would favour the first characters of the alphabet are thrown away.
fn generate() -> PortResult<Vec<u8>> {
    let fair = 256 / ALPHABET.len() * ALPHABET.len();
    let mut secret = Vec::with_capacity(LENGTH);
    while secret.len() < LENGTH {
        let mut bytes = [0; 64];
        random(&mut bytes)?;
        let fair = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        secret.extend(fair.map(|byte| ALPHABET[byte % ALPHABET.len()]).take(LENGTH - secret.len()));
    }
    Ok(secret)
}

fn random(bytes: &mut [u8]) -> PortResult<()> {
    getrandom::fill(bytes)
        .map_err(|error| PortError::Unavailable(format!("no random bytes from the system: {error}")))
}

fn key(dir: &Path) -> PortResult<[u8; 32]> {
    let path = dir.join(KEY);
    if !path.exists() {
        let secrets = fs::read_dir(dir).map_err(|error| failed(dir, &error))?.flatten();
        if secrets.into_iter().any(|entry| entry.file_name().to_string_lossy().ends_with(SUFFIX)) {
            let (path, dir) = (path.display(), dir.display());
            return Err(PortError::Refused(format!(
                "{path} is missing, but {dir} holds secrets; put the key back"
            )));
        }
        let mut key = [0; 32];
        random(&mut key)?;
        write(dir, &path, &key, false)?;
    }
    must_be_private(&path, "chmod 600")?;
    let bytes = File::open(&path).and_then(contents).map_err(|error| failed(&path, &error))?;
    bytes.try_into().map_err(|_| PortError::Refused(format!("{} is not a key of 32 bytes", path.display())))
}

/// Writes a file at once and durably. One that is there already is left alone, or replaced.
fn write(dir: &Path, path: &Path, bytes: &[u8], replace: bool) -> PortResult<()> {
    let mut name = [0; 8];
    random(&mut name)?;
    let temporary = dir.join(format!("{TEMPORARY}{}", hex::encode(name)));
    let write = || -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        if replace {
            return fs::rename(&temporary, path);
        }
        match fs::hard_link(&temporary, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    };
    let written = write();
    // Not there when it could not be made at all or was renamed; `open` removes what stays.
    fs::remove_file(&temporary).ok();
    written.map_err(|error| failed(path, &error))?;
    sync_dir(dir)
}

fn contents(file: File) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn must_be_private(path: &Path, cure: &str) -> PortResult<()> {
    let meta = fs::symlink_metadata(path).map_err(|error| failed(path, &error))?;
    if meta.mode() & 0o077 != 0 {
        let path = path.display();
        return Err(PortError::Refused(format!(
            "others may read {path}: {cure} {path}, and think about who may have"
        )));
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> PortResult<()> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| failed(dir, &error))
}

fn checked(name: &SecretRef) -> PortResult<&str> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._/-".contains(&byte);
    if name.0.is_empty() || name.0.len() > MAX_NAME || !name.0.bytes().all(plain) {
        let shown: String = name.0.chars().take(80).collect();
        return Err(PortError::Refused(format!(
            "{shown:?} is not the name of a secret ([a-z0-9._/-], at most 200)"
        )));
    }
    Ok(&name.0)
}

fn failed(path: &Path, error: &io::Error) -> PortError {
    let what = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => PortError::NoSpace(what),
        _ => PortError::Refused(what),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use kedge_workflows::testing::{SECRET_ALPHABET, secrets_contract};

    use super::*;

    fn name(text: &str) -> SecretRef {
        SecretRef(text.to_owned())
    }

    fn private() -> tempfile::TempDir {
        let mode = fs::Permissions::from_mode(0o700);
        tempfile::Builder::new().permissions(mode).tempdir().unwrap()
    }

    fn files(dir: &Path) -> Vec<PathBuf> {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| !path.ends_with(KEY))
            .collect()
    }

    #[tokio::test]
    async fn a_directory_keeps_the_contract() {
        assert_eq!(ALPHABET, SECRET_ALPHABET.as_bytes());
        let dir = tempfile::tempdir().unwrap();
        let secrets = FileSecrets::open(dir.path().join("s")).unwrap();
        secrets_contract(&secrets).await;
        assert_eq!(files(&dir.path().join("s")), Vec::<PathBuf>::new());
    }

    #[tokio::test]
    async fn secrets_outlive_the_process_and_are_not_on_disk() {
        let dir = private();
        let secret = FileSecrets::open(dir.path()).unwrap().ensure(&name("a/b")).await.unwrap();
        assert!(
            FileSecrets::open(dir.path()).unwrap().get(&name("a/b")).await.unwrap() == Some(secret.clone())
        );
        for path in files(dir.path()).into_iter().chain([dir.path().join(KEY)]) {
            let bytes = fs::read(&path).unwrap();
            assert!(!bytes.windows(LENGTH).any(|window| window == secret.expose().as_bytes()));
            assert!(!path.to_string_lossy().contains("a/b"));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::metadata(dir.path()).unwrap().mode() & 0o777, 0o700);
    }

    #[tokio::test]
    async fn a_file_is_good_for_its_name_and_key_only() {
        let dir = private();
        let secrets = FileSecrets::open(dir.path()).unwrap();
        secrets.ensure(&name("a")).await.unwrap();
        let (a, b) = (secrets.inner.path("a"), secrets.inner.path("b"));
        fs::copy(&a, &b).unwrap();
        assert!(matches!(secrets.get(&name("b")).await, Err(PortError::Refused(_))), "another one's file");
        fs::write(&b, "").unwrap();
        assert!(
            matches!(secrets.ensure(&name("b")).await, Err(PortError::Refused(_))),
            "an empty file is not replaced"
        );
        let whole = fs::read(&a).unwrap();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            fs::write(&a, damaged).unwrap();
            let error = secrets.get(&name("a")).await.unwrap_err();
            assert!(
                matches!(&error, PortError::Refused(what) if what.contains("damaged")),
                "byte {at}: {error:?}"
            );
        }
        fs::write(&a, &whole).unwrap();
        fs::write(dir.path().join(KEY), [7; 32]).unwrap();
        let other = FileSecrets::open(dir.path()).unwrap();
        assert!(matches!(other.get(&name("a")).await, Err(PortError::Refused(_))), "another key");
        fs::remove_file(dir.path().join(KEY)).unwrap();
        let error = FileSecrets::open(dir.path()).err().expect("no new key over old secrets");
        assert!(matches!(&error, PortError::Refused(what) if what.contains("put the key back")), "{error:?}");
    }

    #[tokio::test]
    async fn what_is_over_is_swept_and_its_time_cannot_be_changed() {
        let dir = private();
        let secrets = FileSecrets::open(dir.path()).unwrap();
        secrets.ensure(&name("kept")).await.unwrap();
        secrets.put(&name("over"), &Secret::new("x"), 1).await.unwrap();
        secrets.put(&name("good"), &Secret::new("y"), u64::MAX - 1).await.unwrap();
        let path = secrets.inner.path("over");
        let mut longer = fs::read(&path).unwrap();
        longer[1..9].copy_from_slice(&u64::MAX.to_be_bytes());
        fs::write(&path, &longer).unwrap();
        assert!(
            matches!(secrets.get(&name("over")).await, Err(PortError::Refused(_))),
            "its time is sealed too"
        );
        secrets.put(&name("over"), &Secret::new("x"), 1).await.unwrap();
        assert_eq!(secrets.sweep().await, Ok(1));
        assert!(!path.exists() && secrets.get(&name("over")).await.unwrap().is_none());
        assert!(secrets.get(&name("good")).await.unwrap() == Some(Secret::new("y")));
        assert!(secrets.get(&name("kept")).await.unwrap().is_some());
        let long = Secret::new("z".repeat(MAX_SECRET + 1));
        assert!(matches!(secrets.put(&name("long"), &long, 1).await, Err(PortError::Refused(_))));
    }

    #[test]
    fn what_others_may_read_is_refused() {
        let dir = private();
        FileSecrets::open(dir.path()).unwrap();
        for (path, cure) in [(dir.path().join(KEY), "chmod 600"), (dir.path().to_owned(), "chmod 700")] {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
            let error = FileSecrets::open(dir.path()).err().expect("others may read it");
            assert!(matches!(&error, PortError::Refused(what) if what.contains(cure)), "{error:?}");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everybody_gets_the_same_new_secret() {
        let dir = private();
        fs::write(dir.path().join(".new-1234"), "left over").unwrap();
        let stores: Vec<FileSecrets> = (0..8).map(|_| FileSecrets::open(dir.path()).unwrap()).collect();
        let made = stores.iter().map(async |store| store.ensure(&name("a")).await.unwrap());
        let made = futures::future::join_all(made).await;
        assert!(made.iter().all(|secret| *secret == made[0]));
        assert_eq!(files(dir.path()).len(), 1, "no temporary file is left");
    }
}
