//! Measures how soon a neighbour and the agent answer, by asking both in turn from a thread.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use insula_api::{Client, Endpoint, v1};
use insula_testkit::{PATIENCE, ScratchHost, slowness};

/// The pause between two questions, so that asking causes no load of its own. A slow machine gets a
/// longer one.
const PAUSE: Duration = Duration::from_millis(20);

/// Tests of other hosts run beside this one on few CPUs. An answer that takes longer than this is
/// no longer due to chance.
const BEARABLE: Duration = Duration::from_secs(1);

/// The times that answers took.
#[derive(Debug, Default, Clone)]
pub struct Samples {
    /// The times of the agent's answers to `ListVpses`.
    pub list: Vec<Duration>,
    /// The times of the neighbour's answers over HTTP.
    pub http: Vec<Duration>,
}

/// A thread that asks until it is told to stop.
pub struct Pulse {
    end: Sender<()>,
    thread: JoinHandle<Samples>,
}

impl Pulse {
    /// Starts to ask.
    pub fn start(host: &ScratchHost, neighbour: &str) -> Self {
        let asker = Asker::new(host, neighbour);
        let (end, ended) = channel();
        // A new thread is in the network namespace of the thread that made it: the host's.
        let thread = std::thread::spawn(move || {
            asker.ask_while(|_| ended.recv_timeout(PAUSE * slowness()) == Err(RecvTimeoutError::Timeout))
        });
        Self { end, thread }
    }

    /// Asks a number of times.
    pub fn take(host: &ScratchHost, neighbour: &str, count: usize) -> Samples {
        let asker = Asker::new(host, neighbour);
        let ask = move || asker.ask_while(|samples| samples.list.len() < count);
        std::thread::spawn(ask).join().expect("agent and neighbour answer")
    }

    /// Stops asking.
    pub fn stop(self) -> Samples {
        drop(self.end);
        self.thread.join().expect("agent and neighbour answer")
    }
}

impl Samples {
    /// Panics if answers took very much longer than in idle times.
    pub fn assert_bearable(&self, idle: &Self) {
        for (what, busy, idle) in [("list", &self.list, &idle.list), ("HTTP", &self.http, &idle.http)] {
            let (busy_p99, idle_p99) = (percentile(busy, 99), percentile(idle, 99));
            println!(
                "{what}: median {:?}, p99 {busy_p99:?} of {}; idle: {:?}, {idle_p99:?}",
                percentile(busy, 50),
                busy.len(),
                percentile(idle, 50)
            );
            assert!(
                busy_p99 < (BEARABLE * slowness()).max(20 * idle_p99),
                "{what} took {busy_p99:?} instead of {idle_p99:?}"
            );
        }
    }
}

/// The smallest sample that this percentage of samples does not exceed.
pub fn percentile(samples: &[Duration], percent: usize) -> Duration {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    sorted[(sorted.len() - 1) * percent / 100]
}

/// The agent and the neighbour to ask.
struct Asker {
    socket: PathBuf,
    neighbour: SocketAddr,
}

impl Asker {
    fn new(host: &ScratchHost, neighbour: &str) -> Self {
        let address: IpAddr = host.vps(neighbour).interfaces[0].ip_addresses[0].parse().expect("an address");
        Self { socket: host.socket(), neighbour: SocketAddr::new(address, 80) }
    }

    fn ask_while(&self, goes_on: impl Fn(&Samples) -> bool) -> Samples {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let client =
            runtime.block_on(Client::connect(Endpoint::Unix(self.socket.clone()))).expect("an agent");
        let mut samples = Samples::default();
        while goes_on(&samples) {
            samples.list.push(timed(|| {
                let mut vpses = client.vps();
                let list = vpses.list_vpses(v1::ListVpsesRequest::default());
                let answer =
                    runtime.block_on(async { tokio::time::timeout(PATIENCE * slowness(), list).await });
                answer.expect("an answer in time").expect("a list");
            }));
            samples.http.push(timed(|| self.get()));
        }
        samples
    }

    fn get(&self) {
        let mut stream =
            TcpStream::connect_timeout(&self.neighbour, PATIENCE * slowness()).expect("a neighbour");
        stream.set_read_timeout(Some(PATIENCE * slowness())).expect("a time");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.ends_with("ok"), "{answer}");
    }
}

fn timed(act: impl FnOnce()) -> Duration {
    let started = Instant::now();
    act();
    started.elapsed()
}
