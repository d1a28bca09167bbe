//! Paths of an archive and of the settings, parsed into strict relative ones.

/// More folders inside one another than this are an attack.
const DEEPEST: usize = 100;
/// Longer paths do not fit the file system beside the artifact's own.
const LONGEST: usize = 3000;

/// An entry's path without `.` and doubled slashes; the root is "".
///
/// # Errors
/// Why it was refused, for the middle of a sentence.
pub(super) fn of_entry(bytes: &[u8]) -> Result<String, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "a name in it is not UTF-8".to_owned())?;
    relative(text).map_err(|why| format!("the path {:?} {why}", shortened(text)))
}

/// A relative path inside a tree: no `..`, no leading slash, no NUL.
///
/// # Errors
/// What is wrong with it, to follow the path in a sentence.
pub(crate) fn relative(text: &str) -> Result<String, &'static str> {
    if text.contains('\0') {
        return Err("holds a NUL");
    }
    if text.starts_with('/') {
        return Err("is absolute");
    }
    if text.len() > LONGEST {
        return Err("is too long");
    }
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err("leaves its folder with `..`");
    }
    if parts.len() > DEEPEST {
        return Err("is more than 100 folders deep");
    }
    Ok(parts.join("/"))
}

/// The target of a link at `path`, when it stays inside.
///
/// `..` may only stand at its beginning and not reach above the root. The link's parents are real folders, so those steps are exact; and
/// what follows can only pass through links of which the same is true.
pub(super) fn of_link(path: &str, target: &[u8]) -> Result<String, String> {
    let why = |what: &str| format!("the link {:?} {what}", shortened(path));
    let target = std::str::from_utf8(target).map_err(|_| why("has a target that is not UTF-8"))?;
    let parts: Vec<&str> = target.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    let up = parts.iter().take_while(|part| **part == "..").count();
    let leaves = target.starts_with('/') || up > path.matches('/').count() || parts[up..].contains(&"..");
    if leaves || target.is_empty() || target.contains('\0') || target.len() > LONGEST {
        return Err(why("points out of the upload"));
    }
    Ok(target.to_owned())
}

fn shortened(text: &str) -> String {
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_stay_inside() {
        let inside = [("a", "b"), ("a/b", "../c"), ("a/b/c", "../../d/e"), ("a", "./b//c"), ("a/b", "..")];
        let outside = [("a", "/etc/passwd"), ("a", ".."), ("a/b", "../.."), ("a/b/c", "d/../../../.."), ("a/b/c", "l/.."), ("a", "")];
        assert!(inside.iter().all(|(path, target)| of_link(path, target.as_bytes()).is_ok()));
        for (path, target) in outside {
            assert!(of_link(path, target.as_bytes()).is_err(), "{path} -> {target}");
        }
    }
}
