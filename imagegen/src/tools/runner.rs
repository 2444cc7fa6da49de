//! The tools tree as the image module's [`ToolRunner`].

use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Output};

use cairn_sandbox::{Outcome, Stream, ToolSpec, run_tool};
use cairn_unit::nearest;

use super::ToolsTree;
use super::host::FOLDERS;
use crate::image::tool::{Bind, ToolError, ToolRunner, check};

impl ToolsTree {
    /// The program's absolute path inside the tree.
    pub fn program(&self, tool: &str) -> io::Result<String> {
        let folder = FOLDERS
            .iter()
            .find(|f| self.root.join(f).join(tool).symlink_metadata().is_ok());
        let folder = folder.ok_or_else(|| {
            let names: Vec<String> = FOLDERS
                .iter()
                .flat_map(|f| std::fs::read_dir(self.root.join(f)).into_iter().flatten())
                .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
                .collect();
            let near = nearest(tool, names.iter().map(String::as_str));
            let meant = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("the tools tree {} does not hold it{meant}", self.root.display()),
            )
        })?;
        Ok(format!("/{folder}/{tool}"))
    }

    /// The sandboxed command: `args` after the program, `binds` at the same paths inside.
    pub(super) fn spec(&self, tool: &str, args: &[OsString], binds: &[Bind]) -> io::Result<ToolSpec> {
        let mut argv = vec![self.program(tool)?];
        for arg in args {
            let text = arg.to_str().ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::InvalidInput,
                    format!("the path {} is not UTF-8: rename it", arg.display()),
                )
            })?;
            argv.push(text.to_owned());
        }
        let mut spec = ToolSpec::new(&self.root, argv);
        spec.helper = self.helper.clone();
        spec.env.insert("LC_ALL".into(), "C.UTF-8".into());
        for bind in binds {
            spec = spec.bind(&bind.path, &bind.path, bind.writable);
        }
        Ok(spec)
    }
}

impl ToolRunner for ToolsTree {
    fn run(&self, tool: &str, args: &[OsString], stdin: Option<OwnedFd>, binds: &[Bind]) -> Result<Output, ToolError> {
        let start = |source| ToolError::Start {
            tool: tool.to_owned(),
            source,
        };
        let mut spec = self.spec(tool, args, binds).map_err(start)?;
        spec.stdin = stdin.map_or(Stream::Null, Stream::Fd);
        (spec.stdout, spec.stderr) = (Stream::Pipe, Stream::Pipe);
        let mut child = run_tool(spec).map_err(|failure| start(io::Error::other(failure.to_string())))?;
        let (out, err) = (child.stdout.take(), child.stderr.take());
        let read = |stream: Option<std::fs::File>| {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                stream.read_to_end(&mut bytes)?;
            }
            Ok::<_, io::Error>(bytes)
        };
        let (stdout, stderr) = std::thread::scope(|scope| {
            let err = scope.spawn(move || read(err));
            (
                read(out),
                err.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            )
        });
        let outcome = child
            .wait()
            .map_err(|failure| start(io::Error::other(failure.to_string())))?;
        let status = ExitStatus::from_raw(match outcome {
            Outcome::Exited(code) => (code & 0xff) << 8,
            Outcome::Signaled(signal) => signal & 0x7f,
        });
        check(
            tool,
            Output {
                status,
                stdout: stdout.map_err(start)?,
                stderr: stderr.map_err(start)?,
            },
        )
    }
}
