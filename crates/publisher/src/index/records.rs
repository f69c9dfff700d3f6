//! The records that one object has in the compiler: new ones take the place of those before.

use std::sync::Arc;

use routing::Compiler;
use routing::model::tls::{TlsHost, TlsId};
use routing::model::{Route, RouteId, Stream, StreamId};

use crate::few::Few;

/// What the compiler keeps by id.
pub(super) trait Record {
    type Id: Clone + Ord;

    fn put(self, id: Self::Id, compiler: &mut Compiler);

    fn remove(id: &Self::Id, compiler: &mut Compiler);
}

/// Puts records in place of those that were `held`.
pub(super) fn replace<R: Record>(
    compiler: &mut Compiler,
    held: &mut Few<R::Id>,
    records: Vec<(R::Id, R)>,
) {
    let ids = records.iter().map(|(id, _)| id.clone()).collect();
    let before = std::mem::replace(held, ids);
    for id in before.minus(held) {
        R::remove(id, compiler);
    }
    for (id, record) in records {
        record.put(id, compiler);
    }
}

impl Record for Arc<Route> {
    type Id = RouteId;

    fn put(self, id: RouteId, compiler: &mut Compiler) {
        compiler.put_route(id, self);
    }

    fn remove(id: &RouteId, compiler: &mut Compiler) {
        compiler.remove_route(id);
    }
}

impl Record for Arc<TlsHost> {
    type Id = TlsId;

    fn put(self, id: TlsId, compiler: &mut Compiler) {
        compiler.put_tls(id, self);
    }

    fn remove(id: &TlsId, compiler: &mut Compiler) {
        compiler.remove_tls(id);
    }
}

impl Record for Arc<Stream> {
    type Id = StreamId;

    fn put(self, id: StreamId, compiler: &mut Compiler) {
        compiler.put_stream(id, self);
    }

    fn remove(id: &StreamId, compiler: &mut Compiler) {
        compiler.remove_stream(id);
    }
}
