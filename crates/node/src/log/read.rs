//! Reading logs back, as `kubectl logs` asks for them.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures::stream::{self, Stream};
use tokio::sync::watch;

use super::{LONGEST_FILE, Logs, Progress, rotated};

/// What to read: the fields of Kubernetes' `PodLogOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Keep going until the container ends.
    pub follow: bool,
    /// Only so many lines from the end.
    pub tail_lines: Option<usize>,
    /// Only lines at most so many seconds old.
    pub since_seconds: Option<i64>,
    /// Only lines from this time on; the later of both bounds holds.
    pub since_time: Option<jiff::Timestamp>,
    /// Begin every line with its time.
    pub timestamps: bool,
    /// The run before the current one.
    pub previous: bool,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Bytes read from a file at once.
const CHUNK: usize = 64 * 1024;

/// The text of one run's log.
pub(crate) fn stream(
    logs: &Logs,
    path: PathBuf,
    options: &LogOptions,
    now: jiff::Timestamp,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let age = options
        .since_seconds
        .and_then(|s| now.checked_sub(jiff::SignedDuration::from_secs(s)).ok());
    let reader = Reader {
        progress: logs.progress(&path).filter(|_| options.follow),
        files: rotated(&path).into_iter().chain([path.clone()]).collect(),
        path,
        current: None,
        pending: Vec::new(),
        skip: None,
        tail: options.tail_lines,
        since: age.max(options.since_time),
        timestamps: options.timestamps,
        left: options.limit_bytes.unwrap_or(u64::MAX),
    };
    stream::try_unfold(reader, |mut reader| async move {
        let chunk = reader.next().await?;
        Ok(chunk.map(|chunk| (chunk, reader)))
    })
}

/// The last lines of a log, at most `lines` and `bytes`, without times: a termination message.
pub(crate) fn last_lines(path: &Path, lines: usize, bytes: usize) -> String {
    let Ok(mut file) = File::open(path) else {
        return String::new();
    };
    let start = file
        .metadata()
        .map_or(0, |m| m.len().saturating_sub(4 * LONGEST_TAIL));
    let mut content = Vec::new();
    if file
        .seek(SeekFrom::Start(start))
        .and_then(|_| file.read_to_end(&mut content))
        .is_err()
    {
        return String::new();
    }
    let mut kept: VecDeque<u8> = VecDeque::new();
    for line in content
        .split_inclusive(|byte| *byte == b'\n')
        .rev()
        .take(lines)
    {
        let Some(line) = Line::parse(line) else {
            continue;
        };
        for byte in line.text().iter().rev() {
            kept.push_front(*byte);
        }
        if kept.len() >= bytes {
            break;
        }
    }
    let excess = kept.len().saturating_sub(bytes);
    kept.drain(..excess);
    String::from_utf8_lossy(kept.make_contiguous()).into_owned()
}

/// Enough of a file's end for any termination message, times included.
const LONGEST_TAIL: u64 = 16 * 1024;

struct Reader {
    /// Files still to read, oldest first, and the one being read.
    files: VecDeque<PathBuf>,
    current: Option<File>,
    path: PathBuf,
    /// `Some` while following a running container.
    progress: Option<watch::Receiver<Progress>>,
    /// The start of a line whose end has not been read yet.
    pending: Vec<u8>,
    /// Lines to leave out first; computed from `tail` when reading starts.
    skip: Option<usize>,
    tail: Option<usize>,
    since: Option<jiff::Timestamp>,
    timestamps: bool,
    left: u64,
}

impl Reader {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        if self.skip.is_none() {
            self.skip = Some(self.lines_before_tail()?);
        }
        while self.left > 0 {
            let seen = self
                .progress
                .as_mut()
                .map(|progress| *progress.borrow_and_update());
            let mut chunk = vec![0; CHUNK];
            let read = match self.file()? {
                Some(file) => file.read(&mut chunk)?,
                None => 0,
            };
            if read > 0 {
                let text = self.select(&chunk[..read]);
                if !text.is_empty() {
                    return Ok(Some(text));
                }
            } else if !self.advance(seen).await {
                return Ok(None);
            }
        }
        Ok(None)
    }

    fn file(&mut self) -> io::Result<Option<&mut File>> {
        while self.current.is_none() {
            let Some(path) = self.files.pop_front() else {
                return Ok(None);
            };
            match File::open(&path) {
                Ok(file) => self.current = Some(file),
                // Rotated away meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.current.as_mut())
    }

    /// At the end of a file: goes to the next one or waits for more. `false` if nothing follows.
    async fn advance(&mut self, seen: Option<Progress>) -> bool {
        if !self.files.is_empty() {
            self.current = None;
            return true;
        }
        let (Some(seen), Some(progress)) = (seen, self.progress.as_mut()) else {
            return false;
        };
        let now = *progress.borrow_and_update();
        if now == seen {
            if seen.ended || progress.changed().await.is_err() {
                return false;
            }
            return true;
        }
        if now.rotations != seen.rotations {
            // The file that we have open was renamed and is complete; read its end, then the new one.
            self.files.push_back(self.path.clone());
        }
        true
    }

    /// The wanted part of what was read, whole lines only.
    fn select(&mut self, read: &[u8]) -> Bytes {
        self.pending.extend_from_slice(read);
        let pending = std::mem::take(&mut self.pending);
        let mut out = Vec::with_capacity(pending.len());
        for line in pending.split_inclusive(|byte| *byte == b'\n') {
            if !line.ends_with(b"\n") {
                self.pending = line.to_vec();
                break;
            }
            let Some(line) = Line::parse(line).filter(|line| line.is_since(self.since)) else {
                continue;
            };
            if let Some(skip) = self.skip.as_mut().filter(|skip| **skip > 0) {
                *skip -= 1;
                continue;
            }
            if self.timestamps {
                out.extend_from_slice(line.time);
                out.push(b' ');
            }
            out.extend_from_slice(line.text());
        }
        out.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= out.len() as u64;
        out.into()
    }

    /// Counts lines first, so that memory stays small whatever `tail_lines` says.
    fn lines_before_tail(&self) -> io::Result<usize> {
        let Some(tail) = self.tail else { return Ok(0) };
        let mut total = 0_usize;
        for path in &self.files {
            let mut content = Vec::new();
            match File::open(path) {
                Ok(file) => file.take(2 * LONGEST_FILE).read_to_end(&mut content)?,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let lines = content
                .split_inclusive(|byte| *byte == b'\n')
                .filter_map(Line::parse);
            total += lines.filter(|line| line.is_since(self.since)).count();
        }
        Ok(total.saturating_sub(tail))
    }
}

/// One line of a log file.
struct Line<'a> {
    time: &'a [u8],
    /// A part of a longer line that goes on.
    partial: bool,
    /// With its line break.
    rest: &'a [u8],
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut parts = line.splitn(4, |byte| *byte == b' ');
        let time = parts.next()?;
        let _stream = parts.next()?;
        let partial = parts.next()? == b"P";
        Some(Self {
            time,
            partial,
            rest: parts.next()?,
        })
    }

    fn text(&self) -> &'a [u8] {
        match self.partial {
            true => self.rest.strip_suffix(b"\n").unwrap_or(self.rest),
            false => self.rest,
        }
    }

    fn is_since(&self, since: Option<jiff::Timestamp>) -> bool {
        let Some(since) = since else { return true };
        let time = std::str::from_utf8(self.time)
            .ok()
            .and_then(|time| time.parse::<jiff::Timestamp>().ok());
        time.is_none_or(|time| time >= since)
    }
}
