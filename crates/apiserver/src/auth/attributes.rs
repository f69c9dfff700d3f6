//! What a request wants to do, in the words of access rules, and how a refusal reads.
//!
//! The texts are Kubernetes': people and tests look for them.

use crate::admission::User;
use crate::status::{Named, Status};

/// What somebody wants to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Attributes<'a> {
    /// Such as `get`; for a path the HTTP method in lower case.
    pub(crate) verb: &'a str,
    pub(crate) target: Target<'a>,
}

/// To what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target<'a> {
    Resource(ResourceTarget<'a>),
    /// A path outside the resources.
    Path(&'a str),
}

/// A resource, an object or a subresource; what is empty is not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ResourceTarget<'a> {
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) name: &'a str,
}

impl ResourceTarget<'_> {
    /// `pods`, or `pods/log`.
    pub(crate) fn full(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.to_owned()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

impl<'a> Attributes<'a> {
    pub(crate) fn resource(verb: &'a str, target: ResourceTarget<'a>) -> Self {
        Self {
            verb,
            target: Target::Resource(target),
        }
    }

    pub(crate) fn path(verb: &'a str, path: &'a str) -> Self {
        Self {
            verb,
            target: Target::Path(path),
        }
    }

    /// 403 for this user; `reason` is what the evaluation has to add.
    pub(crate) fn forbidden(&self, user: &User, reason: &str) -> Status {
        let mut cause = self.sentence(&user.name);
        if !reason.is_empty() {
            cause = format!("{cause}: {reason}");
        }
        match &self.target {
            Target::Resource(target) => Status::forbidden(
                Named {
                    group: target.group,
                    resource: target.resource,
                    name: target.name,
                },
                &cause,
            ),
            Target::Path(_) => Status::new(403, "Forbidden", format!("forbidden: {cause}")),
        }
    }

    fn sentence(&self, user: &str) -> String {
        let verb = self.verb;
        match &self.target {
            Target::Path(path) => format!("User \"{user}\" cannot {verb} path \"{path}\""),
            Target::Resource(target) => {
                let place = if target.namespace.is_empty() {
                    "at the cluster scope".to_owned()
                } else {
                    format!("in the namespace \"{}\"", target.namespace)
                };
                format!(
                    "User \"{user}\" cannot {verb} resource \"{}\" in API group \"{}\" {place}",
                    target.full(),
                    target.group
                )
            }
        }
    }
}
