//! `merge_videos`, `extract_audio`, `merge_av`: the machine's own ffmpeg, in a sandbox without network that sees nothing but the files it is
//! given (`contracts/flow.md` 5).

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use domain::spec::Limits;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::UnixUser;
use runtime::sandbox::{DEFAULT_PATH, Sandbox};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;
use tokio::process::Child;
use uuid::Uuid;

use super::picture::{fetch, keep};
use super::{Attempt, Failure};
use crate::workflow::worker::Given;

/// What a file may be. Lists of other files are none of it: they would name files of the machine.
const FORMATS: &str = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,mp3,wav,ogg,flac,aac";
/// How long one video passes into the next, in seconds.
const TRANSITION: f64 = 0.5;
/// What is kept of a complaint in bytes.
const COMPLAINT: u64 = 4096;
/// What a program may print in bytes.
const REPORT: u64 = 1 << 20;
/// Memory of a job in bytes.
const MEMORY: u64 = 1 << 30;
/// Where jobs have their folders, below the data directory.
const SCRATCH: &str = "scratch/films";

/// What a file shows.
#[derive(Debug, Default)]
struct Shown {
    width: u64,
    height: u64,
    fps: f64,
    duration: f64,
    video: bool,
    audio: bool,
}

/// A folder that goes with whoever works in it.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left is removed with the next start.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A program that ends with whoever waits for it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(guard) = self.0.id().and_then(|id| i32::try_from(id).ok()) {
            // Asked like this it ends everything inside, and takes its control group along. It fails when it has ended already.
            let _ = kill(Pid::from_raw(guard), Signal::SIGALRM);
        }
    }
}

/// Removes what a killed server has left.
pub(in crate::workflow) fn clear(data_dir: &Path) {
    // Absent is what it should be.
    let _ = std::fs::remove_dir_all(data_dir.join(SCRATCH));
}

pub(super) async fn work_on(attempt: &Attempt) -> Result<Given, Failure> {
    let (ffmpeg, ffprobe) = (program("ffmpeg")?, program("ffprobe")?);
    let data_dir = &attempt.flow.shared.config.data_dir;
    let folder = Folder(data_dir.join(SCRATCH).join(domain::cuid(attempt.key.0)));
    let broken = |error: std::io::Error| Failure::again(format!("no room for the files of this node: {error}"));
    std::fs::create_dir_all(&folder.0).map_err(broken)?;
    let user = attempt.flow.workers.user;
    if let Some(user) = user {
        std::os::unix::fs::chown(&folder.0, Some(user.uid), Some(user.gid)).map_err(broken)?;
    }
    let bench = Bench { folder: &folder.0, data_dir, user, ffmpeg, ffprobe };
    let mut shown = vec![];
    for (at, (input, url)) in sources(attempt)?.into_iter().enumerate() {
        let most = usize::try_from(attempt.flow.shared.ops.settings.flow.max_file_bytes).unwrap_or(usize::MAX);
        let bytes = fetch(attempt, input, &url, most).await?;
        let name = format!("in{at}");
        tokio::fs::write(folder.0.join(&name), &bytes).await.map_err(broken)?;
        shown.push(bench.look(&name).await.map_err(|failure| Failure { text: format!("{input}: {}", failure.text), ..failure })?);
    }
    let made = if attempt.kind == "extract_audio" { "out.mp3" } else { "out.mp4" };
    let transition = attempt.input.get("transition").and_then(Value::as_str).unwrap_or("none");
    let mut args = command(&attempt.kind, &shown, transition)?;
    // A result that would be too large ends where it would be.
    args.extend(["-fs".to_owned(), attempt.flow.shared.ops.settings.flow.max_file_bytes.to_string(), made.to_owned()]);
    bench.run(&bench.ffmpeg, &args).await?;
    let bytes = tokio::fs::read(folder.0.join(made)).await.map_err(broken)?;
    let result = bench.look(made).await?;
    output(attempt, made, &bytes, &result).await
}

/// The files that a node is given, with the names of their inputs.
fn sources(attempt: &Attempt) -> Result<Vec<(&'static str, String)>, Failure> {
    let one = |name: &'static str| {
        let url = attempt.input.get(name).and_then(Value::as_str).unwrap_or_default();
        (name, url.to_owned())
    };
    Ok(match attempt.kind.as_str() {
        "extract_audio" => vec![one("video_url")],
        "merge_av" => vec![one("video_url"), one("audio_url")],
        _ => {
            let urls = attempt.input.get("video_urls").and_then(Value::as_array).cloned().unwrap_or_default();
            if urls.len() < 2 {
                return Err(Failure::once("video_urls: at least two videos are needed"));
            }
            urls.iter().filter_map(Value::as_str).map(|url| ("video_urls", url.to_owned())).collect()
        }
    })
}

