//! Starts a test host, says how to reach it, and removes it on Ctrl-C.
//!
//! `cargo run -p kedge-testenv --example host [NAME]`

use kedge_testenv::{Host, HostSpec, Progress, Testenv};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let name = std::env::args().nth(1).unwrap_or_else(|| "web1".to_owned());
    let env = Testenv::open(&Progress::stderr()).await?;
    let host = Host::start(&env, &HostSpec::web_and_database(name)).await?;
    println!("container  {}", host.container_name());
    println!("nginx      http://127.0.0.1:{}/", host.http_port());
    println!("apache     http://127.0.0.1:{}/", host.apache_port());
    println!("mariadb    127.0.0.1:{}", host.mysql_port());
    println!(
        "ssh        ssh -i {} -o UserKnownHostsFile={} -p {} deploy@127.0.0.1",
        host.ssh_key_path().display(),
        host.known_hosts_path().display(),
        host.ssh_port()
    );
    println!("Ctrl-C removes it.");
    tokio::signal::ctrl_c().await?;
    host.shutdown().await?;
    env.shutdown().await?;
    Ok(())
}
