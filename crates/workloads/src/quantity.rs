//! Kubernetes quantities as whole numbers: `250m`, `1.5`, `64Mi`, `1e3`.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const NANO: i128 = 1_000_000_000;
/// Longest text that is read; the largest useful quantity has far fewer digits.
const LONGEST: usize = 40;

/// Thousandths, rounded up; `None` if the text is no quantity.
pub(crate) fn milli(quantity: &Quantity) -> Option<i64> {
    up(nanos(&quantity.0)?, NANO / 1000)
}

/// Whole units, rounded up; `None` if the text is no quantity.
pub(crate) fn whole(quantity: &Quantity) -> Option<i64> {
    up(nanos(&quantity.0)?, NANO)
}

fn up(nanos: i128, unit: i128) -> Option<i64> {
    let whole = nanos.div_euclid(unit) + i128::from(nanos.rem_euclid(unit) != 0);
    Some(i64::try_from(whole).unwrap_or(if whole < 0 { i64::MIN } else { i64::MAX }))
}

fn nanos(text: &str) -> Option<i128> {
    if text.len() > LONGEST {
        return None;
    }
    let digits = text
        .find(|c: char| !matches!(c, '0'..='9' | '.' | '+' | '-'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let (negative, number) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if !all_digits(whole) || !all_digits(fraction) || (whole.is_empty() && fraction.is_empty()) {
        return None;
    }
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (multiplier, divisor) = factor(suffix)?;
    let product = mantissa.checked_mul(multiplier)?.checked_mul(NANO)?;
    let per = scale.checked_mul(divisor)?;
    let value = product / per + i128::from(product % per != 0);
    Some(if negative { -value } else { value })
}

/// What a suffix multiplies with and divides by.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    let binary = |power: u32| Some((1024_i128.pow(power), 1));
    match suffix {
        "" => Some((1, 1)),
        "n" => Some((1, NANO)),
        "u" => Some((1, 1_000_000)),
        "m" => Some((1, 1000)),
        "k" => Some((1000, 1)),
        "M" => Some((1_000_000, 1)),
        "G" => Some((NANO, 1)),
        "T" => Some((NANO * 1000, 1)),
        "P" => Some((NANO * 1_000_000, 1)),
        "E" => Some((NANO * NANO, 1)),
        "Ki" => binary(1),
        "Mi" => binary(2),
        "Gi" => binary(3),
        "Ti" => binary(4),
        "Pi" => binary(5),
        "Ei" => binary(6),
        other => {
            let exponent: i32 = other.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs())?;
            Some(if exponent < 0 { (1, power) } else { (power, 1) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read_and_rounded_up() {
        let check = |text: &str, expected: Option<i64>| {
            assert_eq!(milli(&Quantity(text.to_owned())), expected, "{text}");
        };
        check("250m", Some(250));
        check("1.5", Some(1500));
        check("1e3", Some(1_000_000));
        check("1E-3", Some(1));
        check("100u", Some(1));
        check("-2", Some(-2000));
        check(".5", Some(500));
        check("64Ki", Some(65_536_000));
        for bad in ["", "x", "1 ", "1.2.3", "1Q", "--1", "1e999", "9e38"] {
            check(bad, None);
        }
        assert_eq!(whole(&Quantity("10Mi".into())), Some(10_485_760));
        assert_eq!(whole(&Quantity("1m".into())), Some(1));
        assert_eq!(whole(&Quantity("100E".into())), Some(i64::MAX));
    }
}
