//! The small values: what is read is written back the same.

use cairn_unit::{Bytes, Mode, Name, Path, Seconds, TimeServer};

#[test]
fn sizes_are_powers_of_1024_and_keep_their_shortest_form() {
    for (text, bytes, shown) in [
        ("0", 0, "0"),
        ("1023", 1023, "1023"),
        ("1024", 1024, "1K"),
        ("512M", 512 << 20, "512M"),
        ("1024M", 1 << 30, "1G"),
    ] {
        let size: Bytes = text.parse().unwrap();
        assert_eq!((size.0, size.to_string().as_str()), (bytes, shown));
    }
}

#[test]
fn durations_keep_their_shortest_form() {
    for (text, millis, shown) in [
        ("250ms", 250, "250ms"),
        ("60s", 60_000, "1m"),
        ("36h", 129_600_000, "36h"),
        ("0s", 0, "0ms"),
    ] {
        let time: Seconds = text.parse().unwrap();
        assert_eq!(
            (time.duration().as_millis(), time.to_string().as_str()),
            (millis, shown)
        );
    }
}

#[test]
fn modes_are_octal_with_up_to_the_sticky_bits() {
    for (text, bits, shown) in [
        ("750", 0o750, "0750"),
        ("0750", 0o750, "0750"),
        ("1777", 0o1777, "1777"),
    ] {
        let mode: Mode = text.parse().unwrap();
        assert_eq!((mode.0, mode.to_string().as_str()), (bits, shown));
    }
}

#[test]
fn the_longest_name_is_32_characters() {
    assert!("a".repeat(32).parse::<Name>().is_ok());
    assert!("a".repeat(33).parse::<Name>().is_err());
}

#[test]
fn the_root_is_a_path() {
    assert_eq!("/".parse::<Path>().unwrap().as_str(), "/");
}

#[test]
fn a_time_server_is_a_name_or_an_address_and_may_have_a_port() {
    for text in ["ntp", "ntp.example.org", "192.0.2.1:1123", "2001:db8::1", "192.0.2.1"] {
        assert_eq!(text.parse::<TimeServer>().unwrap().to_string(), text);
    }
    for text in [
        "",
        "ntp:",
        "ntp:0",
        "ntp:70000",
        "ntp:+1",
        "NTP.example.org",
        "a b",
        "ntp\niburst",
        "[2001:db8::1]:1",
    ] {
        assert!(text.parse::<TimeServer>().is_err(), "{text}");
    }
}
