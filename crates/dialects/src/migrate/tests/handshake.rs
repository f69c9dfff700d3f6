//! Connections, before and after: what becomes of TLS by the name that is asked for, and of what is
//! passed on as it is.

use std::collections::{BTreeMap, BTreeSet};

use routing::model::tls::{ClientCertificates, Termination, TlsHost};
use routing::model::{HostPattern, Model, Origin, Split, Stream, StreamId, Visibility};
use routing::{BindKey, CompiledSplit, CompiledTls, CompiledTlsAction, Snapshot};

use super::super::{Note, Verdict, door};
use super::Run;
use super::compare;
use super::probe::{bind_at, hosts, snapshot};
use crate::gateway_api::covers;

/// What is known of a connection, by the part that notes name.
type Parts = BTreeMap<&'static str, String>;

pub(super) fn failures(run: &Run) -> Vec<String> {
    let mut failures = of_tls(run);
    failures.extend(of_streams(run));
    failures
}

fn notes<'r>(run: &'r Run, origins: &BTreeSet<&Origin>) -> Vec<&'r Note> {
    let notes = run.migration.notes.iter();
    let notes = notes.filter(|note| note.verdict != Verdict::Kept);
    notes
        .filter(|note| origins.contains(&note.origin))
        .collect()
}

/// `namespace/service:port`, however bytes travel there.
fn service(id: &routing::BackendId) -> String {
    let id = compare::service(id);
    let plain = id.strip_suffix("/tcp").or_else(|| id.strip_suffix("/udp"));
    plain.unwrap_or(&id).to_owned()
}

fn of_tls(run: &Run) -> Vec<String> {
    let input = run.before.input();
    let model = Model {
        binds: input.binds.clone(),
        tls: input.tls.clone(),
        ..Model::default()
    };
    let sides = Sides {
        before: snapshot(&model),
        after: snapshot(&run.after.model),
        model,
        run,
    };
    let mut failures = Vec::new();
    for record in input.tls.values() {
        for name in &record.names {
            let mut asked: Vec<_> = hosts(name).into_iter().map(Some).collect();
            if *name == HostPattern::Any {
                asked.push(None);
            }
            for asked in asked {
                failures.extend(sides.judge(record, asked.as_deref()));
            }
        }
    }
    failures
}

/// Both, to ask for names.
struct Sides<'r> {
    run: &'r Run,
    model: Model,
    before: Snapshot,
    after: Snapshot,
}

impl Sides<'_> {
    fn judge(&self, record: &TlsHost, asked: Option<&str>) -> Vec<String> {
        let (old, new) = self.ask(record, asked);
        // Whoever decides about the name, or has a part in it.
        let exact = asked.map_or(HostPattern::Any, |it| HostPattern::Exact(it.into()));
        let has = |it: &HostPattern| covers(&door::wide(it), &exact);
        let records = self.model.tls.values().filter(|it| it.bind == record.bind);
        let records = records.filter(|it| it.names.iter().any(has));
        let notes = notes(self.run, &records.map(|it| &it.origin).collect());
        let is_deeper = asked.is_some_and(|it| it.starts_with("more."));
        let mut failures = Vec::new();
        for part in differing(&old, &new) {
            let about = |note: &&&Note| {
                note.part == part || note.part == "tls" || note.part == "tls.names" && is_deeper
            };
            let told: Vec<_> = notes.iter().filter(about).collect();
            let left = told.iter().any(|note| note.verdict == Verdict::LeftOut);
            let is_open = left && new["tls"] != "closed" && !is_deeper;
            if told.is_empty() || is_open {
                let title = &self.run.title;
                let text = format!("{title}: TLS for {asked:?}: {part}");
                failures.push(format!("{text}\n    {old:?}\n    {new:?}"));
            }
        }
        failures
    }

    /// What becomes of a name where the record is, before and after.
    fn ask(&self, record: &TlsHost, asked: Option<&str>) -> (Parts, Parts) {
        let side = record.visibility;
        if record.bind.is_none() && side == Visibility::ClusterLocal {
            let all = [&self.before, &self.after].map(|it| parts(it.tls(side, asked)));
            let [old, new] = all;
            return (old, new);
        }
        let key = record.bind.clone().map(BindKey::new);
        let old = match &key {
            Some(key) => self.before.tls_at(key, asked),
            None => self.before.tls(side, asked),
        };
        let bind = record.bind.as_ref();
        let bind = bind.and_then(|id| self.model.binds.get(id));
        let port = bind.map_or(443, |bind| bind.address.port());
        let key = bind_at(&self.run.after.model, port, true);
        let new = key.and_then(|key| self.after.tls_at(&key, asked));
        (parts(old), parts(new))
    }
}

