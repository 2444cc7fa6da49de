use super::*;

#[test]
fn a_unit_that_is_started_again_and_again_pauses_and_goes_on() {
    let mut pace = Pace::default();
    for start in 0..19 {
        assert_eq!(pace.waits_until(10_000 + start), None);
        pace.count(10_000 + start);
    }
    assert_eq!(pace.waits_until(10_019), None);
    pace.count(10_020);
    assert_eq!(pace.waits_until(10_021), Some(12_020));
    assert_eq!(pace.waits_until(12_020), None);
    pace.count(12_020);
    assert_eq!(pace.waits_until(12_021), None);
    // Few starts in a long time are no storm.
    let mut slow = Pace::default();
    for start in 0..100 {
        assert_eq!(slow.waits_until(start * 500), None, "{start}");
        slow.count(start * 500);
    }
}

#[test]
fn a_unit_that_refuses_does_so_at_once_and_keeps_the_network_in_which_it_does() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = || std::net::TcpStream::connect(listener.local_addr().unwrap());
    let mut demand = Demand::default();
    demand.take("sock0", listener.try_clone().unwrap().into());
    demand.take("netns", crate::io::null().unwrap());
    assert!(demand.open(1, true).is_some() && connect().is_ok());
    assert_eq!(demand.refuse(), ["sock0"]);
    assert_eq!(connect().unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    assert!(demand.open(1, true).is_none() && demand.network.is_some());
    assert!(demand.refuse().is_empty());
}
