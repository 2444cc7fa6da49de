//! The root file system: EROFS, made by mkfs.erofs (1.8 or later) from a canonical tar stream.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use cairn_disk::Guid;

use super::Error;
use super::tool::{Bind, ToolRunner};

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// lz4: fast to make and to read.
    Lz4,
    /// zstd at a level (1 to 22) in 64 KiB clusters: small.
    Zstd(i32),
}

/// What mkfs.erofs is told, beside the content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// How hard to compress.
    pub compression: Compression,
    /// The time of the file system and of all files, in seconds since 1970.
    pub epoch: u64,
    /// The file system's UUID: derive it from the content.
    pub uuid: Guid,
}

impl Options {
    /// The arguments up to the image's path.
    pub fn arguments(&self) -> Vec<String> {
        let mut args = vec![
            "--tar=f".to_owned(),
            "--quiet".to_owned(),
            "--workers=2".to_owned(),
            format!("-T{}", self.epoch),
            format!("-U{}", self.uuid),
        ];
        match self.compression {
            Compression::Lz4 => args.push("-zlz4".to_owned()),
            Compression::Zstd(level) => args.extend([format!("-zzstd,level={level}"), "-C65536".to_owned()]),
        }
        args
    }
}

/// Makes the file system at `image` (replaced if it exists) from the tar archive in the file `tar`. The size is a
/// whole number of 4096-byte blocks, as dm-verity needs it.
///
/// # Errors
/// The tool fails, or the image is not what it should be.
pub fn from_file(tools: &dyn ToolRunner, tar: File, image: &Path, options: &Options) -> Result<u64, Error> {
    run(tools, tar.into(), image, options)
}

/// The same from a tar stream that `write_tar` writes; the tool works while it is being written.
///
/// # Errors
/// As [`from_file`]; an error of `write_tar` is told before the tool's own.
pub fn from_stream(
    tools: &dyn ToolRunner,
    write_tar: impl FnOnce(&mut dyn Write) -> io::Result<()> + Send,
    image: &Path,
    options: &Options,
) -> Result<u64, Error> {
    let (reader, writer) = io::pipe().map_err(Error::io("make a pipe for", image))?;
    std::thread::scope(|scope| {
        let writing = scope.spawn(move || {
            let mut writer = BufWriter::with_capacity(1 << 18, writer);
            write_tar(&mut writer)?;
            writer.flush()
        });
        let made = run(tools, reader.into(), image, options);
        let written = writing
            .join()
            .unwrap_or_else(|_| Err(io::Error::other("the writing thread died")));
        match (made, written) {
            // The tool went away first. If it failed, what it said is the cause; if not, it had seen the archive's end
            // and left only padding unread.
            (made, Err(e)) if e.kind() == io::ErrorKind::BrokenPipe => made,
            (_, Err(source)) => Err(Error::Io {
                doing: "write the tar stream for",
                path: image.to_owned(),
                source,
            }),
            (made, Ok(())) => made,
        }
    })
}

fn run(tools: &dyn ToolRunner, tar: std::os::fd::OwnedFd, image: &Path, options: &Options) -> Result<u64, Error> {
    // The file exists before the tool runs, so that it alone can be bound into the tool's sandbox.
    File::create(image).map_err(Error::io("create", image))?;
    let image = std::path::absolute(image).map_err(Error::io("find", image))?;
    let mut args: Vec<OsString> = options.arguments().into_iter().map(OsString::from).collect();
    args.push(image.clone().into());
    tools.run("mkfs.erofs", &args, Some(tar), &[Bind::write(&image)])?;
    let size = std::fs::metadata(&image).map_err(Error::io("read", &image))?.len();
    if size == 0 || !size.is_multiple_of(4096) {
        let why = format!("{size} bytes are not a whole number of 4096-byte blocks; mkfs.erofs 1.8 is needed");
        return Err(Error::input(image.display().to_string(), why));
    }
    Ok(size)
}
