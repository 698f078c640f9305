//! The store in one file.

use crate::error::{CommitError, StoreError};
use crate::format::{pack, pack_key, unpack};
use escape_engine::store::{Changes, Entry, StoreState, Txn};
use escape_proto::Revision;
use redb::backends::FileBackend;
use redb::{Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
const RECORDS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("records");
const FORMAT_KEY: &str = "format";
const REVISION_KEY: &str = "revision";
/// The format that this code reads and writes.
const FORMAT: u32 = 2;
/// Page cache, bytes. All records are kept in memory anyhow.
const CACHE_BYTES: usize = 8 << 20;

/// Makes a database of the same file again, after an I/O error has ended the one before.
type Opener = Box<dyn FnMut() -> Result<Database, StoreError> + Send>;

/// A store in a redb file, with all records in memory too.
pub struct EmbeddedStore {
    name: String,
    opener: Opener,
    /// `None`: it failed, and is opened and read again before the next transaction.
    database: Option<Database>,
    state: StoreState,
}

impl EmbeddedStore {
    /// Opens or makes the store at `path` (mode 0600) and reads it. `cluster`: the only cluster whose store is wanted.
    ///
    /// # Errors
    /// [`StoreError`]; a file that is not right is left as it is.
    pub fn open(path: &Path, cluster: Option<[u8; 16]>) -> Result<Self, StoreError> {
        let name = path.display().to_string();
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|source| StoreError::File { file: name.clone(), source })?;
        Self::from_file(file, name, cluster)
    }

    /// The same for a file that is open already for reading and writing (perhaps one without a name, `O_TMPFILE`).
    /// `name` is for messages.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn from_file(file: File, name: String, cluster: Option<[u8; 16]>) -> Result<Self, StoreError> {
        let of = name.clone();
        let opener = Box::new(move || {
            let again = file.try_clone().map_err(|source| StoreError::File { file: of.clone(), source })?;
            let backend = FileBackend::new(again).map_err(|e| database_error(&of, e))?;
            open_database(&of, backend)
        });
        Self::from_opener(opener, name, cluster)
    }

    pub(crate) fn from_opener(mut opener: Opener, name: String, cluster: Option<[u8; 16]>) -> Result<Self, StoreError> {
        let database = opener()?;
        let state = load(&database, &name)?;
        if let (Some(wanted), Some(found)) = (cluster, state.cluster().map(|record| record.cluster))
            && found != wanted
        {
            return Err(StoreError::OtherCluster { file: name, found, wanted });
        }
        Ok(Self { name, opener, database: Some(database), state })
    }

    /// The records as of the last transaction that is known to be on the medium.
    pub const fn state(&self) -> &StoreState {
        &self.state
    }

    /// Makes one transaction durable.
    ///
    /// # Errors
    /// [`CommitError`].
    pub fn commit(&mut self, txn: &Txn) -> Result<Changes, CommitError> {
        let missing = || Err(CommitError::Unavailable("no outcome".to_owned()));
        self.commit_all(std::slice::from_ref(txn)).pop().unwrap_or_else(missing)
    }

    /// Makes transactions durable in order, with one write to the medium for all of them. Each has its own revision
    /// and outcome; a conflict of one does not touch the others.
    pub fn commit_all(&mut self, txns: &[Txn]) -> Vec<Result<Changes, CommitError>> {
        if let Err(error) = self.reopen_if_failed() {
            let text = error.to_string();
            return txns.iter().map(|_| Err(CommitError::Unavailable(text.clone()))).collect();
        }
        let mut next = self.state.clone();
        let outcomes: Vec<_> = txns.iter().map(|txn| next.apply(txn).map_err(CommitError::from)).collect();
        if outcomes.iter().all(Result::is_err) {
            return outcomes;
        }
        match self.write(&next, outcomes.iter().flatten()) {
            Ok(()) => {
                self.state = next;
                outcomes
            }
            Err(text) => {
                // What is in the file now is not known: read it again before anything else.
                self.database = None;
                let text = format!("{}: {text}", self.name);
                outcomes.into_iter().map(|o| o.and(Err(CommitError::Unavailable(text.clone())))).collect()
            }
        }
    }

    fn reopen_if_failed(&mut self) -> Result<(), StoreError> {
        if self.database.is_none() {
            let database = (self.opener)()?;
            self.state = load(&database, &self.name)?;
            self.database = Some(database);
        }
        Ok(())
    }

    fn write<'a>(&self, next: &StoreState, made: impl Iterator<Item = &'a Changes>) -> Result<(), String> {
        let database = self.database.as_ref().ok_or("not open")?;
        write_all(database, next, made).map_err(|error| match error {
            WriteError::Database(error) => error.to_string(),
            WriteError::Encoding(text) => text,
        })
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let revision = self.state.revision();
        f.debug_struct("EmbeddedStore").field("name", &self.name).field("revision", &revision).finish_non_exhaustive()
    }
}

