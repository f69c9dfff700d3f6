//! `traffic-split`: other upstreams for some requests, or for a share of them.

use routing::model::{Arm, Predicate};
use serde_json::Value;

use super::plugin::{Context, Effects};
use super::vars;
use crate::fields::Fields;
use crate::foreign::ExternalHost;

/// A branch of a rule.
pub(super) struct Branch {
    /// It is for requests for which one of these lists holds; empty is all.
    pub(super) when: Vec<Vec<Predicate>>,
    /// Weights; without an arm it is the rule's own backends.
    shares: Vec<(u32, Option<Arm>)>,
}

impl Branch {
    /// The arms of the branch; `own` are those of the rule.
    pub(super) fn arms(&self, own: &[Arm]) -> Vec<Arm> {
        let total = own
            .iter()
            .fold(0_u32, |sum, arm| sum.saturating_add(arm.weight));
        let mut arms = Vec::new();
        for (weight, arm) in &self.shares {
            if let Some(arm) = arm {
                let mut arm = arm.clone();
                arm.weight = weight.saturating_mul(total.max(1));
                arms.push(arm);
                continue;
            }
            for one in own {
                let mut arm = one.clone();
                arm.weight = one.weight.saturating_mul(*weight);
                arms.push(arm);
            }
        }
        arms
    }
}

pub(super) fn read(config: &Fields<'_>, effects: &mut Effects, ctx: &mut Context<'_, '_, '_>) {
    for rule in config.objects("rules") {
        let when = matches(&rule);
        let mut shares = Vec::new();
        for upstream in rule.objects("weighted_upstreams") {
            shares.extend(share(&upstream, ctx));
        }
        let Ok(when) = when else { continue };
        if shares.iter().all(|(weight, _)| *weight == 0) {
            let message = "no upstream has a weight: the rule's own backends are used";
            rule.refuse("weighted_upstreams", "WeightsInvalid", message);
            continue;
        }
        effects.branches.push(Branch { when, shares });
    }
}

/// `Err` if a condition cannot be read: the branch would be for more than it says.
fn matches(rule: &Fields<'_>) -> Result<Vec<Vec<Predicate>>, ()> {
    let mut when = Vec::new();
    let mut is_whole = true;
    for one in rule.objects("match") {
        let read = one.raw("vars").map_or_else(|| Ok(Vec::new()), vars::list);
        match read {
            Ok(list) => when.push(list),
            Err(error) => {
                let message = format!("{error}; this part of traffic-split is left out");
                one.refuse("vars", "ExpressionNotSupported", message);
                is_whole = false;
            }
        }
    }
    if is_whole { Ok(when) } else { Err(()) }
}

fn share(fields: &Fields<'_>, ctx: &mut Context<'_, '_, '_>) -> Option<(u32, Option<Arm>)> {
    let weight = fields.number("weight").unwrap_or(1);
    if fields.raw("upstream_id").is_some() {
        let message = "there are no upstreams by number: write upstream with its nodes, or the \
             upstreams of the rule; it is left out";
        fields.refuse("upstream_id", "FieldNotSupported", message);
        fields.ignore("upstream");
        return None;
    }
    let Some(upstream) = fields.object("upstream") else {
        return Some((weight, None));
    };
    upstream.ignore("name");
    if upstream.text("type").is_some_and(|it| it != "roundrobin") {
        let message =
            "roundrobin is used: name an ApisixUpstream in upstreams of the rule for others";
        upstream.refuse("type", "FieldDiffers", message);
    }
    let hosts = nodes_of(&upstream);
    let backend = match hosts {
        Ok(hosts) => ctx.resolver.hosts(hosts, None),
        Err(error) => {
            let message = format!("{error}; the upstream is left out");
            upstream.refuse("nodes", "NodesInvalid", message);
            return None;
        }
    };
    let Some(backend) = backend else {
        let message = "there is no node; the upstream is left out";
        upstream.refuse("nodes", "NodesInvalid", message);
        return None;
    };
    Some((weight, Some(Arm::new(weight, backend))))
}

/// A map of `host:port` to weights, or a list of nodes.
fn nodes_of(upstream: &Fields<'_>) -> Result<Vec<ExternalHost>, String> {
    let host = |host: &str, port: u16, weight: Option<u32>| ExternalHost {
        host: host.to_ascii_lowercase().into(),
        port,
        weight: weight.unwrap_or(1),
        locality: None,
    };
    match upstream.raw("nodes") {
        None => Err("nodes are missing".to_owned()),
        Some(Value::Object(_)) => {
            let nodes = upstream.object("nodes");
            let nodes = nodes
                .iter()
                .flat_map(|nodes| nodes.keys().map(move |key| (nodes, key)));
            nodes
                .map(|(nodes, text)| {
                    let (name, port) = text.rsplit_once(':').unwrap_or((text, "80"));
                    let port = port.parse().map_err(|_| format!("{text:?} is no node"))?;
                    Ok(host(name, port, nodes.number(text)))
                })
                .collect()
        }
        Some(Value::Array(_)) => {
            let nodes = upstream.objects("nodes").into_iter();
            nodes
                .map(|node| {
                    node.unsupported("priority", "every node gets its share");
                    let name = node.text("host").ok_or("a node has no host")?;
                    let port = node.number("port").unwrap_or(80);
                    Ok(host(name, port, node.number("weight")))
                })
                .collect()
        }
        Some(_) => Err("nodes must be a map or a list".to_owned()),
    }
}
