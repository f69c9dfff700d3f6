//! Which endpoints are near: priorities by what two localities share, and shares per locality.
//!
//! A locality is `region/zone/subzone`; missing parts are empty. Rules of distribution stand
//! above priorities, as in Istio: whoever says where traffic goes does not fail over.

use routing::model::Locality;

/// Where an endpoint stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// 0 is the nearest. Only the order matters: nobody may have one of them.
    pub(crate) priority: usize,
    /// Which share of a distribution it belongs to.
    pub(crate) group: usize,
}

/// Where an endpoint stands for a gateway at `own`; `None` if a distribution leaves it out.
pub(crate) fn standing(
    rules: &Locality,
    own: Option<&str>,
    endpoint: Option<&str>,
) -> Option<Standing> {
    let near = Standing {
        priority: 0,
        group: 0,
    };
    let Some(own) = own else { return Some(near) };
    if let Some(shares) = distribution(rules, own) {
        let endpoint = endpoint.unwrap_or("");
        let group = shares.iter().position(|(to, _)| matches(to, endpoint))?;
        return Some(Standing { group, ..near });
    }
    let priority = if rules.failover {
        distance(rules, own, endpoint.unwrap_or(""))
    } else {
        0
    };
    Some(Standing { priority, ..near })
}

/// The shares of the distribution that holds for a gateway at `own`, if one does.
pub(crate) fn distribution<'r>(
    rules: &'r Locality,
    own: &str,
) -> Option<&'r [(std::sync::Arc<str>, u32)]> {
    let found = rules.distribute.iter().find(|(from, _)| matches(from, own));
    found.map(|(_, shares)| &**shares)
}

/// Own subzone, zone and region; then the region that is named to take over, then all others.
fn distance(rules: &Locality, own: &str, endpoint: &str) -> usize {
    let (own, other) = (parts(own), parts(endpoint));
    if own[0] == other[0] {
        return match (own[1] == other[1], own[2] == other[2]) {
            (true, true) => 0,
            (true, false) => 1,
            (false, _) => 2,
        };
    }
    let mut regions = rules.failover_regions.iter();
    let named = regions.position(|(from, to)| &**from == own[0] && &**to == other[0]);
    3 + named.unwrap_or(rules.failover_regions.len())
}

fn parts(locality: &str) -> [&str; 3] {
    let mut parts = locality.splitn(3, '/');
    std::array::from_fn(|_| parts.next().unwrap_or(""))
}

/// Whether a pattern, in which `*` stands for any part and what is missing for any rest, holds.
fn matches(pattern: &str, locality: &str) -> bool {
    let pairs = parts(pattern).into_iter().zip(parts(locality));
    let mut pairs = pairs.take_while(|(pattern, _)| !pattern.is_empty());
    pairs.all(|(pattern, part)| pattern == "*" || pattern == part)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(failover: bool) -> Locality {
        Locality {
            overprovisioning: 140,
            panic_threshold: 0,
            failover,
            failover_regions: vec![("eu".into(), "us".into()), ("eu".into(), "ap".into())],
            distribute: Vec::new(),
        }
    }

    fn priority(rules: &Locality, own: &str, endpoint: Option<&str>) -> usize {
        let standing = standing(rules, Some(own), endpoint);
        standing.expect("nothing is left out").priority
    }

    #[test]
    fn the_nearer_the_earlier() {
        let rules = rules(true);
        let of = |endpoint| priority(&rules, "eu/a/1", Some(endpoint));
        let order = ["eu/a/1", "eu/a/2", "eu/b/1", "us/a/1", "ap/x/", "sa/a/1"].map(of);
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
        assert_eq!(priority(&rules, "eu/a", Some("eu/a")), 0);
        assert_eq!(priority(&rules, "eu/a", None), 5);
        // Without failover, or without knowing where we are, all are the same.
        assert_eq!(priority(&self::rules(false), "eu/a/1", Some("us/a/1")), 0);
        let unknown = standing(&rules, None, Some("us/a/1"));
        assert_eq!(unknown.map(|standing| standing.priority), Some(0));
    }

    #[test]
    fn a_distribution_decides_alone_and_leaves_out_what_it_does_not_name() {
        let share = |to: &str, share| (to.into(), share);
        let mut rules = rules(true);
        rules.distribute = vec![
            ("us/*".into(), vec![share("us/*", 100)]),
            (
                "eu/a/*".into(),
                vec![share("eu/a/*", 80), share("eu/b/*", 20)],
            ),
        ];
        let group = |endpoint| {
            let standing = standing(&rules, Some("eu/a/1"), Some(endpoint));
            standing.map(|standing| (standing.priority, standing.group))
        };
        assert_eq!(group("eu/a/9"), Some((0, 0)));
        assert_eq!(group("eu/b/1"), Some((0, 1)));
        assert_eq!(group("us/a/1"), None);
        assert!(distribution(&rules, "eu/b/1").is_none());
        assert!(matches("*", "") && matches("eu", "eu/a/1") && !matches("eu/b", "eu/a"));
    }
}
