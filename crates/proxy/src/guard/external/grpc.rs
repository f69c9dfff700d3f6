//! The question as a call of `envoy.service.auth.v3.Authorization/Check`.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use routing::Backend;
use routing::model::ExternalAuthorization;

use super::{Question, Verdict, wire};
use crate::guard::grpc::{self, Method};
use crate::worker::Worker;

const CHECK: Method = Method {
    authority: "authorization",
    path: "/envoy.service.auth.v3.Authorization/Check",
};

pub(super) async fn ask(
    worker: &Rc<Worker>,
    backend: &Arc<Backend>,
    external: &ExternalAuthorization,
    question: &Question,
) -> Result<Verdict, String> {
    let context = external.context.iter();
    let context = context.map(|(key, value)| (&**key, &**value));
    let time = Duration::from_secs_f64(worker.guards.wall_clock());
    let message = wire::request(question, context, time);
    wire::response(&grpc::call(worker, backend, CHECK, &message).await?)
}
