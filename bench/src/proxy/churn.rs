//! What a request costs while 100 routes a second are changed, relative to the same without.
//!
//! Each change sends one of the routes that are asked for to the other of two origins, by the way
//! in which each proxy takes changes (see `routes`).

use std::cell::{Cell, RefCell};
use std::path::Path;
use std::time::{Duration, Instant};

use tokio::time::MissedTickBehavior;

use super::case::Case;
use super::load::{Asker, Names, Round, Target};
use super::report::{Row, compare};
use super::standard::{gateway, row};
use super::{Flags, LOAD_CPU, PROXY_CPU};
use crate::peers::{Shape, Table, installed};
use crate::routes::dialect::{self, Dialect};
use crate::routes::peers::{Config, Peer};
use crate::routes::{NAMES, Origins, Place, open};
use crate::suimon::Suimon;

const ROUTES: usize = 100;
const PER_SECOND: u32 = 100;
const PLACE: Place = Place { one_host: false };

/// Who takes the changes.
enum Changing {
    Suimon(Suimon, RefCell<Vec<usize>>),
    Peer(Peer, RefCell<Config>),
    /// The data plane alone: a second program, which changes a route of its own accord.
    Itself(Target),
}

struct Subject {
    target: Target,
    changing: Changing,
    rounds: [Vec<Round>; 2],
    changes: usize,
    seconds: f64,
}

pub async fn run(case: &Case, flags: &Flags) -> anyhow::Result<Vec<Row>> {
    let dir = tempfile::tempdir()?;
    let origins = Origins::start(LOAD_CPU)?;
    let mut subjects = vec![ours(flags, &origins).await?];
    for who in ["nginx", "haproxy", "envoy"] {
        if flags.alone || !installed(who) {
            continue;
        }
        let config = Config {
            place: PLACE,
            ports: origins.ports,
            to: vec![0; ROUTES],
            cpus: PROXY_CPU,
            workers: 1,
        };
        let peer = Peer::start(who, &config).await?;
        let target = Target::new(who, peer.address, peer.pid());
        let changing = Changing::Peer(peer, RefCell::new(config));
        subjects.push(Subject::new(target, changing));
    }
    // The data plane alone has names of its own for its routes.
    let alone = asker(case, Names::of(TABLE), dir.path());
    let names = (0..ROUTES).map(|at| (PLACE.host(at), PLACE.path(at)));
    let asker = asker(case, Names(names.collect()), dir.path());
    let asker_of = |subject: &Subject| match &subject.changing {
        Changing::Itself(_) => &alone,
        Changing::Suimon(..) | Changing::Peer(..) => &asker,
    };
    for subject in &subjects {
        asker_of(subject).until_answers(&subject.target).await?;
    }
    for _ in 0..flags.rounds {
        for subject in &mut subjects {
            let measured = asker_of(subject).measure(&subject.target, flags.seconds);
            let round = measured.await?;
            subject.rounds[0].push(round);
        }
        for subject in &mut subjects {
            let asker = asker_of(subject);
            subject.with_changes(asker, flags.seconds).await?;
        }
    }
    Ok(rows(case, subjects))
}

fn asker<'a>(case: &Case, names: Names, dir: &'a Path) -> Asker<'a> {
    Asker {
        load: case.load,
        tls: None,
        names: Some(names),
        dir,
    }
}

/// The same number of routes, as the data plane alone names them.
const TABLE: Table = Table {
    hosts: ROUTES,
    routes: 1,
};

async fn ours(flags: &Flags, origins: &Origins) -> anyhow::Result<Subject> {
    if let Some(program) = &flags.gateway {
        let words = [format!("hosts={ROUTES}"), "routes=1".to_owned()];
        let churn = [&words[..], &[format!("churn={PER_SECOND}")]].concat();
        let start = |words: &[String]| gateway(program, origins.ports[0], Shape::Http1, words);
        return Ok(Subject::new(
            start(&words)?,
            Changing::Itself(start(&churn)?),
        ));
    }
    let server = Suimon::start(&["taskset", "-c", PROXY_CPU], &["--gateway-threads", "1"]).await?;
    for (name, port) in NAMES.into_iter().zip(origins.ports) {
        for (plural, object) in dialect::service(name, port) {
            server.apply(plural, &object).await?;
        }
    }
    let address = open(&server, Dialect::GatewayApi).await?;
    for route in 0..ROUTES {
        let (plural, object) = Dialect::GatewayApi.route(PLACE, route, NAMES[0]);
        server.create(plural, &object).await?;
    }
    let target = Target::new("suimon", address, Some(server.pid()));
    let changing = Changing::Suimon(server, RefCell::new(vec![0; ROUTES]));
    Ok(Subject::new(target, changing))
}

impl Subject {
    fn new(target: Target, changing: Changing) -> Self {
        Self {
            target,
            changing,
            rounds: [Vec::new(), Vec::new()],
            changes: 0,
            seconds: 0.0,
        }
    }

    async fn with_changes(&mut self, asker: &Asker<'_>, seconds: f64) -> anyhow::Result<()> {
        let target = match &self.changing {
            Changing::Itself(target) => target,
            Changing::Suimon(..) | Changing::Peer(..) => &self.target,
        };
        let changes = Cell::new(self.changes);
        let started = Instant::now();
        let round = tokio::select! {
            round = asker.measure(target, seconds) => round?,
            failed = self.changing.go_on(&changes) => return failed,
        };
        self.rounds[1].push(round);
        self.changes = changes.get();
        self.seconds += started.elapsed().as_secs_f64();
        Ok(())
    }
}

impl Changing {
    /// Changes routes until it fails, and counts them.
    async fn go_on(&self, changes: &Cell<usize>) -> anyhow::Result<()> {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            self.change(changes.get()).await?;
            changes.set(changes.get() + 1);
        }
    }

    async fn change(&self, number: usize) -> anyhow::Result<()> {
        let route = (number * 7919) % ROUTES;
        match self {
            Self::Itself(_) => {}
            Self::Suimon(server, to) => {
                let to = turn(&mut to.borrow_mut()[route]);
                let (plural, object) = Dialect::GatewayApi.route(PLACE, route, NAMES[to]);
                server.merge_spec(plural, &object).await?;
            }
            Self::Peer(peer, config) => {
                let change = {
                    let mut config = config.borrow_mut();
                    turn(&mut config.to[route]);
                    peer.prepare(&config, route, number + 1)?
                };
                peer.tell(change).await?;
            }
        }
        Ok(())
    }
}

fn turn(to: &mut usize) -> usize {
    *to = 1 - *to;
    *to
}

fn rows(case: &Case, subjects: Vec<Subject>) -> Vec<Row> {
    let mut plain = Vec::new();
    let mut churned = Vec::new();
    for subject in subjects {
        let mut rows = [row(case, &subject.target), row(case, &subject.target)];
        for (row, rounds) in rows.iter_mut().zip(subject.rounds) {
            row.rounds = rounds;
        }
        let [mut without, mut with] = rows;
        without.case.push_str(", no changes");
        with.case += &format!(", {PER_SECOND} changes a second");
        if let (Some(with_cpu), Some(cpu)) = (with.cpu(), without.cpu()) {
            let per_second = subject.changes as f64 / subject.seconds;
            with.note = format!(
                "{:.2} × without; {per_second:.0} changes a second",
                with_cpu / cpu
            );
        }
        plain.push(without);
        churned.push(with);
    }
    compare(&mut plain);
    compare(&mut churned);
    plain.extend(churned);
    plain
}
