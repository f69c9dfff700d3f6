//! Streams by bind: the first by sort key has the whole bind.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::model::{BindId, SortKey, Stream, StreamId};
use crate::route::CompiledSplit;

/// The stream of a bind as the proxy uses it.
#[derive(Clone, Debug)]
pub(crate) struct CompiledStream {
    pub(crate) source: Arc<Stream>,
    /// `None` closes every connection.
    pub(crate) split: Option<Arc<CompiledSplit>>,
}

impl CompiledStream {
    fn new(source: &Arc<Stream>) -> Self {
        let split = source.split.as_ref();
        Self {
            source: Arc::clone(source),
            split: split.map(|split| Arc::new(CompiledSplit::new(split))),
        }
    }
}

/// The streams' half of [`crate::Compiler`].
#[derive(Default)]
pub(crate) struct StreamCompiler {
    records: HashMap<StreamId, Arc<Stream>>,
    binds: HashMap<BindId, BTreeMap<(SortKey, StreamId), Arc<Stream>>>,
}

impl StreamCompiler {
    /// Adds or replaces one. Returns the binds that are not what they were.
    pub(crate) fn put(&mut self, id: StreamId, stream: Arc<Stream>) -> Vec<BindId> {
        if self.records.get(&id).is_some_and(|held| **held == *stream) {
            return Vec::new();
        }
        let mut changed: Vec<_> = self.remove(&id).into_iter().collect();
        let of_bind = self.binds.entry(stream.bind.clone()).or_default();
        let key = (stream.sort_key.clone(), id.clone());
        of_bind.insert(key, Arc::clone(&stream));
        changed.push(stream.bind.clone());
        self.records.insert(id, stream);
        changed
    }

    /// Removes one, if it is there. Returns its bind.
    pub(crate) fn remove(&mut self, id: &StreamId) -> Option<BindId> {
        let stream = self.records.remove(id)?;
        if let Some(of_bind) = self.binds.get_mut(&stream.bind) {
            of_bind.remove(&(stream.sort_key.clone(), id.clone()));
            if of_bind.is_empty() {
                self.binds.remove(&stream.bind);
            }
        }
        Some(stream.bind.clone())
    }

    pub(crate) fn records(&self) -> BTreeMap<StreamId, Arc<Stream>> {
        let records = self.records.iter();
        let records = records.map(|(id, stream)| (id.clone(), Arc::clone(stream)));
        records.collect()
    }

    /// Whether a bind has any.
    pub(crate) fn has(&self, bind: &BindId) -> bool {
        self.binds.contains_key(bind)
    }

    /// What a bind does; the very same as before if nothing about it changed.
    pub(crate) fn compile(
        &self,
        bind: &BindId,
        before: Option<&CompiledStream>,
    ) -> Option<CompiledStream> {
        let first = self.binds.get(bind)?.values().next()?;
        let same = before.filter(|before| *before.source == **first).cloned();
        Some(same.unwrap_or_else(|| CompiledStream::new(first)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BackendId, Origin, Split};

    fn stream(bind: &str, key: i64, backend: &str) -> Arc<Stream> {
        Arc::new(Stream {
            origin: Origin {
                dialect: "test",
                kind: "TCPRoute".into(),
                namespace: "ns".into(),
                name: "name".into(),
                uid: "".into(),
                generation: 1,
                field: "spec".into(),
            },
            bind: BindId(bind.into()),
            sort_key: SortKey(vec![key]),
            split: Some(Split::one(BackendId(backend.into()))),
            but_for: Default::default(),
        })
    }

    fn backend(compiler: &StreamCompiler, bind: &str) -> Option<String> {
        let compiled = compiler.compile(&BindId(bind.into()), None)?;
        Some(compiled.split?.at(0).backend.to_string())
    }

    #[test]
    fn the_first_by_sort_key_has_the_bind_and_the_next_follows_it() {
        let mut compiler = StreamCompiler::default();
        let id = |text: &str| StreamId(text.into());
        compiler.put(id("young"), stream("a", 2, "young"));
        compiler.put(id("old"), stream("a", 1, "old"));
        compiler.put(id("elder"), stream("a", 1, "elder"));
        assert_eq!(backend(&compiler, "a").as_deref(), Some("elder"));
        assert_eq!(compiler.remove(&id("elder")), Some(BindId("a".into())));
        assert_eq!(backend(&compiler, "a").as_deref(), Some("old"));
        let moved = compiler.put(id("old"), stream("b", 1, "old"));
        assert_eq!(moved, [BindId("a".into()), BindId("b".into())]);
        assert_eq!(backend(&compiler, "a").as_deref(), Some("young"));
        assert_eq!(backend(&compiler, "b").as_deref(), Some("old"));
    }

    #[test]
    fn what_did_not_change_keeps_its_very_split() {
        let mut compiler = StreamCompiler::default();
        let bind = BindId("a".into());
        compiler.put(StreamId("s".into()), stream("a", 1, "x"));
        let first = compiler.compile(&bind, None).expect("a stream");
        let same = compiler.compile(&bind, Some(&first)).expect("a stream");
        let split = |stream: &CompiledStream| stream.split.clone().expect("it forwards");
        assert!(Arc::ptr_eq(&split(&first), &split(&same)));
        compiler.put(StreamId("s".into()), stream("a", 1, "y"));
        let other = compiler.compile(&bind, Some(&first)).expect("a stream");
        assert!(!Arc::ptr_eq(&split(&first), &split(&other)));
    }
}
