//! Deliberate bugs, to see whether the tests find them (`just mutants`). They are there only in a build with `--cfg kedge_mutants`, which
//! does not compile without the feature `testing`, so never in the product; everywhere else [`bug`] is `false` and costs nothing.

#[cfg(all(kedge_mutants, not(any(test, feature = "testing"))))]
compile_error!("deliberate bugs are for tests only: there is no product with --cfg kedge_mutants");

#[cfg(all(kedge_mutants, any(test, feature = "testing")))]
pub use crate::testing::mutants::bug;

/// Whether this bug is switched on.
#[cfg(not(kedge_mutants))]
#[must_use]
#[inline(always)]
pub const fn bug(_: &str) -> bool {
    false
}
