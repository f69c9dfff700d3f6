//! Times and spans.

use jiff::{Timestamp, Zoned};

use crate::functions::{Out, Rows, text, unfit};
use crate::temporal;
use crate::value::Value;

pub(crate) const ROWS: Rows = &[
    ("timestamp(string): timestamp", |_, a| {
        let text = text(a, 0)?;
        match text.parse::<Timestamp>() {
            Ok(at) => Ok(Value::Timestamp(at)),
            Err(_) => Err(format!("invalid timestamp: {text:?}").into()),
        }
    }),
    ("timestamp(timestamp): timestamp", |_, a| Ok(a[0].clone())),
    ("timestamp(int): timestamp", |_, a| match a {
        [Value::Int(seconds)] => match Timestamp::from_second(*seconds) {
            Ok(at) => Ok(Value::Timestamp(at)),
            Err(_) => Err("timestamp out of range".into()),
        },
        _ => unfit(),
    }),
    ("duration(string): duration", |_, a| {
        let text = text(a, 0)?;
        match temporal::duration(text) {
            Some(span) => Ok(Value::Duration(span)),
            None => Err(format!("time: invalid duration {text:?}").into()),
        }
    }),
    ("duration(duration): duration", |_, a| Ok(a[0].clone())),
    ("duration.getHours(): int", |_, a| {
        span(a, 3_600_000_000_000)
    }),
    ("duration.getMinutes(): int", |_, a| span(a, 60_000_000_000)),
    ("duration.getSeconds(): int", |_, a| span(a, 1_000_000_000)),
    ("duration.getMilliseconds(): int", |_, a| span(a, 1_000_000)),
    ("timestamp.getFullYear(): int", |_, a| {
        part(a, |at| i64::from(at.year()))
    }),
    ("timestamp.getMonth(): int", |_, a| {
        part(a, |at| i64::from(at.month()) - 1)
    }),
    ("timestamp.getDate(): int", |_, a| {
        part(a, |at| i64::from(at.day()))
    }),
    ("timestamp.getDayOfMonth(): int", |_, a| {
        part(a, |at| i64::from(at.day()) - 1)
    }),
    ("timestamp.getDayOfWeek(): int", |_, a| {
        part(a, |at| i64::from(at.weekday().to_sunday_zero_offset()))
    }),
    ("timestamp.getDayOfYear(): int", |_, a| {
        part(a, |at| i64::from(at.day_of_year()) - 1)
    }),
    ("timestamp.getHours(): int", |_, a| {
        part(a, |at| i64::from(at.hour()))
    }),
    ("timestamp.getMinutes(): int", |_, a| {
        part(a, |at| i64::from(at.minute()))
    }),
    ("timestamp.getSeconds(): int", |_, a| {
        part(a, |at| i64::from(at.second()))
    }),
    ("timestamp.getMilliseconds(): int", |_, a| {
        part(a, |at| i64::from(at.millisecond()))
    }),
    ("timestamp.getFullYear(string): int", |_, a| {
        part(a, |at| i64::from(at.year()))
    }),
    ("timestamp.getMonth(string): int", |_, a| {
        part(a, |at| i64::from(at.month()) - 1)
    }),
    ("timestamp.getDate(string): int", |_, a| {
        part(a, |at| i64::from(at.day()))
    }),
    ("timestamp.getDayOfMonth(string): int", |_, a| {
        part(a, |at| i64::from(at.day()) - 1)
    }),
    ("timestamp.getDayOfWeek(string): int", |_, a| {
        part(a, |at| i64::from(at.weekday().to_sunday_zero_offset()))
    }),
    ("timestamp.getDayOfYear(string): int", |_, a| {
        part(a, |at| i64::from(at.day_of_year()) - 1)
    }),
    ("timestamp.getHours(string): int", |_, a| {
        part(a, |at| i64::from(at.hour()))
    }),
    ("timestamp.getMinutes(string): int", |_, a| {
        part(a, |at| i64::from(at.minute()))
    }),
    ("timestamp.getSeconds(string): int", |_, a| {
        part(a, |at| i64::from(at.second()))
    }),
];

fn span<'a>(args: &[Value<'a>], unit: i128) -> Out<'a> {
    match args {
        [Value::Duration(span)] => {
            let whole = span.as_nanos() / unit;
            Ok(Value::Int(i64::try_from(whole).unwrap_or(i64::MAX)))
        }
        _ => unfit(),
    }
}

fn part<'a>(args: &[Value<'a>], part: fn(&Zoned) -> i64) -> Out<'a> {
    let Some(Value::Timestamp(at)) = args.first() else {
        return unfit();
    };
    let zone = args.get(1).and_then(Value::as_str);
    Ok(Value::Int(part(&temporal::in_zone(*at, zone)?)))
}