enum WriteError {
    Database(redb::Error),
    Encoding(String),
}

impl<E: Into<redb::Error>> From<E> for WriteError {
    fn from(error: E) -> Self {
        Self::Database(error.into())
    }
}

fn write_all<'a>(
    database: &Database,
    next: &StoreState,
    made: impl Iterator<Item = &'a Changes>,
) -> Result<(), WriteError> {
    let mut write = database.begin_write()?;
    write.set_durability(Durability::Immediate)?;
    {
        let mut records = write.open_table(RECORDS)?;
        for changes in made {
            for record in &changes.put {
                let entry = Entry { version: changes.revision, record: record.clone() };
                let (key, value) = pack(&entry).map_err(WriteError::Encoding)?;
                records.insert(key.as_slice(), value.as_slice())?;
            }
            for key in &changes.deleted {
                let key = pack_key(*key).map_err(WriteError::Encoding)?;
                records.remove(key.as_slice())?;
            }
        }
        let mut meta = write.open_table(META)?;
        meta.insert(FORMAT_KEY, u64::from(FORMAT))?;
        meta.insert(REVISION_KEY, next.revision().0)?;
    }
    write.commit()?;
    Ok(())
}

/// Opens with a check of every page, so that a damaged file is refused and never trusted.
pub(crate) fn open_database(name: &str, backend: impl StorageBackend) -> Result<Database, StoreError> {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
    builder.create_with_backend(backend).map_err(|e| database_error(name, e))
}

fn database_error(name: &str, error: DatabaseError) -> StoreError {
    let file = name.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::InUse { file },
        DatabaseError::Storage(redb::StorageError::Corrupted(detail)) => StoreError::Corrupt { file, detail },
        DatabaseError::Storage(redb::StorageError::Io(source)) if source.kind() == std::io::ErrorKind::InvalidData => {
            StoreError::Corrupt { file, detail: source.to_string() }
        }
        DatabaseError::Storage(redb::StorageError::Io(source)) => StoreError::File { file, source },
        other => StoreError::Database { file, detail: other.to_string() },
    }
}

/// All records, checked one by one and against the revision.
fn load(database: &Database, name: &str) -> Result<StoreState, StoreError> {
    let file = || name.to_owned();
    let failed = |e: redb::Error| StoreError::Database { file: file(), detail: e.to_string() };
    let corrupt = |detail: String| StoreError::Corrupt { file: file(), detail };
    let read = database.begin_read().map_err(|e| failed(e.into()))?;
    let meta = match read.open_table(META) {
        Ok(meta) => meta,
        // A new file has no tables; a file with other tables is not ours.
        Err(redb::TableError::TableDoesNotExist(_)) => {
            let tables = read.list_tables().map_err(|e| failed(e.into()))?.count();
            return if tables == 0 {
                Ok(StoreState::default())
            } else {
                Err(corrupt("its tables are not ours".into()))
            };
        }
        Err(e) => return Err(failed(e.into())),
    };
    let number = |key: &'static str| {
        let found = meta.get(key).map_err(|e| failed(e.into()))?;
        found.map(|n| n.value()).ok_or_else(|| corrupt(format!("it has no {key}")))
    };
    let format = u32::try_from(number(FORMAT_KEY)?).unwrap_or(u32::MAX);
    if format != FORMAT {
        return Err(StoreError::Format { file: file(), found: format, wanted: FORMAT });
    }
    let revision = Revision(number(REVISION_KEY)?);
    let records = read.open_table(RECORDS).map_err(|e| failed(e.into()))?;
    let mut entries = Vec::new();
    for item in records.iter().map_err(|e| failed(e.into()))? {
        let (key, value) = item.map_err(|e| failed(e.into()))?;
        let entry = unpack(key.value(), value.value()).map_err(corrupt)?;
        if entry.version > revision {
            return Err(corrupt(format!("record {:?} is newer than the store", entry.record.key())));
        }
        entries.push(entry);
    }
    Ok(StoreState::from_entries(revision, entries))
}

#[cfg(test)]
#[path = "embedded_failing_medium.rs"]
mod failing_medium;
