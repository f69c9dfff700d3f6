//! Annotations of a revision's template: what the autoscaler and the gateway read.

use std::collections::BTreeMap;
use std::time::Duration;

use super::report::{Report, join};
use crate::autoscaling::annotation::{self, GROUP, Key, TARGET_MIN, WINDOW_MAX, WINDOW_MIN};
use crate::config::Autoscaler;
use crate::quantity::Quantity;
use crate::{duration, names};

type Annotations = BTreeMap<String, String>;

/// Every `autoscaling.knative.dev/*` annotation; `base` is the path of the annotations.
pub(crate) fn autoscaling(map: &Annotations, config: &Autoscaler, base: &str, report: &mut Report) {
    let mut check = Check {
        map,
        config,
        base,
        report,
    };
    check.class_and_metric();
    check.scales();
    check.initial_scale();
    check.float(annotation::PANIC_WINDOW_PERCENTAGE, 1.0, 100.0);
    check.float(annotation::PANIC_THRESHOLD_PERCENTAGE, 110.0, 1000.0);
    check.float(annotation::TARGET_UTILIZATION_PERCENTAGE, 1.0, 100.0);
    check.target();
    check.burst_capacity();
    check.duration(annotation::WINDOW, WINDOW_MIN, true);
    check.duration(annotation::SCALE_DOWN_DELAY, Duration::ZERO, true);
    check.duration(annotation::POD_RETENTION, Duration::ZERO, false);
}

/// A duration annotation that counts whole seconds.
pub(crate) fn whole_seconds(what: &str, key: &str, value: &str, base: &str, report: &mut Report) {
    let path = join(base, key);
    match duration::parse_signed(value) {
        None => report.invalid(value, path),
        Some(nanos) if nanos % 1_000_000_000 != 0 => {
            report.say(
                format!("{what}={value} is not at second precision"),
                &[path],
            );
        }
        Some(nanos) if nanos < 0 => report.say(format!("{what}={value} must be positive"), &[path]),
        Some(_) => {}
    }
}

/// The annotations of a template that are not about autoscaling.
pub(crate) fn template(map: &Annotations, base: &str, report: &mut Report) {
    const NETWORKING: [&str; 9] = [
        "ingress.class",
        "ingress-class",
        "certificate.class",
        "certificate-class",
        "disableAutoTLS",
        "disable-auto-tls",
        "disable-external-domain-tls",
        "httpOption",
        "http-protocol",
    ];
    for (key, value) in map {
        match key.split_once('/') {
            Some(("networking.knative.dev", name)) if !NETWORKING.contains(&name) => {
                report.key_name(key, base.to_owned(), "");
            }
            Some(("serving.knative.dev", "progress-deadline" | "progressDeadline"))
                if !value.is_empty() =>
            {
                whole_seconds("progress-deadline", key, value, base, report);
            }
            Some(("gateway.suimon.dev", _)) if key != names::annotation::SESSION_AFFINITY => {
                report.key_name(key, base.to_owned(), "");
            }
            Some(("gateway.suimon.dev", _))
                if !names::SESSION_AFFINITIES.contains(&value.as_str()) =>
            {
                let hint = format!("use one of {}", names::SESSION_AFFINITIES.join(", "));
                report.invalid_because(value, join(base, key), &hint);
            }
            Some(("features.knative.dev", "queueproxy-podinfo")) => report.warn(format!(
                "annotation {key} has no effect: Suimon runs no queue-proxy sidecar"
            )),
            Some(("features.knative.dev", "http-full-duplex"))
                if value.eq_ignore_ascii_case("disabled") =>
            {
                report.warn(format!(
                    "annotation {key} has no effect: bodies are streamed both ways at once"
                ));
            }
            Some(("features.knative.dev", name)) if name != "http-full-duplex" => {
                report.warn(format!("annotation {key} is not known and has no effect"));
            }
            Some(("queue.sidecar.serving.knative.dev", name)) => {
                sidecar(name, key, value, base, report)
            }
            _ => {}
        }
    }
}

