//! From a program's output to lines in a file: `<time> <stream> <F or P> <text>`.
//!
//! Lines longer than 16 KiB are cut into parts tagged `P`, as CRI does. Writes go to the page
//! cache in the task that reads the pipe: they are short, and the pipe is the only other buffer.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::{LONGEST_FILE, MOST_FILES, Progress};
use crate::pod::attach::{Output, Tap};
use crate::stdio::BoxRead;

/// Longest part of a line.
const LONGEST_PART: usize = 16 * 1024;

/// Writes the file of one run of a container.
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
    progress: watch::Sender<Progress>,
    line: Vec<u8>,
    failed: bool,
}

impl Writer {
    pub(super) fn create(path: PathBuf, progress: watch::Sender<Progress>) -> io::Result<Self> {
        let file = open(&path)?;
        let bytes = file.metadata()?.len();
        progress.send_replace(Progress {
            bytes,
            ..Progress::default()
        });
        Ok(Self {
            path,
            file,
            progress,
            line: Vec::new(),
            failed: false,
        })
    }

    /// Copies both outputs until both are closed, then to `tap`. Cancel-safe but for a line that
    /// has not ended.
    pub(crate) async fn pump(
        &mut self,
        stdout: Option<BoxRead>,
        stderr: Option<BoxRead>,
        tap: &Tap,
    ) -> io::Result<()> {
        let mut out = Lines::new("stdout", stdout);
        let mut err = Lines::new("stderr", stderr);
        while out.open || err.open {
            tokio::select! {
                read = out.pipe.read_buf(&mut out.pending), if out.open => {
                    let piece = out.newest(read?, tap);
                    self.received(&mut out, piece.len);
                    tap.send(Output::Stdout, piece.copy).await;
                }
                read = err.pipe.read_buf(&mut err.pending), if err.open => {
                    let piece = err.newest(read?, tap);
                    self.received(&mut err, piece.len);
                    tap.send(Output::Stderr, piece.copy).await;
                }
            }
        }
        tap.close();
        Ok(())
    }

    fn received(&mut self, lines: &mut Lines, bytes: usize) {
        lines.open = bytes > 0;
        let now = jiff::Timestamp::now();
        let mut start = 0;
        while let Some(length) = lines.pending[start..]
            .iter()
            .position(|byte| *byte == b'\n')
        {
            self.format(
                now,
                lines.stream,
                'F',
                &lines.pending[start..start + length],
            );
            start += length + 1;
        }
        lines.pending.drain(..start);
        if !lines.open && !lines.pending.is_empty() {
            self.format(now, lines.stream, 'F', &lines.pending);
            lines.pending.clear();
        } else if lines.pending.len() >= LONGEST_PART {
            self.format(now, lines.stream, 'P', &lines.pending);
            lines.pending.clear();
        }
        self.flush();
    }

    fn format(&mut self, now: jiff::Timestamp, stream: &str, tag: char, text: &[u8]) {
        // Writing into a vector cannot fail.
        let _ = write!(self.line, "{now:.9} {stream} {tag} ");
        self.line.extend_from_slice(text);
        self.line.push(b'\n');
    }

    fn flush(&mut self) {
        if self.line.is_empty() {
            return;
        }
        let written = self.file.write_all(&self.line);
        let bytes = self.line.len() as u64;
        self.line.clear();
        match written {
            Ok(()) => self
                .progress
                .send_modify(|progress| progress.bytes += bytes),
            // The program must not stop because the disk is full; say so once.
            Err(error) if !self.failed => {
                self.failed = true;
                tracing::error!(path = %self.path.display(), %error, "cannot write a container's log, its output is lost");
            }
            Err(_) => {}
        }
        if self.progress.borrow().bytes >= LONGEST_FILE {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        let aged = |age: usize| self.path.with_extension(format!("log.{age}"));
        for age in (1..MOST_FILES - 1).rev() {
            // Missing files are fine: not all ages exist yet.
            let _ = fs::rename(aged(age), aged(age + 1));
        }
        match fs::rename(&self.path, aged(1)).and_then(|()| open(&self.path)) {
            Ok(file) => {
                self.file = file;
                self.progress.send_modify(|progress| {
                    progress.rotations += 1;
                    progress.bytes = 0;
                });
            }
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "cannot rotate a container's log")
            }
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.progress.send_modify(|progress| progress.ended = true);
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

/// What one read has brought.
struct Piece {
    len: usize,
    copy: Bytes,
}

/// One output of a program, cut into lines.
struct Lines {
    stream: &'static str,
    pipe: BoxRead,
    pending: Vec<u8>,
    open: bool,
}

impl Lines {
    fn new(stream: &'static str, pipe: Option<BoxRead>) -> Self {
        Self {
            stream,
            open: pipe.is_some(),
            pipe: pipe.unwrap_or_else(|| Box::new(tokio::io::empty())),
            pending: Vec::with_capacity(4096),
        }
    }

    /// What was just read, copied if somebody wants it beside the log.
    fn newest(&self, len: usize, tap: &Tap) -> Piece {
        let copy = match tap.is_used() {
            true => Bytes::copy_from_slice(&self.pending[self.pending.len() - len..]),
            false => Bytes::new(),
        };
        Piece { len, copy }
    }
}
