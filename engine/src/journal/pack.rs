//! Large records, packed: a plan says the same of each of its steps, and what is written for a task decides how many can be accepted in a
//! second. Small ones stay as they are, to be read by eye. Bytes only: it reads and writes nothing.

use crate::store::MAX_BLOB;

/// Records from this size on are packed, in bytes.
const FROM: usize = 1024;
/// How a packed record begins: no JSON does. Then its length as four big-endian bytes, then an LZ4 block
/// (<https://github.com/lz4/lz4/blob/dev/doc/lz4_Block_format.md>).
const MARK: u8 = b'Z';
const HEAD: usize = 5;

/// The record packed, or as it is where that is no longer.
pub(super) fn pack(bytes: Vec<u8>) -> Vec<u8> {
    let Some(length) = u32::try_from(bytes.len()).ok().filter(|_| (FROM..=MAX_BLOB).contains(&bytes.len()))
    else {
        return bytes;
    };
    let mut packed = vec![0; HEAD + lz4_flex::block::get_maximum_output_size(bytes.len())];
    packed[0] = MARK;
    packed[1..HEAD].copy_from_slice(&length.to_be_bytes());
    match lz4_flex::block::compress_into(&bytes, &mut packed[HEAD..]) {
        Ok(size) if HEAD + size < bytes.len() => {
            packed.truncate(HEAD + size);
            packed
        }
        Ok(_) | Err(_) => bytes,
    }
}

pub(super) fn is_packed(stored: &[u8]) -> bool {
    stored.first() == Some(&MARK)
}

/// The record as it was before it was packed; one that is not packed, as it is.
///
/// # Errors
/// What is wrong with it, in words.
pub(super) fn unpack(stored: Vec<u8>) -> Result<Vec<u8>, String> {
    if !is_packed(&stored) {
        return Ok(stored);
    }
    let cut = || "it is packed and cut short".to_owned();
    let (head, block) = stored.split_at_checked(HEAD).ok_or_else(cut)?;
    let length: [u8; 4] = head[1..].try_into().map_err(|_| cut())?;
    // A length that nothing is written with is a lie, and no reason to ask for the memory.
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_BLOB {
        return Err(format!("it is packed and says that it is {length} bytes long"));
    }
    let bytes =
        lz4_flex::block::decompress(block, length).map_err(|error| format!("it is packed: {error}"))?;
    if bytes.len() == length {
        return Ok(bytes);
    }
    Err(format!("it is packed and {} bytes long, not {length} as it says", bytes.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_the_same_when_unpacked(bytes in prop::collection::vec(0u8..4, 0..5000)) {
            let record = [b"{".as_slice(), &bytes].concat();
            let packed = pack(record.clone());
            prop_assert!(packed.len() <= record.len());
            prop_assert_eq!(is_packed(&packed), record.len() >= FROM);
            prop_assert_eq!(unpack(packed), Ok(record));
        }

        #[test]
        fn bytes_that_nobody_has_packed_are_refused_or_read_and_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..300)
        ) {
            let stored = [&[MARK], bytes.as_slice()].concat();
            if let Ok(record) = unpack(stored.clone()) {
                prop_assert!(record.len() <= MAX_BLOB);
            }
        }
    }

    /// The form is that of journals that exist.
    #[test]
    fn a_record_packed_by_hand_is_read() {
        // Five literals, then fourteen bytes from five before, then the last five as literals.
        let stored = b"Z\0\0\0\x18\x5ahello\x05\0\x50world";
        assert_eq!(unpack(stored.to_vec()).unwrap(), b"hellohellohellohellworld");
    }

    #[test]
    fn a_packed_record_that_is_cut_or_lies_about_its_length_says_so() {
        let packed = pack([b"{".as_slice(), &[b'x'; 3000]].concat());
        assert!(packed.len() < 100);
        for end in 1..packed.len() {
            assert!(unpack(packed[..end].to_vec()).is_err(), "{end}");
        }
        for length in [2999_u32, 3002, u32::MAX] {
            let mut lie = packed.clone();
            lie[1..HEAD].copy_from_slice(&length.to_be_bytes());
            assert!(unpack(lie).is_err(), "{length}");
        }
    }
}
