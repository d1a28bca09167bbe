//! `crop_image`, `resize_image`: decoded and encoded here, in a worker; the bytes come and go as base64.

use std::io::Cursor;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};
use serde_json::{Map, Value, json};

use crate::workflow::worker::Given;

/// Where the picture's bytes stand in the worker's input and output.
pub(super) const BYTES: &str = "bytes";

/// The longest side, in and out.
const SIDE: u32 = 20_000;
/// Memory of a decoded picture.
const MEMORY: u64 = 400 << 20;

fn decode(input: &Map<String, Value>) -> Result<(DynamicImage, ImageFormat), String> {
    let bytes = input.get(BYTES).and_then(Value::as_str).unwrap_or_default();
    let bytes = STANDARD.decode(bytes).map_err(|error| error.to_string())?;
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|error| error.to_string())?;
    let format = reader.format().ok_or("image_url: what is there is no PNG, JPEG, WebP or GIF picture")?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE);
    limits.max_image_height = Some(SIDE);
    limits.max_alloc = Some(MEMORY);
    reader.limits(limits);
    Ok((reader.decode().map_err(|error| format!("image_url: {error}"))?, format))
}

fn encode(picture: &DynamicImage, format: ImageFormat) -> Result<Given, String> {
    let mut bytes = Cursor::new(vec![]);
    let picture = if format == ImageFormat::Jpeg { DynamicImage::from(picture.to_rgb8()) } else { picture.clone() };
    picture.write_to(&mut bytes, format).map_err(|error| error.to_string())?;
    let output = json!({"width": picture.width(), "height": picture.height(), "format": format.to_mime_type(), BYTES: STANDARD.encode(bytes.into_inner())});
    let Value::Object(output) = output else { return Err("no output".to_owned()) };
    Ok(Given { output, logs: vec![] })
}

fn number(input: &Map<String, Value>, name: &str) -> Option<f64> {
    input.get(name).and_then(Value::as_f64)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bounded by the sides of a picture")]
fn pixels(value: f64, most: u32) -> u32 {
    (value.round().max(0.0) as u32).min(most)
}

/// Pixels win over percent; a cut in pixels without a place is centred (`contracts/flow.md` 5).
pub(super) fn crop(input: &Map<String, Value>) -> Result<Given, String> {
    let (picture, format) = decode(input)?;
    let cut = |pixel: &str, percent: &str, whole: u32| {
        let size = number(input, pixel).unwrap_or_else(|| f64::from(whole) * number(input, percent).unwrap_or(100.0) / 100.0);
        pixels(size, whole).max(1)
    };
    let (width, height) = (cut("width_px", "width_percent", picture.width()), cut("height_px", "height_percent", picture.height()));
    let place = |pixel: &str, percent: &str, size_in_pixels: &str, whole: u32, size: u32| {
        let at = number(input, pixel).unwrap_or_else(|| {
            if input.contains_key(size_in_pixels) {
                f64::from(whole - size) / 2.0
            } else {
                f64::from(whole) * number(input, percent).unwrap_or(0.0) / 100.0
            }
        });
        pixels(at, whole - size.min(whole))
    };
    let x = place("x_px", "x_percent", "width_px", picture.width(), width);
    let y = place("y_px", "y_percent", "height_px", picture.height(), height);
    encode(&picture.crop_imm(x, y, width, height), format)
}

pub(super) fn resize(input: &Map<String, Value>) -> Result<Given, String> {
    let (picture, _) = decode(input)?;
    let ratio = f64::from(picture.width()) / f64::from(picture.height().max(1));
    let (width, height) = match (number(input, "width_px"), number(input, "height_px")) {
        (Some(width), Some(height)) => (width, height),
        (Some(width), None) => (width, width / ratio),
        (None, Some(height)) => (height * ratio, height),
        (None, None) => return Err("width_px or height_px: one of them is needed".to_owned()),
    };
    let (width, height) = (pixels(width, SIDE).max(1), pixels(height, SIDE).max(1));
    if u64::from(width) * u64::from(height) * 4 > MEMORY {
        return Err("width_px, height_px: the picture would be too large".to_owned());
    }
    let resized = match input.get("fit").and_then(Value::as_str) {
        Some("cover") => picture.resize_to_fill(width, height, FilterType::Lanczos3),
        Some("fill") => picture.resize_exact(width, height, FilterType::Lanczos3),
        _ => picture.resize(width, height, FilterType::Lanczos3),
    };
    let format = match input.get("format").and_then(Value::as_str) {
        Some("jpeg") => ImageFormat::Jpeg,
        Some("webp") => ImageFormat::WebP,
        _ => ImageFormat::Png,
    };
    encode(&resized, format)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picture(width: u32, height: u32) -> String {
        let mut bytes = Cursor::new(vec![]);
        DynamicImage::new_rgb8(width, height).write_to(&mut bytes, ImageFormat::Png).unwrap();
        STANDARD.encode(bytes.into_inner())
    }

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    fn size(given: &Given) -> (u64, u64) {
        (given.output["width"].as_u64().unwrap(), given.output["height"].as_u64().unwrap())
    }

    #[test]
    fn a_part_is_cut_out() {
        let bytes = picture(200, 100);
        let cropped = crop(&map(json!({BYTES: bytes, "x_percent": 50, "width_percent": 25, "height_percent": 100}))).unwrap();
        assert_eq!(size(&cropped), (50, 100));
        assert_eq!(size(&crop(&map(json!({BYTES: bytes, "width_px": 10, "height_px": 9999}))).unwrap()), (10, 100));
        assert!(crop(&map(json!({BYTES: STANDARD.encode("not a picture")}))).is_err());
    }

    #[test]
    fn sizes_keep_their_ratio() {
        let bytes = picture(200, 100);
        assert_eq!(size(&resize(&map(json!({BYTES: bytes, "width_px": 50}))).unwrap()), (50, 25));
        assert_eq!(size(&resize(&map(json!({BYTES: bytes, "width_px": 50, "height_px": 50, "fit": "cover"}))).unwrap()), (50, 50));
        assert!(resize(&map(json!({BYTES: bytes}))).is_err());
    }
}
