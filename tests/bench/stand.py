"""What the benchmarks stand on: processes whose CPU and memory are read from /proc, and an orgtrail organization on loopback."""
import calendar
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
TICKS = os.sysconf("SC_CLK_TCK")


class Failed(Exception):
    pass


def binaries(given):
    path = os.path.abspath(given or os.environ.get("ORGTRAIL_BIN") or os.path.join(ROOT, "build/release/bin"))
    for name in ("orgtrail", "orgtrail-agent", "orgtrail-aggregator", "orgtrail-generate"):
        if not os.access(os.path.join(path, name), os.X_OK):
            raise Failed(f"there is no {path}/{name}: build preset release first, or give --bin")
    return path


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def wait_for(what, condition, seconds=60.0, every=0.02, of=()):
    """Until condition() is true; fails when a process of `of` ends or time is up."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        for process in of:
            if process.child.poll() is not None:
                raise Failed(f"{process.name} ended with status {process.child.returncode}; its log:\n{process.tail()}")
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds:g} s" + "".join(f"\n{p.name}:\n{p.tail()}" for p in of))
        time.sleep(every)


class Process:
    """A child that ends when we do, whatever happens to us."""

    def __init__(self, name, command, log, env=None):
        self.name, self.log = name, log
        with open(log, "ab") as out:
            self.child = subprocess.Popen(["setpriv", "--pdeathsig", "KILL"] + command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                          env={**os.environ, **(env or {})})
        self.peak_anon = 0

    def cpu(self):
        """Seconds of user and system time so far, all threads."""
        with open(f"/proc/{self.child.pid}/stat") as f:
            fields = f.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory(self):
        """Bytes: VmHWM (peak resident), VmRSS, RssAnon (what it allocated; the rest is mapped files), peak of RssAnon as sampled here."""
        with open(f"/proc/{self.child.pid}/status") as f:
            status = dict(re.findall(r"^(VmHWM|VmRSS|RssAnon):\s+(\d+) kB", f.read(), re.M))
        anon = int(status["RssAnon"]) * 1024
        self.peak_anon = max(self.peak_anon, anon)
        return {"hwm": int(status["VmHWM"]) * 1024, "rss": int(status["VmRSS"]) * 1024, "anon": anon, "peak_anon": self.peak_anon}

    def tail(self, lines=12):
        with open(self.log, errors="replace") as f:
            return "".join("  | " + line for line in f.readlines()[-lines:])

    def stop(self, seconds=20):
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
            try:
                self.child.wait(seconds)
            except subprocess.TimeoutExpired:
                print(f"  {self.name} did not stop within {seconds} s and was killed", file=sys.stderr)
                self.child.kill()
                self.child.wait()


def metrics(port):
    """Name → sum over labels, of a Prometheus page."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as page:
        text = page.read().decode()
    values = {}
    for name, value in re.findall(r"^([a-zA-Z_:]+)(?:\{[^}]*\})? ([0-9eE.+-]+)$", text, re.M):
        values[name] = values.get(name, 0.0) + float(value)
    return values


class Organization:
    """One aggregator and one agent that tails DIR/in/*.jsonl."""

    def __init__(self, bin_dir, work, collector=False):
        self.bin, self.dir = bin_dir, os.path.join(work, "orgtrail")
        self.input = os.path.join(self.dir, "in")
        os.makedirs(self.input)
        self.port, self.enrol, self.metrics_port, self.agent_metrics = free_ports(4)
        self.run("org", "init", "--dir", self.dir + "/org", "--org-id", "o-bench", "--management-account", "111111111111", "--account", "222222222222",
                 "--account", "333333333333", "--region", "us-east-1", "--region", "eu-west-1", "--port", str(self.port), "--enrol-port",
                 str(self.enrol), "--metrics-port", str(self.metrics_port), profile=False)
        self.aggregator = Process("orgtrail-aggregator", [bin_dir + "/orgtrail-aggregator", "--config", self.dir + "/org/aggregator/aggregator.yaml"],
                                  self.dir + "/aggregator.log")
        self.agent = None
        wait_for("aggregator", lambda: "aggregator is up" in open(self.dir + "/aggregator.log").read(), of=[self.aggregator])
        token = self.run("agent", "token", "--account", "111111111111", "--region", "us-east-1", *(["--carries", "any"] if collector else []))
        with open(self.dir + "/token", "w") as f:
            f.write(token)
        with open(self.dir + "/agent.yaml", "w") as f:
            f.write(f"""account: "111111111111"
region: us-east-1
name: bench
state_dir: {self.dir}/agent
aggregators: [127.0.0.1:{self.port}]
enrol: {{endpoint: 127.0.0.1:{self.enrol}, token_file: {self.dir}/token}}
metrics: {{listen: 127.0.0.1:{self.agent_metrics}}}
sources:
  - file: {{path: {self.input}/*.jsonl}}
""")
        self.agent = Process("orgtrail-agent", [bin_dir + "/orgtrail-agent", "--config", self.dir + "/agent.yaml"], self.dir + "/agent.log")
        wait_for("agent", lambda: "agent is up" in open(self.dir + "/agent.log").read(), of=[self.agent, self.aggregator])

    def run(self, *args, profile=True):
        env = {**os.environ, "ORGTRAIL_PROFILE": self.dir + "/org/profiles/admin.yaml"} if profile else os.environ
        done = subprocess.run([self.bin + "/orgtrail", *args], capture_output=True, text=True, env=env)
        if done.returncode != 0:
            raise Failed(f"orgtrail {' '.join(args)}: status {done.returncode}\n{done.stderr}")
        return done.stdout

    def feed(self, *args, **popen):
        """A running `orgtrail feed`, its records on a pipe."""
        env = {**os.environ, "ORGTRAIL_PROFILE": self.dir + "/org/profiles/admin.yaml"}
        return subprocess.Popen(["setpriv", "--pdeathsig", "KILL", self.bin + "/orgtrail", "feed", "-o", "jsonl", *args], stdout=subprocess.PIPE, env=env, **popen)

    def processes(self):
        return [p for p in (self.agent, self.aggregator) if p is not None]

    def stop(self):
        for process in self.processes():
            process.stop()