async fn output(attempt: &Attempt, made: &str, bytes: &[u8], result: &Shown) -> Result<Given, Failure> {
    let audio = made.ends_with(".mp3");
    let (port, kind) = if audio { ("audio_url", "audio/mpeg") } else { ("video_url", "video/mp4") };
    let url = keep(attempt, &format!("{}{}", attempt.kind, &made[3..]), bytes).await?;
    let mut output = json!({
        "format": &made[4..],
        "duration": result.duration,
        "fileSize": bytes.len(),
        "mimeType": kind,
        port: url,
        "creditUsed": attempt.flow.shared.ops.settings.flow.price(&attempt.kind),
    });
    if !audio {
        output["fps"] = json!(result.fps);
        output["width"] = json!(result.width);
        output["height"] = json!(result.height);
    }
    Ok(Given { output: output.as_object().cloned().unwrap_or_default(), logs: vec![] })
}

fn program(name: &str) -> Result<PathBuf, Failure> {
    let found = std::env::split_paths(DEFAULT_PATH).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| Failure::once(format!("{name} is not on this machine: the operator installs the package ffmpeg")))
}

/// Where a job works, and with what.
struct Bench<'a> {
    folder: &'a Path,
    data_dir: &'a Path,
    /// Whom the programs run as: they read what strangers have made.
    user: Option<UnixUser>,
    ffmpeg: PathBuf,
    ffprobe: PathBuf,
}

impl Bench<'_> {
    /// Runs a program to its end; what it has printed. Dropping the future ends it.
    async fn run(&self, program: &Path, args: &[String]) -> Result<Vec<u8>, Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::again(format!("ffmpeg could not be started: {error}"));
        let sandbox = Sandbox {
            user: self.user,
            root: self.folder.to_owned(),
            hidden: vec![self.data_dir.to_owned()],
            limits: Limits { memory_bytes: Some(MEMORY), cpu_millis: None },
            cgroup: Some(format!("orrery-film-{}", Uuid::new_v4().simple())),
            ..Sandbox::default()
        };
        let mut command = sandbox.command(program, args, &BTreeMap::new(), self.folder).map_err(|error| broken(&error))?;
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running(command.spawn().map_err(|error| broken(&error))?);
        let child = &mut running.0;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let (printed, complaint) = tokio::join!(beginning(stdout, REPORT), beginning(stderr, COMPLAINT));
        let status = child.wait().await.map_err(|error| broken(&error))?;
        if status.success() {
            return Ok(printed);
        }
        let words = String::from_utf8_lossy(&complaint).trim().replace(&format!("{}/", self.folder.display()), "");
        Err(Failure::once(if words.is_empty() { format!("ffmpeg ended with {status}") } else { words }))
    }

    /// What a file shows.
    async fn look(&self, name: &str) -> Result<Shown, Failure> {
        let fixed = ["-v", "error", "-print_format", "json", "-show_format", "-show_streams", "-protocol_whitelist", "file"];
        let args: Vec<String> = fixed.into_iter().chain(["-format_whitelist", FORMATS, name]).map(str::to_owned).collect();
        let printed = self.run(&self.ffprobe, &args).await?;
        let told: Value = serde_json::from_slice(&printed).map_err(|_| Failure::once("this is no video and no sound"))?;
        let number = |value: &Value| value.as_str().and_then(|text| text.parse::<f64>().ok());
        let mut shown = Shown { duration: number(&told["format"]["duration"]).unwrap_or_default(), ..Shown::default() };
        for stream in told["streams"].as_array().into_iter().flatten() {
            match stream["codec_type"].as_str() {
                Some("video") if !shown.video => {
                    shown.video = true;
                    shown.width = stream["width"].as_u64().unwrap_or_default();
                    shown.height = stream["height"].as_u64().unwrap_or_default();
                    shown.fps = rate(stream["avg_frame_rate"].as_str().unwrap_or_default());
                }
                Some("audio") => shown.audio = true,
                _ => {}
            }
        }
        Ok(shown)
    }
}

/// The first bytes of an output; the rest is read and dropped, so that its writer does not wait.
async fn beginning(from: Option<impl tokio::io::AsyncRead + Unpin>, most: u64) -> Vec<u8> {
    let Some(mut from) = from else { return vec![] };
    let mut kept = vec![];
    // A writer that breaks off has said what it could.
    let _ = (&mut from).take(most).read_to_end(&mut kept).await;
    let _ = tokio::io::copy(&mut from, &mut tokio::io::sink()).await;
    kept
}

/// `30000/1001` as a number.
fn rate(text: &str) -> f64 {
    let (above, below) = text.split_once('/').unwrap_or((text, "1"));
    let number = |text: &str| text.parse::<f64>().unwrap_or_default();
    if number(below) > 0.0 { number(above) / number(below) } else { 0.0 }
}

