//! What a group of Mappings does as a whole, and what is wrong with each of its members.

use std::sync::Arc;

use routing::model::{Arm, BackendId, FilterSet, Filters, HeaderOps, Instead, Mirror, Redirect};

use super::member::{Member, What};
use crate::objects::Name;

/// What the routes of a group do.
pub(super) struct Plan {
    pub(super) content: Option<Content>,
    /// Member, reason and message.
    pub(super) problems: Vec<(Name, &'static str, String)>,
}

pub(super) struct Content {
    pub(super) arms: Vec<Arm>,
    /// Of a group of one.
    pub(super) request_headers: HeaderOps,
    pub(super) filters: Filters,
    pub(super) redirect: Option<Redirect>,
}

impl Plan {
    pub(super) fn of(group: &[Member]) -> Self {
        let mut plan = Self {
            content: None,
            problems: Vec::new(),
        };
        let forward: Vec<_> = group
            .iter()
            .filter(|member| matches!(member.what, What::Forward))
            .collect();
        let mut redirects = group.iter().filter_map(|member| match &member.what {
            What::Redirect(redirect) => Some((member, redirect)),
            What::Forward | What::Shadow(_) => None,
        });
        let mirrors = plan.mirrors(group);
        if forward.is_empty() && mirrors.is_empty() {
            if let Some((first, redirect)) = redirects.next() {
                plan.content = Some(Content::redirect(first, redirect));
            }
            for (other, _) in redirects {
                plan.leave_out(other, "another Mapping of its group redirects already");
            }
            return plan;
        }
        for (other, _) in redirects {
            plan.leave_out(other, "Mappings of its group do not redirect");
        }
        if forward.is_empty() {
            let shadows = group.iter().filter(|it| matches!(it.what, What::Shadow(_)));
            for shadow in shadows {
                let message = "no Mapping of its group answers: write one without shadow";
                plan.leave_out(shadow, message);
            }
            return plan;
        }
        let arms = plan.arms(&forward);
        if arms.iter().all(|arm| arm.weight == 0) {
            for member in forward {
                plan.leave_out(member, "all weights of its group are zero");
            }
            return plan;
        }
        plan.content = Some(Content::forward(&forward, arms, mirrors));
        plan.compare(&forward);
        plan
    }

    fn leave_out(&mut self, member: &Member, why: &str) {
        let message = format!("the Mapping is not served: {why}");
        self.problems
            .push((member.name.clone(), "NotInGroup", message));
    }

    /// One shadow at most.
    fn mirrors(&mut self, group: &[Member]) -> Vec<Mirror> {
        let mut mirrors = Vec::new();
        let mut is_first = true;
        for member in group {
            let What::Shadow(share) = member.what else {
                continue;
            };
            if !is_first {
                self.leave_out(member, "its group has a shadow already");
                continue;
            }
            is_first = false;
            if let Ok(backend) = &member.backend {
                mirrors.push(Mirror {
                    backend: backend.clone(),
                    share,
                });
            }
        }
        mirrors
    }

    /// Weights are percents; who has none shares what is left.
    fn arms(&mut self, members: &[&Member]) -> Vec<Arm> {
        let sum: u64 = members
            .iter()
            .filter_map(|member| member.weight.map(u64::from))
            .sum();
        let unweighted = members
            .iter()
            .filter(|member| member.weight.is_none())
            .count();
        let is_alone = members.len() == 1;
        if sum > 100 && !is_alone {
            for member in members.iter().filter(|member| member.weight.is_some()) {
                let message = format!("the weights of its group sum to {sum}, not to 100");
                self.problems
                    .push((member.name.clone(), "WeightsInvalid", message));
            }
        }
        let left = u32::try_from(100_u64.saturating_sub(sum)).unwrap_or_default();
        // Times the number of those that share, so that no part of a percent is lost.
        let times = u32::try_from(unweighted.max(1)).unwrap_or(u32::MAX);
        let arm = |member: &&Member| {
            let weight = match member.weight {
                _ if is_alone => 1,
                Some(weight) => weight.saturating_mul(times),
                None => left,
            };
            let mut arm = Arm::new(weight, BackendId("".into()));
            match &member.backend {
                Ok(backend) => arm.backend = backend.clone(),
                Err(respond) => arm.instead = Some(Box::new(Instead::Respond(respond.clone()))),
            }
            arm.grpc_web = member.grpc_web;
            if !is_alone {
                arm.request_headers = member.request_headers.clone();
                arm.filters = member.filters.clone();
            }
            arm
        };
        members.iter().map(arm).collect()
    }

    /// CORS and what holds requests back come before the draw: the first member's are in force.
    fn compare(&mut self, members: &[&Member]) {
        let Some((first, others)) = members.split_first() else {
            return;
        };
        for other in others {
            if other.cors != first.cors || other.guards != first.guards {
                let message = format!(
                    "cors, allow_upgrade, bypass_auth and labels are those of Mapping {}, the first of its group",
                    first.name
                );
                self.problems
                    .push((other.name.clone(), "FieldDiffers", message));
            }
        }
    }
}

impl Content {
    fn redirect(member: &Member, redirect: &Redirect) -> Self {
        let mut arm = Arm::new(1, BackendId("".into()));
        arm.instead = Some(Box::new(Instead::Redirect(redirect.clone())));
        Self {
            arms: vec![arm],
            request_headers: HeaderOps::default(),
            filters: FilterSet {
                response_headers: member.filters.response_headers.clone(),
                ..FilterSet::default()
            }
            .into(),
            redirect: Some(redirect.clone()),
        }
    }

    fn forward(members: &[&Member], arms: Vec<Arm>, mirrors: Vec<Mirror>) -> Self {
        let first = members[0];
        let (request_headers, mut filters) = if members.len() == 1 {
            (first.request_headers.clone(), first.filters.clone())
        } else {
            (HeaderOps::default(), Filters::default())
        };
        filters.mirrors = mirrors;
        filters.cors.clone_from(&first.cors);
        filters.guards = (!first.guards.is_empty()).then(|| Arc::new(first.guards.clone()));
        Self {
            arms,
            request_headers,
            filters,
            redirect: None,
        }
    }
}