/// Resources of Knative's sidecar: checked, so that a manifest is judged as on Knative.
fn sidecar(name: &str, key: &str, value: &str, base: &str, report: &mut Report) {
    let path = format!("{base}[{key}]");
    if matches!(name, "resource-percentage" | "resourcePercentage") {
        match value.parse::<f64>() {
            Ok(percent) if (0.1..=100.0).contains(&percent) => {}
            Ok(percent) => report.bounds(percent, 0.1, 100, path),
            Err(_) => report.invalid(value, path),
        }
    } else if Quantity::parse(value).is_none() {
        report.invalid(value, path);
    }
    report.warn(format!(
        "annotation {key} has no effect: Suimon runs no queue-proxy sidecar"
    ));
}

struct Check<'a> {
    map: &'a Annotations,
    config: &'a Autoscaler,
    base: &'a str,
    report: &'a mut Report,
}

impl<'a> Check<'a> {
    fn get(&self, key: Key) -> Option<(&'a str, &'a str)> {
        annotation::get(self.map, key)
    }

    fn path(&self, key: &str) -> String {
        join(self.base, key)
    }

    fn class_and_metric(&mut self) {
        let class = self.get(annotation::CLASS);
        if let Some((key, value)) = class {
            // Other domains belong to other autoscalers.
            if value.ends_with(GROUP) && value != names::KPA_CLASS && value != names::HPA_CLASS {
                self.report.invalid(value, self.path(key));
            }
        }
        let class = class.map_or(self.config.pod_autoscaler_class.as_str(), |(_, value)| {
            value
        });
        if let Some((key, metric)) = self.get(annotation::METRIC) {
            let known = match class {
                names::KPA_CLASS => matches!(metric, "concurrency" | "rps"),
                names::HPA_CLASS => !metric.is_empty(),
                _ => true,
            };
            if !known {
                self.report.invalid(metric, self.path(key));
            } else if class == names::HPA_CLASS && !matches!(metric, "cpu" | "memory") {
                self.report.warn(format!(
                    "{key}: metric {metric:?} is passed on to the HorizontalPodAutoscaler, which \
                     measures only cpu and memory here"
                ));
            }
        }
        self.own(class);
        if let Some((key, value)) = self.get(annotation::METRIC_AGGREGATION_ALGORITHM) {
            let known = matches!(
                value,
                "" | "linear" | "weighted-exponential" | "weightedExponential"
            );
            if class == names::KPA_CLASS && !known {
                self.report.invalid(value, self.path(key));
            }
        }
    }

    /// Those that Knative does not have.
    fn own(&mut self, class: &str) {
        for (key, value) in self.map {
            if key == annotation::HORIZONTAL_TO_ZERO {
                if !matches!(value.as_str(), "true" | "false") {
                    self.report.invalid(value, self.path(key));
                } else if class != names::HPA_CLASS {
                    self.report.warn(format!(
                        "annotation {key} has an effect only with the class {}",
                        names::HPA_CLASS
                    ));
                }
            } else if key == annotation::SERVICE_MIN_SCALE {
                let hint = "put it into the metadata of the Service itself, or use \
                            autoscaling.knative.dev/min-scale for one revision";
                self.report.key_name(key, self.base.to_owned(), hint);
            } else if key.starts_with(annotation::OWN_GROUP) {
                self.report.key_name(key, self.base.to_owned(), "");
            }
        }
    }

    /// A replica count: its key if given, and its value (0 if absent or wrong).
    fn scale(&mut self, key: Key) -> (Option<&'a str>, i32) {
        let Some((key, value)) = self.get(key) else {
            return (None, 0);
        };
        let parsed = match value.parse::<i64>() {
            Ok(number) => i32::try_from(number).ok().filter(|number| *number >= 0),
            Err(_) => {
                self.report.invalid(value, self.path(key));
                return (Some(key), 0);
            }
        };
        if parsed.is_none() {
            self.report.bounds(value, 0, i32::MAX, self.path(key));
        }
        (Some(key), parsed.unwrap_or(0))
    }

