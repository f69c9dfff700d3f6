//! Cases computed by hand from Knative's rules.

use super::*;

const S: i64 = 1_000_000_000;

fn goal(revision: &str, percent: i64) -> Rollout {
    Rollout::goal([(String::new(), "hello".into(), revision.into(), percent)])
}

fn shares(rollout: &Rollout) -> Vec<(&str, i64)> {
    let parts = rollout.parts("", "hello").expect("a configuration");
    parts
        .iter()
        .map(|part| (part.revision_name.as_str(), part.percent))
        .collect()
}

/// From `r1` alone to `r2` begun at one second.
fn begun() -> Rollout {
    let (first, next) = step(goal("r1", 100), None, 0);
    assert_eq!(next, None);
    let (begun, next) = step(goal("r2", 100), Some(first), S);
    assert_eq!(next, None, "the gateway has to serve it first");
    begun
}

#[test]
fn a_new_revision_begins_with_one_percent() {
    assert_eq!(shares(&begun()), [("r1", 99), ("r2", 1)]);
    assert!(!begun().is_done());
}

#[test]
fn the_steps_follow_from_how_long_the_first_percent_took() {
    let mut rollout = begun();
    // Served after 10 s of 110: 100 s are left, 10 steps of 9.9 percent, rounded to 10.
    rollout.observe_ready(11 * S, Duration::from_secs(110));
    let (same, next) = step(goal("r2", 100), Some(rollout), 11 * S);
    assert_eq!(next, Some(21 * S));
    assert_eq!(shares(&same), [("r1", 99), ("r2", 1)]);
    let (stepped, next) = step(goal("r2", 100), Some(same), 21 * S);
    assert_eq!(shares(&stepped), [("r1", 89), ("r2", 11)]);
    assert_eq!(next, Some(31 * S));
}

#[test]
fn a_rollout_ends_with_everything_at_the_newest_revision() {
    let mut rollout = begun();
    rollout.observe_ready(S, Duration::from_secs(5));
    let mut now = S;
    let mut steps = 0;
    while !rollout.is_done() {
        now += 10 * S;
        rollout = step(goal("r2", 100), Some(rollout), now).0;
        steps += 1;
    }
    // 4 s are left, steps of 1 s: 99 / 4 = 25 percent each.
    assert_eq!(steps, 4);
    assert_eq!(shares(&rollout), [("r2", 100)]);
    assert_eq!(step(goal("r2", 100), Some(rollout), now).1, None);
}

#[test]
fn a_rollout_shorter_than_a_step_is_one_step() {
    let mut rollout = begun();
    rollout.observe_ready(31 * S, Duration::from_secs(10));
    let (done, _) = step(goal("r2", 100), Some(rollout), 32 * S);
    assert_eq!(shares(&done), [("r2", 100)]);
}

#[test]
fn a_revision_that_comes_in_between_drains_the_one_before_it_first() {
    let mut rollout = begun();
    rollout.observe_ready(11 * S, Duration::from_secs(110));
    let (rollout, _) = step(goal("r2", 100), Some(rollout), 21 * S);
    let (mut rollout, _) = step(goal("r3", 100), Some(rollout), 22 * S);
    assert_eq!(shares(&rollout), [("r1", 89), ("r2", 10), ("r3", 1)]);
    rollout.observe_ready(32 * S, Duration::from_secs(110));
    let (rollout, _) = step(goal("r3", 100), Some(rollout), 42 * S);
    assert_eq!(shares(&rollout), [("r1", 89), ("r3", 11)]);
}

#[test]
fn another_total_gives_to_the_newest_and_takes_from_the_oldest() {
    let mut rollout = begun();
    rollout.observe_ready(11 * S, Duration::from_secs(110));
    let (rollout, _) = step(goal("r2", 100), Some(rollout), 21 * S);
    let (less, _) = step(goal("r2", 40), Some(rollout.clone()), 22 * S);
    assert_eq!(shares(&less), [("r1", 29), ("r2", 11)]);
    let (more, _) = step(goal("r2", 60), Some(less), 23 * S);
    assert_eq!(shares(&more), [("r1", 29), ("r2", 31)]);
    let (cut, _) = step(goal("r2", 5), Some(rollout), 22 * S);
    assert_eq!(shares(&cut), [("r2", 5)]);
}

#[test]
fn what_has_at_most_one_percent_does_not_roll_out() {
    let (first, _) = step(goal("r1", 1), None, 0);
    let (second, next) = step(goal("r2", 1), Some(first), S);
    assert_eq!((shares(&second), next), (vec![("r2", 1)], None));
    assert_eq!(step(goal("r3", 0), Some(second), S).0, Rollout::default());
}

#[test]
fn the_state_is_written_as_knative_writes_it() {
    let text = begun().text();
    assert_eq!(
        text,
        r#"{"configurations":[{"configurationName":"hello","percent":100,"revisions":[{"revisionName":"r1","percent":99},{"revisionName":"r2","percent":1}],"stepParams":{"starttime":1000000000}}]}"#
    );
    assert_eq!(Rollout::read(Some(&text)), Some(begun()));
}

#[test]
fn a_state_that_does_not_add_up_is_as_none() {
    let of = |percent: i64, part: i64| {
        let text = format!(
            r#"{{"configurations":[{{"configurationName":"a","percent":{percent},"revisions":[{{"revisionName":"r","percent":{part}}}]}}]}}"#
        );
        Rollout::read(Some(&text))
    };
    assert!(of(100, 100).is_some());
    assert!(of(100, 99).is_none());
    assert!(of(101, 101).is_none());
    assert!(of(-1, -1).is_none());
    assert!(Rollout::read(Some("{")).is_none());
    assert!(Rollout::read(None).is_none());
}
