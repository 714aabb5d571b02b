//! Long copies, made piece by piece.

use std::slice::Chunks;

/// How much is copied at once. A multiple of four, as is the key of a mask.
///
/// Beyond 4 KiB the C library copies by `rep movsb`, which some AMD processors do at a twentieth of the speed where the source
/// is aligned and the destination is not (glibc, bug 30994). And what is masked piece by piece is in the first cache then.
pub(crate) const PIECE_LEN: usize = 2 * 1024;

/// The pieces in which bytes are to be copied.
pub(crate) fn pieces(bytes: &[u8]) -> Chunks<'_, u8> {
    bytes.chunks(PIECE_LEN)
}
