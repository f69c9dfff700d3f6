//! Bounds and the way to zero, case by case.

use super::*;

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const FREE: Bounds = Bounds {
    min: 0,
    max: 0,
    initial: 1,
};
const ZERO: ZeroRules = ZeroRules {
    is_enabled: true,
    stable_window: s(60),
    grace_period: s(30),
    retention: s(0),
    activation_timeout: s(630),
};

fn situation(desired: Option<u32>, activity: Activity) -> Situation {
    Situation {
        desired,
        activity,
        is_initialized: true,
        is_reachable: true,
        activator_in_path: s(3600),
    }
}

#[test]
fn bounds_hold_and_the_initial_scale_holds_until_it_was_reached() {
    let bounds = Bounds {
        min: 2,
        max: 5,
        initial: 3,
    };
    for (desired, is_initialized, want) in [
        (1, true, 2),
        (4, true, 4),
        (9, true, 5),
        (1, false, 3),
        (4, false, 4),
    ] {
        let situation = Situation {
            is_initialized,
            ..situation(Some(desired), Activity::Active(s(9)))
        };
        assert_eq!(next(&situation, bounds, &ZERO), Step::write(want));
    }
}

#[test]
fn the_initial_scale_does_not_hold_a_revision_without_route() {
    let bounds = Bounds { initial: 5, ..FREE };
    let forgotten = Situation {
        is_initialized: false,
        is_reachable: false,
        ..situation(Some(1), Activity::Activating(s(9)))
    };
    assert_eq!(next(&forgotten, bounds, &ZERO), Step::write(1));
}

#[test]
fn nothing_is_written_for_a_revision_that_nothing_is_known_of() {
    let unknown = situation(None, Activity::Inactive(s(9999)));
    assert_eq!(next(&unknown, FREE, &ZERO), Step::wait(None, None));
    let starting = situation(None, Activity::Activating(s(1)));
    assert_eq!(next(&starting, FREE, &ZERO), Step::wait(None, None));
    assert_eq!(
        next(&starting, Bounds { min: 2, ..FREE }, &ZERO),
        Step::write(2)
    );
}

#[test]
fn an_active_revision_keeps_one_pod_for_its_stable_window_and_is_then_marked_inactive() {
    let early = next(&situation(Some(0), Activity::Active(s(45))), FREE, &ZERO);
    assert_eq!(
        (early.want, early.write, early.recheck),
        (Some(1), true, Some(s(15)))
    );
    let due = next(&situation(Some(0), Activity::Active(s(60))), FREE, &ZERO);
    assert_eq!(due, Step::wait(Some(0), None));
}

#[test]
fn an_inactive_revision_goes_to_zero_at_once_when_the_activator_was_always_in_the_path() {
    let inactive = situation(Some(0), Activity::Inactive(s(0)));
    assert_eq!(next(&inactive, FREE, &ZERO), Step::write(0));
    let young = Situation {
        activator_in_path: s(12),
        ..inactive
    };
    assert_eq!(next(&young, FREE, &ZERO), Step::wait(Some(0), Some(s(18))));
}

#[test]
fn the_last_pod_is_retained() {
    let retained = ZeroRules {
        retention: s(100),
        ..ZERO
    };
    let inactive = situation(Some(0), Activity::Inactive(s(40)));
    assert_eq!(
        next(&inactive, FREE, &retained),
        Step::wait(Some(0), Some(s(60)))
    );
    let over = situation(Some(0), Activity::Inactive(s(100)));
    assert_eq!(next(&over, FREE, &retained), Step::write(0));
}

#[test]
fn an_activation_is_given_up_after_its_timeout() {
    let waiting = situation(Some(0), Activity::Activating(s(600)));
    assert_eq!(next(&waiting, FREE, &ZERO), Step::wait(None, Some(s(30))));
    let late = situation(Some(0), Activity::Activating(s(630)));
    assert_eq!(next(&late, FREE, &ZERO), Step::write(0));
}

#[test]
fn one_pod_stays_where_zero_is_not_allowed() {
    let rules = ZeroRules {
        is_enabled: false,
        ..ZERO
    };
    let idle = situation(Some(0), Activity::Inactive(s(9999)));
    assert_eq!(next(&idle, FREE, &rules), Step::write(1));
}
