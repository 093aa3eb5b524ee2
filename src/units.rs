//! Numbers of bytes as people read and write them.

/// `1234567` bytes as `1.23 MB`.
pub(crate) fn bytes(n: u64) -> String {
    let n = n as f64;
    if n >= 1e9 {
        format!("{:.2} GB", n / 1e9)
    } else if n >= 1e6 {
        format!("{:.2} MB", n / 1e6)
    } else {
        format!("{:.1} kB", n / 1e3)
    }
}

/// A number of bytes as a person writes it: `4GiB`, `500 MB`, `1.5G`, `1000000`.
///
/// # Errors
/// A sentence that says what is wrong with it.
pub(crate) fn parse_bytes(text: &str) -> std::result::Result<usize, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.');
    let (number, unit) = text.split_at(digits.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_lowercase();
    let scale: u64 = match unit.as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => {
            return Err(format!(
                "`{unit}` is no unit of memory; write 4GiB, 500MB or a number of bytes"
            ));
        }
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("`{number}` is no number; write 4GiB, 500MB or a number of bytes"))?;
    let bytes = number * scale as f64;
    match (1.0..=1e18).contains(&bytes) {
        true => Ok(bytes as usize),
        false => Err(format!("{text} is out of range; give at least one byte")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_rounded() {
        assert_eq!(bytes(1_234_567), "1.23 MB");
        assert_eq!(bytes(2_500_000_000), "2.50 GB");
        assert_eq!(bytes(900), "0.9 kB");
    }

    #[test]
    fn bytes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("4GiB", 4 << 30),
            ("500MB", 500_000_000),
            ("1.5 k", 1536),
            ("7", 7),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "4 apples", "-3", "0", "1e99", "nan", "..GiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
