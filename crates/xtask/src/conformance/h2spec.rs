//! `cargo xtask conformance h2spec`: h2spec against the gateway, once for each protocol that the
//! gateway may speak to its backend. What follows the command goes to h2spec.
//!
//! Go and its module proxy are needed; without them the output says SKIPPED and why.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, ensure};

/// The last version that the module proxy serves under this path.
const H2SPEC: &str = "github.com/summerwind/h2spec/cmd/h2spec@v2.2.1+incompatible";

pub(crate) fn run(passed_on: &[&str]) -> anyhow::Result<ExitCode> {
    let Some(h2spec) = installed()? else {
        return Ok(ExitCode::SUCCESS);
    };
    let gateway = gateway()?;
    let (origin, _origin) = start(&gateway, &[&origin()?, "http1"])?;
    let (over_http2, _gateway) = start(&gateway, &[&format!("127.0.0.1:{origin}"), "h2c"])?;
    let mut passed = true;
    for (protocol, port) in [("http1", origin), ("h2c", over_http2)] {
        println!("== h2spec, backend over {protocol}");
        let mut suite = Command::new(&h2spec);
        suite.args([
            "--host",
            "127.0.0.1",
            "--port",
            &port.to_string(),
            "--timeout",
            "5",
        ]);
        suite.args(passed_on);
        passed &= suite.status()?.success();
    }
    Ok(if passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// The program that is the data plane alone, built.
pub(super) fn gateway() -> anyhow::Result<PathBuf> {
    let build = [
        "build",
        "--quiet",
        "--package",
        "proxy",
        "--example",
        "gateway",
    ];
    let status = Command::new(env!("CARGO")).args(build).status()?;
    ensure!(status.success(), "the gateway does not build");
    Ok(built()?.join("examples/gateway"))
}

/// The suite's program, built if it is not there; `None` without Go.
fn installed() -> anyhow::Result<Option<PathBuf>> {
    let dir = built()?.join("conformance");
    let program = dir.join("bin/h2spec");
    if program.exists() {
        return Ok(Some(program));
    }
    if Command::new("go").arg("version").output().is_err() {
        println!("SKIPPED: h2spec needs Go, which is not on PATH");
        return Ok(None);
    }
    let installed = Command::new("go")
        .args(["install", H2SPEC])
        .env("GOPATH", &dir)
        .env("GOFLAGS", "-modcacherw")
        .status()?;
    if !installed.success() {
        println!("SKIPPED: h2spec could not be fetched and built, see above");
        return Ok(None);
    }
    Ok(Some(program))
}

/// Where cargo put this program, and what it built beside it.
fn built() -> anyhow::Result<PathBuf> {
    let mut program = std::env::current_exe()?;
    program.pop();
    Ok(program)
}

/// An HTTP/1.1 server that answers once it has the whole request: an earlier answer would end
/// streams that h2spec means to misuse. Returns its address.
fn origin() -> anyhow::Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?.to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            // Ends with its connection.
            std::thread::spawn(move || serve(&stream));
        }
    });
    Ok(address)
}

fn serve(mut stream: &TcpStream) -> std::io::Result<()> {
    const BODY: [u8; 1024] = [b'x'; 1024];
    let mut reader = BufReader::new(stream);
    loop {
        let head = lines(&mut reader)?;
        if head.is_empty() {
            return Ok(());
        }
        let field = |name: &str| head.iter().find_map(|line| line.strip_prefix(name));
        if field("transfer-encoding: ").is_some() {
            loop {
                let mut size = String::new();
                reader.read_line(&mut size)?;
                match u64::from_str_radix(size.trim_end(), 16).unwrap_or_default() {
                    0 => break,
                    size => skip(&mut reader, size + 2)?,
                }
            }
            lines(&mut reader)?;
        } else if let Some(length) = field("content-length: ") {
            skip(&mut reader, length.parse().unwrap_or_default())?;
        }
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n",
            BODY.len()
        )?;
        if !head[0].starts_with("head ") {
            stream.write_all(&BODY)?;
        }
    }
}

/// Lines up to an empty one, in lower case.
fn lines(reader: &mut impl BufRead) -> std::io::Result<Vec<String>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end() {
            "" => return Ok(lines),
            line => lines.push(line.to_ascii_lowercase()),
        }
    }
}

fn skip(reader: &mut impl Read, count: u64) -> std::io::Result<()> {
    std::io::copy(&mut reader.take(count), &mut std::io::sink()).map(drop)
}

/// Ends its process when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The gateway on a free port, once it accepts.
fn start(program: &Path, arguments: &[&str]) -> anyhow::Result<(u16, Running)> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let child = Command::new(program)
        .arg(format!("127.0.0.1:{port}"))
        .args(arguments)
        .stdin(Stdio::null())
        .spawn()
        .with_context(|| format!("{}", program.display()))?;
    let running = Running(child);
    for _ in 0..200 {
        if TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok((port, running));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    anyhow::bail!("{} does not accept connections", program.display())
}
