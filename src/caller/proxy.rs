//! Proxies in front of the relay, and the address of whoever stands behind them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Networks whose word on where a request came from is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<Block>);

/// A block of addresses, as `10.0.0.0/8`.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Block {
    address: IpAddr,
    bits: u8,
}

/// Why a text is no block of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlockFault {
    /// Neither an address nor a block.
    #[error(r#"is no block of addresses: write "10.0.0.0/8", "fd00::/8" or one address"#)]
    Shape,
    /// An address within the block, so that one of both was not meant.
    #[error("has an address that does not begin its block")]
    Host,
    /// Everyone: then anyone may say that they are anyone.
    #[error("holds every address, so that anyone could claim to be anyone")]
    Everyone,
}

impl Block {
    /// Whether an address lies in it.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.bits) == Some(self.address)
    }
}

/// The first `bits` of an address; nothing when it has fewer.
fn masked(address: IpAddr, bits: u8) -> Option<IpAddr> {
    let bits = u32::from(bits);
    Some(match address {
        IpAddr::V4(address) => {
            let rest = 32_u32.checked_sub(bits)?;
            let mask = u32::MAX.checked_shl(rest).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
        IpAddr::V6(address) => {
            let rest = 128_u32.checked_sub(bits)?;
            let mask = u128::MAX.checked_shl(rest).unwrap_or(0);
            IpAddr::from((address.to_bits() & mask).to_be_bytes())
        }
    })
}

impl FromStr for Block {
    type Err = BlockFault;

    fn from_str(text: &str) -> Result<Self, BlockFault> {
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| BlockFault::Shape)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), str::parse).map_err(|_| BlockFault::Shape)?;
        if bits == 0 {
            return Err(BlockFault::Everyone);
        }
        match masked(address, bits) {
            None => Err(BlockFault::Shape),
            Some(begin) if begin != address => Err(BlockFault::Host),
            Some(address) => Ok(Self { address, bits }),
        }
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Proxies {
    /// These.
    #[must_use]
    pub const fn new(blocks: Vec<Block>) -> Self {
        Self(blocks)
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Block> {
        self.0.iter()
    }

    fn trust(&self, address: IpAddr) -> bool {
        self.0.iter().any(|block| block.contains(address))
    }

    /// The nearest address that no trusted proxy has: walks from `peer` back along the hops that a
    /// request names, the nearest one last, and believes each only while all behind it are trusted.
    /// A hop that is no address ends the walk at the proxy that wrote it.
    #[must_use]
    pub fn behind<'h>(
        &self,
        peer: IpAddr,
        hops: impl DoubleEndedIterator<Item = &'h str>,
    ) -> IpAddr {
        let mut nearest = peer;
        for hop in hops.rev() {
            if !self.trust(nearest) {
                break;
            }
            let Some(address) = hop_address(hop) else { break };
            nearest = address.to_canonical();
        }
        nearest
    }
}

/// The address of one hop: `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]:4711`, quoted
/// or not (RFC 7239, section 6).
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim().trim_matches('"');
    if let Ok(address) = hop.parse() {
        return Some(address);
    }
    if let Some((address, _)) = hop.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse().ok().filter(IpAddr::is_ipv6);
    }
    let (address, port) = hop.rsplit_once(':')?;
    port.bytes().all(|digit| digit.is_ascii_digit()).then_some(())?;
    address.parse().ok().filter(IpAddr::is_ipv4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_read_and_holds_its_addresses() {
        let block: Block = "10.1.0.0/16".parse().unwrap();
        let holds = |text: &str| block.contains(text.parse().unwrap());
        assert!(holds("10.1.0.0") && holds("10.1.255.255") && holds("::ffff:10.1.2.3"));
        assert!(!holds("10.2.0.0") && !holds("10.0.255.255") && !holds("::1"));
        assert!("::1".parse::<Block>().unwrap().contains("::1".parse().unwrap()));
        assert_eq!("192.0.2.7".parse::<Block>().unwrap().to_string(), "192.0.2.7/32");
        for (text, fault) in [
            ("", BlockFault::Shape),
            ("10.0.0.0/33", BlockFault::Shape),
            ("10.0.0.0/", BlockFault::Shape),
            ("ten/8", BlockFault::Shape),
            ("10.0.0.1/8", BlockFault::Host),
            ("0.0.0.0/0", BlockFault::Everyone),
            ("::/0", BlockFault::Everyone),
        ] {
            assert_eq!(text.parse::<Block>(), Err(fault), "{text}");
        }
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        let blocks = ["10.0.0.0/8", "fd00::/8"].map(|text| text.parse().unwrap());
        let proxies = Proxies::new(blocks.to_vec());
        let behind = |peer: &str, hops: &[&str]| {
            proxies.behind(peer.parse().unwrap(), hops.iter().copied()).to_string()
        };
        // A stranger says what it likes.
        assert_eq!(behind("192.0.2.1", &["1.1.1.1"]), "192.0.2.1");
        assert_eq!(behind("10.0.0.1", &["192.0.2.1"]), "192.0.2.1");
        // What a stranger told the proxy stands to the left of what the proxy saw.
        assert_eq!(behind("10.0.0.1", &["1.1.1.1", "192.0.2.1"]), "192.0.2.1");
        assert_eq!(behind("10.0.0.1", &["1.1.1.1", "192.0.2.1", "10.0.0.2"]), "192.0.2.1");
        assert_eq!(behind("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(behind("::ffff:10.0.0.1", &["192.0.2.1:80"]), "192.0.2.1");
        assert_eq!(behind("10.0.0.1", &["\"[2001:db8::7]\""]), "2001:db8::7");
        for nonsense in ["unknown", "", "_hidden", "192.0.2.1:x", "[192.0.2.1]", "1.2.3"] {
            assert_eq!(behind("10.0.0.1", &["1.1.1.1", nonsense]), "10.0.0.1", "{nonsense}");
        }
        assert_eq!(behind("10.0.0.1", &[]), "10.0.0.1");
        // All are proxies: the farthest is the best that is known.
        assert_eq!(behind("10.0.0.1", &["10.0.0.3", "10.0.0.2"]), "10.0.0.3");
    }
}
