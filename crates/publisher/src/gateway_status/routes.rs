//! Statuses of routes of every kind.

use api::gateway::v1::{GrpcRoute, HttpRoute, RouteStatus, TcpRoute, TlsRoute, UdpRoute};
use dialects::gateway_api::{self, RouteKind};
use kube::Resource;
use reconcile::{Error, Informer, Key};

use super::Shared;
use crate::index::{RouteKey, RouteOutcome};

impl Shared {
    pub(super) async fn write_route_of(
        &self,
        key: &RouteKey,
        outcome: &RouteOutcome,
    ) -> Result<(), Error> {
        let caches = &self.caches;
        match key.kind {
            RouteKind::Http => self.write_route(&caches.http_routes, key, outcome).await,
            RouteKind::Grpc => self.write_route(&caches.grpc_routes, key, outcome).await,
            RouteKind::Tls => self.write_route(&caches.tls_routes, key, outcome).await,
            RouteKind::Tcp => self.write_route(&caches.tcp_routes, key, outcome).await,
            RouteKind::Udp => self.write_route(&caches.udp_routes, key, outcome).await,
        }
    }

    async fn write_route<K>(
        &self,
        routes: &Informer<K>,
        key: &RouteKey,
        outcome: &RouteOutcome,
    ) -> Result<(), Error>
    where
        K: Routed,
    {
        let Some(route) = routes.get(&Key::new(&*key.name.namespace, &*key.name.name)) else {
            return Ok(());
        };
        if route.meta().generation.unwrap_or_default() != outcome.generation {
            return Ok(());
        }
        let controllers = self.controllers();
        let is_ours = |controller: &str| controllers.iter().any(|it| it == controller);
        let current = route.status();
        let next = gateway_api::route_status(
            current,
            outcome.generation,
            &outcome.parents,
            is_ours,
            &reconcile::now(),
        );
        if current.is_none() && next.parents.is_empty() {
            return Ok(());
        }
        let written =
            reconcile::write::replaced_status(&self.client, &*route, current, &next).await?;
        if let Some(written) = written {
            routes.learn(written);
        }
        Ok(())
    }
}

/// A kind of route.
trait Routed: reconcile::write::Object + Resource<DynamicType = ()> + Send + Sync + 'static {
    fn status(&self) -> Option<&RouteStatus>;
}

impl Routed for HttpRoute {
    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }
}

impl Routed for GrpcRoute {
    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }
}

impl Routed for TlsRoute {
    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }
}

impl Routed for TcpRoute {
    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }
}

impl Routed for UdpRoute {
    fn status(&self) -> Option<&RouteStatus> {
        self.status.as_ref()
    }
}
