//! What listens in a unit's network namespace, from `/proc/PID/net` (proc_pid_net(5)).

/// Where the ports for outgoing connections begin (`net.ipv4.ip_local_port_range`): a UDP socket from there up is a client.
const EPHEMERAL: u16 = 32_768;

/// The network interfaces, from `net/dev`.
pub fn interfaces(text: &str) -> Vec<String> {
    let mut names: Vec<String> = text
        .lines()
        .skip(2)
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()))
        .collect();
    names.sort();
    names
}

/// The ports that can be reached from other hosts, as `tcp 443`, from `net/tcp`, `net/tcp6`, `net/udp` or `net/udp6`.
pub fn listening(protocol: &str, text: &str) -> Vec<String> {
    // TCP_LISTEN; an unconnected UDP socket is in TCP_CLOSE.
    let state = if protocol == "tcp" { "0A" } else { "07" };
    let mut ports: Vec<u16> = text
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let (address, port) = words.next()?.split_once(':')?;
            let port = u16::from_str_radix(port, 16).ok()?;
            let listens = words.nth(1)? == state && !loopback(address);
            (listens && (protocol == "tcp" || port < EPHEMERAL)).then_some(port)
        })
        .collect();
    ports.sort_unstable();
    ports.dedup();
    ports.iter().map(|port| format!("{protocol} {port}")).collect()
}

/// Whether an address as the kernel prints it (words in the machine's order, here little endian) is of this host only.
fn loopback(address: &str) -> bool {
    match address.len() {
        8 => address.ends_with("7F"),
        _ => {
            address == "00000000000000000000000001000000"
                || (address.starts_with("0000000000000000FFFF0000") && address.ends_with("7F"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_listens_beyond_loopback_is_found() {
        let text = "  sl  local_address rem_address   st\n   \
                    0: 00000000:01BB 00000000:0000 0A 0\n   \
                    1: 0100007F:07E3 00000000:0000 0A 0\n   \
                    2: 0200C90A:0050 00000000:0000 0A 0\n   \
                    3: 0200C90A:01BB 0100C90A:9999 01 0\n";
        assert_eq!(listening("tcp", text), ["tcp 80", "tcp 443"]);
        let text = "  sl  local_address\n   \
                    0: 00000000000000000000000000000000:0CEA 0:0000 0A 0\n   \
                    1: 00000000000000000000000001000000:0016 0:0000 0A 0\n   \
                    2: 0000000000000000FFFF00000100007F:0017 0:0000 0A 0\n";
        assert_eq!(listening("tcp", text), ["tcp 3306"]);
    }

    #[test]
    fn a_client_of_udp_does_not_listen() {
        let text = "  sl  local_address\n   0: 00000000:01BB 00000000:0000 07 0\n   1: 00000000:D001 0:0000 07 0\n";
        assert_eq!(listening("udp", text), ["udp 443"]);
    }

    #[test]
    fn interfaces_are_named() {
        let text = "Inter-|\n face |\n    lo: 1 2\n  eth0: 1 2\n";
        assert_eq!(interfaces(text), ["eth0", "lo"]);
    }
}
