//! The controller's steps, and simulations that show what it is for.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn rule() -> AimdRule {
    AimdRule {
        tolerance: 1.25,
        long_term: 1800 * SECOND,
        slope: -1.0,
        min_gradient: 0.1,
        max_gradient: 1.0,
        increment: 0.025,
        max: 2.0,
    }
}

/// So many requests a second, each of which takes so long, for so many seconds.
fn serve(aimd: &mut Aimd, now: &mut Duration, seconds: u32, rate: u32, took: Duration) {
    for _ in 0..seconds * rate {
        *now += SECOND / rate;
        aimd.wants(&rule(), *now, 1.0);
        aimd.ended(&rule(), *now, took);
    }
}

#[test]
fn it_shrinks_by_the_ratio_grows_by_the_increment_and_lets_all_go_at_last() {
    let (mut aimd, mut now) = (Aimd::new(Duration::ZERO), Duration::ZERO);
    serve(&mut aimd, &mut now, 600, 10, 100 * MS);
    assert_eq!(aimd.rate(&rule(), now), None, "nothing is wrong");
    // The next decision sees ten slow seconds of thirty: a mean of twice as long.
    serve(&mut aimd, &mut now, 10, 10, 400 * MS);
    let rate = aimd.rate(&rule(), now).expect("it holds back");
    // 125 ms and a little are allowed, 200 ms is the mean, ten a second is what comes.
    assert!((6.0..7.0).contains(&rate), "{rate}");
    let before = aimd.multiplier.expect("it holds back");
    // Quick again: two decisions later the slow ones have left the window.
    serve(&mut aimd, &mut now, 30, 10, 100 * MS);
    let low = aimd.multiplier.expect("it holds back");
    assert!(low < before, "{low} {before}");
    serve(&mut aimd, &mut now, 100, 10, 100 * MS);
    let later = aimd.multiplier.expect("it holds back");
    assert!((later - low - 0.25).abs() < 1e-9, "{later} {low}");
    // From there to twice the rate in steps of a fortieth.
    serve(&mut aimd, &mut now, 800, 10, 100 * MS);
    assert_eq!(aimd.rate(&rule(), now), None);
}

#[test]
fn one_step_shrinks_no_further_than_the_least_gradient() {
    let (mut aimd, mut now) = (Aimd::new(Duration::ZERO), Duration::ZERO);
    serve(&mut aimd, &mut now, 600, 10, MS);
    serve(&mut aimd, &mut now, 10, 10, 10 * SECOND);
    let multiplier = aimd.multiplier.expect("it holds back");
    assert!((multiplier - 0.1).abs() < 1e-9, "{multiplier}");
}

#[test]
fn without_requests_it_lets_go_again_and_forgets_in_the_end() {
    let (mut aimd, mut now) = (Aimd::new(Duration::ZERO), Duration::ZERO);
    serve(&mut aimd, &mut now, 600, 10, 10 * MS);
    serve(&mut aimd, &mut now, 10, 10, 1000 * MS);
    assert!(aimd.rate(&rule(), now).is_some());
    assert_eq!(aimd.rate(&rule(), now + 1000 * SECOND), None);
    assert!(!aimd.is_idle(&rule(), now + 1000 * SECOND));
    assert!(aimd.is_idle(&rule(), now + 3600 * SECOND));
}

#[test]
fn numbers_that_make_no_sense_do_no_harm() {
    let odd = AimdRule {
        tolerance: 0.0,
        long_term: Duration::ZERO,
        slope: f64::NAN,
        min_gradient: 2.0,
        max_gradient: -1.0,
        increment: f64::NAN,
        max: 0.0,
    };
    let mut aimd = Aimd::new(Duration::ZERO);
    for second in 0..100 {
        let now = second * SECOND;
        aimd.wants(&odd, now, f64::NAN);
        aimd.ended(&odd, now, SECOND);
        let _ = aimd.rate(&odd, now);
    }
    assert_eq!(aimd.next(100 * SECOND + SECOND / 2), Duration::ZERO);
}

/// A Service that serves so many requests a second and makes the others wait in a queue.
struct Service {
    capacity: f64,
    queue: f64,
}

impl Service {
    /// So many came within a second: how long each of them takes.
    fn second(&mut self, came: f64) -> Duration {
        self.queue = (self.queue + came - self.capacity).max(0.0);
        Duration::from_secs_f64(0.05 + self.queue / self.capacity)
    }
}

/// Offers so many requests a second; the longest that one took, and how many were let in, over the
/// last `last` seconds.
fn offered(
    aimd: &mut Aimd,
    now: &mut Duration,
    service: &mut Service,
    offered: &[u32],
) -> Vec<(f64, Duration)> {
    let mut seconds = Vec::new();
    for rate in offered {
        let mut came = 0.0;
        let mut tokens = aimd.rate(&rule(), *now).unwrap_or(f64::MAX);
        for _ in 0..*rate {
            *now += SECOND / *rate;
            aimd.wants(&rule(), *now, 1.0);
            if tokens >= 1.0 {
                tokens -= 1.0;
                came += 1.0;
            }
        }
        let took = service.second(came);
        for _ in 0..came as u32 {
            aimd.ended(&rule(), *now, took);
        }
        seconds.push((came, took));
    }
    seconds
}

#[test]
fn a_service_that_is_offered_twice_its_capacity_stays_quick_and_recovers() {
    let (mut aimd, mut now) = (Aimd::new(Duration::ZERO), Duration::ZERO);
    let mut service = Service {
        capacity: 100.0,
        queue: 0.0,
    };
    offered(&mut aimd, &mut now, &mut service, &[60; 900]);
    assert_eq!(aimd.rate(&rule(), now), None);
    let seconds = offered(&mut aimd, &mut now, &mut service, &[200; 600]);
    // Without it the queue would hold 60,000 requests by now, ten minutes of work.
    let (_, took) = seconds[599];
    assert!(took < 5 * SECOND, "{took:?}");
    let late: f64 = seconds[300..].iter().map(|(came, _)| came).sum::<f64>() / 300.0;
    assert!((40.0..=105.0).contains(&late), "{late} of 100 are let in");
    offered(&mut aimd, &mut now, &mut service, &[60; 900]);
    assert_eq!(
        aimd.rate(&rule(), now),
        None,
        "nothing is held back any more"
    );
}
