//! Making secrets: policies, and the draw itself without bias. Pure: randomness is a parameter.

use keywheel_protocol::Secret;

/// Random bytes for the draw; fills the whole slice.
pub type Random<'a> = &'a mut dyn FnMut(&mut [u8]);

/// A checked generation policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    _private: (),
}

impl Policy {
    /// The bits of entropy of what [`Policy::generate`] draws.
    pub fn entropy_bits(&self) -> f64 {
        0.0
    }

    /// A new secret.
    pub fn generate(&self, _random: Random<'_>) -> Secret {
        Secret::new(String::new())
    }

    /// The policy to use after a target refused `refusals` values (1 or more) of this one: longer, more classes.
    #[must_use]
    pub fn stricter(&self, _refusals: u32) -> Self {
        self.clone()
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { _private: () }
    }
}