    fn scales(&mut self) {
        let (min_key, min) = self.scale(annotation::MIN_SCALE);
        let (max_key, max) = self.scale(annotation::MAX_SCALE);
        if max != 0 && max < min {
            let paths = [max_key, min_key].map(|key| self.path(key.unwrap_or_default()));
            self.report.say(
                format!("max-scale={max} is less than min-scale={min}"),
                &paths,
            );
        }
        let limit = self.config.max_scale_limit;
        if let Some(key) = max_key.filter(|_| limit > 0) {
            if max == 0 {
                let message = format!("max-scale=0 (unlimited), must be less than {limit}");
                self.report.say(message, &[self.path(key)]);
            } else if max > limit {
                self.report.bounds(max, 1, limit, self.path(key));
            }
        }
        let Some((key, value)) = self.get(annotation::ACTIVATION_SCALE) else {
            return;
        };
        let path = self.path(key);
        match value.parse::<i32>() {
            Err(_) => self.report.invalid(value, path),
            Ok(scale) if min > scale => {
                self.report.say(
                    format!("min-scale={min} is greater than activation-scale={scale}"),
                    &[path],
                );
            }
            Ok(scale) if max != 0 && max < scale => {
                self.report.say(
                    format!("max-scale={max} is less than activation-scale={scale}"),
                    &[path],
                );
            }
            Ok(scale) if scale < 2 => {
                self.report.say(
                    format!("activation-scale={scale} must be greater than 1"),
                    &[path],
                );
            }
            Ok(_) => {}
        }
    }

    fn initial_scale(&mut self) {
        let Some((key, value)) = self.get(annotation::INITIAL_SCALE) else {
            return;
        };
        let path = self.path(key);
        match value.parse::<i32>() {
            Err(_) => self.report.invalid(value, path),
            Ok(scale) if scale < 0 => self
                .report
                .invalid(value, format!("{path} must be greater than 0")),
            Ok(0) if !self.config.allow_zero_initial_scale => {
                self.report
                    .invalid(value, format!("{path}=0 not allowed by cluster"));
            }
            Ok(_) => {}
        }
    }

    fn float(&mut self, key: Key, lower: f64, upper: f64) {
        let Some((key, value)) = self.get(key) else {
            return;
        };
        match value.parse::<f64>() {
            Ok(number) if (lower..=upper).contains(&number) => {}
            Ok(_) => self.report.bounds(value, lower, upper, self.path(key)),
            Err(_) => self.report.invalid(value, self.path(key)),
        }
    }

    fn target(&mut self) {
        let Some((key, value)) = self.get(annotation::TARGET) else {
            return;
        };
        match value.parse::<f64>() {
            Ok(number) if number >= TARGET_MIN && number.is_finite() => {}
            Ok(_) => {
                let message = format!("target {value} should be at least {TARGET_MIN}");
                self.report.say(message, &[self.path(key)]);
            }
            Err(_) => self.report.invalid(value, self.path(key)),
        }
    }

    fn burst_capacity(&mut self) {
        let Some((key, value)) = self.get(annotation::TARGET_BURST_CAPACITY) else {
            return;
        };
        let fine = value
            .parse::<f64>()
            .is_ok_and(|number| number >= 0.0 || number == -1.0);
        if !fine {
            self.report.invalid(value, self.path(key));
        }
    }

    fn duration(&mut self, key: Key, least: Duration, whole_seconds: bool) {
        let Some((key, value)) = self.get(key) else {
            return;
        };
        let path = self.path(key);
        let Some(nanos) = duration::parse_signed(value) else {
            return self.report.invalid(value, path);
        };
        let within = u64::try_from(nanos)
            .map(Duration::from_nanos)
            .is_ok_and(|d| d >= least && d <= WINDOW_MAX);
        if !within {
            self.report.bounds(
                value,
                duration::format(least),
                duration::format(WINDOW_MAX),
                path,
            );
        } else if whole_seconds && nanos % 1_000_000_000 != 0 {
            self.report
                .say("must be specified with at most second precision", &[path]);
        }
    }
}
