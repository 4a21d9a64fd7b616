// The server in Rust: tokio's runtime on one thread, a task and a buffer per connection.

use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

async fn echo(mut connection: TcpStream) -> std::io::Result<()> {
    connection.set_nodelay(true)?;
    let mut buffer = [0; 16 * 1024];
    loop {
        let size = connection.read(&mut buffer).await?;
        if size == 0 {
            return Ok(());
        }
        connection.write_all(&buffer[..size]).await?;
    }
}

async fn serve(host: &str, port: &str) -> std::io::Result<()> {
    let listener = TcpListener::bind(format!("{host}:{port}")).await?;
    println!("listening on {host}:{port}");
    loop {
        match listener.accept().await {
            // How a connection ended, with a reset or well, is its own affair.
            Ok((connection, _)) => drop(tokio::spawn(echo(connection))),
            // Out of descriptors, most likely: accepting again at once would spin.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls get a valid pointer to a local.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

fn main() -> std::io::Result<()> {
    let arguments: Vec<String> = std::env::args().collect();
    let option = |name: &str| arguments.iter().position(|argument| argument == name).and_then(|at| arguments.get(at + 1));
    let host = option("--host").map_or("127.0.0.1", String::as_str);
    let port = option("--port").map_or("0", String::as_str);
    raise_descriptor_limit();
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(serve(host, port))
}