fn differing(old: &Parts, new: &Parts) -> BTreeSet<&'static str> {
    if old["tls"] != new["tls"] {
        return BTreeSet::from(["tls"]);
    }
    let all = old.keys().chain(new.keys());
    all.filter(|part| old.get(*part) != new.get(*part))
        .copied()
        .collect()
}

fn parts(tls: Option<&std::sync::Arc<CompiledTls>>) -> Parts {
    let Some(tls) = tls else {
        return Parts::from([("tls", "closed".to_owned())]);
    };
    match &tls.action {
        CompiledTlsAction::Terminate(termination) => {
            let mut parts = ended(termination, "http".to_owned());
            parts.insert("tls.protocols", format!("{:?}", termination.protocols));
            parts
        }
        CompiledTlsAction::Relay(termination, split) => ended(termination, arms(split)),
        CompiledTlsAction::Passthrough(split) => {
            Parts::from([("tls", format!("passed on to {}", arms(split)))])
        }
        CompiledTlsAction::Refuse => Parts::from([("tls", "closed".to_owned())]),
    }
}

fn ended(termination: &Termination, to: String) -> Parts {
    let certificates = termination.certificates.iter();
    let mut names: Vec<_> = certificates.clone().map(|it| &it.name).collect();
    names.sort();
    let staples: Vec<_> = certificates.map(|it| &it.staple).collect();
    let client = match &termination.client {
        ClientCertificates::Require(bundle) => format!("{:?}", bundle.certificates),
        other => format!("{other:?}"),
    };
    Parts::from([
        ("tls", format!("{names:?} {to}")),
        ("tls.versions", format!("{:?}", termination.versions)),
        ("tls.staple", format!("{staples:?}")),
        ("tls.client", client),
    ])
}

fn arms(split: &CompiledSplit) -> String {
    let arms = split.weighted().map(|(weight, arm)| {
        let to = service(&arm.backend);
        format!("{weight} {to} {}", arm.instead.is_some())
    });
    arms.collect::<Vec<_>>().join(", ")
}

fn of_streams(run: &Run) -> Vec<String> {
    let input = run.before.input();
    let mut failures = Vec::new();
    for (bind, first) in firsts(&input.streams) {
        let record = input.binds.get(bind);
        let wanted = record.map(|it| (it.address.port(), it.stream));
        let after = firsts(&run.after.model.streams).into_iter();
        let mut after = after.filter(|(id, _)| {
            let bind = run.after.model.binds.get(id);
            bind.map(|it| (it.address.port(), it.stream)) == wanted
        });
        let old = split(first.split.as_ref());
        let new = after.next().map_or_else(
            || "closed".to_owned(),
            |(_, stream)| split(stream.split.as_ref()),
        );
        let notes = notes(run, &BTreeSet::from([&first.origin]));
        let is_told = notes.iter().any(|note| note.part == "stream");
        if old != new && !is_told {
            let title = &run.title;
            failures.push(format!("{title}: {bind}: went to {old} and goes to {new}"));
        }
    }
    failures
}

/// Who has everything at each bind.
fn firsts(
    streams: &BTreeMap<StreamId, std::sync::Arc<Stream>>,
) -> BTreeMap<&routing::BindId, &Stream> {
    let mut all: Vec<_> = streams.iter().collect();
    all.sort_by(|a, b| (&a.1.sort_key, a.0).cmp(&(&b.1.sort_key, b.0)));
    // The last that is put stays.
    let all = all.into_iter().rev();
    all.map(|(_, stream)| (&stream.bind, &**stream)).collect()
}

fn split(split: Option<&Split>) -> String {
    let Some(split) = split else {
        return "closed".to_owned();
    };
    let arms = split.arms().iter().map(|arm| {
        let (to, weight) = (service(&arm.backend), arm.weight);
        format!("{weight} {to} {}", arm.instead.is_some())
    });
    arms.collect::<Vec<_>>().join(", ")
}
