//! What a file is, by its first bytes: what its sender says counts for nothing, because browsers act on it.

/// The beginnings of files, at their offsets.
const KNOWN: [(usize, &[u8], &str); 17] = [
    (0, b"\x89PNG\r\n\x1a\n", "image/png"),
    (0, b"\xff\xd8\xff", "image/jpeg"),
    (0, b"GIF8", "image/gif"),
    (8, b"WEBP", "image/webp"),
    (8, b"WAVE", "audio/wav"),
    (8, b"AVI ", "video/x-msvideo"),
    (0, b"BM", "image/bmp"),
    (4, b"ftypqt", "video/quicktime"),
    (4, b"ftypM4A", "audio/mp4"),
    (4, b"ftyp", "video/mp4"),
    (0, b"\x1aE\xdf\xa3", "video/webm"),
    (0, b"OggS", "audio/ogg"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"fLaC", "audio/flac"),
    (0, b"%PDF-", "application/pdf"),
    (0, b"PK\x03\x04", "application/zip"),
    (0, b"\x1f\x8b", "application/gzip"),
];

/// The type of a file. Text is plain text, whatever it says of itself.
#[must_use]
pub fn content_type(bytes: &[u8]) -> &'static str {
    let begins = |(at, magic, _): &&(usize, &[u8], &str)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((_, _, kind)) = KNOWN.iter().find(begins) {
        return kind;
    }
    if matches!(bytes, [0xff, second, ..] if second & 0xe0 == 0xe0) {
        return "audio/mpeg";
    }
    let head = &bytes[..bytes.len().min(4096)];
    let text = match std::str::from_utf8(head) {
        Ok(_) => true,
        // Cut in the middle of a character.
        Err(error) => error.error_len().is_none() && head.len() == 4096,
    };
    if text && !head.contains(&0) { "text/plain; charset=utf-8" } else { "application/octet-stream" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_text_and_a_picture_is_what_it_is() {
        assert_eq!(content_type(b"<html><script>"), "text/plain; charset=utf-8");
        assert_eq!(content_type(b"\x89PNG\r\n\x1a\n..."), "image/png");
        assert_eq!(content_type(b"RIFF....WEBPVP8 "), "image/webp");
        assert_eq!(content_type(b"\0\0\0\x18ftypmp42"), "video/mp4");
        assert_eq!(content_type(&[0, 1, 2]), "application/octet-stream");
        assert_eq!(content_type(b""), "text/plain; charset=utf-8");
    }
}
