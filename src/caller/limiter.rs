//! What every payer has taken of its rate, in bounded memory.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::rate::{Bucket, Rate};
use crate::clock::Timestamp;
use crate::event::ClientName;

/// Whose rate a request counts against, and which rate that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toll {
    /// The rate.
    pub rate: Rate,
    /// Who pays.
    pub payer: Payer,
}

/// Who pays for a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Payer {
    /// A client, wherever it calls from.
    Client(ClientName),
    /// An address, of a web page's visitor or of a stranger.
    Address(Option<ClientName>, Network),
}

/// As much of an address as one caller has: all of an IPv4 address, the first 64 bits of an IPv6
/// address, for a connection is given as many to choose from (RFC 6177).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Network(IpAddr);

impl Network {
    /// Its first address.
    #[must_use]
    pub const fn address(self) -> IpAddr {
        self.0
    }
}

impl From<IpAddr> for Network {
    fn from(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V4(address) => IpAddr::V4(address),
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
        })
    }
}

/// The buckets of everyone who owes something.
#[derive(Debug)]
pub struct Limiter {
    /// Payers remembered at once.
    payers_max: usize,
    buckets: Mutex<Buckets>,
}

#[derive(Debug)]
struct Buckets {
    by_payer: HashMap<Payer, Bucket>,
    /// Shared by all who come while nobody more can be remembered.
    rest: Bucket,
    /// When those who owe nothing were forgotten last.
    swept: Timestamp,
}

/// How often it is worth looking for payers to forget: a look goes through all of them.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

impl Limiter {
    /// Remembers at most `payers_max`.
    #[must_use]
    pub fn new(payers_max: usize) -> Self {
        let rest = Bucket::new(Timestamp::EPOCH);
        let buckets = Buckets { by_payer: HashMap::new(), rest, swept: Timestamp::EPOCH };
        Self { payers_max, buckets: Mutex::new(buckets) }
    }

    /// Takes `items` of a rate, all of them or none.
    ///
    /// # Errors
    /// How long to wait until as many would be let in, when the payer asks for nothing else.
    pub fn take(&self, toll: &Toll, items: u32, now: Timestamp) -> Result<(), Duration> {
        self.with(&toll.payer, now, |bucket| bucket.take(toll.rate, items, now))
    }

    /// Whether one item would be let in, without taking it.
    ///
    /// # Errors
    /// As [`Limiter::take`].
    pub fn look(&self, toll: &Toll, now: Timestamp) -> Result<(), Duration> {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        match buckets.by_payer.get_mut(&toll.payer) {
            Some(bucket) => bucket.wait(toll.rate, 1, now),
            None => Ok(()),
        }
    }

    fn with<T>(&self, payer: &Payer, now: Timestamp, use_it: impl FnOnce(&mut Bucket) -> T) -> T {
        // What a panic left behind is a number that a later look corrects.
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let Buckets { by_payer, rest, swept } = &mut *buckets;
        if let Some(bucket) = by_payer.get_mut(payer) {
            return use_it(bucket);
        }
        let is_due = now.since(*swept) >= SWEEP_EVERY || now < *swept;
        if by_payer.len() >= self.payers_max && is_due {
            by_payer.retain(|_, bucket| !bucket.is_settled(now));
            *swept = now;
        }
        if by_payer.len() >= self.payers_max {
            return use_it(rest);
        }
        use_it(by_payer.entry(payer.clone()).or_insert_with(|| Bucket::new(now)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Timestamp = Timestamp::from_millis(1_795_262_400_000);

    fn toll(address: &str) -> Toll {
        let address: IpAddr = address.parse().unwrap();
        Toll { rate: "1/s".parse().unwrap(), payer: Payer::Address(None, address.into()) }
    }

    #[test]
    fn each_payer_has_a_bucket_of_its_own_and_a_connection_is_one_payer() {
        let limiter = Limiter::new(10);
        for address in ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"] {
            assert_eq!(limiter.take(&toll(address), 1, START), Ok(()), "{address}");
        }
        for same in ["192.0.2.1", "::ffff:192.0.2.1", "2001:db8:0:1:ffff::9"] {
            assert!(limiter.take(&toll(same), 1, START).is_err(), "{same}");
            assert!(limiter.look(&toll(same), START).is_err(), "{same}");
        }
        let named =
            Payer::Address(Some(ClientName::new("shop")), IpAddr::from([192, 0, 2, 1]).into());
        let own = Toll { payer: named, ..toll("192.0.2.1") };
        assert_eq!(limiter.take(&own, 1, START), Ok(()));
        let client = Toll { payer: Payer::Client(ClientName::new("shop")), ..own };
        assert_eq!(limiter.take(&client, 1, START), Ok(()));
    }

    #[test]
    fn looking_takes_nothing_and_remembers_nobody() {
        let limiter = Limiter::new(10);
        for _ in 0..5 {
            assert_eq!(limiter.look(&toll("192.0.2.1"), START), Ok(()));
        }
        assert!(limiter.buckets.lock().unwrap().by_payer.is_empty());
        assert_eq!(limiter.take(&toll("192.0.2.1"), 1, START), Ok(()));
    }

    #[test]
    fn who_cannot_be_remembered_shares_one_bucket_until_others_are_forgotten() {
        let limiter = Limiter::new(2);
        let taken = |address, now| limiter.take(&toll(address), 1, now).is_ok();
        assert!(taken("192.0.2.1", START) && taken("192.0.2.2", START));
        assert!(taken("192.0.2.3", START), "the first of those who share");
        assert!(!taken("192.0.2.4", START), "the second");
        assert!(!taken("192.0.2.1", START), "who is remembered stays so");
        let later = START.after(Duration::from_secs(2));
        for address in ["192.0.2.4", "192.0.2.5"] {
            assert!(taken(address, later), "{address}");
        }
        assert_eq!(limiter.buckets.lock().unwrap().by_payer.len(), 2);
    }
}