/// The arguments of ffmpeg up to where the result goes.
fn command(kind: &str, shown: &[Shown], transition: &str) -> Result<Vec<String>, Failure> {
    let mut args: Vec<String> = ["-nostdin", "-hide_banner", "-loglevel", "error", "-y"].map(str::to_owned).to_vec();
    for at in 0..shown.len() {
        args.extend(["-protocol_whitelist", "file", "-format_whitelist", FORMATS, "-i"].map(str::to_owned));
        args.push(format!("in{at}"));
    }
    let missing = |name: &str, what: &str| Failure::once(format!("{name}: there is no {what} in this file"));
    let encoded = ["-c:v", "libx264", "-preset", "veryfast", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart"];
    match kind {
        "extract_audio" => {
            shown[0].audio.then_some(()).ok_or_else(|| missing("video_url", "sound"))?;
            args.extend(["-vn", "-c:a", "libmp3lame", "-q:a", "2"].map(str::to_owned));
        }
        "merge_av" => {
            shown[0].video.then_some(()).ok_or_else(|| missing("video_url", "picture"))?;
            shown[1].audio.then_some(()).ok_or_else(|| missing("audio_url", "sound"))?;
            args.extend(["-map", "0:v:0", "-map", "1:a:0", "-shortest"].map(str::to_owned));
            args.extend(encoded.map(str::to_owned));
        }
        _ => {
            shown.iter().all(|one| one.video).then_some(()).ok_or_else(|| missing("video_urls", "picture"))?;
            let sound = shown.iter().any(|one| one.audio);
            args.extend(["-filter_complex".to_owned(), filter(shown, transition, sound), "-map".to_owned(), "[v]".to_owned()]);
            if sound {
                args.extend(["-map", "[a]"].map(str::to_owned));
            }
            args.extend(encoded.map(str::to_owned));
        }
    }
    Ok(args)
}

/// Brings all videos into the form of the first and puts them in a row. Those without a sound are silent.
fn filter(shown: &[Shown], transition: &str, sound: bool) -> String {
    let (width, height) = (shown[0].width.clamp(2, 3840) / 2 * 2, shown[0].height.clamp(2, 3840) / 2 * 2);
    let fps = if shown[0].fps > 0.0 { shown[0].fps.min(60.0) } else { 30.0 };
    let mut text = String::new();
    // Writing to a string cannot fail.
    for (at, one) in shown.iter().enumerate() {
        let _ = write!(
            text,
            "[{at}:v:0]scale={width}:{height}:force_original_aspect_ratio=decrease,pad={width}:{height}:(ow-iw)/2:(oh-ih)/2,\
             setsar=1,fps={fps:.3},format=yuv420p,settb=AVTB[v{at}];"
        );
        if sound && one.audio {
            let _ = write!(text, "[{at}:a:0]aresample=44100,aformat=sample_fmts=fltp:channel_layouts=stereo[a{at}];");
        } else if sound {
            let _ = write!(text, "anullsrc=r=44100:cl=stereo,atrim=duration={:.3},aformat=sample_fmts=fltp[a{at}];", one.duration);
        }
    }
    if !matches!(transition, "fade" | "dissolve") {
        for at in 0..shown.len() {
            let _ = write!(text, "[v{at}]{}", if sound { format!("[a{at}]") } else { String::new() });
        }
        let tail = if sound { "a=1[v][a]" } else { "a=0[v]" };
        let _ = write!(text, "concat=n={}:v=1:{tail}", shown.len());
        return text;
    }
    let mut until = shown[0].duration;
    for at in 1..shown.len() {
        let last = at + 1 == shown.len();
        let name = |kind: char| if last { format!("[{kind}]") } else { format!("[{kind}x{at}]") };
        let before = |kind: char| if at == 1 { format!("[{kind}0]") } else { format!("[{kind}x{}]", at - 1) };
        let offset = (until - TRANSITION).max(0.0);
        let _ = write!(text, "{}[v{at}]xfade=transition={transition}:duration={TRANSITION}:offset={offset:.3}{};", before('v'), name('v'));
        if sound {
            let _ = write!(text, "{}[a{at}]acrossfade=d={TRANSITION}{};", before('a'), name('a'));
        }
        until += shown[at].duration - TRANSITION;
    }
    text.trim_end_matches(';').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_absent_is_named_with_its_package() {
        let failure = program("ffmpeg-of-nobody").expect_err("nobody has it");
        assert_eq!(failure.text, "ffmpeg-of-nobody is not on this machine: the operator installs the package ffmpeg");
        assert!(!failure.repeatable, "another attempt would not find it either");
    }
}