class Minutes(dict):
    """Epoch nanoseconds of a minute; parsed once each."""

    def __missing__(self, text):
        value = calendar.timegm(time.strptime(text.decode(), "%Y-%m-%dT%H:%M")) * 1_000_000_000
        self[text] = value
        return value


class Delays(list):
    """Nanoseconds from an envelope's `captured` to the moment its line was read here."""

    MARK = b'"captured":"'
    seconds = 0.0  # from the first record to the last

    def read(self, feed):
        """Everything a feed with --envelope prints, until it ends."""
        minutes, rest, first, last = Minutes(), b"", None, None
        while block := os.read(feed.stdout.fileno(), 1 << 20):
            now = time.time_ns()
            first, last = first or now, now
            block = rest + block
            end = block.rfind(b"\n") + 1
            rest = block[end:]
            at = block.find(self.MARK, 0, end)
            while at >= 0:  # "captured":"2026-11-20T09:01:44.123456789Z"
                at += len(self.MARK)
                self.append(now - minutes[block[at:at + 16]] - int(block[at + 17:at + 19] + block[at + 20:at + 29]))
                at = block.find(self.MARK, at + 600, end)  # the record that follows is longer than that
        self.seconds = ((last or 0) - (first or 0)) / 1e9

    def line(self):
        self.sort()

        def at(q):
            return self[min(len(self) - 1, int(len(self) * q))] / 1e6

        return (f"p50 {at(0.5):.1f} ms   p90 {at(0.9):.1f} ms   p99 {at(0.99):.1f} ms   p99.9 {at(0.999):.1f} ms   "
                f"worst {self[-1] / 1e6:.1f} ms")


def generate(bin_dir, path, records, size, seed=7):
    """An NDJSON file of `records` records of about `size` bytes. Returns (bytes, SHA-256)."""
    subprocess.run([bin_dir + "/orgtrail-generate", "--records", str(records), "--size", str(size), "--seed", str(seed), "--rate", "1000",
                    "--places", "111111111111/us-east-1", "--start", "2026-11-20T00:00:00Z"], stdout=open(path, "wb"), check=True)
    return os.path.getsize(path), digest(path)


def digest(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        while block := f.read(1 << 20):
            h.update(block)
    return h.hexdigest()


def drop_in(source, directory, name="records.jsonl"):
    """The file appears in the watched directory whole, at one moment."""
    os.rename(source, os.path.join(directory, name))


class Work:
    """A directory for one run, removed afterwards unless --keep."""

    def __init__(self, base=None, keep=False):
        self.keep = keep
        base = base or os.path.join(ROOT, "build/bench-work")
        os.makedirs(base, exist_ok=True)
        self.path = tempfile.mkdtemp(prefix="run-", dir=base)

    def __enter__(self):
        return self.path

    def __exit__(self, *exc):
        if self.keep:
            print(f"kept {self.path}")
        else:
            shutil.rmtree(self.path, ignore_errors=True)


def machine():
    cpu = re.search(r"model name\s*: (.*)", open("/proc/cpuinfo").read())
    return f"{os.cpu_count()} × {cpu[1] if cpu else 'unknown CPU'}, load {os.getloadavg()[0]:.1f}, {time.strftime('%Y-%m-%d %H:%M UTC', time.gmtime())}"


def mib(n):
    return f"{n / (1 << 20):.0f}"
