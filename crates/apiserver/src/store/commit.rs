//! The thread that commits: each batch goes to the journal, and a full journal into the image.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::disk::{Outcome, Shared, Taken};
use super::image::{Batch, Filler, Part, RETRY};
use super::journal::Journal;

pub(super) struct Committer {
    shared: Arc<Shared>,
    journal: Journal,
    filler: Filler,
    /// What is in the journal's current file only.
    journaled: Batch,
    /// The end of the revisions that the journal reserves.
    reserved: u64,
}

impl Committer {
    pub(super) fn new(shared: Arc<Shared>, journal: Journal, filler: Filler) -> Self {
        Self {
            shared,
            journal,
            filler,
            journaled: Batch::new(),
            reserved: 0,
        }
    }

    /// Commits until the store is closed.
    pub(super) fn run(mut self) -> Outcome {
        let outcome = loop {
            let Taken {
                batch,
                revision,
                close,
            } = self.shared.take();
            let outcome = self.commit(batch, revision);
            if close || outcome.is_err() {
                break outcome.map(|()| revision);
            }
        };
        // A write that slipped in while the store closed must not wait for ever.
        self.shared.closed();
        self.finish(outcome?);
        Ok(())
    }

    /// Commits a batch, again and again while the disk refuses it: the memory already holds
    /// these writes, so dropping them would break the prefix rule. Gives up only to close.
    fn commit(&mut self, batch: Batch, revision: u64) -> Outcome {
        let reserved = self.shared.reservation(revision);
        if !batch.is_empty() {
            while let Err(error) = self.append(&batch, reserved) {
                let text = format!("the journal of {}: {error}", self.shared.path.display());
                let text: Arc<str> = text.into();
                tracing::error!(error = %text, "cannot commit to the store, refusing writes");
                self.shared.refuse(&text);
                if self.shared.ending.load(Ordering::Acquire) {
                    return Err(text);
                }
                std::thread::sleep(RETRY);
            }
            self.journaled.extend(batch);
            self.reserved = reserved;
            self.shared.done(revision, reserved);
        }
        Ok(())
    }

    fn append(&mut self, batch: &Batch, reserved: u64) -> io::Result<()> {
        if self.journal.is_full() {
            self.turn()?;
        }
        self.journal.append(batch, reserved)
    }

    /// Goes on in the other file, which the image must have all of by then.
    fn turn(&mut self) -> io::Result<()> {
        let shared = &self.shared;
        let mut refused = false;
        let filled = self.filler.wait(|error| {
            refused = true;
            shared.refuse(&error);
        });
        if !filled {
            return Err(io::Error::other("the image takes no more writes"));
        }
        if refused {
            shared.accept();
        }
        self.journal.turn()?;
        self.filler.begin(Part {
            batch: std::mem::take(&mut self.journaled),
            reserved: self.reserved,
            applied: self.journal.last(),
        });
        Ok(())
    }

    /// Brings the image up to date and removes the journal. If that fails, the next start does it.
    fn finish(mut self, revision: u64) {
        let mut filled = self.filler.wait(|_| {});
        if filled {
            self.filler.begin(Part {
                batch: self.journaled,
                reserved: revision,
                applied: self.journal.last(),
            });
            filled = self.filler.wait(|_| {});
        }
        if filled {
            self.journal.remove();
        }
    }
}
