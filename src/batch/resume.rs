//! Which results of an earlier run are whole.

use super::Job;
use crate::data::{Format, Picture};
use crate::tensor::io::PART;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// Presence of a pair's result, from its header to its end.
pub(super) fn is_whole(job: &Job) -> bool {
    let sizes = [&job.out, &job.a].map(|path| Picture::size(path).ok());
    sizes[0].is_some() && sizes[0] == sizes[1] && has_end(&job.out)
}

/// Completeness of a picture that we wrote: by the mark at its end; a TIFF has none and is read.
fn has_end(path: &Path) -> bool {
    const PNG: &[u8] = b"IEND\xae\x42\x60\x82";
    const JPEG: &[u8] = b"\xff\xd9";
    let mut tail = [0; PNG.len()];
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::End(-(PNG.len() as i64)))?;
        file.read_exact(&mut tail)
    });
    let marked = read.is_ok() && (tail == PNG || tail.ends_with(JPEG));
    marked
        || (path
            .extension()
            .is_some_and(|e| e == Format::Tiff.extension())
            && Picture::read(path).is_ok())
}

/// Removes what a killed run left of files that it was about to write.
pub(super) fn clear_parts(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if is_part_of_the_dead(&name) {
            // If it cannot be removed, it does no harm.
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Test for the beginning of a file by a process that is no more: its number is in the name.
fn is_part_of_the_dead(name: &str) -> bool {
    let name = name.strip_prefix(PART.0);
    let Some(name) = name.and_then(|name| name.strip_suffix(PART.1)) else {
        return false;
    };
    // This process has begun none.
    let process = name.split('-').next().and_then(|id| id.parse().ok());
    let others = process.filter(|&id: &u32| id != std::process::id());
    // Without /proc nobody can say; then it stays.
    let lives = |id: u32| Path::new(&format!("/proc/{id}")).exists();
    others.is_none_or(|id| lives(std::process::id()) && !lives(id))
}
