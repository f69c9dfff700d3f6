//! The route that makes a range of addresses local, by netlink.

use std::net::Ipv4Addr;

use futures::TryStreamExt;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteScope, RouteType,
};
use rtnetlink::{Handle, RouteMessageBuilder};

use crate::claim::Range;

/// The kernel's table of what is local.
const LOCAL: u32 = 255;

/// Makes every address of the range local.
pub(crate) fn add(range: Range) -> Result<(), String> {
    let added = in_thread(move |handle| async move {
        let route = route(&handle, range).await?;
        handle
            .route()
            .add(route)
            .replace()
            .execute()
            .await
            .map_err(|error| error.to_string())
    });
    added.map_err(|error| format!("cannot make {range} local to this machine: {error}"))
}

/// Takes it back.
pub(crate) fn remove(range: Range) {
    let removed = in_thread(move |handle| async move {
        let route = route(&handle, range).await?;
        handle
            .route()
            .del(route)
            .execute()
            .await
            .map_err(|error| error.to_string())
    });
    if let Err(error) = removed {
        tracing::warn!(%range, error, "the route to cluster IPs stays behind");
    }
}

/// Whether the range is local to this machine by such a route.
pub(crate) fn is_there(range: Range) -> bool {
    let found = in_thread(move |handle| async move {
        let wanted = route(&handle, range).await?;
        // One that names a destination asks for the way there instead.
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let mut routes = handle.route().get(all).execute();
        while let Some(found) = routes.try_next().await.map_err(|error| error.to_string())? {
            let same_place = found.header.table == wanted.header.table
                && found.header.destination_prefix_length == range.prefix;
            let address = RouteAddress::Inet(range.address);
            let to = RouteAttribute::Destination(address);
            if same_place && found.attributes.contains(&to) {
                return Ok(());
            }
        }
        Err("there is none".to_owned())
    });
    found.is_ok()
}

async fn route(handle: &Handle, range: Range) -> Result<RouteMessage, String> {
    let mut links = handle.link().get().match_name("lo".to_owned()).execute();
    let link = links.try_next().await.map_err(|error| error.to_string())?;
    let loopback = link.ok_or("there is no loopback interface")?.header.index;
    Ok(RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(range.address, range.prefix)
        .output_interface(loopback)
        .table_id(LOCAL)
        .scope(RouteScope::Host)
        .kind(RouteType::Local)
        .build())
}

/// A thread and a runtime for one piece of work: the caller may be within a runtime.
fn in_thread<F>(work: impl FnOnce(Handle) -> F + Send + 'static) -> Result<(), String>
where
    F: Future<Output = Result<(), String>> + 'static,
{
    let thread = std::thread::Builder::new().name("service-range".to_owned());
    let thread = thread.spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| error.to_string())?;
        tokio::task::LocalSet::new().block_on(&runtime, async {
            let (connection, handle, _) =
                rtnetlink::new_connection().map_err(|error| error.to_string())?;
            tokio::task::spawn_local(connection);
            work(handle).await
        })
    });
    let thread = thread.map_err(|error| error.to_string())?;
    thread
        .join()
        .map_err(|_| "the thread ended early".to_owned())?
}
