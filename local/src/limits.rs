//! [`Limits`]: how many requests a client may make, and how many with a wrong token.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::extract::Request;
use axum::http::HeaderMap;
use jiff::{SignedDuration, Timestamp};
use shared::clock::Clock;
use shared::config::Config;
use shared::http::limits::{Client, Limiter, Quota};

/// Quotas are of a minute.
const WINDOW: SignedDuration = SignedDuration::from_mins(1);
/// How many clients are counted separately, which takes a few megabytes at most; all further ones count as one.
const MOST_CLIENTS: usize = 100_000;
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

#[derive(Debug)]
pub struct Limits {
    requests: Buckets,
    wrong_tokens: Buckets,
}

impl Limits {
    pub fn new(config: &Config, clock: &Clock) -> Self {
        Self {
            requests: Buckets::new("requests", config.rate_limit, clock),
            wrong_tokens: Buckets::new("wrong-tokens", config.rate_limit_wrong_tokens, clock),
        }
    }
}

impl Limiter for Limits {
    /// Clients on this machine are not limited: all requests may come through a proxy on it that is not trusted.
    fn request(&self, Client(address): Client) -> Result<Option<Quota>, Quota> {
        if self.requests.per_minute == 0 || address.is_loopback() {
            return Ok(None);
        }
        self.requests.check(address, true).map(Some)
    }

    fn may_guess(&self, Client(address): Client) -> Result<(), Quota> {
        if self.wrong_tokens.per_minute == 0 { Ok(()) } else { self.wrong_tokens.check(address, false).map(drop) }
    }

    fn guessed_wrong(&self, Client(address): Client) {
        if self.wrong_tokens.per_minute > 0 {
            let _ = self.wrong_tokens.check(address, true);
        }
    }
}

/// The used part of one quota for each client. It is replenished steadily (the generic cell rate algorithm), so the only
/// state of a client is the time at which its quota will be full again.
///
/// Not `governor` (0.10): it can neither check a quota without using it nor return when a quota is full again, so it
/// would need a map of clients, with the lock and the bound below, and most of this arithmetic.
#[derive(Debug)]
struct Buckets {
    name: &'static str,
    per_minute: u32,
    clock: Clock,
    full_again_at: Mutex<HashMap<IpAddr, Timestamp>>,
}

impl Buckets {
    fn new(name: &'static str, per_minute: u32, clock: &Clock) -> Self {
        Self { name, per_minute, clock: clock.clone(), full_again_at: Mutex::default() }
    }

