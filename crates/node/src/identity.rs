//! Which user a container's program runs as.
//!
//! Order of precedence, as in Kubernetes: the container's security context, the pod's, the
//! image's. Names in an image are looked up by the runtime, which knows the image's files.

use k8s_openapi::api::core::v1::Container;

use crate::runtime::Start;
use crate::spawner::User;

/// Finds a user's or group's number by name in the image's files.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<(u32, u32)>;

/// The identity that was asked for; `None` if nobody asked. `lookup` resolves user names of the
/// image; without it a name is an error.
pub fn user(start: &Start<'_>, lookup: Option<Lookup<'_>>) -> Result<Option<User>, String> {
    let container = start.container.security_context.as_ref();
    let pod = start
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.security_context.as_ref());
    let asked_uid = container
        .and_then(|c| c.run_as_user)
        .or_else(|| pod.and_then(|p| p.run_as_user));
    let asked_gid = container
        .and_then(|c| c.run_as_group)
        .or_else(|| pod.and_then(|p| p.run_as_group));
    let non_root = container
        .and_then(|c| c.run_as_non_root)
        .or_else(|| pod.and_then(|p| p.run_as_non_root));
    let image = image_user(&start.image.config.user, lookup);
    let uid = match asked_uid {
        Some(uid) => Some(number(uid, "runAsUser")?),
        None => image.clone()?.map(|(uid, _)| uid),
    };
    if non_root == Some(true) && uid.unwrap_or(0) == 0 {
        return Err("container has runAsNonRoot and would run as root; set runAsUser or a USER in the image".to_owned());
    }
    let gid = match asked_gid {
        Some(gid) => Some(number(gid, "runAsGroup")?),
        // Kubernetes: the group of the image's user stays, if the user does.
        None => image
            .ok()
            .flatten()
            .filter(|(image_uid, _)| Some(*image_uid) == uid)
            .map(|(_, gid)| gid),
    };
    if uid.is_none() && gid.is_none() {
        return Ok(None);
    }
    let extra = pod
        .into_iter()
        .flat_map(|p| p.supplemental_groups.iter().flatten().chain(&p.fs_group));
    let groups = extra
        .map(|gid| number(*gid, "supplementalGroups"))
        .collect::<Result<_, _>>()?;
    Ok(Some(User {
        uid: uid.unwrap_or(0),
        gid: gid.unwrap_or(0),
        groups,
    }))
}

/// `allowPrivilegeEscalation: false` means that set-user-ID programs gain nothing.
pub fn no_new_privileges(container: &Container) -> bool {
    container
        .security_context
        .as_ref()
        .and_then(|context| context.allow_privilege_escalation)
        == Some(false)
}

fn number(value: i64, field: &str) -> Result<u32, String> {
    u32::try_from(value).map_err(|_| format!("{field} {value} is not a user or group id"))
}

/// `uid`, `uid:gid`, `name` or `name:group` of the image's configuration.
fn image_user(text: &str, lookup: Option<Lookup<'_>>) -> Result<Option<(u32, u32)>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    let unknown = || format!("the image's user {text:?} is not known; set runAsUser to a number");
    let named = lookup.and_then(|lookup| lookup(user));
    let uid = user
        .parse()
        .ok()
        .or_else(|| named.map(|(uid, _)| uid))
        .ok_or_else(unknown)?;
    let gid = match group {
        "" => named.map_or(0, |(_, gid)| gid),
        group => group.parse().map_err(|_| unknown())?,
    };
    Ok(Some((uid, gid)))
}
