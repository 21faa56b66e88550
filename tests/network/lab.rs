//! Two network namespaces with a cable between them: `eth0` for the network under test, `srv0` for a server.
//!
//! A test runs twice. The first run, on the machine, makes the namespaces and starts the second, which is the same
//! test in the client's namespace. All namespaces are gone afterwards, also when the test fails.

use std::{
    env, fs,
    io::{ErrorKind, Write},
    net::{IpAddr, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{sync::watch, time::timeout};
use vestibule::{
    config::{cmdline::CommandLine, network::NetworkConfig},
    control::message::Link,
    daemon::net::{self, Net},
    root::Root,
};

/// Tells the second run its namespaces' common name.
const VARIABLE: &str = "VESTIBULE_TEST_NAMESPACE";
/// Generous: the machine may be busy, and DHCP retries take seconds.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `body` in a namespace of its own. Only root can; others see a line that says so.
pub fn in_namespace(test: &str, body: impl AsyncFnOnce(Lab)) {
    if let Ok(name) = env::var(VARIABLE) {
        log::set_logger(&Stderr).expect("one test per process");
        log::set_max_level(log::LevelFilter::Info);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        return runtime.block_on(body(Lab::at(name)));
    }
    if !nix::unistd::geteuid().is_root() {
        // Not `eprintln!`, which the test harness hides when a test passes.
        let line = format!("SKIPPED {test}: needs root, for network namespaces\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    let name = format!("vestibule-{}-{}", std::process::id(), test.replace("::", "-"));
    let namespaces = Namespaces::new(&name);
    let again = Command::new("ip")
        .args(["netns", "exec", &namespaces.0[0]])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(VARIABLE, &name)
        .output()
        .expect("ip, from Debian's iproute2");
    let [out, err] = [&again.stdout, &again.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(again.status.success(), "{out}{err}");
    assert!(out.contains("1 passed"), "“{test}” is not the name of the test:\n{out}");
}

/// The same, where the kernel can make an interface of this type (`ip link add`, beside a veth `one`). Others see a line that
/// says so: kernels for virtual machines may have neither bonds nor VLANs.
pub fn in_namespace_with(link: &str, test: &str, body: impl AsyncFnOnce(Lab)) {
    let line = format!("ip link add name one type veth peer name two && ip link add name probe {link}");
    let probe = Command::new("unshare").args(["-n", "sh", "-ec", &line]).stderr(Stdio::null()).status();
    if nix::unistd::geteuid().is_root() && !probe.expect("unshare, from util-linux").success() {
        let line = format!("SKIPPED {test}: this kernel does not know “ip link add {link}”\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
        return;
    }
    in_namespace(test, body);
}

/// Makes them, and takes them away when dropped.
struct Namespaces([String; 2]);

impl Namespaces {
    fn new(name: &str) -> Self {
        let made = Self(["client", "server"].map(|end| format!("{name}-{end}")));
        for namespace in &made.0 {
            sh(&format!("ip netns add {namespace} && ip -n {namespace} link set lo up"));
        }
        made
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for namespace in &self.0 {
            let ended = Command::new("ip").args(["netns", "delete", namespace]).status();
            assert!(std::thread::panicking() || ended.is_ok_and(|status| status.success()), "{namespace} stays");
        }
    }
}

pub struct Lab {
    server: String,
    root: PathBuf,
    processes: Vec<Child>,
    /// Leaders of their process groups, in the client's namespace.
    beside: Vec<Child>,
    /// How the last server was started.
    serving: (u8, Vec<String>),
}

impl Lab {
    fn at(name: String) -> Self {
        let root = env::temp_dir().join(&name);
        fs::create_dir_all(root.join("etc")).unwrap();
        // Where the kernel is asked, the real one answers; everything else is the initramfs of the test.
        for real in ["sys", "proc"] {
            std::os::unix::fs::symlink(format!("/{real}"), root.join(real)).unwrap();
        }
        Self {
            server: format!("{name}-server"),
            root,
            processes: Vec::new(),
            beside: Vec::new(),
            serving: (100, Vec::new()),
        }
    }

    /// Connects a new interface `name` in the client's namespace with `srv0`, which is up and has 192.0.2.1/24. The
    /// client's end is down, and was up before: the first time leaves a mark of its own (the queueing discipline).
    pub fn cable(&self, name: &str) {
        let Self { server, .. } = self;
        sh(&format!("ip link add {name} type veth peer name srv0 netns {server}"));
        sh(&format!(
            "ip -n {server} address add 192.0.2.1/24 dev srv0; ip link set {name} up; ip link set {name} down"
        ));
        self.plug(true);
    }

    /// Another interface, whose cable (`NAME-end` at the server) is not plugged in.
    pub fn other_cable(&self, name: &str) {
        sh(&format!("ip link add {name} type veth peer name {name}-end netns {}", self.server));
        sh(&format!("ip link set {name} up; ip link set {name} down"));
    }

    /// Plugs the cable in at the server's end, or out.
    pub fn plug(&self, plugged: bool) {
        sh(&format!("ip -n {} link set srv0 {}", self.server, if plugged { "up" } else { "down" }));
    }

    /// A DHCP server for 192.0.2.`first` and the nine after it, lease two minutes (dnsmasq has no shorter), with more
    /// options; stops the one before. It answers at once, and knows no lease of the one before.
    pub fn serve(&mut self, first: u8, options: &[&str]) {
        self.stop_serving();
        let _ = fs::remove_file(self.root.join("leases")); // there is none the first time
        self.serving = (first, options.iter().map(|option| option.to_string()).collect());
        self.serve_again();
    }

    /// The same server with the same leases, and a new log.
    pub fn serve_again(&mut self) {
        let (first, options) = &self.serving;
        let dnsmasq = Command::new("ip")
            .args(["netns", "exec", &self.server, "dnsmasq", "--no-daemon", "--conf-file=/dev/null"])
            .args(["--user=root", "--pid-file=", "--no-ping", "--dhcp-authoritative"])
            .arg(format!("--dhcp-leasefile={}", self.root.join("leases").display()))
            .arg(format!("--dhcp-range=192.0.2.{first},192.0.2.{},255.255.255.0,2m", first + 9))
            .args((!options.iter().any(|it| it.starts_with("--port="))).then_some("--port=0"))
            .args(options)
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.root.join("served")).unwrap())
            .spawn()
            .expect("dnsmasq, from Debian's dnsmasq-base");
        self.processes.push(dnsmasq);
        // It hears whatever is asked from here on, and so tests can count.
        let started = Instant::now();
        while self.count_served("started, version") == 0 {
            assert!(started.elapsed() < DEADLINE, "dnsmasq does not start: {:?}", self.read("served"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// A router that advertises 2001:db8::/64 on `srv0`, and answers whoever asks for it; dnsmasq's own pause between
    /// unasked advertisements is minutes.
    pub fn advertise(&mut self, range: &str) {
        self.in_server("ip address replace 2001:db8::1/64 dev srv0 nodad");
        let dnsmasq = Command::new("ip")
            .args(["netns", "exec", &self.server, "dnsmasq", "--no-daemon", "--port=0", "--conf-file=/dev/null"])
            .args(["--user=root", "--pid-file=", "--enable-ra", "--interface=srv0", "--bind-interfaces"])
            .arg(format!("--dhcp-leasefile={}", self.root.join("leases6").display()))
            .arg(format!("--dhcp-range={range}"))
            .stdin(Stdio::null())
            .stderr(fs::File::create(self.root.join("advertised")).unwrap())
            .spawn()
            .expect("dnsmasq, from Debian's dnsmasq-base");
        self.processes.push(dnsmasq);
    }

    /// Starts a program that serves, in the server's namespace; what it says is added to the log. Its process.
    pub fn start_server(&mut self, program: &mut Command) -> u32 {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.root.join("served")).unwrap();
        let inside = ["netns", "exec", &self.server];
        let mut started = Command::new("ip");
        started.args(inside).arg(program.get_program()).args(program.get_args());
        started.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        started.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let started = started.spawn().expect("ip, from Debian's iproute2");
        let process = started.id();
        self.processes.push(started);
        process
    }

    /// Starts a program in the client's namespace.
    pub fn start_beside(&mut self, program: &mut Command) {
        let log = fs::File::create(self.root.join("beside")).unwrap();
        let started = program.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        // Whatever it starts itself ends with it.
        let started = started.process_group(0).spawn().expect("a program that was looked for");
        self.beside.push(started);
    }

    /// How many messages of this kind the server has logged.
    pub fn count_served(&self, kind: &str) -> usize {
        self.read("served").unwrap_or_default().matches(kind).count()
    }

    pub async fn until_served(&self, kind: &str, times: usize) {
        until(async || self.count_served(kind) >= times).await;
    }

    pub fn stop_serving(&mut self) {
        for mut process in self.processes.drain(..) {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub fn in_server(&self, command: &str) -> String {
        sh(&format!("ip netns exec {} {command}", self.server))
    }

    /// Puts a file into the initramfs.
    pub fn file(&self, path: &str, contents: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    /// The contents of a file of the initramfs, if it is there.
    pub fn read(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.root.join(path)).ok()
    }

    pub fn root(&self) -> Root {
        Root::new(&self.root)
    }

    pub fn exists(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }

    /// Starts what is tested.
    pub fn start(&self, command_line: &str) -> Watched {
        self.start_with(command_line, |_| {})
    }

    /// The same, with what the command line has no word for.
    pub fn start_with(&self, command_line: &str, change: impl FnOnce(&mut NetworkConfig)) -> Watched {
        let (mut config, problems) = NetworkConfig::parse(&CommandLine::parse(command_line));
        assert_eq!(problems, [""; 0]);
        change(&mut config);
        let net = net::start(config, self.root());
        Watched { links: net.links(), net }
    }

    /// Starts it, waits for an address, and ends it as a signal 9 does: whatever it was about to do is not done.
    pub fn start_and_kill(&self, command_line: &str, name: &str, begins: &str) {
        let life = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let it = runtime.block_on(async {
                let mut it = self.start(command_line);
                it.until_address(name, begins).await;
                it
            });
            drop(runtime); // and with it all tasks, while nobody has told them to stop
            drop(it);
        };
        std::thread::scope(|scope| scope.spawn(life).join().unwrap());
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.stop_serving();
        for mut process in self.beside.drain(..) {
            let group = nix::unistd::Pid::from_raw(process.id() as i32);
            nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL).unwrap();
            process.wait().unwrap();
        }
        if std::thread::panicking() {
            for log in ["served", "beside", "nm/log"] {
                eprintln!("{}", self.read(log).unwrap_or_default());
            }
        }
        fs::remove_dir_all(&self.root).unwrap();
    }
}

/// The network under test, and a view of its state.
pub struct Watched {
    pub net: Net,
    links: watch::Receiver<Arc<[Link]>>,
}

impl Watched {
    /// Waits until the interface is as wanted, and returns it.
    pub async fn until(&mut self, name: &str, what: &str, wanted: impl Fn(&Link) -> bool) -> Link {
        let find = |links: &Arc<[Link]>| links.iter().find(|link| link.name == name && wanted(link)).cloned();
        let found = timeout(DEADLINE, self.links.wait_for(|links| find(links).is_some())).await;
        let found = found.map(|links| find(&links.unwrap()).unwrap());
        found.unwrap_or_else(|_| panic!("{name} never {what}: {:#?}", self.links.borrow()))
    }

    pub async fn gone(&mut self, name: &str) {
        let gone = self.links.wait_for(|links| links.iter().all(|link| link.name != name));
        timeout(DEADLINE, gone).await.expect("the interface went").unwrap();
    }

    pub async fn until_address(&mut self, name: &str, begins: &str) -> Link {
        let wanted = |link: &Link| link.addresses.iter().any(|address| address.starts_with(begins));
        self.until(name, &format!("had {begins}"), wanted).await
    }
}

/// Waits for what no event tells of: looks again until it is so.
pub async fn until(mut so: impl AsyncFnMut() -> bool) {
    let looking = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, looking).await.expect("it never came to be");
}

/// The kernel has given the interface its link-local address, and has checked it.
pub async fn has_link_local(name: &str) {
    until(async || {
        let shown = sh(&format!("ip -6 address show dev {name} scope link"));
        shown.contains("fe80::") && !shown.contains("tentative")
    })
    .await;
}

/// Whether packets go there and back: nobody listens, and the other end says so.
pub fn reaches(address: &str) -> bool {
    let to = (address.parse::<IpAddr>().unwrap(), 9).into();
    let connected = TcpStream::connect_timeout(&to, Duration::from_secs(10));
    connected.is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

/// Everything that must be as it was.
pub fn snapshot() -> String {
    let shown = sh("ip -d address; ip -d link; ip -d route show table all; ip -d -6 route show table all; ip -d rule");
    // Lifetimes run out second by second, whoever looks; that there is one stays.
    let is_lifetime = |word: &str| word.strip_suffix("sec").is_some_and(|count| count.parse::<u64>().is_ok());
    let without = |line: &str| {
        line.split(' ').map(|word| if is_lifetime(word) { "…" } else { word }).collect::<Vec<_>>().join(" ")
    };
    shown.lines().map(without).collect::<Vec<_>>().join("\n")
}

/// Runs a line of shell in this namespace, and returns what it prints.
pub fn sh(line: &str) -> String {
    let run = Command::new("sh").args(["-ec", line]).stdin(Stdio::null()).output().unwrap();
    assert!(run.status.success(), "{line}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

/// The lines that were logged.
pub fn said() -> Vec<String> {
    SAID.lock().unwrap().clone()
}

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Stderr;

impl log::Log for Stderr {
    fn enabled(&self, _: &log::Metadata) -> bool {
        true
    }

    fn log(&self, record: &log::Record) {
        let line = format!("{}: {}", record.level(), record.args());
        eprintln!("{line}");
        SAID.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}