    /// What is left of a client's quota; an error if there is no request left. `take` uses one.
    fn check(&self, address: IpAddr, take: bool) -> Result<Quota, Quota> {
        let (now, mut all) = (self.clock.now(), self.lock());
        let client = Self::client(&mut all, address, now);
        let used = Self::used(&mut all, client, now);
        if used + self.one() > WINDOW {
            return Err(self.quota(used));
        }
        let used = if take { used + self.one() } else { used };
        if take {
            all.insert(client, now + used);
        }
        Ok(self.quota(used))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Timestamp>> {
        self.full_again_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time in which one request is replenished.
    fn one(&self) -> SignedDuration {
        WINDOW / i32::try_from(self.per_minute).unwrap_or(i32::MAX)
    }

    /// The used part of a quota, as the time to replenish it. A clock that was set back locks nobody out for longer than the
    /// window.
    fn used(all: &mut HashMap<IpAddr, Timestamp>, client: IpAddr, now: Timestamp) -> SignedDuration {
        let Some(full_again_at) = all.get_mut(&client) else { return SignedDuration::ZERO };
        *full_again_at = (*full_again_at).min(now + WINDOW);
        full_again_at.duration_since(now).max(SignedDuration::ZERO)
    }

    /// The address under which a client is counted: a client with one IPv6 address has 2⁶⁴ of them.
    fn client(all: &mut HashMap<IpAddr, Timestamp>, address: IpAddr, now: Timestamp) -> IpAddr {
        let client = match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
            address => address,
        };
        if all.len() < MOST_CLIENTS || all.contains_key(&client) {
            return client;
        }
        all.retain(|_, full_again_at| *full_again_at > now);
        if all.len() < MOST_CLIENTS { client } else { OTHERS }
    }

    fn quota(&self, used: SignedDuration) -> Quota {
        let seconds = |time: SignedDuration| {
            let whole = u64::try_from(time.as_secs()).unwrap_or(0);
            whole + u64::from(time.subsec_nanos() > 0)
        };
        let left = (WINDOW - used).as_nanos() / self.one().as_nanos().max(1);
        Quota {
            name: self.name,
            quota: self.per_minute,
            window_seconds: WINDOW.as_secs().unsigned_abs(),
            remaining: u32::try_from(left).unwrap_or(self.per_minute).min(self.per_minute),
            reset_seconds: seconds(used),
            retry_seconds: seconds(used + self.one() - WINDOW),
        }
    }
}

/// The client of a request: the peer of the connection, or the address that the outermost of the trusted proxies added to
/// `X-Forwarded-For`. Clients can forge the entries before that one.
pub fn client(connection: IpAddr, headers: &HeaderMap, trusted_proxies: u8) -> Client {
    let lines = headers.get_all("x-forwarded-for").iter().filter_map(|line| line.to_str().ok());
    let named: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
    let outermost = named.len().saturating_sub(usize::from(trusted_proxies));
    let forwarded = (trusted_proxies > 0).then(|| address(named.get(outermost)?)).flatten();
    Client(forwarded.unwrap_or(connection))
}

/// Some proxies add a port.
fn address(text: &str) -> Option<IpAddr> {
    let with_port = || text.parse::<std::net::SocketAddr>().ok().map(|address| address.ip());
    text.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}

/// The peer of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

pub fn note_client(mut request: Request, trusted_proxies: u8) -> Request {
    if let Some(Peer(connection)) = request.extensions().get().copied() {
        let client = client(connection, request.headers(), trusted_proxies);
        request.extensions_mut().insert(client);
    }
    request
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOME: &str = "192.0.2.1";

    fn limits(requests: u32, wrong_tokens: u32) -> (Limits, Clock) {
        let clock = Clock::manual("2026-11-20T08:00:00Z".parse().unwrap());
        let variables = [("RATE_LIMIT", requests), ("RATE_LIMIT_WRONG_TOKENS", wrong_tokens)];
        let set = |name: &str| variables.iter().find(|(set, _)| *set == name).map(|(_, value)| value.to_string());
        (Limits::new(&Config::from_lookup(&set).unwrap(), &clock), clock)
    }

    fn of(address: &str) -> Client {
        Client(address.parse().unwrap())
    }

    #[test]
    fn a_client_may_ask_so_often_at_once_and_then_as_the_quota_grows_back() {
        let (limits, clock) = limits(6, 0);
        for left in (0..6).rev() {
            let quota = limits.request(of(HOME)).unwrap().unwrap();
            assert_eq!((quota.remaining, quota.reset_seconds), (left, 60 - 10 * u64::from(left)));
        }
        let refused = limits.request(of(HOME)).unwrap_err();
        assert_eq!((refused.name, refused.quota, refused.window_seconds), ("requests", 6, 60));
        assert_eq!((refused.remaining, refused.reset_seconds, refused.retry_seconds), (0, 60, 10));
        assert!(limits.request(of("192.0.2.2")).is_ok(), "another client's is untouched");
        clock.advance(SignedDuration::from_secs(9));
        assert_eq!(limits.request(of(HOME)).unwrap_err().retry_seconds, 1);
        clock.advance(SignedDuration::from_secs(1));
        assert!(limits.request(of(HOME)).is_ok() && limits.request(of(HOME)).is_err());
        clock.advance(SignedDuration::from_secs(61));
        assert_eq!(limits.request(of(HOME)).unwrap().unwrap().remaining, 5);
    }

    #[test]
    fn wrong_tokens_are_counted_and_right_ones_are_not() {
        let (limits, clock) = limits(0, 3);
        for _ in 0..3 {
            assert!(
                limits.may_guess(of(HOME)).is_ok() && limits.may_guess(of(HOME)).is_ok(),
                "to look uses nothing up"
            );
            limits.guessed_wrong(of(HOME));
        }
        let refused = limits.may_guess(of(HOME)).unwrap_err();
        assert_eq!((refused.name, refused.retry_seconds), ("wrong-tokens", 20));
        assert!(limits.may_guess(of("127.0.0.1")).is_ok());
        clock.advance(SignedDuration::from_secs(20));
        assert!(limits.may_guess(of(HOME)).is_ok());
    }

    #[test]
    fn zero_limits_nothing_and_this_machine_is_not_limited() {
        let (limits, _) = limits(0, 0);
        let none = (0..1_000).all(|_| limits.request(of(HOME)) == Ok(None) && limits.may_guess(of(HOME)).is_ok());
        limits.guessed_wrong(of(HOME));
        assert!(none && limits.may_guess(of(HOME)).is_ok());
        let (limits, _) = self::limits(1, 1);
        assert!((0..100).all(|_| limits.request(of("127.0.0.1")) == Ok(None) && limits.request(of("::1")) == Ok(None)));
    }

    #[test]
    fn one_network_of_ipv6_counts_as_one_client_and_ipv4_within_it_as_itself() {
        let (limits, _) = limits(1, 0);
        assert!(limits.request(of("2001:db8:1:2::3")).is_ok() && limits.request(of("2001:db8:1:2:9::")).is_err());
        assert!(limits.request(of("2001:db8:1:3::3")).is_ok());
        assert!(limits.request(of("::ffff:192.0.2.1")).is_ok() && limits.request(of(HOME)).is_err());
    }

    #[test]
    fn memory_is_bounded_whatever_addresses_come() {
        let (limits, clock) = limits(1, 0);
        let nth = |n: u32| Client(IpAddr::from(std::net::Ipv4Addr::from_bits(0x0a00_0000 + n)));
        let most = MOST_CLIENTS as u32;
        assert!((0..most).all(|n| limits.request(nth(n)).is_ok()));
        assert!(limits.request(nth(most)).is_ok() && limits.request(nth(most + 1)).is_err(), "new ones count as one");
        assert!(limits.request(nth(0)).is_err(), "and those that are known stay known");
        assert!(limits.requests.lock().len() <= MOST_CLIENTS + 1);
        clock.advance(WINDOW);
        assert!(limits.request(nth(most + 1)).is_ok());
        assert_eq!(limits.requests.lock().len(), 1, "full quotas are forgotten");
    }

    #[test]
    fn a_clock_that_was_set_back_keeps_nobody_out_for_longer_than_a_minute() {
        let (limits, clock) = limits(1, 0);
        assert!(limits.request(of(HOME)).is_ok());
        clock.advance(SignedDuration::from_hours(-5));
        assert!(limits.request(of(HOME)).unwrap_err().retry_seconds <= 60);
        clock.advance(WINDOW);
        assert!(limits.request(of(HOME)).is_ok());
    }

    #[test]
    fn only_trusted_proxies_name_the_client() {
        let peer: IpAddr = "10.0.0.9".parse().unwrap();
        let said = |lines: &[&str], trusted| {
            let headers =
                lines.iter().map(|line| ("x-forwarded-for".parse().unwrap(), line.parse().unwrap())).collect();
            client(peer, &headers, trusted).0.to_string()
        };
        assert_eq!(said(&["192.0.2.1"], 0), "10.0.0.9");
        assert_eq!(said(&[], 1), "10.0.0.9");
        assert_eq!(said(&["203.0.113.7, 192.0.2.1"], 1), "192.0.2.1", "the first was made up, or is a proxy's");
        assert_eq!(said(&["203.0.113.7, 192.0.2.1, 10.1.1.1"], 2), "192.0.2.1");
        assert_eq!(said(&["203.0.113.7", "192.0.2.1"], 1), "192.0.2.1");
        assert_eq!(said(&["192.0.2.1"], 2), "192.0.2.1");
        assert_eq!(said(&["192.0.2.1:4711"], 1), "192.0.2.1");
        assert_eq!(said(&["[2001:db8::1]:4711"], 1), "2001:db8::1");
        assert_eq!(said(&["unknown"], 1), "10.0.0.9");
    }
}
