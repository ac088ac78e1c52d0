//! Puts load on an agent and says how it copes: `scripts/bench` measures the API with it.
//!
//! ```text
//! load get SOCKET VPS SECONDS            GetVps on one connection, 64 calls under way: {"per_second": 21000.0}
//! load list SOCKET COUNT                 ListVpses, one after the other: {"ms": [3.1, …]}
//! load create SOCKET IMAGE CLIENTS EACH  each client creates so many VPSes, all at once: {"ms": [21.5, …]}
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use insula_api::v1::{
    CreateVpsRequest, GetVpsRequest, ListVpsesRequest, WaitOperationRequest, operation::State,
};
use insula_api::{Client, Endpoint};
use serde_json::{Value, json};

type Error = Box<dyn std::error::Error + Send + Sync>;

/// How many calls are under way on the one connection.
const IN_FLIGHT: usize = 64;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    match runtime.map_err(Error::from).and_then(|runtime| runtime.block_on(run(&words))) {
        Ok(answer) => {
            println!("{answer}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(words: &[&str]) -> Result<Value, Error> {
    match words {
        ["get", socket, vps, seconds] => {
            let client = connect(socket).await?;
            get(&client, vps, Duration::from_secs(seconds.parse()?)).await
        }
        ["list", socket, count] => list(&connect(socket).await?, count.parse()?).await,
        ["create", socket, image, clients, each] => {
            create(socket, image, clients.parse()?, each.parse()?).await
        }
        _ => Err("usage: load get|list|create SOCKET …".into()),
    }
}

async fn connect(socket: &str) -> Result<Client, Error> {
    Ok(Client::connect(Endpoint::Unix(Path::new(socket).to_owned())).await?)
}

async fn get(client: &Client, vps: &str, time: Duration) -> Result<Value, Error> {
    let (count, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let callers = (0..IN_FLIGHT).map(|_| {
        let (mut vpses, count, vps) = (client.vps(), count.clone(), vps.to_owned());
        async move {
            while began.elapsed() < time {
                vpses.get_vps(GetVpsRequest { vps: vps.clone() }).await?;
                count.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<(), Error>(())
        }
    });
    try_join_all(callers).await?;
    #[allow(clippy::cast_precision_loss)] // some hundred thousands
    let count = count.load(Ordering::Relaxed) as f64;
    Ok(json!({ "per_second": count / began.elapsed().as_secs_f64() }))
}

async fn list(client: &Client, count: usize) -> Result<Value, Error> {
    let mut ms = vec![];
    for _ in 0..count {
        let began = Instant::now();
        let request = ListVpsesRequest { page_size: 10_000, ..Default::default() };
        client.vps().list_vpses(request).await?;
        ms.push(milliseconds(began));
    }
    Ok(json!({ "ms": ms }))
}

async fn create(socket: &str, image: &str, clients: usize, each: usize) -> Result<Value, Error> {
    let creators = (0..clients).map(|number| async move {
        let client = connect(socket).await?;
        let mut ms = vec![];
        for count in 0..each {
            let began = Instant::now();
            create_one(&client, image, format!("load-{number}-{count}")).await?;
            ms.push(milliseconds(began));
        }
        Ok::<_, Error>(ms)
    });
    Ok(json!({ "ms": try_join_all(creators).await?.concat() }))
}

async fn create_one(client: &Client, image: &str, name: String) -> Result<(), Error> {
    let request = CreateVpsRequest { name, image: image.to_owned(), ..Default::default() };
    let operation = client.vps().create_vps(request).await?.into_inner().operation;
    let id = operation.ok_or("an answer without an operation")?.id;
    let request = WaitOperationRequest { id, timeout: None };
    match client.operations().wait_operation(request).await?.into_inner().operation {
        Some(done) if done.state() == State::Succeeded => Ok(()),
        other => Err(format!("not created: {:?}", other.and_then(|failed| failed.error)).into()),
    }
}

fn milliseconds(began: Instant) -> f64 {
    began.elapsed().as_secs_f64() * 1e3
}
